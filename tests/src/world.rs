//! A cluster on loopback: a redis-server, two redirectors, a healthd and a statsd, each a process of its own.

use crate::process::{Ended, Process};
use crate::redis::RedisServer;
use crate::stats::Stats;
use crate::traffic::Received;
use crate::{FLUSH, START, client, eventually, up};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A process with the address it listens on.
#[derive(Debug)]
pub struct Daemon {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

/// How a program finds its store.
#[derive(Debug, Clone)]
pub struct Way {
    /// What it is given as `--redis`.
    pub url: String,
    /// The file with the password, if there is one.
    pub password_file: Option<PathBuf>,
}

/// A whole cluster. What is started first ends last.
#[derive(Debug)]
pub struct World {
    /// Those who answer.
    pub redirectors: Vec<Daemon>,
    /// Who reports.
    pub statsd: Daemon,
    /// Who watches.
    pub healthd: Process,
    /// Where they meet.
    pub redis: RedisServer,
    directory: TempDir,
}

impl World {
    /// Starts redis-server, publishes a configuration and starts the daemons; returns when both redirectors answer
    /// for the farm `host`.
    pub fn start(redis: RedisServer, configuration: &str, host: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        publish(&redis, &directory, configuration);
        let redirectors = (1..=2)
            .map(|number| redirector(&redis, &directory, number))
            .collect();
        let healthd = start(
            "rbalancer-healthd",
            &redis,
            &directory,
            &["--id", "watcher"],
            "healthd",
        );
        let statsd = listening("rbalancer-statsd", &redis, &directory, "statsd");
        let world = Self {
            redirectors,
            statsd,
            healthd,
            redis,
            directory,
        };
        for address in world.addresses() {
            eventually!(START, client::get(address, host, "/").status == 302);
        }
        eventually!(START, world.stats().replicas() == 2, "{:?}", world.stats());
        world
    }

    /// Publishes a configuration.
    pub fn apply(&self, configuration: &str) {
        publish(&self.redis, &self.directory, configuration);
    }

    /// Runs a command of `rbalancer` on its Redis to its end.
    pub fn command(&self, arguments: &[&str]) -> Ended {
        command(&self.redis, &self.directory, arguments)
    }

    /// Where the redirectors answer.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.redirectors
            .iter()
            .map(|redirector| redirector.address)
            .collect()
    }

    /// What statsd reports.
    pub fn stats(&self) -> Stats {
        Stats::of(self.statsd.address)
    }

    /// Asks the redirectors in turn `count` times for `host` and counts the answers.
    pub fn ask(&self, host: &str, count: u64) -> Received {
        let addresses = self.addresses();
        let mut received = Received::default();
        let share = count / addresses.len() as u64;
        addresses
            .iter()
            .for_each(|address| received.add(&crate::traffic::load(*address, host, share, 4)));
        received
    }

    /// Waits until the report holds exactly `expected` redirects, and sees that it stays there.
    pub fn settles_at(&self, expected: u64) {
        eventually!(
            FLUSH * 4,
            self.stats().redirects() >= expected,
            "{} of {expected}",
            self.stats().redirects()
        );
        assert_eq!(
            self.stats().redirects(),
            expected,
            "more was counted than clients received"
        );
    }

    /// Whether any of 200 requests to each redirector leads to `server`.
    pub fn uses(&self, host: &str, server: &str) -> bool {
        self.ask(host, 400).to(server) > 0
    }

    /// How many requests [`World::start`] itself made that were redirected, by the report after the last flush.
    pub fn counted_so_far(&self) -> u64 {
        let mut before = self.stats().redirects();
        let mut since = std::time::Instant::now();
        // Quiet for longer than a flush takes: nothing is on its way.
        eventually!(FLUSH * 4, {
            let now = self.stats().redirects();
            if now != before {
                (before, since) = (now, std::time::Instant::now());
            }
            since.elapsed() > FLUSH / 2
        });
        before
    }
}

fn publish(redis: &RedisServer, directory: &TempDir, configuration: &str) {
    let ended = apply(redis, directory, configuration.as_bytes());
    assert_eq!(
        ended.code,
        Some(0),
        "apply of\n{configuration}\nsaid:\n{}",
        ended.lines.join("\n")
    );
}

/// Runs `rbalancer apply` on a configuration to its end; whatever it takes away is meant.
pub fn apply(redis: &RedisServer, directory: &TempDir, configuration: &[u8]) -> Ended {
    Way::to(redis).apply(directory.path(), configuration)
}

/// Runs a command of `rbalancer` to its end.
pub fn command(redis: &RedisServer, directory: &TempDir, arguments: &[&str]) -> Ended {
    Process::start(
        "rbalancer",
        directory.path(),
        &[arguments, &["--redis", &redis.url()]].concat(),
        &[],
    )
    .wait(START)
}

fn redirector(redis: &RedisServer, directory: &TempDir, number: usize) -> Daemon {
    Way::to(redis).redirector(directory.path(), &format!("redirector-{number}"))
}

fn listening(program: &str, redis: &RedisServer, directory: &TempDir, name: &str) -> Daemon {
    Way::to(redis).listening(program, directory.path(), name)
}

fn start(
    program: &str,
    redis: &RedisServer,
    directory: &TempDir,
    more: &[&str],
    name: &str,
) -> Process {
    Way::to(redis).start(program, directory.path(), more, name)
}

impl Way {
    /// Straight to a server without a password.
    pub fn to(redis: &RedisServer) -> Self {
        Self {
            url: redis.url(),
            password_file: None,
        }
    }

    /// Runs `rbalancer apply` on a configuration to its end.
    pub fn apply(&self, directory: &Path, configuration: &[u8]) -> Ended {
        let file = up::write(directory, "applied.conf", configuration);
        let arguments = ["apply", &file, "--redis", &self.url, "--yes", "--force"];
        Process::start("rbalancer", directory, &arguments, &self.environment()).wait(START)
    }

    /// Starts a redirector; its state file has its name.
    pub fn redirector(&self, directory: &Path, name: &str) -> Daemon {
        self.listening("rbalancer-redirector", directory, name)
    }

    /// Starts a program that listens, on a free port.
    pub fn listening(&self, program: &str, directory: &Path, name: &str) -> Daemon {
        let process = self.start(program, directory, &["--listen", "127.0.0.1:0"], name);
        let address = process.wait_for_address(START);
        Daemon { process, address }
    }

    /// Starts a daemon.
    pub fn start(&self, program: &str, directory: &Path, more: &[&str], name: &str) -> Process {
        let state = directory.join(format!("{name}.state"));
        let mut environment = self.environment();
        environment.extend(
            ["RBALANCER_ADMIN_BIND", "RBALANCER_HEALTHD_BIND"].map(|key| (key, "127.0.0.1:0")),
        );
        environment.push((
            "RBALANCER_STATE_FILE",
            state.to_str().expect("a path in UTF-8"),
        ));
        Process::start(
            program,
            directory,
            &[&["--redis", &self.url], more].concat(),
            &environment,
        )
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        let file = self
            .password_file
            .iter()
            .map(|file| file.to_str().expect("a path in UTF-8"));
        file.map(|file| ("RBALANCER_REDIS_PASSWORD_FILE", file))
            .collect()
    }
}
