//! The floor: what the kernel alone costs. epoll, accept4, recv straight after it, send of a ready-made reply, close.
//! Nothing is parsed, counted or timed.

use crate::socket::{accept, receive, send};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};

/// The token of the listener; a connection's is its descriptor.
const LISTENER: u64 = u64::MAX;

/// Connections accepted in a row.
const BATCH: usize = 64;

struct Floor<'a> {
    epoll: OwnedFd,
    reply: &'a [u8],
    closes: bool,
    /// Connections that wait, by descriptor.
    waiting: Vec<Option<OwnedFd>>,
}

/// Answers every read on connections of `listener` with `reply`, for ever; `closes` right after it.
///
/// # Errors
/// When the listener or epoll fails.
pub fn serve(listener: &OwnedFd, reply: &[u8], closes: bool) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut floor = Floor {
        epoll,
        reply,
        closes,
        waiting: Vec::new(),
    };
    let mut events: Vec<Event> = Vec::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(&floor.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => floor.accept(listener)?,
                token => floor.ready(token as usize),
            }
        }
    }
}

impl Floor<'_> {
    fn accept(&mut self, listener: &OwnedFd) -> io::Result<()> {
        for _ in 0..BATCH {
            match accept(listener) {
                Ok(socket) => {
                    if self.answer(&socket) {
                        self.keep(socket)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for what comes next on a connection.
    fn keep(&mut self, socket: OwnedFd) -> io::Result<()> {
        let descriptor = socket.as_raw_fd() as usize;
        epoll::add(
            &self.epoll,
            &socket,
            EventData::new_u64(descriptor as u64),
            EventFlags::IN,
        )?;
        if self.waiting.len() <= descriptor {
            self.waiting.resize_with(descriptor + 1, || None);
        }
        self.waiting[descriptor] = Some(socket);
        Ok(())
    }

    fn ready(&mut self, descriptor: usize) {
        let Some(socket) = self.waiting.get(descriptor).and_then(Option::as_ref) else {
            return;
        };
        if !self.answer(socket) {
            self.waiting[descriptor] = None;
        }
    }

    /// One turn of a connection; whether it stays.
    fn answer(&self, socket: &OwnedFd) -> bool {
        let mut request = [0; 4096];
        match receive(socket, &mut request) {
            Ok(0) => false,
            Ok(_) => send(socket, self.reply).is_ok() && !self.closes,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}
