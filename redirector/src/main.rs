//! `rbalancer-redirector`: arguments, logging, settings before sockets, bind, run until the signal.

use clap::Parser;
use common::net::listen::{InheritedSockets, ListenAddresses};
use common::net::socket::Sharing;
use common::process::admin::Admin;
use common::process::arguments::CommonArgs;
use common::process::exit::{Failure, finish, tested};
use common::process::logging::{began, start_logging};
use common::process::signals::on_signals;
use common::process::{background, run_on};
use common::store::{Redis, Store};
use redirector::{Redirector, Settings, Sockets, StoreAccess, TlsSettings};
use std::process::ExitCode;

/// Answers every request for a farm with a redirect to one of its live servers.
#[derive(Parser)]
#[command(name = "rbalancer-redirector", version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Where to listen for clients; several by commas
    #[arg(long, value_name = "ADDR:PORT,…")]
    listen: Option<ListenAddresses>,
    /// Test the settings and exit
    #[arg(short, long)]
    test: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let logging = start_logging(args.common.log_format);
    finish(logging, run(args))
}

fn run(args: Args) -> Result<(), Failure> {
    let mut global = args.common.open()?;
    let settings = Settings::take(&mut global, args.listen);
    let redis = global.redis_needed(args.common.redis);
    let admin = Admin::of_redirector(&mut global);
    let settings = global.finish(settings)?;
    let tls = settings.tls.as_ref().map(TlsSettings::load).transpose()?;
    if args.test {
        settings
            .try_paths()?
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
    }
    let Some(redis) = tested(args.test, redis) else {
        return Ok(());
    };
    began("rbalancer-redirector", &format!("redis {}", redis.address));
    let mut passed = InheritedSockets::take()?;
    let listeners = passed.or_bind(&settings.listen, settings.threads, Sharing::Shared)?;
    let secure = TlsSettings::bind(
        settings.tls.as_ref().zip(tls),
        &mut passed,
        settings.threads,
        Sharing::Shared,
    )?;
    let admin = admin.map(Admin::bind).transpose()?.flatten();
    // Clients have threads of their own: one is enough for everything in the background.
    let runtime = background(1).map_err(anyhow::Error::from)?;
    run_on(runtime, async {
        let (shutdown, reload) = on_signals().map_err(anyhow::Error::from)?;
        let store = Store::Redis(Redis::dedicated(&redis));
        let sockets = Sockets {
            clients: listeners,
            secure,
            admin,
        };
        let access = StoreAccess {
            reader: store.reader(),
            writer: store.replica(),
        };
        let redirector = Redirector::start(sockets, access, settings, None, reload, shutdown);
        Ok(redirector.await?.run().await?)
    })
}
