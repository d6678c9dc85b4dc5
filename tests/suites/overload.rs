//! Three times more than it can do: the redirector goes on answering as fast as it can, grows no further, and says
//! that it is well where it is asked.
//!
//! Its core is shared with busy loops, so that one load can be three times what it can do there. Short by default;
//! `RBALANCER_TESTS=full` loads for longer and judges harder: a machine that does nothing else is needed for that.
#![allow(clippy::print_stdout, reason = "the figures are what the suite is for")]

use bench::load::{Load, Manner, Outcome, Pace, Sending};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tests::START;
use tests::process::Process;
use tests::scenario::Scale;
use tests::up::Up;
use tests::visitor::{Visitor, Visits};

const FARM: &str = "[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = a.test\ncheck = off\n";

/// Busy loops beside the redirector.
const BUSY: usize = 4;

/// Clients of an overload, at the most.
const CROWD: usize = 2000;

/// How much more comes than can be done.
const OVER: f64 = 3.0;

/// What it may take to say that all is well.
const HEALTHY: Duration = Duration::from_millis(50);

/// The redirector on the first core, and what keeps that core busy.
struct Overloaded {
    up: Up,
    admin: SocketAddr,
    _busy: Vec<Process>,
}

impl Overloaded {
    fn start() -> Self {
        common::socket::raise_file_limit();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let configuration = format!("[global]\nthreads = 1\nadmin_bind = 127.0.0.1:0\n{FARM}");
        let up = Up::start_under(&["taskset", "-c", "0"], directory, &configuration);
        let line = up.process.wait_for_line("admin pages on ", START);
        let admin = line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address at the end of the line");
        let busy = |_| {
            let mut command = Command::new("taskset");
            command.args(["-c", "0", "sh", "-c", "while :; do :; done"]);
            Process::spawn("a busy loop", command)
        };
        Self { up, admin, _busy: (0..BUSY).map(busy).collect() }
    }

    fn load(&self, manner: Manner, pace: Pace, clients: usize, time: Duration) -> Outcome {
        let requests = [manner.request("img.test")];
        let load = Load { port: self.up.address.port(), requests: &requests, manner, pace, sending: Sending::Together, clients, time };
        load.run().expect("it answers")
    }
}

fn rate(outcome: &Outcome) -> f64 {
    outcome.redirects as f64 / outcome.elapsed.as_secs_f64()
}

/// Loads it up to its peak and then three times over it; goodput over the peak, and what `/healthz` took.
fn overload(manner: Manner) {
    let overloaded = Overloaded::start();
    let (short, long) = (Duration::from_secs(Scale::asked().pick(1, 3)), Duration::from_secs(Scale::asked().pick(2, 10)));
    let peak = [32, 64, 128].map(|clients| rate(&overloaded.load(manner, Pace::Closed, clients, short))).into_iter().fold(0.0, f64::max);
    // The first crowd makes what is made once.
    overloaded.load(manner, Pace::Open(peak * OVER), CROWD, short);
    let before = overloaded.up.process.anonymous_kib();
    let pages = [("the public port", overloaded.up.address), ("the admin port", overloaded.admin)];
    let visitors = pages.map(|(_, address)| Visitor::start(address, "localhost", "/healthz", 200));
    let outcome = overloaded.load(manner, Pace::Open(peak * OVER), CROWD, long);
    let visits: [Visits; 2] = visitors.map(Visitor::stop);
    let grown = overloaded.up.process.anonymous_kib().saturating_sub(before);
    let goodput = rate(&outcome) / peak;
    println!(
        "{}: peak {peak:.0}/s, {:.0}/s = {goodput:.2} of it at {OVER} times as many, {} unanswered; memory grew by {grown} KiB",
        manner.name(),
        rate(&outcome),
        outcome.failures
    );
    pages.iter().zip(&visits).for_each(|((place, _), visits)| println!("  /healthz on {place}: {visits}"));
    assert!(goodput >= Scale::asked().pick(0.5, 0.9), "{goodput:.2} of the peak");
    assert!(grown < 1024, "memory grew by {grown} KiB");
    for ((place, _), visits) in pages.iter().zip(&visits) {
        assert!(visits.failures.is_empty() && visits.count() > 0, "/healthz on {place}: {:?}", visits.failures);
        assert!(visits.quantile(0.99) <= HEALTHY * Scale::asked().pick(10, 1), "/healthz on {place}: {visits}");
    }
    overloaded.up.end();
}

#[test]
fn new_connections_three_times_over() {
    overload(Manner::ServerCloses);
}

#[test]
fn kept_connections_three_times_over() {
    overload(Manner::KeepAlive);
}
