//! One thread that serves clients: its own runtime, listener, buffers, counters and connections. Threads share
//! nothing that a request writes to.

use crate::connection::{Connection, Desk, Progress};
use crate::connections::{Connections, Deadlines, TICK};
use crate::serving::{Registered, Socket};
use common::process::{Phase as ProcessPhase, Shutdown};
use common::settings::Network;
use common::socket;
use common::web::Router;
use rustls::ServerConfig;
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

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

/// Where clients come in: the sockets of one thread.
#[derive(Debug)]
pub struct Doors {
    /// Without TLS.
    pub plain: TcpListener,
    /// With TLS, and how.
    pub secure: Option<(TcpListener, Arc<ServerConfig>)>,
    /// Whether somebody else keeps what waits in them when this process ends.
    pub passed: bool,
}

/// A listening socket, watched.
struct Door {
    listener: AsyncFd<TcpListener>,
    tls: Option<Arc<ServerConfig>>,
}

/// What the connections of one thread share.
pub(crate) struct Thread {
    pub(crate) desk: RefCell<Desk>,
    pub(crate) connections: RefCell<Connections>,
    pub(crate) settings: Settings,
    /// Lets one step of a TLS handshake through at a time.
    pub(crate) handshakes: Semaphore,
    pub(crate) shutdown: Shutdown,
}

/// Serves `doors` until the process ends; returns when every connection is done or the grace is over.
///
/// # Errors
/// When the runtime or a listener cannot be set up.
pub fn run(doors: Doors, desk: Desk, settings: Settings, shutdown: Shutdown) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(tokio::runtime::LocalOptions::default())?;
    let (desk, connections) = (RefCell::new(desk), RefCell::default());
    let thread = Rc::new(Thread { desk, connections, settings, handshakes: Semaphore::new(1), shutdown: shutdown.clone() });
    runtime.block_on(async move {
        thread.tick();
        let (passed, doors) = (doors.passed, doors.watch()?);
        let ticking = tokio::task::spawn_local(thread.clone().sweep());
        thread.serve(doors, passed, shutdown).await;
        ticking.abort();
        Ok(())
    })
}

impl Doors {
    fn watch(self) -> io::Result<Vec<Door>> {
        let secure = self.secure.map(|(listener, config)| (listener, Some(config)));
        let all = std::iter::once((self.plain, None)).chain(secure);
        all.map(|(listener, tls)| {
            socket::defer_accept(&listener, true)?;
            Ok(Door { listener: socket::watch(listener)?, tls })
        })
        .collect()
    }
}

impl Thread {
    async fn serve(self: &Rc<Self>, doors: Vec<Door>, passed: bool, mut shutdown: Shutdown) {
        tokio::select! {
            () = self.accept_all(&doors) => {}
            () = shutdown.reached(ProcessPhase::Draining) => {}
        }
        let began = Instant::now();
        self.desk.borrow_mut().draining = true;
        if passed {
            // Whoever holds the sockets hands what waits in them to the next process.
            drop(doors);
            return self.finish(began, shutdown).await;
        }
        // Silent clients that are already connected are handed over too.
        doors.iter().for_each(|door| drop(socket::defer_accept(door.listener.get_ref(), false)));
        let last_calls = tokio::time::timeout(LAST_CALLS.min(self.settings.grace), self.accept_all(&doors));
        tokio::select! {
            _ = last_calls => {}
            () = shutdown.reached(ProcessPhase::Stopping) => {}
        }
        doors.into_iter().for_each(|door| self.empty(door));
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

    /// Accepts what the kernel still holds, and closes the door. What arrives in between is reset by the kernel
    /// (unless `net.ipv4.tcp_migrate_req` gives it to another process on the port): nothing else is done in between.
    fn empty(self: &Rc<Self>, door: Door) {
        let Door { listener, tls } = door;
        let listener = listener.into_inner();
        loop {
            match socket::accept(&listener) {
                Ok(stream) => self.take(stream, tls.as_ref()),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }

    /// Accepts at every door, for ever.
    async fn accept_all(self: &Rc<Self>, doors: &[Door]) {
        match doors {
            [plain, secure] => drop(tokio::join!(self.accept(plain), self.accept(secure))),
            doors => {
                for door in doors {
                    self.accept(door).await;
                }
            }
        }
    }

    /// Accepts for ever.
    async fn accept(self: &Rc<Self>, door: &Door) {
        loop {
            let Ok(mut ready) = door.listener.readable().await else { return };
            self.make_room();
            for _ in 0..BATCH {
                if self.connections.borrow().len() >= self.settings.maxconn {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    break;
                }
                match socket::accept(door.listener.get_ref()) {
                    Ok(stream) => self.take(stream, door.tls.as_ref()),
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

    /// Begins a new connection.
    fn take(self: &Rc<Self>, stream: TcpStream, tls: Option<&Arc<ServerConfig>>) {
        match tls {
            None => self.take_plain(stream),
            Some(config) => self.register(|guard| guard.secure(stream, config.clone())),
        }
    }

    /// Serves a new connection as far as its bytes reach; only one that has to wait becomes a task.
    fn take_plain(self: &Rc<Self>, stream: TcpStream) {
        let mut connection = Connection::default();
        let wire = Socket { stream: &stream, thread: self };
        let progress = connection.advance(&wire, &mut self.desk.borrow_mut());
        if progress != Progress::Done {
            self.register(|guard| guard.plain(stream, connection, progress));
        }
    }

    fn register<F: Future<Output = ()> + 'static>(self: &Rc<Self>, work: impl FnOnce(Registered) -> F) {
        let place = self.connections.borrow_mut().insert();
        let task = tokio::task::spawn_local(work(Registered { thread: self.clone(), place }));
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
        if let Some(guests) = &mut self.desk.borrow_mut().guests {
            guests.tick();
        }
        self.desk.borrow_mut().date = format!("Date: {}\r\n", httpdate::fmt_http_date(SystemTime::now())).into_bytes();
    }
}
