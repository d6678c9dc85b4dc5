//! What is logged of a request and its answer, by the thread that answered it.

use crate::access_log::entry::LogEntry;
use crate::access_log::writer::LogBuffer;
use crate::answer::Answer;
use crate::answer::refusal::Refusal;
use crate::answer::request::{Method, Request};
use crate::client::Client;
use crate::client::header_fields::field;
use crate::counters::{Counters, Slot};
use common::model::tally::CountKey;
use common::time::unix_ms;
use std::sync::Arc;

/// The longest part of a request that was not understood which is logged.
const NONSENSE: usize = 200;

/// The requests of one thread on their way into the log.
#[derive(Debug)]
pub struct RequestLog {
    buffer: LogBuffer,
    counters: Arc<Counters>,
    /// Farm and server of each slot, as far as they were needed.
    names: Vec<(String, String)>,
    /// Lent to each answer that has one.
    location: Vec<u8>,
}

/// A request as the log shows it.
#[derive(Debug, Clone, Copy)]
pub struct LoggedRequest<'a> {
    /// The method as sent.
    pub method: &'a [u8],
    /// Path and query as sent.
    pub target: &'a [u8],
    /// The version.
    pub version: &'a str,
    /// The host as sent.
    pub host: &'a [u8],
    /// The Referer field.
    pub referer: &'a [u8],
    /// The User-Agent field.
    pub agent: &'a [u8],
    /// Whether no body is sent.
    pub head_only: bool,
}

/// A request whose answer is not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEntry {
    client: Client,
    host: Box<[u8]>,
    head_only: bool,
    /// The head as it came.
    raw: Box<[u8]>,
}

impl PendingEntry {
    /// Of `request`, whose head is `raw`.
    pub fn new(client: Client, request: &Request<'_>, raw: &[u8]) -> Self {
        Self {
            client,
            host: request.host.into(),
            head_only: request.method == Method::Head,
            raw: raw.into(),
        }
    }
}

impl<'a> LoggedRequest<'a> {
    /// An HTTP/1 request by its head as it came; no `request`: it was not understood.
    pub fn http1(request: Option<&Request<'a>>, raw: &'a [u8]) -> Self {
        let host = request.map_or(b"".as_slice(), |request| request.host);
        let head_only = request.is_some_and(|request| request.method == Method::Head);
        Self::of_head(request.is_some(), host, head_only, raw)
    }

    fn of_head(is_understood: bool, host: &'a [u8], head_only: bool, raw: &'a [u8]) -> Self {
        let line = raw
            .split(|&byte| byte == b'\r' || byte == b'\n')
            .find(|line| !line.is_empty())
            .unwrap_or_default();
        let mut words = line.split(|&byte| byte == b' ');
        let [method, target, version] = if is_understood {
            std::array::from_fn(|_| words.next().unwrap_or_default())
        } else {
            [b"-", &line[..line.len().min(NONSENSE)], b"HTTP/1.1"]
        };
        Self {
            method,
            target,
            version: std::str::from_utf8(version).unwrap_or_default(),
            host,
            referer: field(raw, b"referer").unwrap_or_default(),
            agent: field(raw, b"user-agent").unwrap_or_default(),
            head_only,
        }
    }
}

impl RequestLog {
    /// Lines go to `buffer`; `counters` know the names.
    pub fn new(buffer: LogBuffer, counters: Arc<Counters>) -> Self {
        Self {
            buffer,
            counters,
            names: Vec::new(),
            location: Vec::new(),
        }
    }

    /// Logs a request and its answer.
    pub fn answered(&mut self, client: Client, request: &LoggedRequest<'_>, answer: &Answer<'_>) {
        let mut location = std::mem::take(&mut self.location);
        location.clear();
        let parts = answer.location();
        parts
            .iter()
            .for_each(|part| location.extend_from_slice(part));
        let bytes = answer.body().len();
        let outcome = Outcome {
            status: answer.code(),
            bytes,
            location: &location,
            slot: answer.slot(),
            refusal: answer.refusal(),
        };
        self.add(client, request, &outcome);
        self.location = location;
    }

    /// Logs a request for a page, once that is made: its status, and how long it is.
    pub fn page(&mut self, client: Client, request: &LoggedRequest<'_>, status: u16, bytes: usize) {
        let outcome = Outcome {
            status,
            bytes,
            location: b"",
            slot: None,
            refusal: None,
        };
        self.add(client, request, &outcome);
    }

    /// The same for one that was pending.
    pub fn pending_page(&mut self, pending: &PendingEntry, status: u16, bytes: usize) {
        let PendingEntry {
            client,
            host,
            head_only,
            raw,
        } = pending;
        let request = LoggedRequest::of_head(true, host, *head_only, raw);
        self.page(*client, &request, status, bytes);
    }

    fn add(&mut self, client: Client, request: &LoggedRequest<'_>, outcome: &Outcome<'_>) {
        let (farm, server) = match outcome.slot {
            Some(slot) => name(&mut self.names, &self.counters, slot),
            None => ("", ""),
        };
        self.buffer.add(&LogEntry {
            at: unix_ms(),
            client: client.address,
            method: request.method,
            target: request.target,
            version: request.version,
            host: request.host,
            status: outcome.status,
            bytes: if request.head_only { 0 } else { outcome.bytes },
            referer: request.referer,
            agent: request.agent,
            farm,
            server,
            location: outcome.location,
            reason: outcome.refusal.map_or("", Refusal::reason),
        });
    }

    /// Hands over the lines gathered.
    pub fn tick(&mut self) {
        self.buffer.hand_over();
    }
}

/// What became of a request.
struct Outcome<'a> {
    status: u16,
    bytes: usize,
    location: &'a [u8],
    slot: Option<Slot>,
    refusal: Option<Refusal>,
}

fn name<'a>(
    names: &'a mut Vec<(String, String)>,
    counters: &Counters,
    slot: Slot,
) -> (&'a str, &'a str) {
    if names.len() <= slot.index() {
        *names = counters.keys(0).iter().map(words).collect();
    }
    names
        .get(slot.index())
        .map_or(("", ""), |(farm, server)| (farm, server))
}

fn words(key: &CountKey) -> (String, String) {
    match key {
        CountKey::Server(id) => (id.farm.to_string(), id.server.to_string()),
        CountKey::Fallback(farm) => (farm.to_string(), "@fallback".into()),
        CountKey::Refused(_) => Default::default(),
    }
}
