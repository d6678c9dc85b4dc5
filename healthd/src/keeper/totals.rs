//! Keeps what gone redirectors counted: folds their totals into the base, and tells a store that lost them.
//!
//! A redirector's totals are its own as long as it may speak. One that has left, or was silent for a day, is folded:
//! what it counted moves into the base, and how much did is written down beside it, so that one that speaks again
//! counts only what came after (its total minus what was folded). Live redirectors tell a store that lost data
//! everything themselves; what is gone has only the keeper. So it remembers the base and, which belongs to it, what was
//! folded of whom, by any keeper: the one without the other counts twice in a store that has lost either.

use crate::keeper::probers::Silent;
use common::store::{
    Base, FOLDED_KEPT_MS, Folded, Keeper as Store, RawTally, Reader, Remains, Replica, StoreError,
};
use common::time::UnixMs;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// From one round to the next, before jitter.
const ROUND: Duration = Duration::from_secs(2);

/// A redirector silent for so long is remembered here, should the store lose it.
const REMEMBERED_MS: u64 = 3_000;

/// A redirector silent for so long is folded.
const FOLDED_MS: u64 = 86_400_000;

/// No folding for so long after the store lost data: other keepers tell it what they remember first.
const CALM: Duration = Duration::from_secs(30);

/// A keeper's memory.
pub struct TotalsKeeper {
    reader: Reader,
    store: Store,
    base: Base,
    /// What is in the base of whom: of all that are listed, and of those folded lately.
    folds: BTreeMap<String, Fold>,
    gone: BTreeMap<String, Gone>,
    probers: Silent,
    calm_from: Option<Instant>,
    reachable: bool,
}

/// A redirector that is silent.
struct Gone {
    spoke: u64,
    left: bool,
    remains: Remains,
}

/// What was folded of a redirector.
#[derive(Default)]
struct Fold {
    totals: RawTally,
    /// When last, by the store's clock.
    at: UnixMs,
}

impl TotalsKeeper {
    /// A keeper that remembers nothing yet.
    pub fn new(reader: Reader, store: Store) -> Self {
        Self {
            reader,
            store,
            base: Base::default(),
            folds: BTreeMap::new(),
            gone: BTreeMap::new(),
            probers: Silent::default(),
            calm_from: None,
            reachable: true,
        }
    }

    /// Keeps for ever.
    pub async fn run(mut self) {
        loop {
            let outcome = self.round().await;
            match (&outcome, self.reachable) {
                (Err(error), true) => {
                    tracing::warn!("{error}; totals of gone redirectors are kept later");
                }
                (Ok(()), false) => tracing::info!("totals of gone redirectors are kept again"),
                _ => {}
            }
            self.reachable = outcome.is_ok();
            tokio::time::sleep(ROUND.mul_f64(rand::random_range(0.8..1.2))).await;
        }
    }

    /// One round: what was lost is told again, then what is new is remembered, then what has gone is folded.
    ///
    /// # Errors
    /// When the store does not answer; what was done is done, the next round does the rest.
    pub async fn round(&mut self) -> Result<(), StoreError> {
        let listed = self.reader.replicas().await?;
        self.keep_base(&listed).await?;
        let silent: Vec<Replica> = listed
            .iter()
            .filter(|replica| is_gone(replica))
            .cloned()
            .collect();
        let ids: Vec<String> = silent
            .iter()
            .map(|replica| replica.announcement.id.clone())
            .collect();
        let spoke = self.store.spoke(&ids).await?;
        self.tell_lost().await?;
        for (replica, spoke) in silent.iter().zip(spoke) {
            if let Some(spoke) = spoke {
                self.remember(replica, spoke).await?;
            }
        }
        let calm = self
            .calm_from
            .is_none_or(|calm_from| Instant::now() >= calm_from);
        for replica in silent
            .iter()
            .filter(|replica| calm && (replica.announcement.left || replica.silent_ms >= FOLDED_MS))
        {
            self.fold(&replica.announcement.id, &listed).await?;
        }
        self.forget_probers().await
    }

    /// Forgets probers that are silent for good.
    async fn forget_probers(&mut self) -> Result<(), StoreError> {
        for (id, sequence) in self
            .probers
            .look(self.store.probers().await?, Instant::now())
        {
            if self.store.forget_prober(&id, sequence).await? {
                tracing::info!(id, "a healthd that was silent for a day is forgotten");
            }
        }
        Ok(())
    }

    /// Whether the totals of the redirector `id` are remembered here.
    pub fn remembers(&self, id: &str) -> bool {
        self.gone.contains_key(id)
    }

    /// Remembers the base and what is in it of whom; tells both to a store that holds less, the base last: until then
    /// too little is counted, and nothing twice.
    async fn keep_base(&mut self, listed: &[Replica]) -> Result<(), StoreError> {
        loop {
            let same = self.store.base_size().await? == (self.base.folds, self.base.totals.len());
            let held = if same {
                None
            } else {
                Some(self.store.base().await?)
            };
            let whole = held.as_ref().is_none_or(|held| {
                holds(&held.totals, &self.base.totals) && held.folds >= self.base.folds
            });
            self.keep_folds(listed, whole).await?;
            match held {
                None => return Ok(()),
                Some(_) if !whole => {
                    tracing::warn!("the store lost totals of gone redirectors; telling it again");
                    self.calm_from = Some(Instant::now() + CALM);
                    return self.store.tell_base(&self.base).await;
                }
                Some(held) if self.store.folds().await? == held.folds => {
                    self.base = held;
                    return Ok(());
                }
                // What was folded meanwhile belongs to another base.
                Some(_) => {}
            }
        }
    }

    /// Remembers what was folded of whom; tells what the store holds no more, and everything unless its base is
    /// `whole`.
    async fn keep_folds(&mut self, listed: &[Replica], whole: bool) -> Result<(), StoreError> {
        let now = self.reader.time().await?;
        let index = self.store.folded_index().await?;
        let listed: BTreeSet<&str> = listed
            .iter()
            .map(|replica| replica.announcement.id.as_str())
            .collect();
        let old: Vec<String> = index
            .iter()
            .filter(|(_, at)| **at + FOLDED_KEPT_MS < now)
            .map(|(id, _)| id.clone())
            .collect();
        self.store.forget_folded(&old).await?;
        self.folds
            .retain(|id, fold| listed.contains(id.as_str()) || fold.at + FOLDED_KEPT_MS >= now);
        let known = listed
            .iter()
            .map(|id| (*id).to_owned())
            .chain(index.keys().cloned())
            .chain(self.folds.keys().cloned());
        let ids: Vec<String> = known.collect::<BTreeSet<String>>().into_iter().collect();
        for (id, held) in ids.iter().zip(self.store.folded_held(&ids).await?) {
            let at = index.get(id).copied().unwrap_or(0);
            let (known, known_at) = self
                .folds
                .get(id)
                .map_or((0, 0), |fold| (fold.totals.len(), fold.at));
            if held > known || (held > 0 && at > known_at) {
                let folded = self.store.folded(id).await?;
                let fold = self.folds.entry(id.clone()).or_default();
                fold.at = fold.at.max(if at > 0 { at } else { now });
                raise(&mut fold.totals, folded);
            }
            if let Some(fold) = self.folds.get(id)
                && (held < known || !whole)
            {
                self.store.tell_folded(id, &fold.totals, fold.at).await?;
            }
        }
        Ok(())
    }

    /// Tells what the store lost of those that are remembered.
    async fn tell_lost(&mut self) -> Result<(), StoreError> {
        let ids: Vec<String> = self.gone.keys().cloned().collect();
        let (held, spoke) = (self.store.held(&ids).await?, self.store.spoke(&ids).await?);
        for ((id, held), spoke) in ids.iter().zip(held).zip(spoke) {
            let Some(gone) = self.gone.get_mut(id) else {
                continue;
            };
            let forgotten = match spoke {
                Some(spoke) if spoke > gone.spoke => {
                    // It speaks again: it tells everything itself.
                    self.gone.remove(id);
                    continue;
                }
                // Earlier than known: the store has gone back to an older copy.
                Some(spoke) => spoke < gone.spoke || held < gone.remains.live.len(),
                None => !self.store.remains(id).await?.is_folded(&gone.remains),
            };
            if forgotten {
                tracing::warn!(
                    id,
                    "the store lost the totals of a gone redirector; telling it again"
                );
                self.calm_from = Some(Instant::now() + CALM);
                self.store.tell_remains(id, &gone.remains).await?;
                gone.spoke = self
                    .store
                    .spoke(std::slice::from_ref(id))
                    .await?
                    .into_iter()
                    .flatten()
                    .next()
                    .unwrap_or(gone.spoke);
            } else if spoke.is_none() {
                // Another keeper has folded it.
                self.gone.remove(id);
            }
        }
        Ok(())
    }

    async fn remember(&mut self, replica: &Replica, spoke: u64) -> Result<(), StoreError> {
        let id = &replica.announcement.id;
        if self.gone.get(id).is_none_or(|gone| gone.spoke != spoke) {
            let remains = self.store.remains(id).await?;
            self.gone.insert(
                id.clone(),
                Gone {
                    spoke,
                    left: replica.announcement.left,
                    remains,
                },
            );
        }
        Ok(())
    }

    async fn fold(&mut self, id: &str, listed: &[Replica]) -> Result<(), StoreError> {
        let Some(gone) = self.gone.get(id) else {
            return Ok(());
        };
        match self
            .store
            .fold(id, &gone.remains, gone.spoke, self.base.folds)
            .await?
        {
            Folded::Whole => {
                tracing::info!(
                    id,
                    left = gone.left,
                    "the totals of a gone redirector are folded"
                );
                self.keep_base(listed).await?;
                self.gone.remove(id);
            }
            // The next round looks again; until then it is remembered.
            Folded::SpokeAgain | Folded::LostData => {}
        }
        Ok(())
    }
}

fn is_gone(replica: &Replica) -> bool {
    replica.announcement.left || replica.silent_ms >= REMEMBERED_MS
}

fn raise(totals: &mut RawTally, to: RawTally) {
    for (key, total) in to {
        let held = totals.entry(key).or_default();
        *held = (*held).max(total);
    }
}

/// Whether `held` has everything of `known`.
fn holds(held: &RawTally, known: &RawTally) -> bool {
    known
        .iter()
        .all(|(key, total)| held.get(key).is_some_and(|held| held >= total))
}
