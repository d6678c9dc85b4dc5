//! What the connections of one thread share: what answers are made from, and the buffers lent to each for its turn.

use crate::answer::own_paths::{Elsewhere, Stats};
use crate::answer::refused_hosts::Recent;
use crate::answer::static_files::Statics;
use crate::answer::{RefusalSlots, View, pages};
use crate::client::Guests;
use crate::counters::Shard;
use crate::protocol::http1::connection::PageAsk;
use crate::protocol::http1::head::{FIELDS, MAX_HEAD};
use crate::routes::Routes;
use arc_swap::{ArcSwap, Cache};
use common::model::target::Scheme;
use common::net::web::Page;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::time::SystemTime;

/// Bytes read at a time where no head is begun: many requests, but not so many that others wait long.
pub(crate) const READ: usize = 4096;

/// Room for a head, and for what is read behind it.
const INPUT: usize = MAX_HEAD + READ;

/// Something that others replace whole: looking at it costs one load of a pointer.
pub type Current<T> = Cache<Arc<ArcSwap<T>>, Arc<T>>;

/// What the connections of one thread share.
pub struct Desk {
    /// What answers are made from.
    pub sources: Sources,
    /// What is known of who asks, where that is needed.
    pub guests: Option<Box<Guests>>,
    /// Lent to each connection for its turn.
    pub input: Box<[u8]>,
    /// Lent to each connection for its turn.
    pub output: Vec<u8>,
}

/// What answers are made from.
pub struct Sources {
    /// The table.
    pub routes: Current<Routes>,
    /// The static files.
    pub statics: Current<Statics>,
    /// The stats pages, where this process knows of any.
    pub stats: Option<Stats>,
    /// Where challenges of certificate authorities are answered.
    pub acme: Option<Elsewhere>,
    /// Whether https may be redirected to http.
    pub allow_downgrade: bool,
    /// Header fields a request may have.
    pub max_fields: usize,
    /// This thread's counters.
    pub shard: Arc<Shard>,
    /// The refusals' counters.
    pub refused: RefusalSlots,
    /// What this thread refused lately.
    pub recent: Arc<Recent>,
    /// This thread's random source.
    pub rng: SmallRng,
    /// `Date: …` and CRLF, as of the last tick.
    pub date: Vec<u8>,
    /// Whether the process is ending.
    pub draining: bool,
}

impl Desk {
    /// A desk with its buffers.
    pub fn new(sources: Sources, guests: Option<Box<Guests>>) -> Self {
        Self {
            sources,
            guests,
            input: vec![0; INPUT].into(),
            output: Vec::new(),
        }
    }

    /// The answer to `ask`; no page: making it failed.
    pub fn page(&mut self, page: Option<&Page>, ask: &PageAsk) -> Vec<u8> {
        let bytes = pages::answer(page, ask, &self.sources.date);
        if let (Some(guests), Some(asked)) = (&mut self.guests, &ask.asked) {
            guests.log_late(asked, &bytes);
        }
        bytes
    }

    /// Once a tick: the time for the answers, and lines of the access log to hand over.
    pub fn tick(&mut self, now: SystemTime) {
        if let Some(guests) = &mut self.guests {
            guests.tick();
        }
        self.sources.date = format!("Date: {}\r\n", httpdate::fmt_http_date(now)).into_bytes();
        // A thread that nobody asks anything would hold an old table for ever.
        self.sources.routes.load();
        self.sources.statics.load();
    }
}

impl Sources {
    /// Sources without stats pages, challenges and downgrades.
    pub fn new(
        routes: Arc<ArcSwap<Routes>>,
        statics: Arc<ArcSwap<Statics>>,
        shard: Arc<Shard>,
        refused: RefusalSlots,
        rng: SmallRng,
    ) -> Self {
        let (routes, statics) = (Cache::new(routes), Cache::new(statics));
        Self {
            routes,
            statics,
            stats: None,
            acme: None,
            allow_downgrade: false,
            max_fields: FIELDS,
            shard,
            refused,
            recent: Arc::default(),
            rng,
            date: Vec::new(),
            draining: false,
        }
    }

    /// The sources as they are now, for requests that came by `scheme`.
    #[inline]
    pub fn view(&mut self, scheme: Scheme) -> View<'_, SmallRng> {
        View {
            routes: self.routes.load(),
            statics: self.statics.load(),
            stats: self.stats.as_ref(),
            acme: self.acme.as_ref(),
            allow_downgrade: self.allow_downgrade,
            scheme,
            date: &self.date,
            draining: self.draining,
            shard: &self.shard,
            refused: &self.refused,
            rng: &mut self.rng,
            chosen: None,
            recent: &self.recent,
            refusal: None,
        }
    }
}
