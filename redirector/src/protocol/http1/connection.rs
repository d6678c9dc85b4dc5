//! One HTTP/1 connection, plain or over TLS, as a state machine without waiting: bytes in, answers out, and what to wait for.
//!
//! Eager: reads and writes are tried before anybody waits for readiness, so that a one-shot connection costs
//! accept4, recv, send, close. Coalesced: a last answer the client asked for leaves with the FIN in one segment.
//! Parked: between requests a connection holds no buffer; the thread's own are lent to it for each turn.

use crate::access_log::requests::{LoggedRequest, PendingEntry};
use crate::answer::pages::PageAsk;
use crate::answer::refusal::{Fault, Refusal};
use crate::answer::request::{Method, Request};
use crate::answer::sources::AnswerView;
use crate::answer::{Answer, answer, refuse};
use crate::client::proxy_protocol::ProxyHeader;
use crate::client::{Client, Peer};
use crate::protocol::context::{Clients, READ, ThreadContext};
use crate::protocol::http1::head::{Parsed, parse};
use crate::protocol::http1::write::{self, Ending, long_file};
use crate::protocol::send_queue::SendQueue;
use crate::protocol::transport::Transport;
use bytes::Bytes;
use common::net::web::Page;
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
    Page(PendingPage),
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

/// A page that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingPage {
    /// What is asked of it.
    pub ask: PageAsk,
    /// What is logged of it once it is made, where requests are logged.
    entry: Option<Box<PendingEntry>>,
}

/// What is sent before anything more is answered.
enum Pause {
    Page(PendingPage),
    File(Bytes),
}

/// How far the input was answered.
#[derive(Default)]
struct Answered {
    /// Bytes that are done with.
    at: usize,
    /// Whether the connection closes behind the answers, which may leave with the FIN.
    more: bool,
    stop: Option<Pause>,
}

/// What a connection is lent for one turn.
struct Turn<'a, T> {
    transport: &'a T,
    view: AnswerView<'a, SmallRng>,
    clients: Option<&'a mut Clients>,
    date: &'a [u8],
    output: &'a mut Vec<u8>,
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
    unsent: Option<Box<SendQueue>>,
    after: After,
    lingered: usize,
    /// Who asks, where that is needed.
    peer: Option<Box<Peer>>,
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
            peer: None,
        }
    }
}

impl Connection {
    /// A new connection of somebody who is known, if that is needed.
    pub fn of(peer: Option<Box<Peer>>) -> Self {
        Self {
            peer,
            ..Self::default()
        }
    }

    /// Does all that can be done now.
    pub fn advance(&mut self, transport: &impl Transport, context: &mut ThreadContext) -> Progress {
        for _ in 0..TURN {
            if let Some(progress) = self.flush(transport) {
                return progress;
            }
            let held = self.unparsed.len();
            context.input[..held].copy_from_slice(&self.unparsed);
            let (mut filled, limit) = (held, if held == 0 { READ } else { context.input.len() });
            // Requests that wait are answered before anything is read.
            let read = !std::mem::take(&mut self.waiting_requests);
            if read {
                match transport.receive(&mut context.input[held..limit]) {
                    Ok(0) => return Progress::Done,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return self.waiting(),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => return Progress::Done,
                }
            }
            // A short read emptied the socket: reading again would only be told so.
            let drained = read && filled < limit && !transport.has_more();
            if let Some(progress) = self.respond(filled, drained, transport, context) {
                return progress;
            }
            if drained
                && !self.waiting_requests
                && self.after == After::Open
                && self.unsent.is_none()
                && transport.flush().is_ok()
            {
                return self.waiting();
            }
        }
        Progress::Again
    }

    /// Whether a request was answered since the last call, or enough of its answer taken: whatever the connection
    /// waits for has its whole time.
    pub fn made_progress(&mut self) -> bool {
        let taken = self.taken >= ENOUGH;
        if taken {
            self.taken = 0;
        }
        std::mem::take(&mut self.answered) || taken
    }

    /// Takes the page that was waited for and goes on; none: making it failed.
    pub fn page(
        &mut self,
        page: Option<&Page>,
        pending: &PendingPage,
        context: &mut ThreadContext,
    ) {
        let PendingPage { ask, entry } = pending;
        let log = context
            .clients
            .as_mut()
            .and_then(|clients| clients.log.as_mut());
        if let (Some(log), Some(entry)) = (log, entry) {
            let status = page.map_or(500, |page| page.status().as_u16());
            log.pending_page(entry, status, page.map_or(0, |page| page.body().len()));
        }
        // Answers to what was pipelined before it may still be waiting for room.
        let bytes = write::page(page, ask, &context.date);
        self.unsent.get_or_insert_default().add(&bytes);
        let keep_alive = ask.keep_alive && page.is_some();
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
    fn flush(&mut self, transport: &impl Transport) -> Option<Progress> {
        while let Some(unsent) = &mut self.unsent {
            if unsent.next().is_empty() {
                self.unsent = None;
                break;
            }
            match transport.send(unsent.next(), false) {
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
        match transport.flush() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Progress::Write),
            Err(_) => return Some(Progress::Done),
        }
        match self.after {
            After::Open => None,
            After::Close => Some(Progress::Done),
            After::Linger => Some(self.linger(transport)),
        }
    }

    /// Ends the sending side and reads away what the peer still sends: closing over unread bytes would reset the
    /// connection and take the answer with it (RFC 9112 section 9.6).
    fn linger(&mut self, transport: &impl Transport) -> Progress {
        if self.lingered == 0 {
            transport.end();
        }
        let mut scrap = [0; 4096];
        while self.lingered < LINGER {
            match transport.receive(&mut scrap) {
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
        transport: &impl Transport,
        context: &mut ThreadContext,
    ) -> Option<Progress> {
        let ThreadContext {
            sources,
            clients,
            date,
            input,
            output,
        } = context;
        let max_fields = sources.max_fields;
        let (view, clients) = (sources.view(transport.scheme()), clients.as_deref_mut());
        output.clear();
        let mut turn = Turn {
            transport,
            view,
            clients,
            date,
            output,
        };
        let Answered { at, more, stop } =
            self.answer_all(&input[..filled], drained, max_fields, &mut turn);
        self.unparsed = match at == filled || self.after != After::Open {
            true => Vec::new(),
            false => input[at..filled].to_vec(),
        };
        self.waiting_requests =
            !self.unparsed.is_empty() && (stop.is_some() || output.len() >= OUTPUT);
        if !self.send(transport, output, more) {
            return Some(Progress::Done);
        }
        match stop? {
            Pause::Page(pending) => Some(Progress::Page(pending)),
            Pause::File(file) => {
                self.unsent.get_or_insert_default().add_file(file);
                self.flush(transport)
            }
        }
    }

    /// Answers every whole request in `input`, as far as there is room for answers.
    #[inline]
    fn answer_all(
        &mut self,
        input: &[u8],
        drained: bool,
        max_fields: usize,
        turn: &mut Turn<'_, impl Transport>,
    ) -> Answered {
        let (mut at, mut more, mut stop) = (0, false, None);
        if turn.clients.is_some() {
            match self.proxy_header(input, turn) {
                Some(length) => at = length,
                None => return Answered::default(),
            }
        }
        while at < input.len()
            && self.after == After::Open
            && stop.is_none()
            && turn.output.len() < OUTPUT
        {
            let (request, length) = match parse(&input[at..], max_fields) {
                Parsed::Partial => break,
                Parsed::Complete(request, length) => (request, length),
                Parsed::Refused(refusal) => {
                    self.refuse(refusal, &input[at..], turn);
                    at = input.len();
                    break;
                }
            };
            let raw = &input[at..at + length];
            at += length;
            self.answered = true;
            let ending;
            (ending, stop) = self.answer(&request, raw, turn);
            self.after = match ending {
                Ending::Open => After::Open,
                // Nothing is left to read, as far as anybody knows: the answer and the FIN may leave together.
                Ending::Close if drained && at == input.len() && stop.is_none() => {
                    more = true;
                    After::Close
                }
                Ending::Close | Ending::Linger => After::Linger,
            };
        }
        Answered { at, more, stop }
    }

    /// Looks for a PROXY header in the first bytes of the connection: how many they are; none: more are needed.
    fn proxy_header(&mut self, input: &[u8], turn: &mut Turn<'_, impl Transport>) -> Option<usize> {
        let Some(clients) = turn.clients.as_deref() else {
            return Some(0);
        };
        let transport = turn.transport;
        let peer = self
            .peer
            .get_or_insert_with(|| Box::new(clients.proxies.peer_of(transport.peer())));
        match clients.proxies.read_proxy_header(peer, input) {
            ProxyHeader::Absent => Some(0),
            ProxyHeader::Client { length, .. } | ProxyHeader::Itself(length) => Some(length),
            ProxyHeader::Partial => None,
            ProxyHeader::Bad => {
                self.refuse(Fault::Proxy.into(), input, turn);
                Some(input.len())
            }
        }
    }

    /// Answers a request, for whom it comes from, and logs it where requests are logged.
    #[inline]
    fn answer(
        &self,
        request: &Request<'_>,
        raw: &[u8],
        turn: &mut Turn<'_, impl Transport>,
    ) -> (Ending, Option<Pause>) {
        let client = self.client(raw, turn);
        let transport = turn.transport;
        if let Some(client) = client {
            turn.view.scheme = client.scheme.unwrap_or_else(|| transport.scheme());
        }
        let answer = answer(request, &mut turn.view, || match client {
            Some(client) => client.address,
            None => transport.peer(),
        });
        let draining = turn.view.draining;
        let log = turn
            .clients
            .as_deref_mut()
            .and_then(|clients| clients.log.as_mut());
        if let Answer::Page = answer {
            let pending = |client| Box::new(PendingEntry::new(client, request, raw));
            let ask = PageAsk {
                target: String::from_utf8_lossy(request.target).into_owned(),
                head_only: request.method == Method::Head,
                keep_alive: request.keep_alive && request.http11 && !request.body && !draining,
            };
            let entry = log.and(client).map(pending);
            return (Ending::Open, Some(Pause::Page(PendingPage { ask, entry })));
        }
        if let (Some(log), Some(client)) = (log, client) {
            log.answered(client, &LoggedRequest::http1(Some(request), raw), &answer);
        }
        let ending = write::write(&answer, request, turn.date, draining, turn.output);
        let file = long_file(&answer, request);
        (ending, file.map(|file| Pause::File(file.body.clone())))
    }

    /// Who asks, where that has to be known.
    #[inline]
    fn client(&self, raw: &[u8], turn: &Turn<'_, impl Transport>) -> Option<Client> {
        let (clients, peer) = turn.clients.as_deref().zip(self.peer.as_deref())?;
        Some(clients.proxies.client(peer, raw))
    }

    /// Refuses what is no request; nothing behind it can be told apart.
    fn refuse(&mut self, refusal: Refusal, raw: &[u8], turn: &mut Turn<'_, impl Transport>) {
        let answer = refuse(refusal, b"", &turn.view);
        write::write_refusal(&answer, turn.date, turn.output);
        let client = self.client(b"", turn);
        let log = turn
            .clients
            .as_deref_mut()
            .and_then(|clients| clients.log.as_mut());
        if let (Some(log), Some(client)) = (log, client) {
            log.answered(client, &LoggedRequest::http1(None, raw), &answer);
        }
        self.after = After::Linger;
    }

    /// Sends what was answered, as far as there is room; `last`: and closes. Whether the connection goes on.
    #[inline]
    fn send(&mut self, transport: &impl Transport, output: &mut Vec<u8>, last: bool) -> bool {
        let sent = match output.is_empty() {
            true => 0,
            false => match transport.send(output, last) {
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
        } else if last && transport.flush().is_ok() {
            return false;
        }
        if output.capacity() > 8 * OUTPUT {
            *output = Vec::new();
        }
        true
    }
}

#[cfg(test)]
mod tests;
