//! One thread that serves clients over TLS: its own runtime, a task for each connection. Handshakes are long and
//! HTTP/2 is hyper's: both are apart from the threads that serve without TLS.

use crate::protocol::context::ThreadContext;
use crate::serve::connections::{ConnectionId, Phase, TICK};
use crate::serve::limits::{
    self, ACCEPT_REST, Accepted, BATCH, FULL_REST, LAST_CALLS, ThreadLimits,
};
use crate::serve::tls_tasks::registration::Registered;
use crate::serve::tls_tasks::shared::{Task, Thread};
use crate::tls::session::Gate;
use common::net::listen::Listener;
use common::net::socket;
use common::process::signals::{Phase as ProcessPhase, Shutdown};
use rustls::ServerConfig;
use std::cell::RefCell;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::unix::AsyncFd;

/// Handshakes that may wait for their next step before nobody more is let in: a client that waits in the kernel loses
/// no time of its deadline, and no work is done for those who have given up before it ends.
const QUEUE: usize = 16;

/// Serves clients until the process ends; returns when every connection is done or the grace is over.
///
/// # Errors
/// When the runtime or the listener cannot be set up.
pub(crate) fn run(
    listeners: Vec<Listener>,
    config: Arc<ServerConfig>,
    context: ThreadContext,
    settings: ThreadLimits,
    shutdown: Shutdown,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    let (context, connections, handshakes) =
        (RefCell::new(context), RefCell::default(), Gate::default());
    let thread = Rc::new(Thread {
        context,
        connections,
        settings,
        handshakes,
        shutdown: shutdown.clone(),
        config,
    });
    runtime.block_on(async move {
        thread.tick();
        let mut acceptors = Vec::with_capacity(listeners.len());
        for Listener { socket, passed } in listeners {
            socket::defer_accept(&socket, true)?;
            socket::spare_acks(&socket)?;
            acceptors.push((socket::watch(socket)?, passed));
        }
        let ticking = tokio::task::spawn_local(thread.clone().sweep());
        thread.serve(acceptors, shutdown).await;
        ticking.abort();
        Ok(())
    })
}

impl Thread {
    async fn serve(
        self: &Rc<Self>,
        mut acceptors: Vec<(AsyncFd<TcpListener>, bool)>,
        mut shutdown: Shutdown,
    ) {
        tokio::select! {
            () = self.accept_all(&acceptors) => {}
            () = shutdown.reached(ProcessPhase::Draining) => {}
        }
        let began = Instant::now();
        self.context.borrow_mut().sources.draining = true;
        // Who has just asked comes first.
        tokio::task::yield_now().await;
        self.part();
        // Whoever holds a socket hands what waits in it to the next process.
        acceptors.retain(|(_, passed)| !passed);
        if acceptors.is_empty() {
            return self.finish(began, shutdown).await;
        }
        // Silent clients that are already connected are handed over too.
        acceptors
            .iter()
            .for_each(|(acceptor, _)| drop(socket::defer_accept(acceptor.get_ref(), false)));
        tokio::select! {
            _ = tokio::time::timeout(LAST_CALLS.min(self.settings.grace), self.accept_all(&acceptors)) => {}
            () = shutdown.reached(ProcessPhase::Stopping) => {}
        }
        acceptors.into_iter().for_each(|(acceptor, _)| {
            limits::close(acceptor.into_inner(), |stream| self.take(stream));
        });
        self.finish(began, shutdown).await;
    }

    /// Waits for the connections to end, as long as grace allows since `began`.
    async fn finish(&self, began: Instant, mut shutdown: Shutdown) {
        let ended = async {
            while !self.connections.borrow().is_empty() && began.elapsed() < self.settings.grace {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = shutdown.reached(ProcessPhase::Stopping) => {}
        }
        let left = self.connections.borrow().len();
        if left > 0 {
            tracing::info!(connections = left, "closed at the end of the grace period");
        }
    }

    /// Accepts at every listener, for ever.
    async fn accept_all(self: &Rc<Self>, acceptors: &[(AsyncFd<TcpListener>, bool)]) {
        let mut accepting: Vec<_> = acceptors
            .iter()
            .map(|(acceptor, _)| Box::pin(self.accept(acceptor)))
            .collect();
        let any = |context: &mut Context<'_>| {
            let is_over = accepting
                .iter_mut()
                .any(|each| each.as_mut().poll(context).is_ready());
            if is_over {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        };
        std::future::poll_fn(any).await;
    }

    /// Ends who has been idle for long; who takes leave by itself has a moment to say so.
    fn part(&self) {
        let over = self.connections.borrow_mut().drain();
        let takes_leave = |&place: &ConnectionId| {
            self.connections
                .borrow_mut()
                .get_mut(place)
                .is_some_and(|task| task.takes_leave)
        };
        let (leaving, ended): (Vec<ConnectionId>, Vec<ConnectionId>) =
            over.into_iter().partition(takes_leave);
        leaving.into_iter().for_each(|place| {
            self.connections
                .borrow_mut()
                .set_phase(place, Phase::Idle, false);
        });
        self.end(&ended);
    }

    /// Accepts for ever.
    async fn accept(self: &Rc<Self>, acceptor: &AsyncFd<TcpListener>) {
        loop {
            while self.handshakes.waiting() >= QUEUE {
                tokio::task::yield_now().await;
            }
            let Ok(mut ready) = acceptor.readable().await else {
                return;
            };
            let held = self.connections.borrow().len();
            self.evict(self.settings.room.too_many(held));
            let left = self.settings.room.left(held);
            if left == 0 {
                tokio::time::sleep(FULL_REST).await;
            }
            for _ in 0..QUEUE.min(left) {
                match limits::accept(acceptor.get_ref()) {
                    Accepted::One(stream) => self.take(stream),
                    Accepted::Gone => {}
                    Accepted::Nobody => {
                        ready.clear_ready();
                        break;
                    }
                    Accepted::NoRoom => {
                        self.evict(BATCH);
                        tokio::time::sleep(ACCEPT_REST).await;
                        break;
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Begins a new connection.
    fn take(self: &Rc<Self>, stream: TcpStream) {
        let Ok(held) = self.settings.admit(&stream) else {
            return self.settings.turn_away();
        };
        let place = self.connections.borrow_mut().insert(Task::default());
        // Before its task's first turn: who shakes hands makes no room for others.
        self.connections
            .borrow_mut()
            .set_phase(place, Phase::Hello, false);
        let registered = Registered {
            thread: self.clone(),
            place,
            _held: held,
        };
        let task = tokio::task::spawn_local(registered.secure(stream, self.config.clone()));
        if let Some(held) = self.connections.borrow_mut().get_mut(place) {
            held.abort = Some(task.abort_handle());
        }
    }

    /// Ends the `count` connections that have waited for longest.
    fn evict(&self, count: usize) {
        if count > 0 {
            let idle = self.connections.borrow().longest_waiting(count);
            self.end(&idle);
        }
    }

    /// Has tasks end; each frees its id itself.
    fn end(&self, places: &[ConnectionId]) {
        let mut connections = self.connections.borrow_mut();
        places
            .iter()
            .filter_map(|&place| connections.get_mut(place)?.abort.clone())
            .for_each(|abort| abort.abort());
    }

    async fn sweep(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tick();
            let over = self
                .connections
                .borrow_mut()
                .sweep(&self.settings.deadlines);
            self.end(&over);
        }
    }

    fn tick(&self) {
        self.context.borrow_mut().tick(SystemTime::now());
        self.settings.room.left(self.connections.borrow().len());
        self.evict(self.settings.room.asked());
    }
}
