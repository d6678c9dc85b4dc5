//! One thread that serves clients without TLS: a loop over epoll, its listener and its waiting connections. Threads
//! share nothing that a request writes to.
//!
//! A connection is served as far as its bytes reach as soon as it is accepted; only one that has to wait takes a
//! place and is watched. Its socket is watched by edges: what an event does not say again is tried, or remembered.

use crate::connection::{Connection, PageAsk, Progress};
use crate::connections::{Connections, Phase, Place, TICK};
use crate::desk::Desk;
use crate::pages;
use crate::per_address::Held;
use crate::wire::Socket;
use crate::worker::{ACCEPT_REST, BATCH, FULL_REST, LAST_CALLS, Settings};
use common::process::{Phase as ProcessPhase, Shutdown};
use common::socket;
use common::web::Page;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

/// Events taken from the kernel at a time.
const EVENTS: usize = 256;

/// Connections with more to do that get a turn before those that have just come.
const TURNS: usize = 4;

/// Not the places of connections.
const DOOR: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);

/// A thread that serves clients without TLS.
pub struct Plain {
    poll: Poll,
    waker: Arc<Waker>,
    door: Option<Door>,
    desk: Desk,
    seats: Connections<Seat>,
    /// Connections that had their turn and have more to do.
    again: VecDeque<Place>,
    settings: Settings,
    arriving: mpsc::Receiver<Arrival>,
    arrivals: mpsc::Sender<Arrival>,
    stage: Stage,
    shutdown: Shutdown,
}

/// The listening socket.
struct Door {
    listener: TcpListener,
    /// Whether somebody may wait there.
    ready: bool,
    /// Until when nobody is let in.
    rest: Option<Instant>,
}

/// A connection that waits.
struct Seat {
    stream: TcpStream,
    connection: Connection,
    /// Whether the kernel has said that the peer sends nothing more. It says so once.
    ended: bool,
    /// Whether room to write is watched too.
    writes: bool,
    /// Its share of what its address may hold.
    _held: Option<Held>,
}

impl Seat {
    /// Lets the connection take its turn.
    #[inline]
    fn advance(&mut self, settings: &Settings, desk: &mut Desk) -> Progress {
        let wire = Socket { stream: &self.stream, ended: self.ended, pages: settings.pages.as_ref() };
        caught(|| self.connection.advance(&wire, desk))
    }
}

/// A page that was made, for whoever asked.
struct Arrival {
    place: Place,
    ask: PageAsk,
    page: Option<Page>,
}

/// How far the end of the process has come here.
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

impl Plain {
    /// A thread for `listener`, to be [run](Self::run).
    ///
    /// # Errors
    /// When the kernel has nothing to wait with.
    pub fn new(listener: TcpListener, desk: Desk, settings: Settings, shutdown: Shutdown) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        socket::defer_accept(&listener, true)?;
        socket::spare_acks(&listener)?;
        poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), DOOR, Interest::READABLE)?;
        let door = Some(Door { listener, ready: false, rest: None });
        let (arrivals, arriving) = mpsc::channel();
        let (seats, again, stage) = (Connections::default(), VecDeque::new(), Stage::Serving);
        Ok(Self { poll, waker, door, desk, seats, again, settings, arriving, arrivals, stage, shutdown })
    }

    /// Has the thread look at the phase of the process.
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Serves until the process ends; returns when every connection is done or the grace is over.
    ///
    /// # Errors
    /// When the kernel does not let it wait.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut now = Instant::now();
        let mut next_tick = now;
        while !self.has_ended(now) {
            if now >= next_tick {
                self.tick();
                next_tick = now + TICK;
            }
            match self.poll.poll(&mut events, Some(self.patience(now, next_tick))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    DOOR => self.door.iter_mut().for_each(|door| door.ready = true),
                    WAKER => self.arrive(),
                    Token(index) => self.serve(index, event.is_read_closed()),
                }
            }
            for place in self.again.drain(..self.again.len().min(TURNS)).collect::<Vec<_>>() {
                self.advance(place);
            }
            now = Instant::now();
            self.accept(now);
        }
        let left = self.seats.len();
        if left > 0 {
            tracing::info!(connections = left, "closed at the end of the grace period");
        }
        Ok(())
    }

    /// How long nothing needs to be done but what the kernel tells of.
    fn patience(&self, now: Instant, next_tick: Instant) -> Duration {
        if !self.again.is_empty() {
            return Duration::ZERO;
        }
        let door = self.door.as_ref().filter(|door| door.ready).map(|door| door.rest.unwrap_or(now));
        let stage = match self.stage {
            Stage::Serving => None,
            Stage::LastCalls { until, .. } | Stage::Finishing { until } => Some(until),
        };
        let first = [door, stage].into_iter().flatten().fold(next_tick, Instant::min);
        first.saturating_duration_since(now)
    }

    /// Goes on with the end of the process; whether it is over here.
    fn has_ended(&mut self, now: Instant) -> bool {
        let phase = self.shutdown.phase();
        if let (Stage::Serving, true) = (self.stage, phase >= ProcessPhase::Draining) {
            let grace = now + self.settings.grace;
            self.desk.sources.draining = true;
            self.stage = match &self.door {
                // Silent clients that are already connected are handed over too.
                Some(door) if !self.settings.passed => {
                    let _ = socket::defer_accept(&door.listener, false);
                    Stage::LastCalls { until: grace.min(now + LAST_CALLS), grace }
                }
                // Whoever holds the socket hands what waits in it to the next process.
                _ => Stage::Finishing { until: grace },
            };
        }
        if let Stage::LastCalls { until, grace } = self.stage
            && (now >= until || phase == ProcessPhase::Stopping)
        {
            self.close_door();
            self.stage = Stage::Finishing { until: grace };
        }
        let Stage::Finishing { until } = self.stage else { return false };
        self.door = None;
        self.seats.is_empty() || now >= until || phase == ProcessPhase::Stopping
    }

    /// Accepts what the kernel still holds, and closes the door. What arrives in between is reset by the kernel
    /// (unless `net.ipv4.tcp_migrate_req` gives it to another process on the port): nothing else is done in between.
    fn close_door(&mut self) {
        let Some(Door { listener, .. }) = self.door.take() else { return };
        loop {
            match socket::accept(&listener) {
                Ok(stream) => self.take(stream),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }

    /// Lets in who waits.
    fn accept(&mut self, now: Instant) {
        if self.door.as_ref().is_none_or(|door| !door.ready || door.rest.is_some_and(|rest| now < rest)) {
            return;
        }
        self.evict(self.settings.room.too_many(self.seats.len()));
        for _ in 0..BATCH {
            let full = self.settings.room.left(self.seats.len()) == 0;
            let Some(door) = &mut self.door else { return };
            door.rest = full.then(|| now + FULL_REST);
            if full {
                return;
            }
            match socket::accept(&door.listener) {
                Ok(stream) => self.take(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    door.ready = false;
                    return;
                }
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                // No descriptor or memory is free: what waits in the kernel keeps, spinning would not help.
                Err(_) => {
                    door.rest = Some(now + ACCEPT_REST);
                    return self.evict(BATCH);
                }
            }
        }
    }

    /// Ends the `count` connections that have been idle for longest.
    fn evict(&mut self, count: usize) {
        if count > 0 {
            self.seats.longest_idle(count).into_iter().for_each(|place| drop(self.seats.remove(place)));
        }
    }

    /// Serves a new connection as far as its bytes reach.
    #[inline]
    fn take(&mut self, stream: TcpStream) {
        let mut connection = Connection::default();
        let wire = Socket { stream: &stream, ended: false, pages: self.settings.pages.as_ref() };
        let progress = caught(|| connection.advance(&wire, &mut self.desk));
        if progress == Progress::Done {
            return;
        }
        let held = self.settings.per_address.as_ref().map(|all| socket::peer(&stream).ok().and_then(|peer| all.take(peer)));
        if let (Some(None), Progress::Idle | Progress::Head) = (&held, &progress) {
            return;
        }
        let descriptor = stream.as_raw_fd();
        let place = self.seats.insert(Seat { stream, connection, ended: false, writes: false, _held: held.flatten() });
        match self.poll.registry().register(&mut SourceFd(&descriptor), Token(place.index()), Interest::READABLE) {
            Ok(()) => self.settle(place, progress, true),
            Err(_) => drop(self.seats.remove(place)),
        }
    }

    /// Goes on with the connection at a place of which the kernel has told something.
    #[inline]
    fn serve(&mut self, index: usize, ended: bool) {
        let Some((place, phase, seat)) = self.seats.at_mut(index) else { return };
        seat.ended |= ended;
        // What comes before the page is there is read behind it.
        if phase != Phase::Page {
            let progress = seat.advance(&self.settings, &mut self.desk);
            let new = seat.connection.has_moved();
            self.settle(place, progress, new);
        }
    }

    fn advance(&mut self, place: Place) {
        let Some(seat) = self.seats.get_mut(place) else { return };
        let progress = seat.advance(&self.settings, &mut self.desk);
        let new = seat.connection.has_moved();
        self.settle(place, progress, new);
    }

    /// Notes what the connection at `place` waits for; `new`: from now on.
    #[inline]
    fn settle(&mut self, place: Place, progress: Progress, new: bool) {
        let phase = match progress {
            Progress::Done => return drop(self.seats.remove(place)),
            Progress::Idle => Phase::Idle,
            Progress::Head => Phase::Head,
            Progress::Linger => Phase::Linger,
            Progress::Again => {
                self.again.push_back(place);
                Phase::Idle
            }
            Progress::Write => {
                self.watch_writes(place);
                Phase::Write
            }
            Progress::Page(ask) => {
                self.ask(place, ask);
                Phase::Page
            }
        };
        self.seats.enter(place, phase, new);
    }

    fn watch_writes(&mut self, place: Place) {
        let Some(seat) = self.seats.get_mut(place).filter(|seat| !seat.writes) else { return };
        let both = Interest::READABLE | Interest::WRITABLE;
        seat.writes = self.poll.registry().reregister(&mut SourceFd(&seat.stream.as_raw_fd()), Token(place.index()), both).is_ok();
    }

    /// Has a page made.
    fn ask(&self, place: Place, ask: PageAsk) {
        let (arrivals, waker) = (self.arrivals.clone(), self.waker.clone());
        let Some(pages) = &self.settings.pages else { return };
        let making = pages.make(&ask.target);
        pages.runtime.spawn(async move {
            let page = making.await.ok();
            // A thread that has ended needs no page.
            if arrivals.send(Arrival { place, ask, page }).is_ok() {
                let _ = waker.wake();
            }
        });
    }

    /// Hands out the pages that were made.
    fn arrive(&mut self) {
        while let Ok(Arrival { place, ask, page }) = self.arriving.try_recv() {
            if let Some(seat) = self.seats.get_mut(place) {
                seat.connection.page(&pages::answer(page.as_ref(), &ask, &self.desk.sources.date), ask.keep_alive && page.is_some());
                self.advance(place);
            }
        }
    }

    fn tick(&mut self) {
        self.desk.tick(SystemTime::now());
        self.settings.room.left(self.seats.len());
        self.seats.sweep(&self.settings.deadlines).into_iter().for_each(|place| drop(self.seats.remove(place)));
    }
}

/// A request that panics costs its connection, not the thread. The buffers it leaves are cleared before their next use.
#[inline]
fn caught(work: impl FnOnce() -> Progress) -> Progress {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Progress::Done)
}
