//! One connection through the proxy: two directions, each with a queue, and the events that end both.

use super::{Mode, Wire};
use rustix::net::sockopt::set_socket_linger;
use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;

/// Pieces on their way in one direction; a reader waits when there are more.
const QUEUE: usize = 256;

/// Bytes read at once.
const PIECE: usize = 16 * 1024;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Requests,
    Replies,
}

/// What both directions of a connection know.
struct Shared {
    wire: watch::Receiver<Wire>,
    /// The mode that swallowed bytes, if any did.
    spoiled: OnceLock<Mode>,
    /// Bytes of requests carried.
    requested: AtomicUsize,
}

/// A piece and when it is to arrive.
type Piece = (Instant, Vec<u8>);

/// Carries one connection to its end.
pub(super) async fn connection(
    client: TcpStream,
    wire: watch::Receiver<Wire>,
    _place: OwnedSemaphorePermit,
) {
    let born = *wire.borrow();
    let shared = Shared {
        wire: wire.clone(),
        spoiled: OnceLock::new(),
        requested: AtomicUsize::new(0),
    };
    let end = tokio::select! {
        () = doomed(wire, born, &shared.spoiled) => End::Reset,
        end = dial_and_carry(&client, born.target, &shared) => end,
    };
    if end == End::Reset {
        reset(&client);
    }
}

/// Closing `stream` will be a reset.
pub(super) fn reset(stream: &TcpStream) {
    // Fails only on a connection that has ended by itself.
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}

/// Ends when the wire has changed in a way this connection cannot survive.
async fn doomed(mut wire: watch::Receiver<Wire>, born: Wire, spoiled: &OnceLock<Mode>) {
    loop {
        let now = *wire.borrow_and_update();
        if now.epoch != born.epoch
            || now.mode == Mode::Cut
            || spoiled.get().is_some_and(|mode| *mode != now.mode)
        {
            return;
        }
        if wire.changed().await.is_err() {
            return;
        }
    }
}

async fn dial_and_carry(client: &TcpStream, target: SocketAddr, shared: &Shared) -> End {
    if shared.mode() == Mode::Blackhole {
        shared.spoiled.get_or_init(|| Mode::Blackhole);
        return std::future::pending().await;
    }
    let Ok(server) = TcpStream::connect(target).await else {
        return End::Reset;
    };
    let end = match (client.set_nodelay(true), server.set_nodelay(true)) {
        (Ok(()), Ok(())) => tokio::select! {
            end = direction(client, &server, Way::Requests, shared) => end,
            end = direction(&server, client, Way::Replies, shared) => end,
        },
        _ => End::Reset,
    };
    if end == End::Reset {
        reset(&server);
    }
    end
}

async fn direction(from: &TcpStream, to: &TcpStream, way: Way, shared: &Shared) -> End {
    let (pieces, queued) = mpsc::channel(QUEUE);
    let mut writing = std::pin::pin!(write(to, queued, shared));
    tokio::select! {
        end = read(from, pieces, way, shared) => {
            // What was read before the end still arrives.
            let written = writing.await;
            if written.is_ok() { end } else { End::Reset }
        }
        _ = &mut writing => End::Reset,
    }
}

async fn read(from: &TcpStream, pieces: mpsc::Sender<Piece>, way: Way, shared: &Shared) -> End {
    let mut buffer = vec![0; PIECE];
    loop {
        let count = match receive(from, &mut buffer).await {
            Ok(count) => count,
            Err(_) => return End::Reset,
        };
        let mode = shared.mode();
        if mode == Mode::Blackhole || (mode == Mode::DropReplies && way == Way::Replies) {
            shared.spoiled.get_or_init(|| mode);
            // Not even the end of the stream comes through.
            if count == 0 {
                return std::future::pending().await;
            }
            continue;
        }
        if count == 0 {
            return End::Closed;
        }
        let (carried, last) = shared.limit(mode, way, count);
        let due = Instant::now() + mode.delay();
        if pieces
            .send((due, buffer[..carried].to_vec()))
            .await
            .is_err()
            || last
        {
            return End::Reset;
        }
    }
}

async fn receive(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
}

async fn write(
    to: &TcpStream,
    mut queued: mpsc::Receiver<Piece>,
    shared: &Shared,
) -> io::Result<()> {
    while let Some((due, piece)) = queued.recv().await {
        tokio::time::sleep_until(due).await;
        let step = if matches!(shared.mode(), Mode::Slice(_)) {
            1
        } else {
            piece.len().max(1)
        };
        for slice in piece.chunks(step) {
            send(to, slice).await?;
        }
    }
    Ok(())
}

async fn send(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Shared {
    fn mode(&self) -> Mode {
        self.wire.borrow().mode
    }

    /// How many of `count` bytes are carried, and whether the connection is to be reset after them.
    fn limit(&self, mode: Mode, way: Way, count: usize) -> (usize, bool) {
        if way == Way::Replies {
            return (count, false);
        }
        let before = self.requested.fetch_add(count, Ordering::Relaxed);
        match mode {
            Mode::ResetAfter(limit) if before + count >= limit => {
                (limit.saturating_sub(before), true)
            }
            _ => (count, false),
        }
    }
}

impl Mode {
    fn delay(self) -> Duration {
        match self {
            Self::Delay(delay) | Self::Slice(delay) => delay,
            _ => Duration::ZERO,
        }
    }
}
