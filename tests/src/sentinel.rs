//! A primary, its replica and three Sentinels on loopback; the trouble is that the primary dies.

use crate::process::Process;
use crate::redis::RedisServer;
use crate::resp::Resp;
use crate::scenario::{Scale, Trouble};
use crate::scene::Scene;
use crate::world::Way;
use crate::{START, eventually, port, up};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// What the primary is called.
const NAME: &str = "mymaster";

/// How soon after the switch the new table must be in use.
const FRESH: Duration = Duration::from_secs(3);

/// A watched primary.
#[derive(Debug)]
pub struct Failover {
    sentinels: Vec<Sentinel>,
    primary: RedisServer,
    replica: RedisServer,
    _directory: TempDir,
}

/// One Sentinel.
#[derive(Debug)]
pub struct Sentinel {
    _process: Process,
    address: SocketAddr,
}

impl Default for Failover {
    fn default() -> Self {
        Self::new()
    }
}

impl Failover {
    /// Starts all five; returns when the Sentinels know each other and the replica.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let primary = RedisServer::with(&["--repl-diskless-sync-delay", "0"]);
        let port = primary.address().port().to_string();
        let replica = RedisServer::with(&[
            "--repl-diskless-sync-delay",
            "0",
            "--replicaof",
            "127.0.0.1",
            &port,
        ]);
        replica.wait_for_info("replication", "master_link_status:up", START);
        let sentinels: Vec<_> = (1..=3)
            .map(|number| Sentinel::start(&directory, number, &primary, ""))
            .collect();
        for sentinel in &sentinels {
            eventually!(
                START,
                sentinel
                    .say(&["INFO", "sentinel"])
                    .is_some_and(|text| text.contains("slaves=1,sentinels=3"))
            );
        }
        Self {
            sentinels,
            primary,
            replica,
            _directory: directory,
        }
    }

    fn way(&self) -> Way {
        let all: Vec<String> = self
            .sentinels
            .iter()
            .map(|sentinel| sentinel.address.to_string())
            .collect();
        Way {
            url: format!("redis+sentinel://{}/{NAME}", all.join(",")),
            password_file: None,
        }
    }
}

impl Sentinel {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has it watch `primary`; `more` are more lines of its configuration.
    pub fn start(directory: &TempDir, number: u8, primary: &RedisServer, more: &str) -> Self {
        let (port, watched) = (port::free(), primary.address().port());
        let own = directory.path().join(number.to_string());
        std::fs::create_dir(&own).expect("a directory");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {NAME} 127.0.0.1 {watched} 2\n\
             sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 3000\n{more}",
            own.display()
        );
        let file = up::write(&own, "sentinel.conf", text);
        let mut command = Command::new("redis-server");
        command.args([&file, "--sentinel"]);
        let process = Process::spawn("sentinel", command);
        process.wait_for_line("Sentinel ID is", START);
        Self {
            _process: process,
            address: (Ipv4Addr::LOCALHOST, port).into(),
        }
    }

    /// The primary it watches, for `--redis`.
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/{NAME}", self.address)
    }

    /// Its answer; none while it does not listen yet.
    pub fn say(&self, command: &[&str]) -> Option<String> {
        let reply = Resp::open(self.address, None)
            .and_then(|mut open| open.call(command))
            .ok()?;
        Some(reply.texts().join(" ") + reply.text())
    }
}

impl Trouble for Failover {
    fn name(&self) -> String {
        "SentinelFailover".into()
    }

    fn daemons(&self) -> Way {
        self.way()
    }

    fn direct(&self) -> Way {
        self.way()
    }

    fn holds(&self, pattern: &str) -> bool {
        !self.primary.keys_like(pattern).is_empty()
    }

    fn lasts(&self, _: Scale) -> Duration {
        Duration::ZERO
    }

    fn limit(&self) -> Duration {
        FRESH
    }

    fn begin(&mut self, _: &Scene, _: Scale) {
        self.primary.stop();
    }

    /// Healed is when every Sentinel names the replica.
    fn heal(&mut self) {
        let port = self.replica.address().port().to_string();
        for sentinel in &self.sentinels {
            let named = || sentinel.say(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
            eventually!(
                START,
                named().is_some_and(|named| named.contains(&port)),
                "{:?}",
                named()
            );
        }
        self.replica
            .wait_for_info("replication", "role:master", START);
    }
}
