//! A wire that fails on demand: a TCP proxy in this process whose ways of failing can be switched while connections
//! run through it.

mod carry;
#[cfg(test)]
mod tests;

use crate::port;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

/// Connections carried at once; more are reset.
const CONNECTIONS: usize = 256;

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Carries everything.
    Pass,
    /// Nobody listens; connections there were are reset.
    Cut,
    /// Bytes go in and never come out; new connections are accepted and silent.
    Blackhole,
    /// Every byte arrives this much later, each way.
    Delay(Duration),
    /// Every byte travels in a segment of its own, and arrives this much later.
    Slice(Duration),
    /// Requests arrive, answers do not.
    DropReplies,
    /// Each connection is reset after so many bytes of requests, wherever that is in a request.
    ResetAfter(usize),
}

/// The wire as its connections see it.
#[derive(Debug, Clone, Copy)]
struct Wire {
    mode: Mode,
    target: SocketAddr,
    /// Connections of an earlier epoch are reset.
    epoch: u64,
}

/// A proxy between programs under test and what they speak to. Bytes that were swallowed cannot come later, so a
/// connection that lost any is reset when the mode changes.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    accepted: Arc<AtomicU64>,
    /// Carries the connections; they end with it.
    _runtime: Runtime,
}

impl Proxy {
    /// One on a free port of loopback that carries everything to `target`.
    pub fn to(target: SocketAddr) -> Self {
        let listener = port::listener();
        let address = port::address(&listener);
        listener
            .set_nonblocking(true)
            .expect("a socket can be made non-blocking");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (wire, seen) = watch::channel(Wire {
            mode: Mode::Pass,
            target,
            epoch: 0,
        });
        let accepted = Arc::new(AtomicU64::new(0));
        runtime.spawn(accept(listener, address, seen, accepted.clone()));
        Self {
            address,
            wire,
            accepted,
            _runtime: runtime,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Behaves like this from now on, towards connections there are as well.
    pub fn set(&self, mode: Mode) {
        self.wire.send_modify(|wire| wire.mode = mode);
    }

    /// Resets every connection there is; new ones are carried as the mode says.
    pub fn reset(&self) {
        self.wire.send_modify(|wire| wire.epoch += 1);
    }

    /// Leads new connections to another target; those there are stay where they are.
    pub fn lead_new_to(&self, target: SocketAddr) {
        self.wire.send_modify(|wire| wire.target = target);
    }

    /// Leads to another target; connections to the earlier one are reset.
    pub fn lead_to(&self, target: SocketAddr) {
        self.wire
            .send_modify(|wire| (wire.target, wire.epoch) = (target, wire.epoch + 1));
    }
}

async fn accept(
    listener: std::net::TcpListener,
    address: SocketAddr,
    mut wire: watch::Receiver<Wire>,
    accepted: Arc<AtomicU64>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut listener = TcpListener::from_std(listener).expect("a listener of this runtime");
    loop {
        if wire.borrow_and_update().mode == Mode::Cut {
            drop(listener);
            if wire.wait_for(|wire| wire.mode != Mode::Cut).await.is_err() {
                return;
            }
            listener = listen_again(address).await;
        }
        tokio::select! {
            client = listener.accept() => {
                let Ok((client, _)) = client else { continue };
                accepted.fetch_add(1, Ordering::Relaxed);
                match room.clone().try_acquire_owned() {
                    Ok(place) => drop(tokio::spawn(carry::connection(client, wire.clone(), place))),
                    Err(_) => carry::reset(&client),
                }
            }
            changed = wire.changed() => if changed.is_err() { return },
        }
    }
}

/// The port is from a range the kernel gives to nobody: only a connection that is still closing can be in the way.
async fn listen_again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
