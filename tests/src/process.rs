//! A child process: its output is captured line by line, and it never outlives the test that started it.

use crate::LOOK;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A running child process, killed by its id when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output and standard error, line by line.
    pub lines: Vec<String>,
}

impl Ended {
    /// Everything it said.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// Fails unless it ended with `code` and said each of `words`.
    pub fn expect(&self, code: i32, words: &[&str]) {
        let text = self.text();
        assert_eq!(self.code, Some(code), "{text}");
        words
            .iter()
            .for_each(|word| assert!(text.contains(word), "no `{word}` in:\n{text}"));
    }
}

#[derive(Debug, Default)]
struct Output {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    /// How many of the two streams have ended.
    ended: usize,
}

/// The program `name` of this workspace, from the directory this test was built into.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    // target/debug/deps/suite-1234 → target/debug
    let directory = test
        .ancestors()
        .nth(2)
        .expect("a test lies in target/PROFILE/deps");
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run tests/run, which builds the programs before the tests",
        path.display()
    );
    path
}

impl Process {
    /// Starts the program `name` of this workspace in `directory`, free of the caller's settings.
    pub fn start(
        name: &str,
        directory: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        Self::start_under(&[], name, directory, arguments, environment)
    }

    /// The same, under a command that becomes it (`prlimit`, `taskset`).
    pub fn start_under(
        under: &[&str],
        name: &str,
        directory: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let program = binary(name);
        let mut command = match under {
            [] => Command::new(program),
            [first, more @ ..] => {
                let mut command = Command::new(first);
                command.args(more).arg(program);
                command
            }
        };
        let inherited = std::env::vars_os().map(|(key, _)| key);
        inherited
            .filter(|key| key.to_string_lossy().starts_with("RBALANCER_"))
            .for_each(|key| {
                command.env_remove(key);
            });
        command
            .env_remove("RUST_LOG")
            .current_dir(directory)
            .args(arguments)
            .envs(environment.iter().copied());
        Self::spawn(name, command)
    }

    /// Starts any command.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let output = Arc::new(Output::default());
        follow(child.stdout.take().expect("piped"), output.clone());
        follow(child.stderr.take().expect("piped"), output.clone());
        Self {
            name: name.to_owned(),
            child,
            output,
        }
    }

    /// Waits for a line that holds `pattern`; fails with everything said if it does not come or the process ends.
    pub fn wait_for_line(&self, pattern: &str, limit: Duration) -> String {
        let found = self.find(limit, |line| {
            line.contains(pattern).then(|| line.to_owned())
        });
        found.unwrap_or_else(|| {
            panic!(
                "{} did not say `{pattern}` within {limit:?}:\n{}",
                self.name,
                self.lines().join("\n")
            )
        })
    }

    /// Waits for the address it says it is `listening on`, its admin pages' apart.
    pub fn wait_for_address(&self, limit: Duration) -> SocketAddr {
        let address = |line: &str| {
            let (before, after) = line.split_once("listening on ")?;
            let text: String = after
                .chars()
                .take_while(|c| c.is_ascii_digit() || ".:[]".contains(*c))
                .collect();
            (!before.contains("admin") && !after.contains("admin"))
                .then(|| text.trim_end_matches(['.', ':']).parse().ok())?
        };
        let found = self.find(limit, address);
        found.unwrap_or_else(|| {
            panic!(
                "{} did not say where it is listening on within {limit:?}:\n{}",
                self.name,
                self.lines().join("\n")
            )
        })
    }

    /// The first `pick` of a line, said already or within `limit`.
    pub fn find<T>(&self, limit: Duration, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut seen = 0;
        let mut said = self.output.said();
        loop {
            if let Some(found) = said.lines[seen..].iter().find_map(|line| pick(line)) {
                return Some(found);
            }
            seen = said.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || said.ended == 2 {
                return None;
            }
            said = self
                .output
                .more
                .wait_timeout(said, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Everything it said so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.said().lines.clone()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid =
            Pid::from_raw(i32::try_from(self.child.id()).expect("a process id")).expect("not 0");
        kill_process(pid, signal)
            .unwrap_or_else(|error| panic!("{} cannot be signalled: {error}", self.name));
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_none()
    }

    /// Asks it to end (TERM) and waits until it has.
    pub fn terminate(self, limit: Duration) -> Ended {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self, limit: Duration) -> Ended {
        let started = Instant::now();
        let status: ExitStatus = loop {
            match self.child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None if started.elapsed() > limit => {
                    panic!(
                        "{} still runs after {limit:?}:\n{}",
                        self.name,
                        self.lines().join("\n")
                    )
                }
                None => thread::sleep(LOOK),
            }
        };
        // Its last lines may still be in the pipes.
        self.find(Duration::from_secs(2), |_| None::<()>);
        Ended {
            code: status.code(),
            lines: self.lines(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn follow(stream: impl Read + Send + 'static, output: Arc<Output>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            output
                .said()
                .lines
                .push(String::from_utf8_lossy(&line).into_owned());
            output.more.notify_all();
        }
        output.said().ended += 1;
        output.more.notify_all();
    });
}
