//! Load: clients that ask on and on over connections of their own, and count what they were sent to.

use crate::client::{Answer, Connection};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the clients ask for.
pub(crate) const TARGET: &str = "/some/file.jpg?v=1";

/// What clients received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// Redirects, by the host asked for and the server they lead to (the `Location` without path and query).
    pub redirects: BTreeMap<(String, String), u64>,
    /// Other answers, by status.
    pub others: BTreeMap<u16, u64>,
    /// Requests that got no answer.
    pub lost: u64,
}

impl Received {
    /// All redirects.
    pub fn total(&self) -> u64 {
        self.redirects.values().sum()
    }

    /// The redirects of one host's clients.
    pub fn of_host(&self, host: &str) -> u64 {
        self.redirects
            .iter()
            .filter(|((asked, _), _)| asked == host)
            .map(|(_, count)| count)
            .sum()
    }

    /// The redirects to one server.
    pub fn to(&self, server: &str) -> u64 {
        self.redirects
            .iter()
            .filter(|((_, to), _)| to == server)
            .map(|(_, count)| count)
            .sum()
    }

    /// Adds what others received.
    pub fn add(&mut self, other: &Self) {
        other
            .redirects
            .iter()
            .for_each(|(key, count)| *self.redirects.entry(key.clone()).or_default() += count);
        other
            .others
            .iter()
            .for_each(|(status, count)| *self.others.entry(*status).or_default() += count);
        self.lost += other.lost;
    }

    /// Asks once over `connection`; false if no answer came.
    fn ask(&mut self, connection: &mut Connection, host: &str) -> bool {
        let Ok(answer) = connection.get(host, TARGET.as_bytes()) else {
            self.lost += 1;
            return false;
        };
        self.take(&answer, host);
        answer
            .header("connection")
            .is_none_or(|value| !value.eq_ignore_ascii_case("close"))
    }

    /// Counts an answer to a request for [`TARGET`]; the server it leads to, if it is a redirect.
    pub(crate) fn take(&mut self, answer: &Answer, host: &str) -> Option<String> {
        let Some(location) = answer.header("location").filter(|_| answer.status == 302) else {
            *self.others.entry(answer.status).or_default() += 1;
            return None;
        };
        let server = location
            .strip_suffix(TARGET)
            .unwrap_or_else(|| panic!("Location {location} does not end with {TARGET}"));
        *self
            .redirects
            .entry((host.to_owned(), server.to_owned()))
            .or_default() += 1;
        Some(server.to_owned())
    }
}

/// Asks `count` times, shared evenly by `connections` that are kept alive.
pub fn load(address: SocketAddr, host: &str, count: u64, connections: u64) -> Received {
    let share = move |index: u64| count / connections + u64::from(index < count % connections);
    let clients: Vec<_> = (0..connections)
        .map(|index| {
            let host = host.to_owned();
            thread::spawn(move || {
                let (mut received, mut connection) = (Received::default(), None);
                for _ in 0..share(index) {
                    ask_over(&mut connection, address, &host, &mut received);
                }
                received
            })
        })
        .collect();
    gather(clients)
}

/// Clients that go on until they are stopped.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Received>>,
}

impl Traffic {
    /// Starts one client for each of `addresses` and each of `hosts`.
    pub fn start(addresses: &[SocketAddr], hosts: &[&str]) -> Self {
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let pairs = addresses
            .iter()
            .flat_map(|address| hosts.iter().map(move |host| (*address, (*host).to_owned())));
        let clients = pairs
            .map(|(address, host)| {
                let (stop, asked) = (stop.clone(), asked.clone());
                thread::spawn(move || {
                    let (mut received, mut connection) = (Received::default(), None);
                    while !stop.load(Ordering::Relaxed) {
                        ask_over(&mut connection, address, &host, &mut received);
                        asked.fetch_add(1, Ordering::Relaxed);
                        // Leaves the programs under test some of the machine.
                        thread::sleep(Duration::from_micros(500));
                    }
                    received
                })
            })
            .collect();
        Self {
            stop,
            asked,
            clients,
        }
    }

    /// How many requests were made so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until `count` more requests were made.
    pub fn go_on_for(&self, count: u64) {
        let from = self.asked();
        crate::eventually!(
            Duration::from_secs(60),
            self.asked() >= from + count,
            "{} of {count} requests",
            self.asked() - from
        );
    }

    /// Ends after the request each client is at; what all of them received.
    pub fn stop(self) -> Received {
        self.stop.store(true, Ordering::Relaxed);
        gather(self.clients)
    }
}

fn ask_over(
    connection: &mut Option<Connection>,
    address: SocketAddr,
    host: &str,
    received: &mut Received,
) {
    if connection.is_none() {
        match Connection::open(address) {
            Ok(opened) => *connection = Some(opened),
            Err(_) => received.lost += 1,
        }
    }
    if connection
        .as_mut()
        .is_some_and(|open| !received.ask(open, host))
    {
        *connection = None;
    }
}

pub(crate) fn gather(clients: Vec<JoinHandle<Received>>) -> Received {
    let mut sum = Received::default();
    clients
        .into_iter()
        .for_each(|client| sum.add(&client.join().expect("a client ends")));
    sum
}
