//! What every program of rbalancer does the same: common arguments, logging, signals, exit codes.

pub mod admin;
pub mod durable;
pub mod huge_pages;
pub mod thread_priority;

use crate::config::environment;
use crate::config::global::{DEFAULT_FILES, Global, Problems, default_file};
use crate::config::ini::Problem;
use crate::process::thread_priority::ThreadPriority;
use crate::store::{RedisAddress, RedisSettings};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Arguments every program takes.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// The configuration file.
    #[arg(
        short,
        long,
        value_name = "FILE",
        global = true,
        help = "Configuration file; daemons take [global] from it [default: /etc/rbalancer/rbalancer.conf, else /etc/rbalancer.conf]"
    )]
    pub config: Option<PathBuf>,
    /// The Redis that state is shared through.
    #[arg(
        long,
        value_name = "URL",
        global = true,
        help = "Redis to share state through: redis://HOST[:PORT][/DB], rediss://…, redis+unix:///PATH, redis+sentinel://HOST,…/PRIMARY \
                or redis+cluster://HOST,… [env: RBALANCER_REDIS_URL]"
    )]
    pub redis: Option<RedisAddress>,
    /// How to log
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
}

impl CommonArgs {
    /// What a daemon begins with: no password in sight, and `[global]` of the file, whose farms are not its own.
    ///
    /// # Errors
    /// When `--redis` holds a password or the file cannot be read.
    pub fn open(&self) -> Result<Global, Problems> {
        self.refuse_password()?;
        let global = self.global()?;
        if global.has_farms() {
            tracing::info!(
                "farms in the file are not used: they come from the store, see `rbalancer apply`"
            );
        }
        Ok(global)
    }

    /// `[global]` of the file given by `-c`; without one of the default file, where nothing else says which Redis is
    /// meant.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn global(&self) -> Result<Global, Problems> {
        let told = self.config.is_some() || self.redis.is_some() || environment::names_a_redis();
        let default = if told { None } else { default_file() };
        if let Some(path) = default {
            tracing::info!("[global] is taken from {}", path.display());
        }
        Global::load(self.config.as_deref().or(default))
    }

    /// The file a command works on: its own argument, else `-c`, else the default one, which is said.
    ///
    /// # Errors
    /// When there is none, or two.
    pub fn file(&self, argument: Option<PathBuf>) -> Result<PathBuf, Problems> {
        let problem = |message: String| {
            Problems(vec![Problem {
                file: "FILE".into(),
                line: None,
                message,
            }])
        };
        match (argument, &self.config) {
            (Some(file), Some(config)) if file != *config => Err(problem(format!(
                "{} and {} are both given: name one file",
                file.display(),
                config.display()
            ))),
            (Some(file), _) => Ok(file),
            (None, Some(config)) => Ok(config.clone()),
            (None, None) => {
                let none = || {
                    let places = DEFAULT_FILES.join(" nor ");
                    problem(format!(
                        "no configuration file: name one (there is neither {places}), or try `rbalancer demo`"
                    ))
                };
                let path = default_file().ok_or_else(none)?;
                tracing::info!("the configuration file is {}", path.display());
                Ok(path.to_owned())
            }
        }
    }

    /// Refuses a password on the command line, where every user of the machine can read it.
    ///
    /// # Errors
    /// When `--redis` holds one.
    pub fn refuse_password(&self) -> Result<(), Problems> {
        match &self.redis {
            Some(address) if address.has_password() => Err(Problems(vec![Problem {
                file: "--redis".into(),
                line: None,
                message:
                    "a password on the command line can be read by every user: use redis_password_file in [global], or RBALANCER_REDIS_URL"
                        .into(),
            }])),
            _ => Ok(()),
        }
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// Lines of the log that may wait for a standard error that takes none; more are lost.
const LOG_LINES: usize = 10_000;

/// The log's thread: what waits is written when this is dropped, if that takes no longer than about a second.
#[derive(Debug)]
pub struct Logging(
    #[allow(dead_code, reason = "it works by being dropped")]
    tracing_appender::non_blocking::WorkerGuard,
);

/// Starts logging to standard error, and says what of the environment is passed over. `RUST_LOG` chooses what is logged,
/// `info` by default. Lines are written by a thread of their own: a terminal that was stopped, or a collector that reads
/// no more, holds up nobody who serves or probes.
#[must_use = "what is logged after it is dropped is lost"]
pub fn start_logging(format: LogFormat) -> Logging {
    let wanted = std::env::var("RUST_LOG")
        .ok()
        .filter(|wanted| !wanted.trim().is_empty());
    let (filter, bad) = match wanted
        .as_deref()
        .unwrap_or("info")
        .parse::<tracing_subscriber::EnvFilter>()
    {
        Ok(filter) => (filter, None),
        Err(error) => ("info".into(), Some(error)),
    };
    let (writer, guard) = tracing_appender::non_blocking::NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false);
    match format {
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogFormat::Json => builder.json().init(),
    }
    if let Some(error) = bad {
        tracing::warn!("RUST_LOG: {error}: write a level such as info, or NAME=LEVEL by commas");
    }
    environment::tell();
    Logging(guard)
}

/// Logs an error of several lines, each with its time: collectors take lines, and sort them.
pub fn log_errors(text: &str) {
    text.lines().for_each(|line| tracing::error!("{line}"));
}

/// Why a program ends without success, each with its exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something went wrong at work: 1.
    #[error("{0:#}")]
    Runtime(#[from] anyhow::Error),
    /// Another publication came first: 3.
    #[error("{0}")]
    LostRace(String),
    /// The configuration is wrong: 78, EX_CONFIG of sysexits.
    #[error("{0}")]
    Config(#[from] Problems),
}

/// Ends a program: prints a failure once, behind what was logged, and gives its exit code.
#[allow(
    clippy::print_stderr,
    reason = "the one place where programs print why they end"
)]
pub fn finish(logging: Logging, outcome: Result<(), Failure>) -> ExitCode {
    drop(logging);
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{failure}");
    match failure {
        Failure::Runtime(_) => ExitCode::from(1),
        Failure::LostRace(_) => ExitCode::from(3),
        Failure::Config(_) => ExitCode::from(78),
    }
}

/// The Redis to go on with; none where the settings were only to be tested, which says what was found good.
pub fn tested(only: bool, redis: Option<RedisSettings>) -> Option<RedisSettings> {
    if let (true, Some(redis)) = (only, &redis) {
        tracing::info!(
            "the settings are good; redis is {}, which was not asked",
            redis.address
        );
    }
    redis.filter(|_| !only)
}

/// Says with what a program begins: its version, `what` it serves, and which settings the environment makes.
pub fn began(program: &str, what: &str) {
    let set = environment::in_use();
    let set = if set.is_empty() {
        String::new()
    } else {
        format!("; from the environment: {}", set.join(", "))
    };
    tracing::info!("{program} {}: {what}{set}", env!("CARGO_PKG_VERSION"));
}

/// When the end of the process was asked for: once it was.
pub fn asked_to_end(mut shutdown: Shutdown) -> tokio::task::JoinHandle<Instant> {
    tokio::spawn(async move {
        shutdown.reached(Phase::Draining).await;
        Instant::now()
    })
}

/// Says with what a program ends: how long the end took, how long it was at work, and `what` it did.
pub fn ended(began: Instant, asked: Option<Instant>, what: &str) {
    let took = asked
        .map(|asked| format!(" in {:.1} s", asked.elapsed().as_secs_f64()))
        .unwrap_or_default();
    let what = if what.is_empty() {
        String::new()
    } else {
        format!(": {what}")
    };
    tracing::info!("ended{took} after {} of work{what}", span(began.elapsed()));
}

/// A time span in its greatest unit but one.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// How far the end of a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// At work.
    Running,
    /// Finishing what was begun.
    Draining,
    /// Ending at once.
    Stopping,
}

impl Phase {
    /// The phase after one more request to end: what was asked twice is meant now.
    fn asked_to_end(self) -> Self {
        if self == Self::Running {
            Self::Draining
        } else {
            Self::Stopping
        }
    }
}

/// Tells a role when to end. Clones see the same phase.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Phase>);

/// Ends what holds the [`Shutdown`] it was made with.
#[derive(Debug, Clone)]
pub struct Stop(std::sync::Arc<watch::Sender<Phase>>);

impl Stop {
    /// A pair: one to end with, one to be ended by.
    pub fn new() -> (Self, Shutdown) {
        let (sender, receiver) = watch::channel(Phase::Running);
        (Self(std::sync::Arc::new(sender)), Shutdown(receiver))
    }

    /// Moves on to `phase`; never back.
    pub fn move_to(&self, phase: Phase) {
        self.0.send_if_modified(|held| {
            let later = phase > *held;
            *held = phase.max(*held);
            later
        });
    }
}

impl Shutdown {
    /// Waits until the process is at least in `phase`.
    pub async fn reached(&mut self, phase: Phase) {
        // A sender that is gone can never move on: the wait is over.
        let _ = self.0.wait_for(|held| *held >= phase).await;
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }
}

/// Counts requests to read files again (HUP).
#[derive(Debug, Clone)]
pub struct Reload(watch::Receiver<u64>);

impl Reload {
    /// A reload that is never asked for.
    pub fn never() -> Self {
        Self(watch::channel(0).1)
    }

    /// Waits for the next request.
    pub async fn asked(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Follows the process's signals: TERM and QUIT drain, a second one (or INT) stops now, HUP reloads. USR1 and USR2 do
/// nothing of themselves, and must not end a process that is told with all others that logs were moved.
///
/// # Errors
/// When the kernel refuses a handler.
pub fn on_signals() -> std::io::Result<(Shutdown, Reload)> {
    let (stop, shutdown) = Stop::new();
    let (reloads, reload) = watch::channel(0);
    let (mut term, mut quit) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::quit())?,
    );
    let (mut int, mut hup) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    );
    // A handler stays in place when its stream is dropped.
    drop((
        signal(SignalKind::user_defined1())?,
        signal(SignalKind::user_defined2())?,
    ));
    tokio::spawn(async move {
        let mut phase = Phase::Running;
        while phase != Phase::Stopping {
            let asked = tokio::select! {
                _ = term.recv() => "TERM",
                _ = quit.recv() => "QUIT",
                _ = int.recv() => "INT",
                _ = hup.recv() => {
                    reloads.send_modify(|count| *count += 1);
                    continue;
                }
            };
            phase = if asked == "INT" {
                Phase::Stopping
            } else {
                phase.asked_to_end()
            };
            // Said first: who ends at once would end before it.
            tracing::info!(
                "ending after {asked}: {}",
                if phase == Phase::Draining {
                    "what is under way is finished"
                } else {
                    "now"
                }
            );
            stop.move_to(phase);
        }
        // The handlers stay in place: a third signal is one too many, not a crash.
        std::future::pending::<()>().await;
    });
    Ok((shutdown, Reload(reload)))
}

/// A runtime whose `threads`, and those for blocking work, give way to the thread that makes it and to those that one
/// starts.
///
/// # Errors
/// When the kernel refuses a thread.
pub fn background(threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .on_thread_start(|| ThreadPriority::Background.take())
        .build()
}

/// Runs `work` to its end on `runtime`, and then waits for nobody: a look-up or a file that hangs ends with the process.
pub fn run_on<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

/// Does long `work` on a thread of its own that stands back behind all others; none where it panicked or the kernel
/// refused a thread.
pub async fn unhurried<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    let stand_back = move || {
        ThreadPriority::Unhurried.take();
        // Who has stopped waiting needs no outcome.
        let _ = done.send(work());
    };
    if let Err(error) = std::thread::Builder::new()
        .name("unhurried".into())
        .spawn(stand_back)
    {
        tracing::error!("no thread for long work: {error}");
    }
    outcome.await.ok()
}

/// The host's name, for people.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// A random 128-bit identity in hexadecimal.
pub fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
