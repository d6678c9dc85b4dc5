//! The arguments of `rbalancer`: its subcommands, their options and what the help says of them.

use crate::change::put_in_force::PublishOptions;
use crate::commands::format::{Format, KeysFormat};
use crate::conf::values;
use clap::{Args, Parser, Subcommand, ValueEnum};
use common::config::values::typed_duration;
use common::model::farm::{ServerId, Weight};
use common::model::overrides::Force;
use common::net::listen::ListenAddresses;
use common::process::arguments::CommonArgs;
use common::store::RedisAddress;
use std::path::PathBuf;
use std::time::Duration;

/// HTTP load balancer that answers every request with a redirect to one live server.
#[derive(Debug, Parser)]
#[command(name = "rbalancer", version)]
pub struct Arguments {
    /// What every program takes.
    #[command(flatten)]
    pub common: CommonArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A subcommand.
#[derive(Debug, Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "one is made in the life of a process"
)]
pub enum Command {
    /// Run everything in this process, state in memory
    Up {
        /// The file; also as -c FILE
        file: Option<PathBuf>,
        /// Where to listen for clients; several by commas
        #[arg(long, value_name = "ADDR:PORT,…")]
        listen: Option<ListenAddresses>,
        /// Keep state in memory although a redis is configured
        #[arg(long)]
        memory: bool,
    },
    /// Run everything with three toy origins, and things to try
    Demo {
        /// Where to listen for clients; several by commas
        #[arg(long, value_name = "ADDR:PORT,…")]
        listen: Option<ListenAddresses>,
    },
    /// Check a configuration file
    Check {
        /// The file; also as -c FILE
        file: Option<PathBuf>,
        /// Look up every name that clients are sent to or probes go to; exit 1 if one has no address
        #[arg(long)]
        resolve: bool,
        /// Taken as everywhere, and of no use here
        #[arg(long, hide = true)]
        redis: Option<RedisAddress>,
    },
    /// Say what `apply` would change, and change nothing
    Plan {
        /// The file; also as -c FILE
        file: Option<PathBuf>,
    },
    /// Put a configuration file's farms in force on Redis
    #[command(alias = "seed")]
    Apply {
        /// The file; also as -c FILE
        file: Option<PathBuf>,
        /// How to publish
        #[command(flatten)]
        publishing: Publishing,
    },
    /// Put an older table in force again, as a new generation
    Rollback {
        /// How many tables back, or a generation of `rbalancer history`
        #[arg(default_value_t = 1)]
        back: u64,
        /// How to publish
        #[command(flatten)]
        publishing: Publishing,
    },
    /// List the last 20 tables: who, when and why
    History {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Show what is in force on Redis
    Show {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// List every key of a configuration file, with its value, default and meaning
    Keys {
        /// For people, programs or documentation
        #[arg(long, value_enum, default_value_t = KeysFormat::Table)]
        format: KeysFormat,
    },
    /// Write the table in force as a configuration file, with what is set by hand as far as a file can say it
    Export,
    /// Put a server in service, whatever the file says
    Enable(OverrideArgs),
    /// Take a server out: no redirects, no probes
    Disable(OverrideArgs),
    /// Send a server no new clients; it is still probed
    Drain(OverrideArgs),
    /// Set a server's share, whatever the file says
    Weight {
        /// Which server, and why
        #[command(flatten)]
        hand: OverrideArgs,
        /// 0 to 65535; 0: no new redirects
        #[arg(value_parser = values::weight)]
        weight: Weight,
    },
    /// Count a server as up or down, whatever probes say
    Force {
        /// up or down
        health: ForcedHealth,
        /// Which server, and why
        #[command(flatten)]
        hand: OverrideArgs,
        /// For how long, with its unit (300s, 10m, 1h, 2d); until cleared without
        #[arg(long = "for", value_name = "TIME", value_parser = typed_duration)]
        time: Option<Duration>,
    },
    /// Drop what was set by hand for a server: the file and the probes decide again
    Clear(OverrideArgs),
    /// Say what is wrong or risky with Redis and the cluster
    Doctor,
}

/// How a table is published.
#[derive(Debug, Args)]
pub struct Publishing {
    /// Do not ask; where there is no terminal nobody is asked
    #[arg(short, long)]
    pub yes: bool,
    /// Do it although farms, most servers or a farm's last live server would go
    #[arg(long)]
    pub force: bool,
    /// Drop everything that was set by hand, in the same step
    #[arg(long)]
    pub reset: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
}

impl Publishing {
    /// The wish, with a reason where none is given.
    pub fn options(&self, why: impl FnOnce() -> String) -> PublishOptions {
        PublishOptions {
            force: self.force,
            reset: self.reset,
            why: self.why.clone().unwrap_or_else(why),
        }
    }
}

/// One server to set by hand.
#[derive(Debug, Args)]
pub struct OverrideArgs {
    /// Which server
    #[arg(value_name = "FARM/SERVER")]
    pub server: ServerId,
    /// Do it although its farm would be left without a live server
    #[arg(long = "force")]
    pub insist: bool,
    /// Why, for the events and the stats
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub why: String,
}

/// The health to fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ForcedHealth {
    /// Up.
    Up,
    /// Down.
    Down,
}

impl From<ForcedHealth> for Force {
    fn from(health: ForcedHealth) -> Self {
        match health {
            ForcedHealth::Up => Self::Up,
            ForcedHealth::Down => Self::Down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_names_what_is_of_use() {
        let mut command = Arguments::command();
        command.build();
        let mut help = |name: &str| {
            command
                .find_subcommand_mut(name)
                .expect("a subcommand")
                .render_long_help()
                .to_string()
        };
        assert!(
            !help("check").contains("--redis")
                && help("check").contains("--config")
                && help("check").contains("--resolve")
        );
        assert!(help("plan").contains("--redis") && help("apply").contains("--redis"));
    }
}
