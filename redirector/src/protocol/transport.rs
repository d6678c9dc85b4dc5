//! What a connection needs of its socket, and a socket without TLS as that; a script in tests.

use common::model::target::Scheme;
use common::net::socket;
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::os::fd::AsFd;

/// The socket as a connection needs it.
pub trait Transport {
    /// Reads what is there; 0 is the peer's end.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Whether the last read left something behind though it was short.
    fn has_more(&self) -> bool {
        false
    }
    /// Writes what fits; `more`: a close follows at once.
    fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize>;
    /// Sends what the transport still holds of bytes it took; plain sockets hold none.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    /// Tells the peer that nothing more comes.
    fn end(&self);
    /// How requests come.
    fn scheme(&self) -> Scheme {
        Scheme::Http
    }
    /// The peer's address, if it has one.
    fn peer(&self) -> Option<IpAddr> {
        None
    }
}

/// A socket without TLS.
pub(crate) struct Socket<'a, S> {
    pub(crate) stream: &'a S,
    /// Whether the kernel has said that the peer sends nothing more: its end is read with what comes before it,
    /// since nothing will tell of it again.
    pub(crate) ended: bool,
    /// What was read already: it stands for the first read.
    pub(crate) first_read: Cell<Option<io::Result<&'a [u8]>>>,
}

impl<'a, S> Socket<'a, S> {
    pub(crate) fn new(stream: &'a S) -> Self {
        Self {
            stream,
            ended: false,
            first_read: Cell::new(None),
        }
    }
}

impl<S: AsFd> Transport for Socket<'_, S> {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(read) = self.first_read.take() else {
            return socket::receive(self.stream, buffer);
        };
        let read = read?;
        buffer[..read.len()].copy_from_slice(read);
        Ok(read.len())
    }

    fn has_more(&self) -> bool {
        self.ended
    }

    fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        socket::send(self.stream, bytes, more)
    }

    fn end(&self) {
        socket::end(self.stream, Shutdown::Write);
    }

    fn peer(&self) -> Option<IpAddr> {
        socket::peer(self.stream).ok()
    }
}
