//! What a connection needs of its socket, and a socket without TLS as that; a script in tests.

use crate::answer::pages::Pages;
use common::model::target::Scheme;
use common::net::socket;
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::os::fd::AsFd;

/// The socket as a connection needs it.
pub trait Wire {
    /// Reads what is there; 0 is the peer's end.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Whether the last read left something behind though it was short.
    fn has_more(&self) -> bool {
        false
    }
    /// Writes what fits; `more`: a close follows at once.
    fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize>;
    /// Sends what the wire itself still holds of bytes it took; plain sockets hold none.
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
    /// Whether `client` may see the stats pages; none: the peer itself.
    fn may_see_stats(&self, client: Option<IpAddr>) -> bool;
}

/// A socket without TLS.
pub(crate) struct Socket<'a, S> {
    pub(crate) stream: &'a S,
    /// Whether the kernel has said that the peer sends nothing more: its end is read with what comes before it,
    /// since nothing will tell of it again.
    pub(crate) ended: bool,
    pub(crate) pages: Option<&'a Pages>,
    /// What was read already: it stands for the first read.
    pub(crate) said: Cell<Option<io::Result<&'a [u8]>>>,
}

impl<'a, S> Socket<'a, S> {
    pub(crate) fn new(stream: &'a S, pages: Option<&'a Pages>) -> Self {
        Self {
            stream,
            ended: false,
            pages,
            said: Cell::new(None),
        }
    }
}

impl<S: AsFd> Wire for Socket<'_, S> {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(said) = self.said.take() else {
            return socket::receive(self.stream, buffer);
        };
        let said = said?;
        buffer[..said.len()].copy_from_slice(said);
        Ok(said.len())
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

    fn may_see_stats(&self, client: Option<IpAddr>) -> bool {
        let Some(pages) = self.pages else {
            return false;
        };
        client
            .or_else(|| self.peer())
            .is_some_and(|client| pages.allow(client))
    }
}
