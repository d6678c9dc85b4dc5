//! The verbs that keep what gone redirectors counted, and what they are about: a base that each is folded into once.

use crate::store::error::StoreError;
use crate::store::redis::Redis;
use crate::time::UnixMs;
use std::collections::BTreeMap;

/// How long what was folded of a redirector is kept.
pub const FOLDED_KEPT_MS: u64 = 8 * 86_400_000;

/// Totals as the store holds them, whatever they count: what a newer version counts is kept as well.
pub type RawTally = BTreeMap<String, u64>;

/// The folded totals, and how many folds they have seen (which tells a store that lost some).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Base {
    /// Folds so far.
    pub folds: u64,
    /// What was folded.
    pub totals: RawTally,
}

/// What is held of one gone redirector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remains {
    /// Its own totals.
    pub live: RawTally,
    /// What of them is in the base.
    pub folded: RawTally,
}

impl Remains {
    /// Whether everything of `known` is in the base.
    pub fn is_folded(&self, known: &Self) -> bool {
        known
            .live
            .iter()
            .all(|(key, total)| self.folded.get(key).is_some_and(|folded| folded >= total))
    }
}

/// How a fold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded {
    /// Everything is in the base, and the redirector off the list.
    Whole,
    /// It has spoken since: nothing is lost, it is counted by itself again.
    SpokeAgain,
    /// The base has lost folds: it must be told again first.
    LostData,
}

/// The verbs that keep what gone redirectors counted. Several keepers may be at work: every step is idempotent.
#[derive(Debug, Clone)]
pub struct Keeper(pub(super) Redis);

impl Keeper {
    /// The folded totals.
    pub async fn base(&self) -> Result<Base, StoreError> {
        self.0.base().await
    }

    /// How many folds the base has seen, and how many totals it holds: while both stay, it does.
    pub async fn base_size(&self) -> Result<(u64, usize), StoreError> {
        self.0.base_size().await
    }

    /// How many folds the base has seen.
    pub async fn folds(&self) -> Result<u64, StoreError> {
        self.0.folds().await
    }

    /// Of whom something was folded lately, and when last by the store's clock.
    pub async fn folded_index(&self) -> Result<BTreeMap<String, UnixMs>, StoreError> {
        self.0.folded_index().await
    }

    /// What of one redirector is in the base.
    pub async fn folded(&self, id: &str) -> Result<RawTally, StoreError> {
        self.0.folded(id).await
    }

    /// How many totals of each of `ids` are in the base.
    pub async fn folded_held(&self, ids: &[String]) -> Result<Vec<usize>, StoreError> {
        self.0.folded_held(ids).await
    }

    /// Tells a store that lost it what of one redirector is in the base, and when it was folded.
    pub async fn tell_folded(
        &self,
        id: &str,
        totals: &RawTally,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.0.tell_folded(id, totals, at).await
    }

    /// Takes `ids` off the index: what was folded of them is not kept any more.
    pub async fn forget_folded(&self, ids: &[String]) -> Result<(), StoreError> {
        self.0.forget_folded(ids).await
    }

    /// The sequence of every prober known.
    pub async fn probers(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        self.0.probers().await
    }

    /// Forgets a prober and its view if its sequence still is `sequence`; whether it was.
    pub async fn forget_prober(&self, id: &str, sequence: u64) -> Result<bool, StoreError> {
        self.0.forget_prober(id, sequence).await
    }

    /// When each listed redirector spoke last, by the store's clock; none for those of `ids` that are not listed.
    pub async fn spoke(&self, ids: &[String]) -> Result<Vec<Option<u64>>, StoreError> {
        self.0.spoke(ids).await
    }

    /// How many totals of each of `ids` the store holds.
    pub async fn held(&self, ids: &[String]) -> Result<Vec<usize>, StoreError> {
        self.0.held(ids).await
    }

    /// What the store holds of one redirector.
    pub async fn remains(&self, id: &str) -> Result<Remains, StoreError> {
        self.0.remains(id).await
    }

    /// Folds `remains` of the redirector that spoke last at `spoke`, if the base has seen `folds` folds.
    pub async fn fold(
        &self,
        id: &str,
        remains: &Remains,
        spoke: u64,
        folds: u64,
    ) -> Result<Folded, StoreError> {
        self.0.fold(id, remains, spoke, folds).await
    }

    /// Tells a store that lost the base.
    pub async fn tell_base(&self, base: &Base) -> Result<(), StoreError> {
        self.0.tell_base(base).await
    }

    /// Tells a store that lost a gone redirector's totals, and lists it again.
    pub async fn tell_remains(&self, id: &str, remains: &Remains) -> Result<(), StoreError> {
        self.0.tell_remains(id, remains).await
    }
}
