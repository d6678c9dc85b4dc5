//! The log of the process: its form, a thread that writes it, first and last words.

use crate::config::environment;
use clap::ValueEnum;
use std::time::{Duration, Instant};

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
