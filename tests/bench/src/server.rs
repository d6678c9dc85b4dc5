//! A server under test: its process, pinned to a core, what it has used, and its end.

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to answer or to end.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// The core of the servers.
pub const SERVER_CORE: &str = "0";

/// A running server, ended when dropped.
#[derive(Debug)]
pub struct Server {
    /// How the tables call it.
    pub name: String,
    /// Its port on loopback.
    pub port: u16,
    /// What it says.
    pub log: PathBuf,
    child: Child,
}

impl Server {
    /// Starts `command` on `cores`; its output goes to a file in `folder`. Does not wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        name: &str,
        port: u16,
        command: &[&str],
        cores: &str,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}-{port}.log").replace(' ', "-"));
        let output = File::create(&log).with_context(|| format!("{}", log.display()))?;
        let mut start = Command::new("taskset");
        start
            .args(["-c", cores])
            .args(command)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        for (key, _) in
            std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("RBALANCER_"))
        {
            start.env_remove(key);
        }
        let child = start
            .env_remove("RUST_LOG")
            .spawn()
            .with_context(|| format!("taskset {}", command.join(" ")))?;
        Ok(Self {
            name: name.to_owned(),
            port,
            log,
            child,
        })
    }

    /// Waits until `request` is answered; the answer.
    ///
    /// # Errors
    /// With the server's own words, when it does not.
    pub fn ready(&mut self, request: &[u8]) -> anyhow::Result<String> {
        let began = Instant::now();
        loop {
            match ask(self.port, request) {
                Ok(answer) if crate::load::is_whole_redirect(answer.as_bytes()) => {
                    return Ok(answer);
                }
                last if began.elapsed() > PATIENCE || self.child.try_wait()?.is_some() => {
                    let last = last.unwrap_or_else(|error| error.to_string());
                    bail!(
                        "{} does not redirect on port {}: {last}\n{}",
                        self.name,
                        self.port,
                        self.words()
                    )
                }
                _ => std::thread::sleep(LOOK),
            }
        }
    }

    /// Waits for its end, for as long as `limit`: how long it took; none: it goes on.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn ended(&mut self, limit: Duration) -> anyhow::Result<Option<Duration>> {
        let began = Instant::now();
        while began.elapsed() < limit {
            if self.child.try_wait()?.is_some() {
                return Ok(Some(began.elapsed()));
            }
            std::thread::sleep(LOOK);
        }
        Ok(None)
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    /// With its own words, when it does not.
    pub fn listening(self) -> anyhow::Result<Self> {
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            ensure!(
                began.elapsed() < PATIENCE,
                "{} does not listen on port {}:\n{}",
                self.name,
                self.port,
                self.words()
            );
            std::thread::sleep(LOOK);
        }
        Ok(self)
    }

    /// What it has said.
    pub fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process and the workers below it.
    pub fn pids(&self) -> Vec<u32> {
        let id = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        std::iter::once(id)
            .chain(
                children
                    .split_whitespace()
                    .filter_map(|child| child.parse().ok()),
            )
            .collect()
    }

    /// User and system time so far, of all its threads and workers.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let of = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map(|stat| used(&stat))
                .with_context(|| format!("{} is gone:\n{}", self.name, self.words()))
        };
        self.pids().iter().map(of).sum()
    }

    /// The same of those of its threads that serve clients without TLS.
    ///
    /// # Errors
    /// When it is gone.
    pub fn serving_cpu(&self) -> anyhow::Result<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id()))
            .with_context(|| format!("{} is gone", self.name))?;
        // A thread that ends in between served nobody.
        let stats = threads
            .flatten()
            .filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
        Ok(stats
            .filter(|stat| stat.contains("(clients-"))
            .map(|stat| used(&stat))
            .sum())
    }

    /// How often one of its threads or workers has gone to sleep so far (proc_pid_status(5), voluntary switches).
    pub fn sleeps(&self) -> u64 {
        let threads = self
            .pids()
            .into_iter()
            .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
            .flatten()
            .flatten();
        let statuses =
            threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
        let of = |status: &str| {
            status.lines().find_map(|line| {
                line.strip_prefix("voluntary_ctxt_switches:")?
                    .trim()
                    .parse::<u64>()
                    .ok()
            })
        };
        statuses.filter_map(|status| of(&status)).sum()
    }

    /// Anonymous memory in bytes.
    ///
    /// # Errors
    /// When it is gone.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let mut kibibytes = 0;
        for pid in self.pids() {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
                .with_context(|| format!("{} is gone", self.name))?;
            let anonymous = rollup.lines().find_map(|line| {
                line.strip_prefix("Anonymous:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse::<u64>()
                    .ok()
            });
            kibibytes += anonymous.context("smaps_rollup has no Anonymous")?;
        }
        Ok(kibibytes * 1024)
    }

    /// Sends `signal` to its first process.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("{} is gone", self.name))
    }
}

/// User and system time in a `stat` of proc(5).
fn used(stat: &str) -> Duration {
    // The name in brackets may hold anything: the fields are those behind it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

impl Drop for Server {
    fn drop(&mut self) {
        // A second TERM stops rbalancer's drain.
        let _ = self.signal(Signal::TERM);
        let _ = self.signal(Signal::TERM);
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// One request on a connection of its own, and what comes back until the server closes or the answer is whole.
///
/// # Errors
/// When the connection fails.
pub fn ask(port: u16, request: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(request)?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while !crate::load::is_whole_redirect(&answer) {
        match stream.read(&mut piece)? {
            0 => break,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A port nobody listens on, from below those the kernel gives to clients; another one each time.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + (std::process::id() % 9_000) as u16 * 2;
    let mut untried =
        std::iter::repeat_with(|| first + GIVEN.fetch_add(1, Ordering::Relaxed) % 2_000)
            .take(2_000);
    let free = untried.find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    free.with_context(|| format!("no port from {first} on is free on loopback"))
}
