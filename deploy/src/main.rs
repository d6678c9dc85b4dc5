//! `rbalancer`: the operator's command. Arguments in, one subcommand, an exit code out.

use clap::{Parser, Subcommand};
use common::listen::ListenAddress;
use common::process::{CommonArgs, Failure, finish, on_signals, start_logging};
use common::settings::{Global, Problems};
use common::store::RedisSettings;
use deploy::conf::{self, Conf, Flags};
use deploy::{apply, demo, show, up};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// HTTP load balancer that answers every request with a redirect to one live server.
#[derive(Parser)]
#[command(name = "rbalancer", version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything in this process, state in memory
    Up {
        /// Where to listen for clients
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<ListenAddress>,
        /// Keep state in memory although a redis is configured
        #[arg(long)]
        memory: bool,
    },
    /// Run everything with three toy origins, and things to try
    Demo {
        /// Where to listen for clients
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<ListenAddress>,
    },
    /// Check a configuration file
    Check {
        /// The file
        file: PathBuf,
    },
    /// Put a configuration file's farms in force on Redis
    #[command(alias = "seed")]
    Apply {
        /// The file
        file: PathBuf,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Show what is in force on Redis
    Show,
}

fn main() -> ExitCode {
    let args = Args::parse();
    start_logging(args.common.log_format);
    finish(run(args))
}

fn run(args: Args) -> Result<(), Failure> {
    args.common.refuse_password()?;
    let common = args.common;
    // Clients have threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(async {
        match args.command {
            Command::Up { listen, memory } => run_up(&common, listen, memory).await,
            Command::Demo { listen } => run_demo(listen).await,
            Command::Check { file } => {
                let conf = conf::load(&file, Flags::default())?;
                conf.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                print(&format!("{}: good: {} farms, {} servers\n", file.display(), conf.farms.len(), conf.farms.servers().count()))
            }
            Command::Apply { file, yes } => run_apply(&common, &file, yes).await,
            Command::Show => {
                let mut global = Global::load(common.config.as_deref())?;
                let redis = global.redis(common.redis);
                let redis = global.finish(redis)?;
                print(&show::show(&needed(redis)?).await?)
            }
        }
    })
}

async fn run_up(common: &CommonArgs, listen: Option<ListenAddress>, memory: bool) -> Result<(), Failure> {
    let Some(path) = common.config.clone() else {
        return Err(problem("up", "no configuration file: give one with -c, or try `rbalancer demo`"));
    };
    let read = move || {
        let conf = conf::load(&path, Flags { listen, redis: None })?;
        if conf.redis.is_some() && !memory {
            let message = "up keeps state in memory, but a redis is configured: start the daemons instead, or give --memory".to_owned();
            return Err(Problems(vec![common::ini::Problem { file: path.display().to_string(), line: None, message }]));
        }
        Ok(conf)
    };
    let conf = read()?;
    if common.redis.is_some() && !memory {
        return Err(problem("--redis", "up keeps state in memory: start the daemons instead, or give --memory"));
    }
    let doors = up::bind(&conf)?;
    let (shutdown, reload) = on_signals().map_err(anyhow::Error::from)?;
    Ok(up::run(conf, doors, read, reload, shutdown).await?)
}

async fn run_demo(listen: Option<ListenAddress>) -> Result<(), Failure> {
    let origins = demo::start_origins().await?;
    let conf = demo::conf(&origins, listen)?;
    let doors = up::bind(&conf)?;
    let (shutdown, reload) = on_signals().map_err(anyhow::Error::from)?;
    print(&demo::things_to_try(doors.clients.address, &origins))?;
    Ok(up::run(conf, doors, || demo::conf(&origins, listen), reload, shutdown).await?)
}

async fn run_apply(common: &CommonArgs, file: &Path, yes: bool) -> Result<(), Failure> {
    let conf: Conf = conf::load(file, Flags { listen: None, redis: common.redis.clone() })?;
    conf.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let redis = needed(conf.redis.clone())?;
    let terminal = std::io::stdin().is_terminal();
    if terminal && !yes {
        print(&format!("put {} farms of {} in force on {}? [y/N] ", conf.farms.len(), file.display(), redis.address))?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(anyhow::Error::from)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            return print("nothing changed\n");
        }
    }
    print(&apply::apply(&conf, &redis, &file.display().to_string()).await?)
}

fn needed(redis: Option<RedisSettings>) -> Result<RedisSettings, Failure> {
    redis.ok_or_else(|| problem("redis", "no redis: give --redis URL, RBALANCER_REDIS_URL or redis in [global]"))
}

fn problem(place: &str, message: &str) -> Failure {
    Failure::Config(Problems(vec![common::ini::Problem { file: place.to_owned(), line: None, message: message.to_owned() }]))
}

/// Writes to standard output; a reader that has gone away is no failure of ours.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(anyhow::Error::from(error).into()),
        _ => Ok(()),
    }
}
