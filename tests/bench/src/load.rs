//! The load: many clients on one thread, each a small state machine on epoll. Closed (a client asks again when it is
//! answered) or open (requests are due at set times, whatever the server does, and their time runs from then).

use crate::presence::Presence;
use crate::socket::{dial, receive, send};
use crate::spread::Latencies;
use anyhow::{Context, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long after its last request a load waits for what is still under way.
const LAST: Duration = Duration::from_secs(5);

/// How many requests may fail before the load gives up: a server that refuses must not look fast.
const FAILURES: u64 = 10_000;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The request says `Connection: close`; the reply is whole at the end of the connection.
    ServerCloses,
    /// One request after the other on each connection.
    KeepAlive,
    /// Nothing is said; the client closes when it has its reply.
    ClientCloses,
}

impl Manner {
    /// The manners, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::ServerCloses, Self::KeepAlive, Self::ClientCloses];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerCloses => "server closes",
            Self::KeepAlive => "keep-alive",
            Self::ClientCloses => "client closes",
        }
    }

    /// The request for `host`.
    pub fn request(self, host: &str) -> Vec<u8> {
        let close = if self == Self::ServerCloses {
            "Connection: close\r\n"
        } else {
            ""
        };
        format!("GET /img/a.jpg?x=1 HTTP/1.1\r\nHost: {host}\r\nUser-Agent: load/1\r\nAccept: */*\r\n{close}\r\n").into_bytes()
    }
}

/// When requests are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As soon as a client is free.
    Closed,
    /// So many a second on average, at random (exponential) distances.
    Open(f64),
}

/// When the first request of a connection is sent. On loopback the handshake takes no time, and it matters a lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// With those of other clients whose connections are there: the server finds several at each turn.
    Together,
    /// Right behind its handshake: the server wakes for each.
    Apart,
}

/// What to do to a server.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// Its port on loopback.
    pub port: u16,
    /// The requests, in turn.
    pub requests: &'a [Vec<u8>],
    /// How connections end.
    pub manner: Manner,
    /// When requests are made.
    pub pace: Pace,
    /// When the first request of a connection is sent.
    pub sending: Sending,
    /// Clients at once.
    pub clients: usize,
    /// How long.
    pub time: Duration,
}

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// Whole redirects.
    pub redirects: u64,
    /// Everything else: refused, reset, cut off, other than a redirect, or never answered.
    pub failures: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Redirects of an open load that took nobody knows how long: it did not run itself while they were under way.
    pub untimed: u64,
    /// Of the other redirects, sorted.
    pub latencies: Latencies,
}

impl Outcome {
    /// The part of the redirects of all `outcomes` that was not timed, in words.
    pub fn untimed<'a>(outcomes: impl Iterator<Item = &'a Self>) -> String {
        let (untimed, all) = outcomes.fold((0, 0), |(untimed, all), outcome| {
            (untimed + outcome.untimed, all + outcome.redirects)
        });
        format!(
            "{:.1} % of the redirects are not timed: the load itself did not run while they were under way.",
            untimed as f64 * 100.0 / all as f64
        )
    }
}

impl<'a> Load<'a> {
    /// A closed one of `clients` who send together.
    pub fn closed(
        port: u16,
        manner: Manner,
        requests: &'a [Vec<u8>],
        clients: usize,
        time: Duration,
    ) -> Self {
        Self {
            port,
            requests,
            manner,
            pace: Pace::Closed,
            sending: Sending::Together,
            clients,
            time,
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// When epoll fails, or the server answers next to nothing.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let mut run = Run {
            load: self,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            clients: (0..self.clients).map(|_| Client::default()).collect(),
            free: (0..self.clients).collect(),
            made: 0,
            presence: Presence::begin(),
            outcome: Outcome::default(),
        };
        let began = Instant::now();
        run.drive(began)?;
        let mut outcome = run.outcome;
        outcome.elapsed = began.elapsed();
        outcome.latencies.sort();
        ensure!(
            outcome.redirects > 0,
            "nothing was redirected on port {}, {} requests failed",
            self.port,
            outcome.failures
        );
        Ok(outcome)
    }
}

/// One client between its turns.
#[derive(Default)]
struct Client {
    socket: Option<OwnedFd>,
    /// When its request was made, or due.
    since: Option<Instant>,
    request: usize,
    unsent: bool,
    /// What epoll was told to look for on the socket.
    watched: Option<EventFlags>,
    reply: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Pending,
    Redirected,
    Failed,
}

struct Run<'a> {
    load: &'a Load<'a>,
    epoll: OwnedFd,
    clients: Vec<Client>,
    free: Vec<usize>,
    made: usize,
    presence: Presence,
    outcome: Outcome,
}

impl Run<'_> {
    fn drive(&mut self, began: Instant) -> anyhow::Result<()> {
        let end = began + self.load.time;
        let mut events: Vec<Event> = Vec::with_capacity(256);
        let mut due = Due::new(began);
        // The open load looks all the time: its core is its own, and a sleep would be late.
        let rest = Timespec {
            tv_sec: 0,
            tv_nsec: if self.load.pace == Pace::Closed {
                50_000_000
            } else {
                0
            },
        };
        loop {
            let now = Instant::now();
            if self.load.pace != Pace::Closed {
                self.presence.look(now);
            }
            self.ask(now, end, &mut due);
            if now >= end && due.waiting.is_empty() && self.free.len() == self.clients.len() {
                return Ok(());
            }
            if now >= end + LAST {
                self.outcome.failures +=
                    (self.clients.len() - self.free.len() + due.waiting.len()) as u64;
                return Ok(());
            }
            ensure!(
                self.outcome.failures < FAILURES,
                "{FAILURES} requests failed on port {}",
                self.load.port
            );
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&rest)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in &events {
                self.turn(event.data.u64() as usize);
            }
        }
    }

    /// Makes the requests whose time has come.
    fn ask(&mut self, now: Instant, end: Instant, due: &mut Due) {
        if let Pace::Open(rate) = self.load.pace {
            due.advance(now.min(end), rate);
        } else if now >= end {
            return;
        }
        // Those that fail at once free their clients: each has one try a turn.
        for _ in 0..self.free.len() {
            let since = match self.load.pace {
                Pace::Closed => Instant::now(),
                Pace::Open(_) => match due.waiting.pop_front() {
                    Some(since) => since,
                    None => return,
                },
            };
            let Some(client) = self.free.pop() else {
                return;
            };
            self.begin(client, since);
        }
    }

    /// Makes a request that was due at `since`.
    fn begin(&mut self, index: usize, since: Instant) {
        let client = &mut self.clients[index];
        client.since = Some(since);
        client.request = self.made % self.load.requests.len();
        client.unsent = true;
        client.reply.clear();
        self.made += 1;
        if client.socket.is_none() {
            // What the server closes waits (TIME_WAIT) at the server, and the client's ports are free at once.
            let source = if self.load.manner == Manner::ServerCloses {
                0
            } else {
                self.made as u32
            };
            (client.socket, client.watched) = (dial(self.load.port, source).ok(), None);
            if self.load.sending == Sending::Together {
                let turn = if client.socket.is_some() && self.watch(index).is_ok() {
                    Turn::Pending
                } else {
                    Turn::Failed
                };
                return self.settle(index, turn);
            }
        }
        self.turn(index);
    }

    /// One turn of a client, and what epoll has to look for before its next.
    fn turn(&mut self, index: usize) {
        let turn = match self.advance(index) {
            Turn::Pending if self.watch(index).is_err() => Turn::Failed,
            turn => turn,
        };
        self.settle(index, turn);
    }

    fn watch(&mut self, index: usize) -> rustix::io::Result<()> {
        let client = &mut self.clients[index];
        let Some(socket) = &client.socket else {
            return Ok(());
        };
        let (wanted, token) = (
            if client.unsent {
                EventFlags::OUT
            } else {
                EventFlags::IN
            },
            EventData::new_u64(index as u64),
        );
        match client.watched.replace(wanted) {
            None => epoll::add(&self.epoll, socket, token, wanted),
            Some(watched) if watched != wanted => epoll::modify(&self.epoll, socket, token, wanted),
            Some(_) => Ok(()),
        }
    }

    /// Sends and reads as far as that goes.
    fn advance(&mut self, index: usize) -> Turn {
        let client = &mut self.clients[index];
        let Some(socket) = &client.socket else {
            return Turn::Failed;
        };
        if client.unsent {
            let request = &self.load.requests[client.request];
            match send(socket, request) {
                Ok(sent) if sent == request.len() => client.unsent = false,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::NotConnected
                    ) =>
                {
                    return Turn::Pending;
                }
                _ => return Turn::Failed,
            }
            return Turn::Pending;
        }
        let mut piece = [0; 4096];
        loop {
            match receive(socket, &mut piece) {
                Ok(0)
                    if self.load.manner == Manner::ServerCloses
                        && is_whole_redirect(&client.reply) =>
                {
                    return Turn::Redirected;
                }
                Ok(0) => return Turn::Failed,
                Ok(count) => client.reply.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Pending,
                Err(_) => return Turn::Failed,
            }
            if self.load.manner != Manner::ServerCloses && is_whole_redirect(&client.reply) {
                return Turn::Redirected;
            }
        }
    }

    /// Counts a request that is over and frees its client.
    fn settle(&mut self, index: usize, turn: Turn) {
        let client = &mut self.clients[index];
        match turn {
            Turn::Pending => return,
            Turn::Redirected => {
                self.outcome.redirects += 1;
                let now = Instant::now();
                let since = client.since.unwrap_or(now);
                // A closed load sleeps where it has nothing to do.
                if self.load.pace != Pace::Closed && self.presence.was_away(since, now) {
                    self.outcome.untimed += 1;
                } else {
                    self.outcome.latencies.push(now - since);
                }
            }
            Turn::Failed => self.outcome.failures += 1,
        }
        if turn == Turn::Failed || self.load.manner != Manner::KeepAlive {
            client.socket = None;
        }
        self.free.push(index);
    }
}

/// When requests of an open load are due.
struct Due {
    next: Instant,
    waiting: VecDeque<Instant>,
    random: u64,
}

impl Due {
    fn new(began: Instant) -> Self {
        Self {
            next: began,
            waiting: VecDeque::new(),
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Moves everything due by `now` to those that wait.
    fn advance(&mut self, now: Instant, rate: f64) {
        while self.next < now {
            self.waiting.push_back(self.next);
            // xorshift64 (Marsaglia 2003): the same arrivals for every server.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let uniform = ((self.random >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            self.next += Duration::from_secs_f64(-uniform.ln() / rate);
        }
    }
}

/// Whether `reply` is a redirect with the whole of its body.
pub fn is_whole_redirect(reply: &[u8]) -> bool {
    if !reply.starts_with(b"HTTP/1.1 302 ") {
        return false;
    }
    let Some(end) = reply.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let length = reply[..end].split(|&byte| byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:").then(|| {
            std::str::from_utf8(value)
                .ok()?
                .trim()
                .parse::<usize>()
                .ok()
        })?
    });
    reply.len() == end + 4 + length.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_whole_with_its_body_and_not_before() {
        let reply = b"HTTP/1.1 302 Found\r\ncontent-length: 3\r\nLocation: http://a/\r\n\r\nabc";
        assert!(is_whole_redirect(reply));
        assert!((0..reply.len()).all(|length| !is_whole_redirect(&reply[..length])));
        assert!(!is_whole_redirect(
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
        ));
    }

    #[test]
    fn arrivals_keep_the_rate() {
        let began = Instant::now();
        let mut due = Due::new(began);
        due.advance(began + Duration::from_secs(10), 1000.0);
        assert!(
            (9_500..10_500).contains(&due.waiting.len()),
            "{}",
            due.waiting.len()
        );
    }
}
