//! How a program ends: with which exit code, and what is said.

use crate::config::global::Problems;
use crate::process::logging::Logging;
use crate::store::RedisSettings;
use std::process::ExitCode;

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
