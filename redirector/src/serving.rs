//! The task of one connection that has to wait: what it waits for, until it is done or its deadline ends it.

use crate::connection::{Connection, PageAsk, Progress, Wire};
use crate::connections::{Phase, Place};
use crate::h2;
use crate::tls::session::{Secure, Session, wait};
use crate::worker::Thread;
use common::socket;
use common::web::{Ask, Method, Page};
use rustls::ServerConfig;
use std::io;
use std::net::{IpAddr, Shutdown as End, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::Interest;

/// A connection's place among the others; given back however its task ends.
pub(crate) struct Registered {
    pub(crate) thread: Rc<Thread>,
    pub(crate) place: Place,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.thread.connections.borrow_mut().remove(self.place);
    }
}

impl Registered {
    /// Serves a connection that has to wait.
    pub(crate) async fn plain(self, stream: TcpStream, connection: Connection, progress: Progress) {
        if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
            self.drive(&stream, None, connection, progress).await;
        }
    }

    /// Shakes hands and serves what the client chose.
    pub(crate) async fn secure(self, stream: TcpStream, config: Arc<ServerConfig>) {
        self.enter(Phase::Handshake);
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
        let Ok(session) = Session::accept(&stream, config, &self.thread.handshakes).await else { return };
        self.enter(Phase::Idle);
        if session.is_h2() {
            // Its state is large: only those who speak it hold it.
            return Box::pin(h2::serve(self, stream, session)).await;
        }
        let goodbye = Goodbye { stream: &stream, session: &session };
        self.drive(goodbye.stream, Some(goodbye.session), Connection::default(), Progress::Again).await;
    }

    /// The connection waits for something else now.
    pub(crate) fn enter(&self, phase: Phase) {
        self.thread.connections.borrow_mut().set_phase(self.place, phase);
    }

    async fn drive(&self, stream: &tokio::net::TcpStream, session: Option<&Session>, mut connection: Connection, mut progress: Progress) {
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
            if matches!(phase, Phase::Idle | Phase::Head) && session.is_some_and(Session::has_ended) {
                return;
            }
            if connection.has_answered() {
                self.enter(Phase::Idle);
            }
            self.enter(phase);
            let waited = match progress {
                Progress::Write => wait(stream, Interest::WRITABLE).await,
                Progress::Again => {
                    tokio::task::yield_now().await;
                    Ok(())
                }
                Progress::Page(ask) => {
                    let bytes = match self.page(&ask.target).await {
                        Some(page) => page_bytes(&page, &ask, &self.thread.desk.borrow().date),
                        None => b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
                    };
                    connection.page(&bytes, ask.keep_alive);
                    Ok(())
                }
                _ => wait(stream, Interest::READABLE).await,
            };
            if waited.is_err() {
                return;
            }
            let (plain, desk) = (Socket { stream, thread: &self.thread }, &mut self.thread.desk.borrow_mut());
            progress = match session {
                None => connection.advance(&plain, desk),
                Some(session) => connection.advance(&Secure { socket: stream, session, plain }, desk),
            };
        }
    }

    /// Has a page made; none when that failed.
    pub(crate) async fn page(&self, target: &str) -> Option<Page> {
        let pages = self.thread.settings.pages.as_ref()?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let asked = pages.router.as_ref()(Ask { method: Method::GET, path: path.to_owned(), query: query.to_owned() });
        pages.runtime.spawn(asked).await.ok()
    }
}

/// Says goodbye to a TLS client however its connection ends.
struct Goodbye<'a> {
    stream: &'a tokio::net::TcpStream,
    session: &'a Session,
}

impl Drop for Goodbye<'_> {
    fn drop(&mut self) {
        self.session.close(self.stream);
    }
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
pub(crate) struct Socket<'a, S> {
    pub(crate) stream: &'a S,
    pub(crate) thread: &'a Thread,
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

    fn peer(&self) -> Option<IpAddr> {
        socket::peer(self.stream).ok()
    }

    fn may_see_stats(&self, client: Option<IpAddr>) -> bool {
        let Some(pages) = &self.thread.settings.pages else { return false };
        client.or_else(|| self.peer()).is_some_and(|client| pages.allowed.iter().any(|network| network.contains(client)))
    }
}
