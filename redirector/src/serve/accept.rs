//! The listening socket of a thread that serves without TLS, and those who have just come through it.
//!
//! They come in several at a time, and each kind of system call is made for all of them before the next kind: what the
//! kernel needs for it is in the processor's caches from the first one on.

use crate::protocol::context::READ;
use crate::serve::limits::{self, Accepted};
use common::net::listen::Listener;
use common::net::socket;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

/// How many come in together. All of them are answered before the first answer leaves, with the close: more would save
/// next to nothing, and have the first wait for the last.
const TOGETHER: usize = 16;

/// The listening socket.
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    /// Whether somebody else holds it as well.
    pub(crate) passed: bool,
    /// Whether somebody may wait there.
    pub(crate) ready: bool,
    /// Until when nobody is let in.
    pub(crate) rest: Option<Instant>,
}

impl Acceptor {
    pub(crate) fn new(Listener { socket, passed }: Listener) -> Self {
        Self {
            listener: socket,
            passed,
            ready: false,
            rest: None,
        }
    }

    /// When to look who waits: `now` or at the end of its rest; none where nobody does.
    pub(crate) fn opens(&self, now: Instant) -> Option<Instant> {
        self.ready.then(|| self.rest.unwrap_or(now))
    }
}

/// Those who came in together, with what they said first. The default has no room for anybody.
#[derive(Default)]
pub(crate) struct AcceptBatch {
    streams: Vec<TcpStream>,
    said: Vec<io::Result<usize>>,
    /// [`READ`] bytes for each.
    bytes: Box<[u8]>,
}

impl AcceptBatch {
    pub(crate) fn new() -> Self {
        Self {
            streams: Vec::with_capacity(TOGETHER),
            said: Vec::with_capacity(TOGETHER),
            bytes: vec![0; TOGETHER * READ].into(),
        }
    }

    /// Lets in who waits, up to `most` and [`TOGETHER`], and hears them. Whether the process had room for all of them.
    pub(crate) fn accept(&mut self, acceptor: &mut Acceptor, most: usize) -> bool {
        let mut had_room = true;
        for _ in 0..most.min(TOGETHER) {
            match limits::accept(&acceptor.listener) {
                Accepted::One(stream) => self.streams.push(stream),
                Accepted::Gone => {}
                Accepted::Nobody => {
                    acceptor.ready = false;
                    break;
                }
                Accepted::NoRoom => {
                    had_room = false;
                    break;
                }
            }
        }
        let pieces = self.bytes.chunks_mut(READ);
        self.said.extend(
            self.streams
                .iter()
                .zip(pieces)
                .map(|(stream, piece)| socket::receive(stream, piece)),
        );
        had_room
    }

    /// Hands them over one by one, each with what it said.
    #[inline]
    pub(crate) fn each(&mut self, mut serve: impl FnMut(TcpStream, io::Result<&[u8]>)) {
        let said = self
            .said
            .drain(..)
            .zip(self.bytes.chunks(READ))
            .map(|(count, piece)| count.map(|count| &piece[..count]));
        self.streams
            .drain(..)
            .zip(said)
            .for_each(|(stream, said)| serve(stream, said));
    }
}
