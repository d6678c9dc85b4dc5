//! One thread that serves clients without TLS: a loop over epoll, its listener and its waiting connections. Threads
//! share nothing that a request writes to.
//!
//! A connection is served as far as its bytes reach as soon as it is accepted; only one that has to wait is parked: it
//! gets an id and is registered with epoll, edge-triggered. An edge is reported once: it is acted on, or remembered.

use crate::protocol::context::ThreadContext;
use crate::protocol::http1::connection::{Connection, PendingPage, Progress};
use crate::protocol::transport::Socket;
use crate::serve::accept::{AcceptBatch, Acceptor};
use crate::serve::address_limit::AddressPermit;
use crate::serve::connections::{ConnectionId, Connections, Phase, TICK};
use crate::serve::limits::{self, ACCEPT_REST, BATCH, FULL_REST, Full, LAST_CALLS, ThreadLimits};
use common::net::listen::Listener;
use common::net::socket;
use common::net::web::Page;
use common::process::signals::{Phase as ProcessPhase, Shutdown};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

/// Events taken from the kernel at a time.
const EVENTS: usize = 256;

/// Connections with more to do that get a turn between two looks at who has come.
const TURNS: usize = 4;

/// Tokens above those of connections: the last ones belong to listeners.
const WAKER: Token = Token(usize::MAX - 1);
const FIRST_LISTENER: usize = usize::MAX - 2;
const LAST_LISTENER: usize = usize::MAX - 1024;

/// A thread that serves clients without TLS.
pub(crate) struct Worker {
    poll: Poll,
    waker: Arc<Waker>,
    /// One for each address that is listened on.
    acceptors: Vec<Acceptor>,
    newcomers: AcceptBatch,
    /// Connections that are done, of those who have just come: they are closed together.
    leaving: Vec<TcpStream>,
    context: ThreadContext,
    connections: Connections<Parked>,
    /// Connections that had their turn and have more to do.
    again: VecDeque<ConnectionId>,
    settings: ThreadLimits,
    arriving: mpsc::Receiver<Arrival>,
    arrivals: mpsc::Sender<Arrival>,
    stage: Stage,
    shutdown: Shutdown,
    /// The phase of the process when that was last looked at: looking takes a lock that all threads share.
    phase: ProcessPhase,
}

/// A connection that waits.
struct Parked {
    stream: TcpStream,
    connection: Connection,
    /// Whether the kernel has said that the peer sends nothing more. It says so once.
    ended: bool,
    /// Whether it is among those that get another turn.
    queued: bool,
    /// Whether room to write is watched too.
    writes: bool,
    /// Whether it was answered over its address's limit: it has a short deadline to take that answer, and must be
    /// admitted before it waits for another request.
    over_limit: bool,
    /// Its permit among those of its address.
    held: Option<AddressPermit>,
}

impl Parked {
    /// Lets the connection take its turn.
    #[inline]
    fn advance(&mut self, settings: &ThreadLimits, context: &mut ThreadContext) -> Progress {
        let transport = Socket {
            ended: self.ended,
            ..Socket::new(&self.stream)
        };
        let progress = caught(|| self.connection.advance(&transport, context));
        if self.over_limit {
            self.admit_late(progress, settings)
        } else {
            progress
        }
    }

    /// Admits a connection that was answered over its address's limit, or closes it.
    #[cold]
    fn admit_late(&mut self, progress: Progress, settings: &ThreadLimits) -> Progress {
        if !matches!(progress, Progress::Idle | Progress::Head) {
            return progress;
        }
        match settings.admit(&self.stream) {
            Ok(held) => {
                (self.held, self.over_limit) = (held, false);
                progress
            }
            Err(Full) => {
                settings.turn_away();
                Progress::Done
            }
        }
    }
}

/// A finished page, and the connection that waits for it.
struct Arrival {
    place: ConnectionId,
    pending: PendingPage,
    page: Option<Page>,
}

/// The state of the drain on this thread.
#[derive(Clone, Copy)]
enum Stage {
    Serving,
    /// Draining, but still accepting.
    LastCalls {
        until: Instant,
        grace: Instant,
    },
    /// Waiting for the connections to end.
    Finishing {
        until: Instant,
    },
}

impl Worker {
    /// A thread for `listeners`, to be [run](Self::run).
    ///
    /// # Errors
    /// When the kernel has nothing to wait with.
    pub(crate) fn new(
        listeners: Vec<Listener>,
        context: ThreadContext,
        settings: ThreadLimits,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        for (number, Listener { socket, .. }) in listeners.iter().enumerate() {
            socket::defer_accept(socket, true)?;
            socket::spare_acks(socket)?;
            poll.registry().register(
                &mut SourceFd(&socket.as_raw_fd()),
                Token(FIRST_LISTENER - number),
                Interest::READABLE,
            )?;
        }
        let (arrivals, arriving) = mpsc::channel();
        let (connections, again, stage) = (Connections::default(), VecDeque::new(), Stage::Serving);
        Ok(Self {
            poll,
            waker,
            acceptors: listeners.into_iter().map(Acceptor::new).collect(),
            newcomers: AcceptBatch::new(),
            leaving: Vec::with_capacity(BATCH),
            context,
            connections,
            again,
            settings,
            arriving,
            arrivals,
            stage,
            shutdown,
            phase: ProcessPhase::Running,
        })
    }

    /// Has the thread look at the phase of the process.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Serves until the process ends; returns when every connection is done or the grace is over.
    ///
    /// # Errors
    /// When the kernel does not let it wait.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut now = Instant::now();
        let mut next_tick = now;
        while !self.has_ended(now) {
            if now >= next_tick {
                self.tick();
                next_tick = now + TICK;
            }
            match self
                .poll
                .poll(&mut events, Some(self.poll_timeout(now, next_tick)))
            {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    WAKER => self.woken(),
                    Token(index) if index >= LAST_LISTENER => self.somebody_came(index),
                    Token(index) => self.serve(index, event.is_read_closed()),
                }
            }
            for place in self
                .again
                .drain(..self.again.len().min(TURNS))
                .collect::<Vec<_>>()
            {
                self.advance(place);
            }
            now = Instant::now();
            self.accept(now);
        }
        let left = self.connections.len();
        if left > 0 {
            tracing::info!(connections = left, "closed at the end of the grace period");
        }
        Ok(())
    }

    /// The timeout of a poll: until the next tick, the next try to accept, or the deadline of the drain.
    fn poll_timeout(&self, now: Instant, next_tick: Instant) -> Duration {
        if !self.again.is_empty() {
            return Duration::ZERO;
        }
        let acceptor = self
            .acceptors
            .iter()
            .filter_map(|acceptor| acceptor.opens(now))
            .min();
        let stage = match self.stage {
            Stage::Serving => None,
            Stage::LastCalls { until, .. } | Stage::Finishing { until } => Some(until),
        };
        let first = [acceptor, stage]
            .into_iter()
            .flatten()
            .fold(next_tick, Instant::min);
        first.saturating_duration_since(now)
    }

    /// Goes on with the end of the process; whether it is over here.
    fn has_ended(&mut self, now: Instant) -> bool {
        let phase = self.phase;
        if let (Stage::Serving, true) = (self.stage, phase >= ProcessPhase::Draining) {
            let grace = now + self.settings.grace;
            self.context.sources.draining = true;
            let over = self.connections.drain();
            self.leave(&over);
            // Whoever holds a socket hands what waits in it to the next process.
            self.acceptors.retain(|acceptor| !acceptor.passed);
            // Silent clients that are already connected are handed over too.
            self.acceptors
                .iter()
                .for_each(|acceptor| drop(socket::defer_accept(&acceptor.listener, false)));
            self.stage = match self.acceptors.is_empty() {
                true => Stage::Finishing { until: grace },
                false => Stage::LastCalls {
                    until: grace.min(now + LAST_CALLS),
                    grace,
                },
            };
        }
        if let Stage::LastCalls { until, grace } = self.stage
            && (now >= until || phase == ProcessPhase::Stopping)
        {
            for acceptor in std::mem::take(&mut self.acceptors) {
                limits::close(acceptor.listener, |stream| {
                    self.take(stream, None);
                    // One by one: there may be more of them than descriptors.
                    self.leaving.clear();
                });
            }
            self.stage = Stage::Finishing { until: grace };
        }
        let Stage::Finishing { until } = self.stage else {
            return false;
        };
        self.acceptors.clear();
        self.connections.is_empty() || now >= until || phase == ProcessPhase::Stopping
    }

    /// Marks the listener with this token as ready.
    fn somebody_came(&mut self, token: usize) {
        if let Some(acceptor) = self.acceptors.get_mut(FIRST_LISTENER - token) {
            acceptor.ready = true;
        }
    }

    /// Ends idle connections, but for those that have just asked: they are answered, and told to leave.
    fn leave(&mut self, idle: &[ConnectionId]) {
        for &place in idle {
            if self
                .connections
                .get_mut(place)
                .is_some_and(|waiting| !waiting.queued)
            {
                self.advance(place);
            }
            let queued = self
                .connections
                .get_mut(place)
                .is_some_and(|waiting| waiting.queued);
            if !queued && self.connections.is_idle(place) {
                self.connections.remove(place);
            }
        }
    }

    /// Accepts the clients that wait, serves them, and closes the connections that are done.
    fn accept(&mut self, now: Instant) {
        for number in 0..self.acceptors.len() {
            if self.acceptors[number]
                .opens(now)
                .is_some_and(|opens| now >= opens)
            {
                self.let_in(number, now);
            }
        }
    }

    /// The same for one listener.
    fn let_in(&mut self, number: usize, now: Instant) {
        self.evict(self.settings.room.too_many(self.connections.len()));
        let left = self.settings.room.left(self.connections.len());
        if left == 0 {
            return self.rest(now + FULL_REST);
        }
        let acceptor = &mut self.acceptors[number];
        acceptor.rest = None;
        let mut newcomers = std::mem::take(&mut self.newcomers);
        let had_room = newcomers.accept(acceptor, left);
        newcomers.each(|stream, said| self.take(stream, Some(said)));
        self.newcomers = newcomers;
        self.leaving.clear();
        if !had_room {
            self.rest(now + ACCEPT_REST);
            self.evict(BATCH);
        }
    }

    /// Accepts nobody until then.
    fn rest(&mut self, until: Instant) {
        self.acceptors
            .iter_mut()
            .for_each(|acceptor| acceptor.rest = Some(until));
    }

    /// Ends the `count` connections that have waited for longest.
    fn evict(&mut self, count: usize) {
        if count > 0 {
            self.connections
                .longest_waiting(count)
                .into_iter()
                .for_each(|place| drop(self.connections.remove(place)));
        }
    }

    /// Serves a new connection as far as its bytes reach; `first_read` is what was read of it already.
    #[inline]
    fn take(&mut self, stream: TcpStream, first_read: Option<io::Result<&[u8]>>) {
        let mut connection = Connection::default();
        let transport = Socket {
            first_read: Cell::new(first_read),
            ..Socket::new(&stream)
        };
        let progress = caught(|| connection.advance(&transport, &mut self.context));
        if progress == Progress::Done {
            return self.leaving.push(stream);
        }
        let (held, over_limit) = match (self.settings.admit(&stream), &progress) {
            (Ok(held), _) => (held, false),
            (Err(Full), Progress::Idle | Progress::Head) => return self.settings.turn_away(),
            // It has a moment to take what it asked for.
            (Err(Full), _) => (None, true),
        };
        let (descriptor, progressed) = (stream.as_raw_fd(), connection.made_progress());
        let place = self.connections.insert(Parked {
            stream,
            connection,
            ended: false,
            queued: false,
            writes: false,
            over_limit,
            held,
        });
        match self.poll.registry().register(
            &mut SourceFd(&descriptor),
            Token(place.index()),
            Interest::READABLE,
        ) {
            Ok(()) => self.park(place, progress, progressed),
            Err(_) => drop(self.connections.remove(place)),
        }
    }

    /// Continues a connection that the kernel has reported an event of.
    #[inline]
    fn serve(&mut self, index: usize, ended: bool) {
        let Some((place, phase, waiting)) = self.connections.at_mut(index) else {
            return;
        };
        waiting.ended |= ended;
        // What comes before a page is there is read behind it; who waits for a turn has only one.
        if phase != Phase::Page && !waiting.queued {
            let progress = waiting.advance(&self.settings, &mut self.context);
            let progressed = waiting.connection.made_progress();
            self.park(place, progress, progressed);
        }
    }

    fn advance(&mut self, place: ConnectionId) {
        let Some(waiting) = self.connections.get_mut(place) else {
            return;
        };
        waiting.queued = false;
        let progress = waiting.advance(&self.settings, &mut self.context);
        let progressed = waiting.connection.made_progress();
        self.park(place, progress, progressed);
    }

    /// Notes what a parked connection waits for, and whether it has `progressed`.
    #[inline]
    fn park(&mut self, place: ConnectionId, progress: Progress, progressed: bool) {
        let over_limit = self.settings.address_limit.is_some()
            && self
                .connections
                .get_mut(place)
                .is_some_and(|waiting| waiting.over_limit);
        let phase = match progress {
            Progress::Done => return drop(self.connections.remove(place)),
            Progress::Idle => Phase::Idle,
            Progress::Head => Phase::Head,
            Progress::Linger => Phase::Linger,
            Progress::Again => {
                self.connections
                    .get_mut(place)
                    .into_iter()
                    .for_each(|waiting| waiting.queued = true);
                self.again.push_back(place);
                Phase::Idle
            }
            Progress::Write => {
                self.watch_writes(place);
                Phase::Write
            }
            Progress::Page(pending) => {
                self.make_page(place, pending);
                Phase::Page
            }
        };
        // A connection over its address's limit has one deadline for everything except pages.
        let (phase, progressed) = if over_limit && phase != Phase::Page {
            (Phase::Linger, false)
        } else {
            (phase, progressed)
        };
        self.connections.set_phase(place, phase, progressed);
    }

    fn watch_writes(&mut self, place: ConnectionId) {
        let Some(waiting) = self
            .connections
            .get_mut(place)
            .filter(|waiting| !waiting.writes)
        else {
            return;
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        waiting.writes = self
            .poll
            .registry()
            .reregister(
                &mut SourceFd(&waiting.stream.as_raw_fd()),
                Token(place.index()),
                both,
            )
            .is_ok();
    }

    /// Has a page made.
    fn make_page(&self, place: ConnectionId, pending: PendingPage) {
        let (arrivals, waker) = (self.arrivals.clone(), self.waker.clone());
        let Some(pages) = &self.settings.pages else {
            return;
        };
        let making = pages.make(&pending.ask.target);
        pages.runtime.spawn(async move {
            let page = making.await.ok();
            // A thread that has ended needs no page.
            if arrivals
                .send(Arrival {
                    place,
                    pending,
                    page,
                })
                .is_ok()
            {
                let _ = waker.wake();
            }
        });
    }

    /// Looks at the phase of the process, and hands out the pages that were made.
    fn woken(&mut self) {
        self.phase = self.shutdown.phase();
        while let Ok(Arrival {
            place,
            pending,
            page,
        }) = self.arriving.try_recv()
        {
            if let Some(waiting) = self.connections.get_mut(place) {
                let context = &mut self.context;
                waiting.connection.page(page.as_ref(), &pending, context);
                self.advance(place);
            }
        }
    }

    fn tick(&mut self) {
        self.phase = self.shutdown.phase();
        self.context.tick(SystemTime::now());
        self.settings.room.left(self.connections.len());
        self.evict(self.settings.room.asked());
        self.connections
            .sweep(&self.settings.deadlines)
            .into_iter()
            .for_each(|place| drop(self.connections.remove(place)));
    }
}

/// A request that panics costs its connection, not the thread. The buffers it leaves are cleared before their next use.
#[inline]
fn caught(work: impl FnOnce() -> Progress) -> Progress {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Progress::Done)
}
