//! One TLS session over a socket that never blocks: the handshake, paced by its thread, and then bytes in and out as
//! a connection's transport has them.

use crate::protocol::transport::Transport;
use common::model::target::Scheme;
use common::net::socket;
use rustls::{ServerConfig, ServerConnection};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::AsFd;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Reads from the socket in one call: whoever sends much that amounts to nothing waits for its next turn.
const READS: usize = 16;

/// An established session.
#[derive(Debug)]
pub(crate) struct Session {
    inner: RefCell<ServerConnection>,
    /// Whether the peer sends nothing more.
    ended: Cell<bool>,
    /// Whether the last call to receive ended with more to read.
    more: Cell<bool>,
    /// Bytes the kernel took since anybody asked.
    sent: Cell<usize>,
}

/// What a handshake waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandshakeStep {
    /// A byte: none is there.
    Byte,
    Read,
    Write,
    Again,
    Done,
}

/// Lets one at a time through, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Gate {
    place: Semaphore,
    waiting: Cell<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            place: Semaphore::new(1),
            waiting: Cell::new(0),
        }
    }
}

impl Gate {
    /// How many wait for their turn, whoever has it included.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    async fn turn(&self) -> HandshakeTurn<'_> {
        self.waiting.set(self.waiting.get() + 1);
        let mut turn = HandshakeTurn {
            gate: self,
            _place: None,
        };
        turn._place = self.place.acquire().await.ok();
        turn
    }
}

/// A turn, waited for or taken.
struct HandshakeTurn<'a> {
    gate: &'a Gate,
    _place: Option<SemaphorePermit<'a>>,
}

impl Drop for HandshakeTurn<'_> {
    fn drop(&mut self) {
        self.gate.waiting.set(self.gate.waiting.get() - 1);
    }
}

impl Session {
    /// Shakes hands. `gate` lets one step through at a time, and not before everybody else on the thread had a turn:
    /// a signature costs as much as a hundred redirects, and nobody else should have to wait for more than one. `began` is
    /// told with each step once the client has begun.
    ///
    /// # Errors
    /// When the peer goes away or breaks the protocol.
    pub(crate) async fn accept(
        stream: &TcpStream,
        config: Arc<ServerConfig>,
        gate: &Gate,
        began: impl Fn(),
    ) -> io::Result<Self> {
        let mut inner = ServerConnection::new(config).map_err(io::Error::other)?;
        loop {
            let step = {
                let _turn = gate.turn().await;
                let step = step(&mut inner, stream);
                // Before the yield, not after it: what arrives meanwhile must not be forgotten.
                match &step {
                    Ok(HandshakeStep::Byte | HandshakeStep::Read) => {
                        forget(stream, Interest::READABLE);
                    }
                    Ok(HandshakeStep::Write) => forget(stream, Interest::WRITABLE),
                    _ => {}
                }
                tokio::task::yield_now().await;
                step?
            };
            if step != HandshakeStep::Byte {
                began();
            }
            match step {
                HandshakeStep::Byte | HandshakeStep::Read => {
                    stream.ready(Interest::READABLE).await?;
                }
                HandshakeStep::Write => drop(stream.ready(Interest::WRITABLE).await?),
                HandshakeStep::Again => {}
                HandshakeStep::Done => return Ok(Self::new(inner)),
            }
        }
    }

    fn new(inner: ServerConnection) -> Self {
        Self {
            inner: RefCell::new(inner),
            ended: Cell::default(),
            more: Cell::default(),
            sent: Cell::default(),
        }
    }

    /// Whether the client chose HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        self.inner.borrow().alpn_protocol() == Some(b"h2")
    }

    /// Whether the peer has said that it sends nothing more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Reads until `buffer` is full or nothing more is there; 0 is the peer's end.
    ///
    /// # Errors
    /// `WouldBlock` with nothing to read, `Interrupted` when it read enough for one turn but no byte of content.
    pub(crate) fn receive(&self, socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.inner.borrow_mut();
        let (mut filled, mut empty) = (0, false);
        self.more.set(true);
        for _ in 0..READS {
            match inner.reader().read(&mut buffer[filled..]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(count) if count > 0 => filled += count,
                // A close, or an end without one: what HTTP delimits itself cannot be cut off by that.
                _ => {
                    self.ended.set(true);
                    self.more.set(false);
                    return Ok(filled);
                }
            }
            if filled == buffer.len() {
                return Ok(filled);
            }
            let mut source = Incoming {
                socket,
                short: false,
            };
            match if empty {
                Err(ErrorKind::WouldBlock.into())
            } else {
                inner.read_tls(&mut source)
            } {
                Ok(_) => empty = source.short,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.more.set(false);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            process(&mut inner, socket)?;
        }
        match (filled, self.more.get()) {
            (0, true) => Err(ErrorKind::Interrupted.into()),
            (0, false) => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(filled),
        }
    }

    /// Takes what fits and sends what it can; the rest is held, see [`Session::flush`]. `last`: nothing follows.
    ///
    /// # Errors
    /// `WouldBlock` while earlier bytes are held.
    pub(crate) fn send(&self, socket: &impl AsFd, bytes: &[u8], last: bool) -> io::Result<usize> {
        let mut inner = self.inner.borrow_mut();
        self.push(&mut inner, socket, false)?;
        let count = inner.writer().write(bytes)?;
        let last = last && count == bytes.len();
        if last {
            inner.send_close_notify();
        }
        match self.push(&mut inner, socket, last) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// Sends what is held.
    ///
    /// # Errors
    /// `WouldBlock` where the kernel has no room for it.
    pub(crate) fn flush(&self, socket: &impl AsFd) -> io::Result<()> {
        self.push(&mut self.inner.borrow_mut(), socket, false)
    }

    /// Bytes the kernel took since the last call.
    pub(crate) fn take_sent(&self) -> usize {
        self.sent.take()
    }

    fn push(&self, inner: &mut ServerConnection, socket: &impl AsFd, last: bool) -> io::Result<()> {
        flush_counted(inner, socket, last, |count| {
            self.sent.set(self.sent.get() + count);
        })
    }

    /// Says that nothing more comes, as far as there is room for it.
    pub(crate) fn close(&self, socket: &impl AsFd) {
        let mut inner = self.inner.borrow_mut();
        inner.send_close_notify();
        // A peer that is gone or does not read needs no goodbye.
        let _ = flush(&mut inner, socket, false);
    }
}

fn step(inner: &mut ServerConnection, socket: &impl AsFd) -> io::Result<HandshakeStep> {
    if inner.wants_write() {
        match flush(inner, socket, false) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(HandshakeStep::Write),
            other => other?,
        }
    }
    if !inner.is_handshaking() {
        return Ok(HandshakeStep::Done);
    }
    let mut source = Incoming {
        socket,
        short: false,
    };
    match inner.read_tls(&mut source) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(HandshakeStep::Byte),
        Err(error) => return Err(error),
    }
    process(inner, socket)?;
    match (inner.wants_write(), inner.is_handshaking()) {
        (true, _) => Ok(HandshakeStep::Write),
        (false, false) => Ok(HandshakeStep::Done),
        (false, true) => Ok(if source.short {
            HandshakeStep::Read
        } else {
            HandshakeStep::Again
        }),
    }
}

/// Takes in what was read and sends what that calls for: the answers of a handshake, or the alert of a failed one.
fn process(inner: &mut ServerConnection, socket: &impl AsFd) -> io::Result<()> {
    let processed = inner
        .process_new_packets()
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error));
    match flush(inner, socket, false) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => processed.map(drop),
    }
}

fn flush(inner: &mut ServerConnection, socket: &impl AsFd, last: bool) -> io::Result<()> {
    flush_counted(inner, socket, last, |_| {})
}

fn flush_counted(
    inner: &mut ServerConnection,
    socket: &impl AsFd,
    last: bool,
    sent: impl Fn(usize),
) -> io::Result<()> {
    while inner.wants_write() {
        match inner.write_tls(&mut Outgoing { socket, last }) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => sent(other?),
        }
    }
    Ok(())
}

/// Waits until the kernel reports `interest` anew. What it reported before has been used up: the last read was
/// short or the last call would have blocked, and every later arrival is a new edge of epoll(7).
pub(crate) async fn wait(stream: &TcpStream, interest: Interest) -> io::Result<()> {
    forget(stream, interest);
    stream.ready(interest).await.map(drop)
}

/// Forgets what the kernel has reported so far of one direction (of both at once tokio would forget nothing).
pub(crate) fn forget(stream: &TcpStream, interest: Interest) {
    let _ = stream.try_io(interest, || Err::<(), _>(ErrorKind::WouldBlock.into()));
}

struct Incoming<'a, S> {
    socket: &'a S,
    /// Whether the last read emptied the socket.
    short: bool,
}

impl<S: AsFd> Read for Incoming<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = socket::receive(self.socket, buffer)?;
        self.short = count < buffer.len();
        Ok(count)
    }
}

struct Outgoing<'a, S> {
    socket: &'a S,
    last: bool,
}

impl<S: AsFd> Write for Outgoing<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        socket::send(self.socket, bytes, self.last)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        socket::send_vectored(self.socket, buffers, self.last)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A transport through a TLS session. `W` is the plain transport below it.
pub(crate) struct Secure<'a, S, W> {
    pub(crate) socket: &'a S,
    pub(crate) session: &'a Session,
    pub(crate) plain: W,
}

impl<S: AsFd, W: Transport> Transport for Secure<'_, S, W> {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.session.receive(self.socket, buffer)
    }

    fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        self.session.send(self.socket, bytes, more)
    }

    fn has_more(&self) -> bool {
        self.session.more.get()
    }

    fn flush(&self) -> io::Result<()> {
        self.session.flush(self.socket)
    }

    fn end(&self) {
        self.session.close(self.socket);
        socket::end(self.socket, Shutdown::Write);
    }

    fn scheme(&self) -> Scheme {
        Scheme::Https
    }

    fn peer(&self) -> Option<IpAddr> {
        self.plain.peer()
    }
}
