//! What the threads that serve clients have in common: their limits, how they accept, and how they close a listener.

use crate::answer::pages::Pages;
use crate::serve::address_limit::{AddressLimit, AddressPermit};
use crate::serve::connections::Deadlines;
use common::net::socket;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Connections accepted in a row before the accepted ones get a turn.
pub(crate) const BATCH: usize = 64;

/// How long accepting rests where no descriptor is free.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long accepting rests where no connection more may be held.
pub(crate) const FULL_REST: Duration = Duration::from_millis(10);

/// How long a draining process goes on accepting: a silent client is held back by the kernel for up to a second, until it
/// has answered once more (one SYN-ACK retry), and that takes as long as the way to it and back. Who comes in so late has its whole time to ask.
pub(crate) const LAST_CALLS: Duration = Duration::from_millis(1500);

/// Descriptors kept for the store, files and pages.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Connections there may be however few descriptors there are.
const LEAST_CONNECTIONS: usize = 16;

/// Longer than the kernel takes to put a connection into a queue.
const HANDSHAKE: Duration = Duration::from_micros(100);

/// Deadlines and limits of one thread.
pub(crate) struct ThreadLimits {
    /// The deadlines.
    pub deadlines: Deadlines,
    /// How many connections it may hold.
    pub room: ConnectionBudget,
    /// How many of one address.
    pub address_limit: Option<Arc<AddressLimit>>,
    /// How long draining may take.
    pub grace: Duration,
    /// The pages, if they are served here.
    pub pages: Option<Pages>,
}

impl ThreadLimits {
    /// A new connection's share of what its address may hold; none where that is not counted.
    ///
    /// # Errors
    /// Where the address holds as many as it may, or cannot be told.
    pub(crate) fn admit(&self, stream: &impl AsFd) -> Result<Option<AddressPermit>, Full> {
        let Some(all) = &self.address_limit else {
            return Ok(None);
        };
        socket::peer(stream)
            .ok()
            .and_then(|peer| all.take(peer))
            .map(Some)
            .ok_or(Full)
    }

    /// Counts a connection that is closed because its address is full.
    pub(crate) fn turn_away(&self) {
        self.address_limit.iter().for_each(|all| all.refuse());
    }
}

/// An address holds as many connections as it may.
pub(crate) struct Full;

/// What one accept found.
pub(crate) enum Accepted {
    /// A client.
    One(TcpStream),
    /// A client that has gone again.
    Gone,
    /// No connection waits.
    Nobody,
    /// A connection waits, but no descriptor or memory is free: it keeps in the kernel, and spinning would not help.
    NoRoom,
}

/// Accepts one connection, if one waits.
pub(crate) fn accept(acceptor: &TcpListener) -> Accepted {
    match socket::accept(acceptor) {
        Ok(stream) => Accepted::One(stream),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => Accepted::Nobody,
            ErrorKind::ConnectionAborted | ErrorKind::Interrupted => Accepted::Gone,
            _ => Accepted::NoRoom,
        },
    }
}

/// Accepts what the kernel still holds, and closes the listener. A client that arrives in between is reset by the kernel, unless it
/// lets another process on the port take over; then too it resets a connection that it is just putting into the queue
/// of the socket that closes, so for the last moment handshakes are held: they go on with the other process when the
/// client has repeated itself.
pub(crate) fn close(acceptor: TcpListener, mut take: impl FnMut(TcpStream)) {
    let mut take_all = || {
        loop {
            match accept(&acceptor) {
                Accepted::One(stream) => {
                    socket::heard(&stream);
                    take(stream);
                }
                Accepted::Gone => {}
                Accepted::Nobody | Accepted::NoRoom => return,
            }
        }
    };
    take_all();
    if handshakes_move() && socket::hold_handshakes(&acceptor).is_ok() {
        std::thread::sleep(HANDSHAKE);
        take_all();
    }
    drop(acceptor);
}

/// Whether the kernel lets another process on the port take over the handshakes of a socket that closes (Linux 5.14,
/// ip-sysctl: tcp_migrate_req).
fn handshakes_move() -> bool {
    std::fs::read("/proc/sys/net/ipv4/tcp_migrate_req").is_ok_and(|text| text.starts_with(b"1"))
}

/// How many connections a thread may hold, together with a neighbour: one serves without TLS, one with it. Each
/// writes its own number and reads the other's, and only where it accepts.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionBudget {
    limit: usize,
    mine: Arc<Side>,
    neighbours: Arc<Side>,
}

/// What one of two neighbours is told by the other.
#[derive(Debug, Default)]
struct Side {
    held: AtomicUsize,
    /// Whether the other one holds less and needs room.
    asked: AtomicBool,
}

impl ConnectionBudget {
    /// Room for `limit` connections of two neighbours together.
    pub(crate) fn of_two(limit: usize) -> [Self; 2] {
        let (one, other) = (Arc::<Side>::default(), Arc::<Side>::default());
        [
            Self {
                limit,
                mine: one.clone(),
                neighbours: other.clone(),
            },
            Self {
                limit,
                mine: other,
                neighbours: one,
            },
        ]
    }

    /// How many more there is room for beside `mine`, which the neighbour is told.
    pub(crate) fn left(&self, mine: usize) -> usize {
        // Where nothing changes nothing is written: the line may be another thread's too.
        if self.mine.held.load(Ordering::Relaxed) != mine {
            self.mine.held.store(mine, Ordering::Relaxed);
        }
        self.limit
            .saturating_sub(mine + self.neighbours.held.load(Ordering::Relaxed))
    }

    /// How many of `mine` have to make room for new ones: none below nine tenths of the limit. A neighbour that holds
    /// more is asked first, and has a tick's time until there is next to no room.
    pub(crate) fn too_many(&self, mine: usize) -> usize {
        let left = self.left(mine);
        if left * 10 > self.limit {
            return 0;
        }
        if mine < self.neighbours.held.load(Ordering::Relaxed) {
            self.neighbours.asked.store(true, Ordering::Relaxed);
            if left * 50 > self.limit {
                return 0;
            }
        }
        self.batch()
    }

    /// How many have to make room for the neighbour, at a tick.
    pub(crate) fn asked(&self) -> usize {
        if self.mine.asked.swap(false, Ordering::Relaxed) {
            self.batch()
        } else {
            0
        }
    }

    fn batch(&self) -> usize {
        BATCH.max(self.limit / 100)
    }
}

/// How many connections there may be: as many as wanted, as far as descriptors allow.
pub(crate) fn maxconn(wanted: Option<usize>) -> usize {
    let limit = socket::raise_file_limit();
    let possible = usize::try_from(limit.saturating_sub(RESERVED_DESCRIPTORS))
        .unwrap_or(usize::MAX)
        .max(LEAST_CONNECTIONS);
    if wanted.is_some_and(|wanted| wanted > possible) {
        tracing::warn!(
            "maxconn is more than the limit of {limit} open files allows: {possible} it is; raise the hard limit"
        );
    }
    wanted.map_or(possible, |wanted| wanted.min(possible))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_neighbours_share_their_room() {
        let [plain, secure] = ConnectionBudget::of_two(1000);
        assert_eq!(
            (plain.left(600), secure.left(100), plain.left(600)),
            (400, 300, 300)
        );
        assert_eq!(
            (plain.too_many(600), plain.too_many(800), plain.left(2000)),
            (0, BATCH, 0)
        );
    }

    #[test]
    fn who_holds_more_makes_room() {
        let [plain, secure] = ConnectionBudget::of_two(1000);
        assert_eq!(
            (secure.left(850), plain.too_many(40), secure.asked()),
            (150, 0, 0)
        );
        // Nine tenths are held: the neighbour is asked, once.
        assert_eq!(
            (plain.too_many(60), secure.asked(), secure.asked()),
            (0, BATCH, 0)
        );
        // It has not made room: whoever comes must not be held up by that.
        assert_eq!(
            (plain.too_many(135), secure.too_many(850), plain.asked()),
            (BATCH, BATCH, 0)
        );
    }
}
