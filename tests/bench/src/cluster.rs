//! A cluster for the programs that work in the background: a redis-server with a large table in it, and what other
//! members of the cluster would write.

use crate::configuration;
use crate::server::{Server, free_port};
use anyhow::{Context, ensure};
use common::model::check::Check;
use common::model::health::{Checked, Finding, State};
use common::model::tally::CountKey;
use common::store::{Announcement, Answer, HealthReport, Redis, RedisSettings, Store};
use std::path::Path;
use std::process::Command;

/// The core of the store and of everything that is not measured.
pub const OTHER_CORE: &str = "1";

/// A redis-server with a table in it.
#[derive(Debug)]
pub struct Cluster {
    /// The redis-server.
    pub redis: Server,
    /// What the roles reach it by.
    pub store: Store,
}

impl Cluster {
    /// Starts one and applies `configuration` to it.
    ///
    /// # Errors
    /// When redis-server does not start, or the table is refused.
    pub fn start(configuration: &str, programs: &Path, folder: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let arguments = [
            "redis-server",
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--port",
            &port.to_string(),
        ];
        let redis = Server::start("redis", port, &arguments, OTHER_CORE, folder)?
            .listening()
            .context("is redis-server installed?")?;
        let address = url(port).parse().context("a Redis URL")?;
        let settings = RedisSettings::new(address);
        let file = configuration::write(folder, &format!("cluster-{port}.conf"), configuration)?;
        let applied = Command::new(programs.join("rbalancer"))
            .arg("apply")
            .arg(file)
            .args(["--yes", "--redis", &url(port)])
            .output()?;
        ensure!(
            applied.status.success(),
            "rbalancer apply: {}",
            String::from_utf8_lossy(&applied.stderr)
        );
        Ok(Self {
            redis,
            store: Store::Redis(Redis::dedicated(&settings)),
        })
    }

    /// Starts `program` of rbalancer on `core`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(
        &self,
        program: &Path,
        port: u16,
        arguments: &[&str],
        core: &str,
        folder: &Path,
    ) -> anyhow::Result<Server> {
        let (url, name) = (
            url(self.redis.port),
            program.file_name().unwrap_or_default().to_string_lossy(),
        );
        let path = program.to_string_lossy();
        let command = [&[&*path, "--redis", &url], arguments].concat();
        Server::start(&name, port, &command, core, folder)
    }
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

/// What Redis has done so far for those who only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// Commands.
    pub calls: u64,
    /// Microseconds it took for them.
    pub busy: u64,
}

/// Commands that writers give too.
const WRITES: [&str; 12] = [
    "hset",
    "hdel",
    "zadd",
    "zrem",
    "zcard",
    "evalsha",
    "script|load",
    "publish",
    "xadd",
    "multi",
    "exec",
    "info",
];

/// Members of the cluster that only the store knows.
#[derive(Debug)]
pub struct Others {
    store: Store,
    checks: Vec<Check>,
    keys: Vec<CountKey>,
    replicas: usize,
    round: u64,
}

/// How a pretended prober is called.
const PROBER: &str = "prober";

impl Others {
    /// One prober and `replicas` redirectors, each of which has sent clients to every server.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn join(store: &Store, replicas: usize) -> anyhow::Result<Self> {
        let stamp = store
            .reader()
            .stamp()
            .await?
            .context("a table was applied")?;
        let table = store.reader().table(stamp).await??;
        let checks = table
            .farms
            .servers()
            .filter_map(|(_, server)| server.check.clone())
            .collect();
        let keys = table
            .farms
            .servers()
            .map(|(id, _)| CountKey::Server(id))
            .collect();
        let others = Self {
            store: store.clone(),
            checks,
            keys,
            replicas,
            round: 0,
        };
        let changed = others
            .checks
            .iter()
            .map(|check| (check.key(), finding()))
            .collect();
        let report = HealthReport {
            id: PROBER.into(),
            sequence: 1,
            changed,
            ..HealthReport::default()
        };
        others.store.prober().report(&report).await?;
        for replica in 0..replicas {
            others.flush(replica, 1).await?;
        }
        Ok(others)
    }

    /// What happens in one second: every redirector speaks and has counted on a part of the servers, the prober has
    /// looked at a fifth of them again.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn second(&mut self) -> anyhow::Result<()> {
        self.round += 1;
        let fifth = self
            .checks
            .iter()
            .skip((self.round % 5) as usize)
            .step_by(5);
        let touched = fifth.map(|check| (check.key(), finding())).collect();
        let report = HealthReport {
            id: PROBER.into(),
            sequence: 1 + self.round,
            touched,
            ..HealthReport::default()
        };
        self.store.prober().report(&report).await?;
        for replica in 0..self.replicas {
            self.flush(replica, 100).await?;
        }
        Ok(())
    }

    /// One redirector's counts of every `step`th server, and its presence.
    async fn flush(&self, replica: usize, step: usize) -> anyhow::Result<()> {
        let id = format!("{replica:032x}");
        let keys = self
            .keys
            .iter()
            .skip(self.round as usize % step)
            .step_by(step);
        let totals: Vec<_> = keys
            .map(|key| (key.clone(), 1_000_000 + self.round * 100))
            .collect();
        self.store.replica().flush(&id, &totals).await?;
        let said = Announcement {
            host: format!("edge{replica}"),
            id,
            address: "0.0.0.0:9998".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            generation: 1,
            overrides: 0,
            started: common::time::unix_ms(),
            alarm: String::new(),
            by_file: String::new(),
            certificate_expires: 0,
            refused_hosts: Vec::new(),
            left: false,
        };
        Ok(self.store.replica().announce(&said).await.map(drop)?)
    }

    /// What Redis has done for readers.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn reads(&self) -> anyhow::Result<Reads> {
        let answer = self.store.operator().ask(&["INFO", "commandstats"]).await?;
        let Answer::Text(text) = answer else {
            anyhow::bail!("INFO gave {answer:?}")
        };
        let mut reads = Reads { calls: 0, busy: 0 };
        for line in text.lines() {
            let Some((command, figures)) = line
                .strip_prefix("cmdstat_")
                .and_then(|line| line.split_once(':'))
            else {
                continue;
            };
            if WRITES.contains(&command) {
                continue;
            }
            let figure = |name: &str| {
                figures
                    .split(',')
                    .find_map(|figure| figure.strip_prefix(name)?.parse::<u64>().ok())
                    .unwrap_or(0)
            };
            reads = Reads {
                calls: reads.calls + figure("calls="),
                busy: reads.busy + figure("usec="),
            };
        }
        Ok(reads)
    }
}

fn finding() -> Finding {
    let now = common::time::unix_ms();
    Finding {
        state: State::Up,
        checked: Checked::Ok,
        since: 1_700_000_000_000,
        why: "HTTP 200".into(),
        last_check: now,
    }
}
