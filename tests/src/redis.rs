//! A private redis-server on a free port, in a directory of its own; it can be stopped, started again and held still.

use crate::process::Process;
use crate::{START, port};
use common::store::RedisSettings;
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A redis-server of our own.
#[derive(Debug)]
pub struct RedisServer {
    directory: TempDir,
    port: u16,
    keeps: bool,
    process: Option<Process>,
}

impl RedisServer {
    /// One that forgets everything when it stops.
    pub fn forgetful() -> Self {
        Self::new(false)
    }

    /// One that has every write back after a restart.
    pub fn persistent() -> Self {
        Self::new(true)
    }

    fn new(keeps: bool) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Self { directory, port: port::free(), keeps, process: None };
        server.start();
        server
    }

    /// Starts it, again on the same port.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "redis-server runs already");
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendfsync", "always", "--daemonize", "no"]);
        command.args(["--port", &self.port.to_string(), "--appendonly", if self.keeps { "yes" } else { "no" }]);
        command.arg("--dir").arg(self.directory.path());
        if let Err(error) = Command::new("redis-server").arg("--version").output() {
            panic!("redis-server cannot be run ({error}): apt-get install redis-server (tests/run does it)");
        }
        let process = Process::spawn("redis-server", command);
        process.wait_for_line("eady to accept connections", START);
        self.process = Some(process);
    }

    /// Kills it: what it did not keep on disk is gone.
    pub fn stop(&mut self) {
        drop(self.process.take().expect("redis-server runs"));
    }

    /// Holds it still: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.process().signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process().signal(Signal::CONT);
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("redis-server runs")
    }

    /// What to give to `--redis`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What to make a store with.
    pub fn settings(&self) -> RedisSettings {
        let address = self.url().parse().expect("a redis URL");
        RedisSettings { address, password_file: None, ca_file: None, prefix: "{rbalancer}".into() }
    }

    /// How many keys it holds.
    pub fn keys(&self) -> u64 {
        self.number("DBSIZE")
    }

    /// Gives an order that is answered with OK.
    pub fn order(&self, command: &str) {
        let answer = self.ask(command).unwrap_or_else(|error| panic!("redis-server does not answer: {error}"));
        assert_eq!(answer.trim_end(), "+OK", "{command}");
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Empties it; how many keys it held.
    pub fn flush(&self) -> u64 {
        let held = self.keys();
        self.order("FLUSHALL");
        held
    }

    /// The answer to an inline command that answers with a number.
    pub fn number(&self, command: &str) -> u64 {
        let started = Instant::now();
        loop {
            match self.ask(command) {
                Ok(answer) => {
                    let number = answer.trim_end().strip_prefix(':').and_then(|digits| digits.parse().ok());
                    return number.unwrap_or_else(|| panic!("redis-server answered `{command}` with {answer:?}"));
                }
                Err(error) => assert!(started.elapsed() < START, "redis-server does not answer: {error}"),
            }
        }
    }

    fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    }
}
