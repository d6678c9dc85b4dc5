//! A TLS session as the stream of bytes hyper wants.

use super::patience::Signs;
use crate::tls::session::Session;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Reads in a row before other connections get a turn: a flood of frames is read in slices.
const TURN: u8 = 8;

/// The stream.
pub(super) struct Stream {
    stream: TcpStream,
    session: Session,
    signs: Rc<Signs>,
    reads: u8,
}

impl Stream {
    pub(super) fn new(stream: TcpStream, session: Session, signs: Rc<Signs>) -> Self {
        Self {
            stream,
            session,
            signs,
            reads: 0,
        }
    }

    fn poll_sent(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let sent = self
                .stream
                .try_io(Interest::WRITABLE, || self.session.flush(&self.stream));
            self.signs.went(
                self.session.take_sent(),
                sent.as_ref()
                    .is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
            );
            match sent {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_write_ready(context))?;
                }
                other => return Poll::Ready(other),
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.reads == TURN {
                this.reads = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            // What the session has taken in already needs no ready socket, so the first look is without asking.
            match this
                .session
                .receive(&this.stream, buffer.initialize_unfilled())
            {
                Ok(count) => {
                    this.reads += 1;
                    buffer.advance(count);
                    this.signs
                        .came(&buffer.filled()[buffer.filled().len() - count..]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => this.reads += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    this.reads = 0;
                    let _ = this.stream.try_io(Interest::READABLE, || {
                        Err::<(), _>(ErrorKind::WouldBlock.into())
                    });
                    ready!(this.stream.poll_read_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_sent(context))?;
        Poll::Ready(self.session.send(&self.stream, bytes, false))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.close(&self.stream);
        ready!(self.poll_sent(context))?;
        common::net::socket::end(&self.stream, Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.session.close(&self.stream);
    }
}
