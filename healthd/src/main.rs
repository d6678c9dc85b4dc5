//! `rbalancer-healthd`: arguments, logging, settings before sockets, bind, run until the signal.

use clap::Parser;
use common::model::farm::Name;
use common::process::admin::Admin;
use common::process::arguments::CommonArgs;
use common::process::exit::{Failure, finish, tested};
use common::process::logging::{began, ended, start_logging};
use common::process::run_on;
use common::process::signals::{asked_to_end, on_signals};
use common::store::{Redis, Store};
use healthd::Settings;
use std::process::ExitCode;
use std::time::Instant;

/// Probes every enabled server and tells all redirectors which are up.
#[derive(Parser)]
#[command(name = "rbalancer-healthd", version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// The stable name of this prober; by default the host's
    #[arg(long, value_name = "NAME")]
    id: Option<Name>,
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
    let settings = Settings::take(&mut global, args.id);
    let admin = Admin::of_healthd(&mut global);
    let redis = global.redis_needed(args.common.redis);
    let mut settings = global.finish(settings)?;
    let Some(redis) = tested(args.test, redis) else {
        return Ok(());
    };
    settings.witnesses = redis.address.places();
    let admin = admin.map(Admin::bind).transpose()?.flatten();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    run_on(runtime, async {
        let (shutdown, _reload) = on_signals().map_err(anyhow::Error::from)?;
        let admin = admin
            .map(tokio::net::TcpListener::from_std)
            .transpose()
            .map_err(anyhow::Error::from)?;
        let store = Store::Redis(Redis::pooled(&redis));
        began(
            "rbalancer-healthd",
            &format!("watching as {}, redis {}", settings.id, redis.address),
        );
        let (started, asked) = (Instant::now(), asked_to_end(shutdown.clone()));
        healthd::run(
            store.reader(),
            store.prober(),
            store.keeper(),
            settings,
            admin,
            shutdown,
        )
        .await
        .map_err(Failure::Runtime)?;
        ended(started, asked.await.ok(), "");
        Ok(())
    })
}
