//! One HTTP/1 connection, plain or over TLS, as a state machine without waiting: bytes in, answers out, and what to wait for.
//!
//! Eager: reads and writes are tried before anybody waits for readiness, so that a one-shot connection costs
//! accept4, recv, send, close. Coalesced: a last answer the client asked for leaves with the FIN in one segment.
//! Parked: between requests a connection holds no buffer; the thread's own are lent to it for each turn.

use crate::answer::{Outcome, View, answer, refuse};
use crate::client::proxy_protocol::Proxied;
use crate::client::{Asked, Asker, Guest, Guests};
use crate::protocol::context::{Desk, READ};
use crate::protocol::http1::head::{Fault, Head, Method, Parsed, Refusal, parse};
use crate::protocol::send_queue::Unsent;
use crate::protocol::transport::Wire;
use bytes::Bytes;
use rand::rngs::SmallRng;
use std::io::ErrorKind;

/// Reads in one turn before other connections get theirs.
const TURN: usize = 2;

/// Bytes of answers made before they are sent: whoever asks for much at once waits for what it has asked for, and
/// whoever takes nothing holds no more than this.
const OUTPUT: usize = 8 * 1024;

/// Bytes a client has to take of an answer before the time it may take begins anew: one a moment would be none.
const ENOUGH: usize = 4096;

/// Bytes read and thrown away after a refusal, so that its text is not lost to a reset.
const LINGER: usize = 256 * 1024;

/// A page asked for that is made elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAsk {
    /// Path and query.
    pub target: String,
    /// Whether only the head is wanted.
    pub head_only: bool,
    /// Whether the connection may stay open after it.
    pub keep_alive: bool,
    /// What is logged of it once it is made, where requests are logged.
    pub asked: Option<Box<Asked>>,
}

/// What a connection waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A request.
    Idle,
    /// The rest of a head.
    Head,
    /// Room to write.
    Write,
    /// The peer's end, after a refusal.
    Linger,
    /// A page; then [`Connection::page`].
    Page(PageAsk),
    /// Nothing: it had its turn, and there is more to do.
    Again,
    /// Nothing: close it.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Open,
    Close,
    Linger,
}

/// What is sent before anything more is answered.
enum Stop {
    Page(PageAsk),
    File(Bytes),
}

/// The state of one connection between its turns. Empty vectors own no memory.
#[derive(Debug)]
pub struct Connection {
    /// Bytes of a head that is not complete, or of requests that wait for their turn.
    unparsed: Vec<u8>,
    /// Whether `unparsed` may hold a whole request: behind a page, or behind a full output.
    waiting_requests: bool,
    /// Whether a request was answered since anybody asked.
    answered: bool,
    /// Bytes taken by the kernel after it had no room, since that was last enough.
    taken: usize,
    /// Answers the kernel had no room for.
    unsent: Option<Box<Unsent>>,
    after: After,
    lingered: usize,
    /// Who asks, where that is needed.
    guest: Option<Box<Guest>>,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            unparsed: Vec::new(),
            waiting_requests: false,
            answered: false,
            taken: 0,
            unsent: None,
            after: After::Open,
            lingered: 0,
            guest: None,
        }
    }
}

impl Connection {
    /// A new connection of somebody who is known, if that is needed.
    pub fn of(guest: Option<Box<Guest>>) -> Self {
        Self {
            guest,
            ..Self::default()
        }
    }

    /// Does all that can be done now.
    pub fn advance(&mut self, wire: &impl Wire, desk: &mut Desk) -> Progress {
        for _ in 0..TURN {
            if let Some(progress) = self.flush(wire) {
                return progress;
            }
            let held = self.unparsed.len();
            desk.input[..held].copy_from_slice(&self.unparsed);
            let (mut filled, limit) = (held, if held == 0 { READ } else { desk.input.len() });
            // Requests that wait are answered before anything is read.
            let read = !std::mem::take(&mut self.waiting_requests);
            if read {
                match wire.receive(&mut desk.input[held..limit]) {
                    Ok(0) => return Progress::Done,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return self.waiting(),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => return Progress::Done,
                }
            }
            // A short read emptied the socket: reading again would only be told so.
            let drained = read && filled < limit && !wire.has_more();
            if let Some(progress) = self.respond(filled, drained, wire, desk) {
                return progress;
            }
            if drained
                && !self.waiting_requests
                && self.after == After::Open
                && self.unsent.is_none()
                && wire.flush().is_ok()
            {
                return self.waiting();
            }
        }
        Progress::Again
    }

    /// Whether a request was answered since the last call, or enough of its answer taken: whatever the connection
    /// waits for has its whole time.
    pub fn has_moved(&mut self) -> bool {
        let taken = self.taken >= ENOUGH;
        if taken {
            self.taken = 0;
        }
        std::mem::take(&mut self.answered) || taken
    }

    /// Takes the page asked for and goes on; `bytes` is the whole answer.
    pub fn page(&mut self, bytes: &[u8], keep_alive: bool) {
        // Answers to what was pipelined before it may still be waiting for room.
        self.unsent.get_or_insert_default().add(bytes);
        self.after = if keep_alive {
            After::Open
        } else {
            After::Linger
        };
    }

    fn waiting(&self) -> Progress {
        if self.unparsed.is_empty() {
            Progress::Idle
        } else {
            Progress::Head
        }
    }

    /// Sends what is left of earlier answers, and ends the connection where it was to end.
    fn flush(&mut self, wire: &impl Wire) -> Option<Progress> {
        while let Some(unsent) = &mut self.unsent {
            if unsent.next().is_empty() {
                self.unsent = None;
                break;
            }
            match wire.send(unsent.next(), false) {
                Ok(count) => {
                    unsent.sent(count);
                    self.taken += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Some(Progress::Write);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Some(Progress::Done),
            }
        }
        match wire.flush() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Progress::Write),
            Err(_) => return Some(Progress::Done),
        }
        match self.after {
            After::Open => None,
            After::Close => Some(Progress::Done),
            After::Linger => Some(self.linger(wire)),
        }
    }

    /// Ends the sending side and reads away what the peer still sends: closing over unread bytes would reset the
    /// connection and take the answer with it (RFC 9112 section 9.6).
    fn linger(&mut self, wire: &impl Wire) -> Progress {
        if self.lingered == 0 {
            wire.end();
        }
        let mut scrap = [0; 4096];
        while self.lingered < LINGER {
            match wire.receive(&mut scrap) {
                Ok(0) => return Progress::Done,
                Ok(count) => self.lingered += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Counted, so that the end is told once.
                    self.lingered = self.lingered.max(1);
                    return Progress::Linger;
                }
                // Much was read that amounts to nothing: it counts, and others get their turn.
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.lingered += scrap.len();
                    return Progress::Again;
                }
                Err(_) => return Progress::Done,
            }
        }
        Progress::Done
    }

    /// Answers every whole request in the first `filled` bytes of the input.
    fn respond(
        &mut self,
        filled: usize,
        drained: bool,
        wire: &impl Wire,
        desk: &mut Desk,
    ) -> Option<Progress> {
        let Desk {
            sources,
            guests,
            input,
            output,
        } = desk;
        let max_fields = sources.max_fields;
        let mut view = sources.view(wire.scheme());
        output.clear();
        let (mut at, mut more, mut stop) = (0, false, None);
        if let Some(known) = guests.as_ref() {
            let guest = self
                .guest
                .get_or_insert_with(|| Box::new(known.meet(wire.peer())));
            match known.introduce(guest, &input[..filled]) {
                Proxied::Absent => {}
                Proxied::Client { length, .. } | Proxied::Itself(length) => at = length,
                Proxied::Partial => {
                    self.unparsed = input[..filled].to_vec();
                    return None;
                }
                Proxied::Bad => {
                    self.refuse(
                        Fault::Proxy.into(),
                        &input[..filled],
                        &mut view,
                        guests.as_deref_mut(),
                        output,
                    );
                    at = filled;
                }
            }
        }
        while at < filled && self.after == After::Open && stop.is_none() && output.len() < OUTPUT {
            let (head, length) = match parse(&input[at..filled], max_fields) {
                Parsed::Partial => break,
                Parsed::Complete(head, length) => (head, length),
                Parsed::Refused(refusal) => {
                    self.refuse(
                        refusal,
                        &input[at..filled],
                        &mut view,
                        guests.as_deref_mut(),
                        output,
                    );
                    at = filled;
                    break;
                }
            };
            let raw = &input[at..at + length];
            at += length;
            self.answered = true;
            match self.answer(&head, raw, wire, &mut view, guests.as_deref_mut(), output) {
                Outcome::Open => {}
                // Nothing is left to read, as far as anybody knows: the answer and the FIN may leave together.
                Outcome::Close if drained && at == filled => {
                    (self.after, more) = (After::Close, true);
                }
                Outcome::Close | Outcome::Refused => self.after = After::Linger,
                Outcome::Aside { keep_alive } => {
                    stop = Some(Stop::Page(page_ask(
                        &head,
                        keep_alive,
                        self.asked(raw, guests.as_deref()),
                    )));
                }
                Outcome::File { open } => {
                    self.after = if open { After::Open } else { After::Linger };
                    stop = view
                        .statics
                        .get(head.target)
                        .map(|file| Stop::File(file.body.clone()));
                }
            }
        }
        if at == filled || self.after != After::Open {
            self.unparsed = Vec::new();
        } else {
            self.unparsed = input[at..filled].to_vec();
        }
        self.waiting_requests =
            !self.unparsed.is_empty() && (stop.is_some() || output.len() >= OUTPUT);
        if !self.send(wire, output, more) {
            return Some(Progress::Done);
        }
        match stop? {
            Stop::Page(ask) => Some(Progress::Page(ask)),
            Stop::File(file) => {
                self.unsent.get_or_insert_default().add_file(file);
                self.flush(wire)
            }
        }
    }

    /// Answers a request, for whom it comes from, and logs it where requests are logged.
    #[inline]
    fn answer(
        &self,
        head: &Head<'_>,
        raw: &[u8],
        wire: &impl Wire,
        view: &mut View<'_, SmallRng>,
        guests: Option<&mut Guests>,
        output: &mut Vec<u8>,
    ) -> Outcome {
        let answered = output.len();
        let asker = guests
            .as_deref()
            .zip(self.guest.as_ref())
            .map(|(guests, guest)| guests.asker(guest, raw));
        if let Some(asker) = asker {
            (view.scheme, view.chosen, view.refusal) =
                (asker.scheme.unwrap_or_else(|| wire.scheme()), None, None);
        }
        let mut outcome = answer(head, view, false, output);
        if matches!(outcome, Outcome::Aside { .. }) && !may_see_stats(wire, asker) {
            outcome = answer(head, view, true, output);
        }
        if let (Some(guests), Some(asker)) = (guests, asker)
            && guests.logs()
            && !matches!(outcome, Outcome::Aside { .. })
        {
            guests.log(
                asker,
                Some(head),
                raw,
                &output[answered..],
                (view.chosen, view.refusal),
            );
        }
        outcome
    }

    /// A request for a page, to be logged when that is made.
    fn asked(&self, raw: &[u8], guests: Option<&Guests>) -> Option<Box<Asked>> {
        let (guests, guest) = guests
            .filter(|guests| guests.logs())
            .zip(self.guest.as_ref())?;
        Some(Box::new(Asked {
            asker: guests.asker(guest, raw),
            raw: raw.into(),
        }))
    }

    /// Refuses what is no request; nothing behind it can be told apart.
    fn refuse(
        &mut self,
        refusal: Refusal,
        raw: &[u8],
        view: &mut View<'_, SmallRng>,
        guests: Option<&mut Guests>,
        output: &mut Vec<u8>,
    ) {
        let answered = output.len();
        refuse(refusal, None, view, output);
        if let (Some(guests), Some(guest)) = (guests, &self.guest) {
            guests.log(
                guests.asker(guest, b""),
                None,
                raw,
                &output[answered..],
                (None, Some(refusal)),
            );
        }
        self.after = After::Linger;
    }

    /// Sends what was answered, as far as there is room; `last`: and closes. Whether the connection goes on.
    #[inline]
    fn send(&mut self, wire: &impl Wire, output: &mut Vec<u8>, last: bool) -> bool {
        let sent = match output.is_empty() {
            true => 0,
            false => match wire.send(output, last) {
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
                {
                    0
                }
                Err(_) => return false,
            },
        };
        if sent < output.len() {
            self.unsent.get_or_insert_default().add(&output[sent..]);
        } else if last && wire.flush().is_ok() {
            return false;
        }
        if output.capacity() > 8 * OUTPUT {
            *output = Vec::new();
        }
        true
    }
}

fn may_see_stats(wire: &impl Wire, asker: Option<Asker>) -> bool {
    match asker {
        None => wire.may_see_stats(None),
        Some(asker) => asker
            .client
            .is_some_and(|client| wire.may_see_stats(Some(client))),
    }
}

fn page_ask(head: &Head<'_>, keep_alive: bool, asked: Option<Box<Asked>>) -> PageAsk {
    PageAsk {
        target: String::from_utf8_lossy(head.target).into_owned(),
        head_only: head.method == Method::Head,
        keep_alive: keep_alive && head.http11,
        asked,
    }
}

#[cfg(test)]
mod tests;
