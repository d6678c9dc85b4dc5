//! The task of one TLS connection: what it waits for, until it is done or its deadline ends it.

use crate::client::Peer;
use crate::client::proxy_protocol::{self, ProxyHeader};
use crate::protocol::http1::connection::{Connection, Progress};
use crate::protocol::transport::Socket;
use crate::serve::connections::Phase;
use crate::serve::tls_tasks::h2;
use crate::serve::tls_tasks::registration::Registered;
use crate::tls::session::{Secure, Session, forget, wait};
use common::net::socket;
use rustls::ServerConfig;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::sync::Arc;
use tokio::io::Interest;

impl Registered {
    /// Shakes hands and serves what the client chose.
    pub(crate) async fn secure(self, stream: TcpStream, config: Arc<ServerConfig>) {
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
            return;
        };
        let Ok(peer) = self.meet(&stream).await else {
            return;
        };
        let began = || self.set_phase(Phase::Handshake, false);
        let Ok(session) = Session::accept(&stream, config, &self.thread.handshakes, began).await
        else {
            return;
        };
        self.set_phase(Phase::Idle, false);
        if session.is_h2() {
            if let Some(task) = self.thread.connections.borrow_mut().get_mut(self.place) {
                task.takes_leave = true;
            }
            // Its state is large: only those who speak it hold it.
            return Box::pin(h2::serve(self, stream, session, peer)).await;
        }
        let goodbye = Goodbye {
            stream: &stream,
            session: &session,
        };
        self.drive(goodbye.stream, goodbye.session, Connection::of(peer))
            .await;
    }

    /// Who is there, where that has to be known: a trusted proxy may say before the handshake for whom it speaks.
    async fn meet(&self, stream: &tokio::net::TcpStream) -> io::Result<Option<Box<Peer>>> {
        let proxies = {
            let context = self.thread.context.borrow();
            context
                .clients
                .as_ref()
                .map(|clients| clients.proxies.clone())
        };
        let Some(proxies) = proxies else {
            return Ok(None);
        };
        let mut peer = proxies.peer_of(socket::peer(stream).ok());
        let (mut start, mut ended) = (Vec::new(), false);
        while !peer.proxy_header_done() {
            start.resize(proxy_protocol::LONGEST, 0);
            // Before the look, not after it: what arrives in between must not be forgotten.
            forget(stream, Interest::READABLE);
            let there = match socket::peek(stream, &mut start) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                outcome => outcome.unwrap_or(0),
            };
            match proxies.read_proxy_header(&mut peer, &start[..there]) {
                // The end is no byte to look at, and is reported again and again.
                ProxyHeader::Partial if ended => return Err(ErrorKind::UnexpectedEof.into()),
                ProxyHeader::Partial => {
                    ended = stream.ready(Interest::READABLE).await?.is_read_closed();
                    tokio::task::yield_now().await;
                }
                ProxyHeader::Absent => {}
                ProxyHeader::Client { length, .. } | ProxyHeader::Itself(length) => {
                    socket::receive(stream, &mut start[..length])?;
                }
                ProxyHeader::Bad => return Err(ErrorKind::InvalidData.into()),
            }
        }
        Ok(Some(Box::new(peer)))
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
            self.thread.connections.borrow_mut().set_phase(
                self.place,
                phase,
                connection.made_progress(),
            );
            let waited = match progress {
                Progress::Write => wait(stream, Interest::WRITABLE).await,
                Progress::Again => {
                    tokio::task::yield_now().await;
                    Ok(())
                }
                Progress::Page(pending) => {
                    let page = self.page(&pending.ask.target).await;
                    let context = &mut self.thread.context.borrow_mut();
                    connection.page(page.as_ref(), &pending, context);
                    Ok(())
                }
                _ => wait(stream, Interest::READABLE).await,
            };
            if waited.is_err() {
                return;
            }
            let plain = Socket::new(stream);
            progress = connection.advance(
                &Secure {
                    socket: stream,
                    session,
                    plain,
                },
                &mut self.thread.context.borrow_mut(),
            );
        }
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
