//! The task of one TLS connection: what it waits for, until it is done or its deadline ends it.

use crate::client::Guest;
use crate::client::proxy_protocol::{self, Proxied};
use crate::protocol::http1::connection::{Connection, Progress};
use crate::protocol::transport::Socket;
use crate::serve::address_limit::Held;
use crate::serve::connections::{Phase, Place};
use crate::serve::tls_tasks::h2;
use crate::serve::tls_tasks::thread::Thread;
use crate::tls::session::{Secure, Session, forget, wait};
use common::net::socket;
use common::net::web::Page;
use rustls::ServerConfig;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::Interest;

/// A connection's place among the others; given back however its task ends.
pub(crate) struct Registered {
    pub(crate) thread: Rc<Thread>,
    pub(crate) place: Place,
    /// Its share of what its address may hold.
    pub(crate) _held: Option<Held>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.thread.connections.borrow_mut().remove(self.place);
    }
}

impl Registered {
    /// Shakes hands and serves what the client chose.
    pub(crate) async fn secure(self, stream: TcpStream, config: Arc<ServerConfig>) {
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
            return;
        };
        let Ok(guest) = self.meet(&stream).await else {
            return;
        };
        let began = || self.enter(Phase::Handshake, false);
        let Ok(session) = Session::accept(&stream, config, &self.thread.handshakes, began).await
        else {
            return;
        };
        self.enter(Phase::Idle, false);
        if session.is_h2() {
            if let Some(task) = self.thread.connections.borrow_mut().get_mut(self.place) {
                task.takes_leave = true;
            }
            // Its state is large: only those who speak it hold it.
            return Box::pin(h2::serve(self, stream, session, guest)).await;
        }
        let goodbye = Goodbye {
            stream: &stream,
            session: &session,
        };
        self.drive(goodbye.stream, goodbye.session, Connection::of(guest))
            .await;
    }

    /// Who is there, where that has to be known: a trusted proxy may say before the handshake for whom it speaks.
    async fn meet(&self, stream: &tokio::net::TcpStream) -> io::Result<Option<Box<Guest>>> {
        let met = self
            .thread
            .desk
            .borrow()
            .guests
            .as_ref()
            .map(|guests| guests.meet(socket::peer(stream).ok()));
        let Some(mut guest) = met.map(Box::new) else {
            return Ok(None);
        };
        let (mut start, mut ended) = (Vec::new(), false);
        while !guest.is_introduced() {
            start.resize(proxy_protocol::LONGEST, 0);
            // Before the look, not after it: what arrives in between must not be forgotten.
            forget(stream, Interest::READABLE);
            let there = match socket::peek(stream, &mut start) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                outcome => outcome.unwrap_or(0),
            };
            let said = self
                .thread
                .desk
                .borrow()
                .guests
                .as_ref()
                .map_or(Proxied::Absent, |guests| {
                    guests.introduce(&mut guest, &start[..there])
                });
            match said {
                // The end is no byte to look at, and is reported again and again.
                Proxied::Partial if ended => return Err(ErrorKind::UnexpectedEof.into()),
                Proxied::Partial => {
                    ended = stream.ready(Interest::READABLE).await?.is_read_closed();
                    tokio::task::yield_now().await;
                }
                Proxied::Absent => {}
                Proxied::Client { length, .. } | Proxied::Itself(length) => {
                    socket::receive(stream, &mut start[..length])?;
                }
                Proxied::Bad => return Err(ErrorKind::InvalidData.into()),
            }
        }
        Ok(Some(guest))
    }

    /// The connection waits for something else now, and may have `moved`.
    pub(crate) fn enter(&self, phase: Phase, moved: bool) {
        self.thread
            .connections
            .borrow_mut()
            .enter(self.place, phase, moved);
    }

    async fn drive(
        &self,
        stream: &tokio::net::TcpStream,
        session: &Session,
        mut connection: Connection,
    ) {
        let mut progress = Progress::Again;
        loop {
            let phase = match &progress {
                Progress::Idle | Progress::Again => Phase::Idle,
                Progress::Head => Phase::Head,
                Progress::Write => Phase::Write,
                Progress::Linger => Phase::Linger,
                Progress::Page(_) => Phase::Page,
                Progress::Done => return,
            };
            // Who has ended may still be owed answers to what came before the end.
            if matches!(progress, Progress::Idle | Progress::Head) && session.has_ended() {
                return;
            }
            self.thread
                .connections
                .borrow_mut()
                .enter(self.place, phase, connection.has_moved());
            let waited = match progress {
                Progress::Write => wait(stream, Interest::WRITABLE).await,
                Progress::Again => {
                    tokio::task::yield_now().await;
                    Ok(())
                }
                Progress::Page(ask) => {
                    let page = self.page(&ask.target).await;
                    let bytes = self.thread.desk.borrow_mut().page(page.as_ref(), &ask);
                    connection.page(&bytes, ask.keep_alive && page.is_some());
                    Ok(())
                }
                _ => wait(stream, Interest::READABLE).await,
            };
            if waited.is_err() {
                return;
            }
            let plain = Socket::new(stream, self.thread.settings.pages.as_ref());
            progress = connection.advance(
                &Secure {
                    socket: stream,
                    session,
                    plain,
                },
                &mut self.thread.desk.borrow_mut(),
            );
        }
    }

    /// Has a page made; none when that failed.
    pub(crate) async fn page(&self, target: &str) -> Option<Page> {
        self.thread.settings.pages.as_ref()?.make(target).await.ok()
    }
}

/// Says goodbye to a client however its connection ends.
struct Goodbye<'a> {
    stream: &'a tokio::net::TcpStream,
    session: &'a Session,
}

impl Drop for Goodbye<'_> {
    fn drop(&mut self) {
        self.session.close(self.stream);
    }
}
