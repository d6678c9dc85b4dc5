//! `rbalancer`: the operator's command. Arguments in, one call, an exit code out.

use clap::Parser;
use common::config::global::Problems;
use common::files;
use common::model::farm::Intent;
use common::net::listen::ListenAddresses;
use common::process::arguments::CommonArgs;
use common::process::exit::{Failure, finish};
use common::process::logging::{began, start_logging};
use common::process::signals::on_signals;
use common::process::{background, run_on};
use common::store::RedisSettings;
use common::words::count;
use deploy::arguments::{Arguments, Command, OverrideArgs, Publishing};
use deploy::commands::set_server::{self, Setting};
use deploy::commands::{apply, doctor, export, history, keys, plan, rollback, show};
use deploy::conf::{self, Conf, Flags};
use deploy::up;
use deploy::up::demo;
use redirector::{Tls, TlsSettings};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let logging = start_logging(arguments.common.log_format);
    finish(logging, run(arguments))
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments.common.refuse_password()?;
    // Clients have threads of their own.
    let runtime = background(2).map_err(anyhow::Error::from)?;
    run_on(runtime, call(&arguments.common, arguments.command))
}

async fn call(common: &CommonArgs, command: Command) -> Result<(), Failure> {
    match command {
        Command::Up {
            file,
            listen,
            memory,
        } => run_up(common, common.file(file)?, listen, memory).await,
        Command::Demo { listen } => run_demo(listen).await,
        Command::Check {
            file,
            resolve,
            redis: _,
        } => check(common, file, resolve).await,
        Command::Plan { file } => {
            let conf = load(common, &common.file(file)?)?;
            print(&plan::plan(&conf, &needed(conf.redis.clone())?).await?)
        }
        Command::Apply { file, publishing } => {
            let file = common.file(file)?;
            let conf = load(common, &file)?;
            let (redis, options) = (
                needed(conf.redis.clone())?,
                publishing.options(|| format!("apply {}", file.display())),
            );
            print(
                &apply::apply(&conf, &redis, &options, |changes| {
                    agreed(changes, &redis, &publishing)
                })
                .await?,
            )
        }
        Command::Rollback { back, publishing } => {
            let (redis, options) = (redis(common)?, publishing.options(String::new));
            print(
                &rollback::rollback(&redis, back, &options, |changes| {
                    agreed(changes, &redis, &publishing)
                })
                .await?,
            )
        }
        Command::History { format } => print(&history::history(&redis(common)?, format).await?),
        Command::Show { format } => print(&show::show(&redis(common)?, format).await?),
        Command::Keys { format } => print(&keys::keys(format)?),
        Command::Export => print(&export::export(&redis(common)?).await?),
        Command::Enable(hand) => set(common, &hand, Setting::Enable(Intent::On)).await,
        Command::Disable(hand) => set(common, &hand, Setting::Enable(Intent::Off)).await,
        Command::Drain(hand) => set(common, &hand, Setting::Enable(Intent::Drain)).await,
        Command::Weight { hand, weight } => set(common, &hand, Setting::Weight(weight)).await,
        Command::Force { health, hand, time } => {
            set(common, &hand, Setting::Force(health.into(), time)).await
        }
        Command::Clear(hand) => set(common, &hand, Setting::Clear).await,
        Command::Doctor => {
            let diagnosis = doctor::doctor(&redis(common)?).await;
            print(&diagnosis.text())?;
            Ok(diagnosis.verdict()?)
        }
    }
}

/// Says whether a file is good, and whether what it names can be found.
async fn check(common: &CommonArgs, file: Option<PathBuf>, resolve: bool) -> Result<(), Failure> {
    let file = common.file(file)?;
    let conf = load_for(common, &file, true)?;
    let tls = conf
        .redirector
        .tls
        .as_ref()
        .map(TlsSettings::load)
        .transpose()?;
    conf.redirector
        .try_paths()?
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));
    tls.iter()
        .flat_map(|tls| uncovered(&conf, tls))
        .for_each(|warning| tracing::warn!("{warning}"));
    print(&format!(
        "{}: good: {}\n",
        file.display(),
        found_good(&conf)
    ))?;
    if resolve {
        print(&conf::resolve::resolve(&conf).await?)?;
    }
    Ok(())
}

async fn run_up(
    common: &CommonArgs,
    path: PathBuf,
    listen: Option<ListenAddresses>,
    memory: bool,
) -> Result<(), Failure> {
    let file = path.display().to_string();
    let read = move || {
        // Read again by a reload, on a thread of its own: where the file hangs, that is named.
        let _under_way = files::Occupied::take("configuration", &path);
        let conf = conf::load(
            &path,
            Flags {
                listen: listen.clone(),
                ..Flags::default()
            },
        )?;
        if conf.redis.is_some() && !memory {
            let message = "up keeps state in memory, but a redis is configured: start the daemons instead, or give --memory".to_owned();
            return Err(Problems(vec![common::config::ini::Problem {
                file: path.display().to_string(),
                line: None,
                message,
            }]));
        }
        Ok(conf)
    };
    let conf = read()?;
    if common.redis.is_some() && !memory {
        return Err(problem(
            "--redis",
            "up keeps state in memory: start the daemons instead, or give --memory",
        ));
    }
    began("rbalancer up", &format!("{file}: {}", found_good(&conf)));
    let sockets = up::bind(&conf)?;
    let (shutdown, reload) = on_signals().map_err(anyhow::Error::from)?;
    Ok(up::run(conf, sockets, read, reload, shutdown).await?)
}

async fn run_demo(listen: Option<ListenAddresses>) -> Result<(), Failure> {
    let origins = demo::start_origins().await?;
    let conf = demo::conf(&origins, listen.clone())?;
    let sockets = up::bind(&conf)?;
    let (shutdown, reload) = on_signals().map_err(anyhow::Error::from)?;
    print(&demo::things_to_try(sockets.clients[0].address, &origins))?;
    Ok(up::run(
        conf,
        sockets,
        move || demo::conf(&origins, listen.clone()),
        reload,
        shutdown,
    )
    .await?)
}

async fn set(common: &CommonArgs, hand: &OverrideArgs, setting: Setting) -> Result<(), Failure> {
    print(
        &set_server::set(
            &redis(common)?,
            &hand.server,
            setting,
            &hand.why,
            hand.insist,
        )
        .await?,
    )
}

fn load(common: &CommonArgs, file: &Path) -> Result<Conf, Problems> {
    load_for(common, file, false)
}

/// The same; `host_only`: one that only says how the daemons of a host work will do.
fn load_for(common: &CommonArgs, file: &Path, host_only: bool) -> Result<Conf, Problems> {
    let conf = conf::load(
        file,
        Flags {
            listen: None,
            redis: common.redis.clone(),
            host_only,
        },
    )?;
    conf.warnings
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));
    Ok(conf)
}

/// What a good file holds, for people.
fn found_good(conf: &Conf) -> String {
    match conf.farms.len() {
        0 => "[global] alone, for a host of a cluster: its farms come from redis".into(),
        farms => format!(
            "{}, {}",
            count(farms, "farm"),
            count(conf.farms.servers().count(), "server")
        ),
    }
}

/// Hosts of farms whose clients over TLS would be shown a certificate for others.
fn uncovered(conf: &Conf, tls: &Tls) -> Vec<String> {
    let certificates = tls.chosen.now();
    let hosts = conf
        .farms
        .iter()
        .flat_map(|farm| &farm.domains)
        .map(common::model::host::Host::as_str);
    let uncovered = hosts.filter(|host| !certificates.covers(host));
    uncovered.map(|host| format!("no certificate is for {host}: clients over TLS are shown the first one, and refuse it")).collect()
}

/// The Redis of a command that reads no farms.
fn redis(common: &CommonArgs) -> Result<RedisSettings, Failure> {
    let mut global = common.global()?;
    let redis = global.redis(common.redis.clone());
    needed(global.finish(redis)?)
}

fn needed(redis: Option<RedisSettings>) -> Result<RedisSettings, Failure> {
    redis.ok_or_else(|| {
        problem(
            "redis",
            "no redis: give --redis URL, RBALANCER_REDIS_URL or redis in [global]",
        )
    })
}

fn problem(place: &str, message: &str) -> Failure {
    Failure::Config(Problems(vec![common::config::ini::Problem {
        file: place.to_owned(),
        line: None,
        message: message.to_owned(),
    }]))
}

/// Shows the changes and asks for a yes, where somebody is there to be asked.
fn agreed(changes: &str, redis: &RedisSettings, publishing: &Publishing) -> anyhow::Result<bool> {
    if publishing.yes || !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    write(&format!(
        "{changes}put this in force on {}? [y/N] ",
        redis.address
    ))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"]
        .iter()
        .any(|yes| answer.trim().eq_ignore_ascii_case(yes)))
}

fn print(text: &str) -> Result<(), Failure> {
    Ok(write(text)?)
}

/// Writes to standard output; a reader that has gone away is no failure of ours.
fn write(text: &str) -> anyhow::Result<()> {
    match std::io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| std::io::stdout().flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
