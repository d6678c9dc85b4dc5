//! What the connections of one thread share: what answers are made from, who may speak for others, the log, and the
//! buffers lent to each for its turn.

use crate::access_log::requests::RequestLog;
use crate::answer::request::MAX_HEAD;
use crate::answer::sources::Sources;
use crate::client::TrustedProxies;
use std::time::SystemTime;

/// Bytes read at a time where no head is begun: many requests, but not so many that others wait long.
pub(crate) const READ: usize = 4096;

/// Room for a head, and for what is read behind it.
const INPUT: usize = MAX_HEAD + READ;

/// What the connections of one thread share.
pub struct ThreadContext {
    /// What answers are made from.
    pub sources: Sources,
    /// Who asks, where that has to be known for every request.
    pub clients: Option<Box<Clients>>,
    /// `Date: …` and CRLF, as of the last tick.
    pub date: Vec<u8>,
    /// Lent to each connection for its turn.
    pub input: Box<[u8]>,
    /// Lent to each connection for its turn.
    pub output: Vec<u8>,
}

/// Who asks, where that has to be known: behind trusted proxies, and for the access log. Without either a thread has
/// none of this, and a request costs nothing more.
#[derive(Debug)]
pub struct Clients {
    /// Who may speak for others.
    pub proxies: TrustedProxies,
    /// Where requests are logged.
    pub log: Option<RequestLog>,
}

impl ThreadContext {
    /// A context with its buffers.
    pub fn new(sources: Sources, clients: Option<Box<Clients>>) -> Self {
        Self {
            sources,
            clients,
            date: Vec::new(),
            input: vec![0; INPUT].into(),
            output: Vec::new(),
        }
    }

    /// Once a tick: the time for the answers, and lines of the access log to hand over.
    pub fn tick(&mut self, now: SystemTime) {
        if let Some(log) = self
            .clients
            .as_mut()
            .and_then(|clients| clients.log.as_mut())
        {
            log.tick();
        }
        self.date = format!("Date: {}\r\n", httpdate::fmt_http_date(now)).into_bytes();
        // A thread that nobody asks anything would hold an old table for ever.
        self.sources.routes.load();
        self.sources.statics.load();
    }
}
