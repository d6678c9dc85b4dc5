//! One thread that serves clients: its own runtime, listener, buffers, counters and connections. Threads share
//! nothing that a request writes to.

use crate::connection::{Connection, Desk, PageAsk, Progress, Wire};
use crate::connections::{Connections, Deadlines, Phase, Place, TICK};
use common::process::{Phase as ProcessPhase, Shutdown};
use common::settings::Network;
use common::socket;
use common::web::{Ask, Method, Page, Router};
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{Shutdown as End, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Connections accepted in a row before the accepted ones get a turn.
const BATCH: usize = 64;

/// How long accepting rests where no descriptor is free.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long a draining process goes on accepting: a client whose handshake the kernel has answered once may have
/// to be answered again (one SYN-ACK retry).
const LAST_CALLS: Duration = Duration::from_secs(2);

/// Pages that are made elsewhere, and by whom they may be seen.
#[derive(Clone)]
pub struct Pages {
    /// Makes them.
    pub router: Router,
    /// Where they are made, so that a long page holds no client up.
    pub runtime: tokio::runtime::Handle,
    /// Who may see them.
    pub allowed: Arc<[Network]>,
}

/// What a thread is told.
pub struct Settings {
    /// The deadlines.
    pub deadlines: Deadlines,
    /// How many connections this thread may hold.
    pub maxconn: usize,
    /// How long draining may take.
    pub grace: Duration,
    /// The pages, if they are served here.
    pub pages: Option<Pages>,
}

struct Thread {
    desk: RefCell<Desk>,
    connections: RefCell<Connections>,
    settings: Settings,
}

/// Serves `listener` until the process ends; returns when every connection is done or the grace is over.
///
/// # Errors
/// When the runtime or the listener cannot be set up.
pub fn run(listener: TcpListener, desk: Desk, settings: Settings, shutdown: Shutdown) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(tokio::runtime::LocalOptions::default())?;
    let thread = Rc::new(Thread { desk: RefCell::new(desk), connections: RefCell::default(), settings });
    socket::defer_accept(&listener, true)?;
    runtime.block_on(async move {
        thread.tick();
        let listener = socket::watch(listener)?;
        let ticking = tokio::task::spawn_local(thread.clone().sweep());
        thread.serve(listener, shutdown).await;
        ticking.abort();
        Ok(())
    })
}

impl Thread {
    async fn serve(self: &Rc<Self>, listener: AsyncFd<TcpListener>, mut shutdown: Shutdown) {
        tokio::select! {
            () = self.accept(&listener) => {}
            () = shutdown.reached(ProcessPhase::Draining) => {}
        }
        let began = Instant::now();
        self.desk.borrow_mut().draining = true;
        // Silent clients that are already connected are handed over too.
        let _ = socket::defer_accept(listener.get_ref(), false);
        let drain = async {
            let last_calls = LAST_CALLS.min(self.settings.grace);
            let _ = tokio::time::timeout(last_calls, self.accept(&listener)).await;
            loop {
                match socket::accept(listener.get_ref()) {
                    Ok(stream) => self.take(stream),
                    Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                    Err(_) => break,
                }
            }
            drop(listener);
            while !self.connections.borrow().is_empty() && began.elapsed() < self.settings.grace {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = drain => {}
            () = shutdown.reached(ProcessPhase::Stopping) => {}
        }
        let left = self.connections.borrow().len();
        if left > 0 {
            tracing::info!(connections = left, "closed at the end of the grace period");
        }
    }

    /// Accepts for ever.
    async fn accept(self: &Rc<Self>, listener: &AsyncFd<TcpListener>) {
        loop {
            let Ok(mut ready) = listener.readable().await else { return };
            self.make_room();
            for _ in 0..BATCH {
                if self.connections.borrow().len() >= self.settings.maxconn {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    break;
                }
                match socket::accept(listener.get_ref()) {
                    Ok(stream) => self.take(stream),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        ready.clear_ready();
                        break;
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                    // No descriptor or memory is free: what waits in the kernel keeps, spinning would not help.
                    Err(_) => {
                        self.connections.borrow_mut().evict_idle(BATCH);
                        tokio::time::sleep(ACCEPT_REST).await;
                        break;
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// From nine tenths of the connections on, the longest idle make room for a batch of new ones.
    fn make_room(&self) {
        let mut connections = self.connections.borrow_mut();
        if connections.len() * 10 >= self.settings.maxconn * 9 {
            connections.evict_idle(BATCH.max(self.settings.maxconn / 100));
        }
    }

    /// Serves a new connection as far as its bytes reach; only one that has to wait becomes a task.
    fn take(self: &Rc<Self>, stream: TcpStream) {
        let mut connection = Connection::default();
        let wire = Socket { stream: &stream, thread: self };
        let progress = connection.advance(&wire, &mut self.desk.borrow_mut());
        if progress == Progress::Done {
            return;
        }
        let place = self.connections.borrow_mut().insert();
        let guard = Registered { thread: self.clone(), place };
        let task = tokio::task::spawn_local(async move { guard.drive(stream, connection, progress).await });
        self.connections.borrow_mut().set_abort(place, task.abort_handle());
    }

    async fn sweep(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tick();
            self.connections.borrow_mut().sweep(&self.settings.deadlines);
        }
    }

    fn tick(&self) {
        self.desk.borrow_mut().date = format!("Date: {}\r\n", httpdate::fmt_http_date(SystemTime::now())).into_bytes();
    }
}

/// A connection's place among the others; given back however its task ends.
struct Registered {
    thread: Rc<Thread>,
    place: Place,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.thread.connections.borrow_mut().remove(self.place);
    }
}

impl Registered {
    async fn drive(self, stream: TcpStream, mut connection: Connection, mut progress: Progress) {
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
        loop {
            let phase = match &progress {
                Progress::Idle => Phase::Idle,
                Progress::Head => Phase::Head,
                Progress::Write => Phase::Write,
                Progress::Linger => Phase::Linger,
                Progress::Page(_) => Phase::Page,
                Progress::Again => Phase::Idle,
                Progress::Done => return,
            };
            {
                let mut connections = self.thread.connections.borrow_mut();
                if connection.has_answered() {
                    connections.set_phase(self.place, Phase::Idle);
                }
                connections.set_phase(self.place, phase);
            }
            let waited = match progress {
                Progress::Write => wait(&stream, Interest::WRITABLE).await,
                Progress::Again => {
                    tokio::task::yield_now().await;
                    Ok(())
                }
                Progress::Page(ask) => {
                    let (bytes, keep_alive) = self.page(ask).await;
                    connection.page(&bytes, keep_alive);
                    Ok(())
                }
                _ => wait(&stream, Interest::READABLE).await,
            };
            if waited.is_err() {
                return;
            }
            let wire = Socket { stream: &stream, thread: &self.thread };
            progress = connection.advance(&wire, &mut self.thread.desk.borrow_mut());
        }
    }

    /// Has a page made, and the bytes of its answer.
    async fn page(&self, ask: PageAsk) -> (Vec<u8>, bool) {
        let Some(pages) = &self.thread.settings.pages else { return (Vec::new(), false) };
        let (path, query) = ask.target.split_once('?').unwrap_or((&ask.target, ""));
        let asked = pages.router.as_ref()(Ask { method: Method::GET, path: path.to_owned(), query: query.to_owned() });
        match pages.runtime.spawn(asked).await {
            Ok(page) => (page_bytes(&page, &ask, &self.thread.desk.borrow().date), ask.keep_alive),
            Err(_) => (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(), false),
        }
    }
}

/// Waits until the kernel reports `interest` anew. What it reported before has been used up: the last read was
/// short or the last call would have blocked, and every later arrival is a new edge of epoll(7).
async fn wait(stream: &tokio::net::TcpStream, interest: Interest) -> io::Result<()> {
    let _ = stream.try_io(interest, || Err::<(), _>(ErrorKind::WouldBlock.into()));
    stream.ready(interest).await.map(drop)
}

fn page_bytes(page: &Page, ask: &PageAsk, date: &[u8]) -> Vec<u8> {
    let status = page.status();
    let mut bytes = format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in page.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(date);
    let connection = if ask.keep_alive { "" } else { "Connection: close\r\n" };
    bytes.extend_from_slice(format!("Content-Length: {}\r\n{connection}\r\n", page.body().len()).as_bytes());
    if !ask.head_only {
        bytes.extend_from_slice(page.body());
    }
    bytes
}

/// A socket of one thread.
struct Socket<'a, S> {
    stream: &'a S,
    thread: &'a Thread,
}

impl<S: std::os::fd::AsFd> Wire for Socket<'_, S> {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        socket::receive(self.stream, buffer)
    }

    fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        socket::send(self.stream, bytes, more)
    }

    fn end(&self) {
        socket::end(self.stream, End::Write);
    }

    fn may_see_stats(&self) -> bool {
        let Some(pages) = &self.thread.settings.pages else { return false };
        socket::peer(self.stream).is_ok_and(|peer| pages.allowed.iter().any(|network| network.contains(peer)))
    }
}
