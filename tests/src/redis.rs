//! A private redis-server on a free port, in a directory of its own; it can be stopped, started again and held still.

mod trouble;

use crate::process::Process;
use crate::resp::{Reply, Resp};
use crate::{START, port};
use common::store::RedisSettings;
use rustix::process::Signal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tempfile::TempDir;

/// A redis-server of our own.
#[derive(Debug)]
pub struct RedisServer {
    directory: TempDir,
    port: u16,
    keeps: bool,
    password: Option<String>,
    /// More arguments for it.
    more: Vec<String>,
    process: Option<Process>,
}

impl RedisServer {
    /// One that forgets everything when it stops.
    pub fn forgetful() -> Self {
        Self::new(false, None, &[])
    }

    /// One that has every write back after a restart.
    pub fn persistent() -> Self {
        Self::new(true, None, &[])
    }

    /// A persistent one that asks for a password and can be told to misbehave.
    pub fn breakable(password: &str) -> Self {
        Self::new(true, Some(password), &["--enable-debug-command", "yes"])
    }

    /// A persistent one with more arguments.
    pub fn with(more: &[&str]) -> Self {
        Self::new(true, None, more)
    }

    fn new(keeps: bool, password: Option<&str>, more: &[&str]) -> Self {
        let (directory, more) = (
            tempfile::tempdir().expect("a temporary directory"),
            more.iter().map(ToString::to_string).collect(),
        );
        let mut server = Self {
            directory,
            port: port::free(),
            keeps,
            password: password.map(str::to_owned),
            more,
            process: None,
        };
        server.start();
        server
    }

    /// Starts it, again on the same port.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "redis-server runs already");
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendfsync",
            "always",
            "--daemonize",
            "no",
        ]);
        command.args([
            "--port",
            &self.port.to_string(),
            "--appendonly",
            if self.keeps { "yes" } else { "no" },
        ]);
        command.arg("--dir").arg(self.directory.path());
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        command.args(&self.more);
        if let Err(error) = Command::new("redis-server").arg("--version").output() {
            panic!(
                "redis-server cannot be run ({error}): apt-get install redis-server (tests/run does it)"
            );
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
        RedisSettings::new(self.url().parse().expect("a redis URL"))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where its files lie.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// How many keys it holds.
    pub fn keys(&self) -> u64 {
        self.number("DBSIZE")
    }

    /// Gives an order that is answered with OK.
    pub fn order(&self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(self.call(&words), Reply::Word("OK".into()), "{command}");
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Empties it; how many keys it held.
    pub fn flush(&self) -> u64 {
        let held = self.keys();
        self.call(&["FLUSHALL"]);
        held
    }

    /// The answer to a command that answers with a number; the server may be busy for a while before it does.
    pub fn number(&self, command: &str) -> u64 {
        let words: Vec<&str> = command.split_whitespace().collect();
        let started = Instant::now();
        loop {
            match self.connect().and_then(|mut open| open.call(&words)) {
                Ok(Reply::Number(number)) => return number.unsigned_abs(),
                Ok(other) => panic!("redis-server answered `{command}` with {other:?}"),
                Err(error) => assert!(
                    started.elapsed() < START,
                    "redis-server does not answer: {error}"
                ),
            }
        }
    }

    /// The reply to a command over a connection of its own; fails on a refusal.
    pub fn call(&self, command: &[&str]) -> Reply {
        match self.connect().and_then(|mut open| open.call(command)) {
            Ok(Reply::Error(why)) => panic!("redis-server refused {command:?}: {why}"),
            Ok(reply) => reply,
            Err(error) => panic!("redis-server does not answer {command:?}: {error}"),
        }
    }

    /// An open connection, the password given.
    ///
    /// # Errors
    /// When it does not let us in.
    pub fn connect(&self) -> std::io::Result<Resp> {
        Resp::open(self.address(), self.password.as_deref())
    }
}
