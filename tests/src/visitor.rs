//! A well-behaved client beside whatever else happens: it asks at a steady pace, over new connections and a kept one
//! in turn, and keeps how long each answer took.

use crate::client::Connection;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// From one request to the next.
const PACE: Duration = Duration::from_millis(4);

/// The client.
#[derive(Debug)]
pub struct Visitor {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<Visits>,
}

/// What it met.
#[derive(Debug, Default)]
pub struct Visits {
    /// How long each good answer took, from before the connect where it had to connect; sorted.
    times: Vec<Duration>,
    /// What went wrong instead.
    pub failures: Vec<String>,
}

impl Visitor {
    /// Begins to ask `address` for `path` of `host`; good answers have `status`.
    pub fn start(address: SocketAddr, host: &str, path: &str, status: u16) -> Self {
        let (stop, host, path) = (
            Arc::new(AtomicBool::new(false)),
            host.to_owned(),
            path.to_owned(),
        );
        let stopped = stop.clone();
        let asking = thread::spawn(move || {
            let (mut visits, mut kept) = (Visits::default(), None);
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                match ask(
                    address,
                    &host,
                    &path,
                    &mut kept,
                    visits.times.len() % 2 == 0,
                ) {
                    Ok(found) if found == status => visits.times.push(began.elapsed()),
                    other => visits
                        .failures
                        .push(format!("{other:?} after {:?}", began.elapsed())),
                }
                thread::sleep(PACE.saturating_sub(began.elapsed()));
            }
            visits.times.sort();
            visits
        });
        Self { stop, asking }
    }

    /// Ends after the request it is at.
    pub fn stop(self) -> Visits {
        self.stop.store(true, Ordering::Relaxed);
        self.asking.join().expect("a visitor ends")
    }
}

impl Visits {
    /// How many good answers there were.
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// The time that `share` of the answers did not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let index = (self.times.len() as f64 * share) as usize;
        self.times
            .get(index.min(self.times.len().saturating_sub(1)))
            .copied()
            .unwrap_or(Duration::MAX)
    }
}

impl std::fmt::Display for Visits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| self.quantile(share));
        write!(
            f,
            "{} answers, p50 {p50:.1?}, p99 {p99:.1?}, max {most:.1?}, {} failed",
            self.count(),
            self.failures.len()
        )
    }
}

fn ask(
    address: SocketAddr,
    host: &str,
    path: &str,
    kept: &mut Option<Connection>,
    keep: bool,
) -> io::Result<u16> {
    if !keep {
        return Ok(Connection::open(address)?
            .request("GET", host, path.as_bytes(), &[("Connection", "close")])?
            .status);
    }
    let answer = match kept.take() {
        // A kept connection may be closed between two requests, as any client has to know.
        Some(mut open) => open.get(host, path.as_bytes()).map(|answer| (open, answer)),
        None => Err(io::ErrorKind::NotConnected.into()),
    };
    let (open, answer) = match answer {
        Ok(good) => good,
        Err(_) => {
            let mut open = Connection::open(address)?;
            let answer = open.get(host, path.as_bytes())?;
            (open, answer)
        }
    };
    *kept = Some(open).filter(|_| {
        answer
            .header("connection")
            .is_none_or(|value| !value.eq_ignore_ascii_case("close"))
    });
    Ok(answer.status)
}
