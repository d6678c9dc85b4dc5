//! `rbalancer-statsd`: arguments, logging, settings before sockets, bind, run until the signal.

use anyhow::Context;
use clap::Parser;
use common::net::listen::{self, ListenAddress};
use common::net::socket::Sharing;
use common::process;
use common::process::arguments::CommonArgs;
use common::process::exit::Failure;
use common::store::{Redis, Store};
use statsd::Settings;
use std::process::ExitCode;
use std::time::Instant;

/// Shows the stats of a whole rbalancer cluster: page, JSON, CSV and OpenMetrics
#[derive(Debug, Parser)]
#[command(name = "rbalancer-statsd", version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Where to listen [env: RBALANCER_STATS_BIND] [default: 127.0.0.1:9999]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<ListenAddress>,
    /// Test the settings and exit
    #[arg(short, long)]
    test: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let logging = process::logging::start_logging(args.common.log_format);
    process::exit::finish(logging, start(&args))
}

fn start(args: &Args) -> Result<(), Failure> {
    let mut global = args.common.open()?;
    let settings = Settings::take(&mut global);
    let redis = global.redis_needed(args.common.redis.clone());
    let settings = Settings {
        bind: args.listen.unwrap_or(settings.bind),
        ..global.finish(settings)?
    };
    let Some(redis) = process::exit::tested(args.test, redis) else {
        return Ok(());
    };
    let listeners = listen::bind(settings.bind, 1, Sharing::Exclusive)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    process::run_on(runtime, async {
        let (shutdown, _) = process::signals::on_signals().context("installing signal handlers")?;
        process::logging::began("rbalancer-statsd", &format!("redis {}", redis.address));
        let (started, asked) = (
            Instant::now(),
            process::signals::asked_to_end(shutdown.clone()),
        );
        statsd::run(
            listeners,
            Store::Redis(Redis::pooled(&redis)).reader(),
            settings,
            shutdown,
        )
        .await?;
        process::logging::ended(started, asked.await.ok(), "");
        Ok(())
    })
}
