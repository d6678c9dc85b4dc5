//! What answers are made from, by one thread.

use crate::answer::own_paths::{StatsPages, UrlPrefix};
use crate::answer::refusal::RefusalSlots;
use crate::answer::refused_hosts::Recent;
use crate::answer::request::FIELDS;
use crate::answer::static_files::Statics;
use crate::counters::Shard;
use crate::routes::Routes;
use arc_swap::{ArcSwap, Cache};
use common::model::target::Scheme;
use rand::Rng;
use rand::rngs::SmallRng;
use std::sync::Arc;

/// Something that others replace whole: looking at it costs one load of a pointer.
pub type Current<T> = Cache<Arc<ArcSwap<T>>, Arc<T>>;

/// What answers are made from.
pub struct Sources {
    /// The table.
    pub routes: Current<Routes>,
    /// The static files.
    pub statics: Current<Statics>,
    /// The stats pages, where this process knows of any.
    pub stats: Option<StatsPages>,
    /// Where challenges of certificate authorities are answered.
    pub acme: Option<UrlPrefix>,
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
    /// Whether the process is ending.
    pub draining: bool,
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
            draining: false,
        }
    }

    /// The sources as they are now, for requests that came by `scheme`.
    #[inline]
    pub fn view(&mut self, scheme: Scheme) -> AnswerView<'_, SmallRng> {
        AnswerView {
            routes: self.routes.load(),
            statics: self.statics.load(),
            stats: self.stats.as_ref(),
            acme: self.acme.as_ref(),
            allow_downgrade: self.allow_downgrade,
            scheme,
            draining: self.draining,
            shard: &self.shard,
            refused: &self.refused,
            rng: &mut self.rng,
            recent: &self.recent,
        }
    }
}

/// What answering looks at.
pub struct AnswerView<'a, R: Rng> {
    /// The table.
    pub routes: &'a Routes,
    /// The static files.
    pub statics: &'a Statics,
    /// The stats pages, where this process knows of any.
    pub stats: Option<&'a StatsPages>,
    /// Where challenges of certificate authorities are answered.
    pub acme: Option<&'a UrlPrefix>,
    /// Whether https may be redirected to http.
    pub allow_downgrade: bool,
    /// How the request came.
    pub scheme: Scheme,
    /// Whether the process is ending: every answer closes.
    pub draining: bool,
    /// This thread's counters.
    pub shard: &'a Shard,
    /// The refusals' counters.
    pub refused: &'a RefusalSlots,
    /// This thread's random source.
    pub rng: &'a mut R,
    /// Where refusals are noted.
    pub recent: &'a Recent,
}
