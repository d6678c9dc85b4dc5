//! Three times more than it can do: the redirector goes on answering as fast as it can, grows no further, and says
//! that it is well where it is asked.
//!
//! It is let run two milliseconds in ten, so that one load can be three times what it can do. Short by default;
//! `RBALANCER_TESTS=full` loads for longer and judges harder, in a release build on a machine that does nothing else.
#![allow(clippy::print_stdout, reason = "the figures are what the suite is for")]

use bench::load::{Load, Manner, Pace, Sending};
use rustix::process::{Pid, Signal, kill_process};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tests::START;
use tests::scenario::Scale;
use tests::up::Up;
use tests::visitor::{Visitor, Visits};

const FARM: &str =
    "[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = a.test\ncheck = off\n";

/// How long it runs, and how long it is held after that.
const RUN: Duration = Duration::from_millis(2);
const HELD: Duration = Duration::from_millis(8);

/// Clients at once, at the peak and beyond it.
const CROWD: usize = 300;

/// How much more comes than can be done.
const OVER: f64 = 3.0;

/// What it may take to say that all is well: while it runs 50 ms, and here it is held most of the time.
const HEALTHY: Duration = Duration::from_millis(100);

/// Holds a process most of the time, until it is dropped; then the process runs.
struct Held {
    stop: Arc<AtomicBool>,
    holding: Option<JoinHandle<()>>,
}

impl Held {
    fn start(pid: Pid) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let holding = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for (signal, time) in [(Signal::STOP, HELD), (Signal::CONT, RUN)] {
                    kill_process(pid, signal).expect("it is not waited for before this ends");
                    std::thread::sleep(time);
                }
            }
        });
        Self {
            stop,
            holding: Some(holding),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.holding.take().map(JoinHandle::join);
    }
}

/// A redirector with one thread that is held most of the time.
struct Overloaded {
    // Dropped first.
    held: Held,
    up: Up,
    admin: SocketAddr,
}

impl Overloaded {
    fn start() -> Self {
        common::net::socket::raise_file_limit();
        let up = Up::start(&format!(
            "[global]\nthreads = 1\nadmin_bind = 127.0.0.1:0\n{FARM}"
        ));
        let line = up.process.wait_for_line("admin pages on ", START);
        let admin = line
            .rsplit(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .expect("an address at the end of the line");
        let pid =
            Pid::from_raw(i32::try_from(up.process.id()).expect("a process id")).expect("not 0");
        Self {
            held: Held::start(pid),
            up,
            admin,
        }
    }

    /// Holds it no longer; it must end well.
    fn end(self) {
        drop(self.held);
        self.up.end();
    }

    fn load(&self, manner: Manner, pace: Pace, time: Duration) -> Done {
        let requests = [manner.request("img.test")];
        let load = Load {
            port: self.up.address.port(),
            requests: &requests,
            manner,
            pace,
            sending: Sending::Together,
            clients: CROWD,
            time,
        };
        let before = self.up.process.cpu();
        let outcome = load.run().expect("it answers");
        let used = self.up.process.cpu() - before;
        let (redirects, elapsed) = (outcome.redirects as f64, outcome.elapsed.as_secs_f64());
        Done {
            rate: redirects / elapsed,
            work: redirects / used.as_secs_f64(),
            unanswered: outcome.failures,
        }
    }
}

/// What came of a load.
struct Done {
    /// Redirects a second.
    rate: f64,
    /// Redirects in a second of the redirector's processor time: what others do on its core is no part of it.
    work: f64,
    unanswered: u64,
}

/// Loads it up to its peak and then three times over it: what it does then, what it holds, and what `/healthz` takes.
fn overload(manner: Manner) {
    let overloaded = Overloaded::start();
    let (short, long) = (
        Duration::from_secs(Scale::asked().pick(1, 5)),
        Duration::from_secs(Scale::asked().pick(1, 10)),
    );
    // The first crowd makes what is made once.
    overloaded.load(manner, Pace::Closed, Duration::from_millis(500));
    let before = overloaded.up.process.anonymous_kib();
    let peak = overloaded.load(manner, Pace::Closed, short);
    let pages = [
        ("the public port", overloaded.up.address),
        ("the admin port", overloaded.admin),
    ];
    let visitors = pages.map(|(_, address)| Visitor::start(address, "localhost", "/healthz", 200));
    let over = overloaded.load(manner, Pace::Open(peak.rate * OVER), long);
    let visits: [Visits; 2] = visitors.map(Visitor::stop);
    let grown = overloaded.up.process.anonymous_kib().saturating_sub(before);
    let (goodput, work) = (over.rate / peak.rate, over.work / peak.work);
    println!(
        "{}: {:.0}/s at the peak; with {OVER} times as many {:.0}/s = {goodput:.2} of it, {work:.2} by processor time, {} unanswered",
        manner.name(),
        peak.rate,
        over.rate,
        over.unanswered
    );
    pages
        .iter()
        .zip(&visits)
        .for_each(|((place, _), visits)| println!("  /healthz on {place}: {visits}"));
    println!("  memory grew by {grown} KiB");
    // Others on its core slow it down by the clock, a load that is late by its processor time.
    assert!(
        goodput.max(work) >= Scale::asked().pick(0.6, 0.9),
        "{goodput:.2}, {work:.2} of what is done at the peak"
    );
    assert!(grown < 1024, "memory grew by {grown} KiB");
    for ((place, _), visits) in pages.iter().zip(&visits) {
        assert!(
            visits.failures.is_empty() && visits.count() > 0,
            "/healthz on {place}: {:?}",
            visits.failures
        );
        assert!(
            visits.quantile(0.99) <= HEALTHY * Scale::asked().pick(5, 1),
            "/healthz on {place}: {visits}"
        );
    }
    overloaded.end();
}

#[test]
fn new_connections_three_times_over() {
    let _alone = crate::alone();
    overload(Manner::ServerCloses);
}

#[test]
fn kept_connections_three_times_over() {
    let _alone = crate::alone();
    overload(Manner::KeepAlive);
}
