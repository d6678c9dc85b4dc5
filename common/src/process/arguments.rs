//! Arguments every program takes.

use crate::config::environment;
use crate::config::global::{DEFAULT_FILES, Global, Problems, default_file};
use crate::config::ini::Problem;
use crate::process::logging::LogFormat;
use crate::store::RedisAddress;
use clap::Args;
use std::path::PathBuf;

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
