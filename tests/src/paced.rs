//! Load at a set rate, half of it over kept connections and half over new ones, with a record of which redirector
//! named which server first and last.

use crate::client::{Answer, Connection};
use crate::traffic::{Received, TARGET, gather};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Clients of each kind at each redirector.
const CLIENTS: u32 = 4;

/// A client that is later than this gives up catching up.
const LATE: Duration = Duration::from_millis(500);

/// When a redirector named a server.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    /// The first time.
    pub first: Instant,
    /// The last time so far.
    pub last: Instant,
}

/// Clients that go on at their rate until they are stopped.
#[derive(Debug)]
pub struct Paced {
    shared: Arc<Shared>,
    started: Instant,
    clients: Vec<JoinHandle<Received>>,
}

#[derive(Debug)]
struct Shared {
    host: String,
    stop: AtomicBool,
    asked: AtomicU64,
    sightings: Mutex<BTreeMap<(SocketAddr, String), Sighting>>,
}

/// How a client treats its connection.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Keeps,
    Closes,
}

impl Paced {
    /// Asks `addresses` for `host`, `rate` times a second in all.
    pub fn start(addresses: &[SocketAddr], host: &str, rate: u32) -> Self {
        let shared = Shared {
            host: host.to_owned(),
            stop: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            sightings: Mutex::default(),
        };
        let shared = Arc::new(shared);
        let number = u32::try_from(addresses.len()).expect("a few") * CLIENTS * 2;
        let interval = Duration::from_secs(1) * number / rate;
        let kinds = || {
            [Kind::Keeps, Kind::Closes]
                .into_iter()
                .flat_map(|kind| (0..CLIENTS).map(move |_| kind))
        };
        let all = addresses
            .iter()
            .flat_map(|address| kinds().map(move |kind| (*address, kind)));
        let clients = all.zip(0..).map(|((address, kind), index)| {
            let (shared, first) = (shared.clone(), Instant::now() + interval * index / number);
            thread::spawn(move || shared.go_on(address, kind, first, interval))
        });
        Self {
            clients: clients.collect(),
            started: Instant::now(),
            shared,
        }
    }

    /// Requests made so far.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// Requests a second, from the start until now.
    pub fn rate(&self) -> u64 {
        (self.asked() as f64 / self.started.elapsed().as_secs_f64()) as u64
    }

    /// When the redirector at `address` named `server`, if it ever did.
    pub fn sighting(&self, address: SocketAddr, server: &str) -> Option<Sighting> {
        let sightings = self
            .shared
            .sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sightings.get(&(address, server.to_owned())).copied()
    }

    /// Ends after the request each client is at; what all of them received.
    pub fn stop(self) -> Received {
        self.shared.stop.store(true, Ordering::Relaxed);
        gather(self.clients)
    }
}

impl Shared {
    fn go_on(
        &self,
        address: SocketAddr,
        kind: Kind,
        first: Instant,
        interval: Duration,
    ) -> Received {
        let (mut received, mut kept, mut due) = (Received::default(), None, first);
        while !self.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            thread::sleep(due.saturating_duration_since(now));
            due = if now.saturating_duration_since(due) > LATE {
                now
            } else {
                due + interval
            };
            match self.ask(address, kind, &mut kept) {
                Ok(answer) => {
                    if let Some(server) = received.take(&answer, &self.host) {
                        self.saw(address, server);
                    }
                    if answer
                        .header("connection")
                        .is_some_and(|value| value.eq_ignore_ascii_case("close"))
                    {
                        kept = None;
                    }
                }
                Err(_) => {
                    received.lost += 1;
                    kept = None;
                }
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        received
    }

    fn ask(
        &self,
        address: SocketAddr,
        kind: Kind,
        kept: &mut Option<Connection>,
    ) -> io::Result<Answer> {
        match kind {
            Kind::Closes => Connection::open(address)?.request(
                "GET",
                &self.host,
                TARGET.as_bytes(),
                &[("Connection", "close")],
            ),
            Kind::Keeps => {
                if kept.is_none() {
                    *kept = Some(Connection::open(address)?);
                }
                kept.as_mut().map_or_else(
                    || Err(io::ErrorKind::NotConnected.into()),
                    |open| open.get(&self.host, TARGET.as_bytes()),
                )
            }
        }
    }

    fn saw(&self, address: SocketAddr, server: String) {
        let now = Instant::now();
        let mut sightings = self
            .sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sightings
            .entry((address, server))
            .or_insert(Sighting {
                first: now,
                last: now,
            })
            .last = now;
    }
}
