//! Keeps what gone redirectors counted: folds their totals into the base, and tells a store that lost them.
//!
//! A redirector's totals are its own as long as it may speak. One that has left, or was silent for a day, is folded:
//! what it counted moves into the base, and how much did is written down beside it, so that one that speaks again
//! counts only what came after (its total minus what was folded). Live redirectors tell a store that lost data
//! everything themselves; what is gone has only the keeper.

use common::store::{Base, Folded, Keeper as Store, RawTally, Reader, Remains, Replica, StoreError};
use std::collections::BTreeMap;
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
pub struct Keeper {
    reader: Reader,
    store: Store,
    base: Base,
    gone: BTreeMap<String, Gone>,
    calm_from: Option<Instant>,
    reachable: bool,
}

/// A redirector that is silent.
struct Gone {
    spoke: u64,
    left: bool,
    remains: Remains,
}

impl Keeper {
    /// A keeper that remembers nothing yet.
    pub fn new(reader: Reader, store: Store) -> Self {
        Self { reader, store, base: Base::default(), gone: BTreeMap::new(), calm_from: None, reachable: true }
    }

    /// Keeps for ever.
    pub async fn run(mut self) {
        loop {
            let outcome = self.round().await;
            match (&outcome, self.reachable) {
                (Err(error), true) => tracing::warn!("{error}; totals of gone redirectors are kept later"),
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
        self.tell_base().await?;
        let silent: Vec<Replica> = self.reader.replicas().await?.into_iter().filter(is_gone).collect();
        let ids: Vec<String> = silent.iter().map(|replica| replica.said.id.clone()).collect();
        let spoke = self.store.spoke(&ids).await?;
        self.tell_lost().await?;
        for (replica, spoke) in silent.iter().zip(spoke) {
            if let Some(spoke) = spoke {
                self.remember(replica, spoke).await?;
            }
        }
        let calm = self.calm_from.is_none_or(|calm_from| Instant::now() >= calm_from);
        for replica in silent.iter().filter(|replica| calm && (replica.said.left || replica.silent_ms >= FOLDED_MS)) {
            self.fold(&replica.said.id).await?;
        }
        Ok(())
    }

    /// Whether the totals of the redirector `id` are remembered here.
    pub fn remembers(&self, id: &str) -> bool {
        self.gone.contains_key(id)
    }

    /// Remembers the base; tells it to a store that holds less.
    async fn tell_base(&mut self) -> Result<(), StoreError> {
        if self.store.base_size().await? == (self.base.folds, self.base.totals.len()) {
            return Ok(());
        }
        let held = self.store.base().await?;
        if holds(&held.totals, &self.base.totals) && held.folds >= self.base.folds {
            self.base = held;
            return Ok(());
        }
        tracing::warn!("the store lost totals of gone redirectors; telling it again");
        self.calm_from = Some(Instant::now() + CALM);
        self.store.tell_base(&self.base).await
    }

    /// Tells what the store lost of those that are remembered.
    async fn tell_lost(&mut self) -> Result<(), StoreError> {
        let ids: Vec<String> = self.gone.keys().cloned().collect();
        let (held, spoke) = (self.store.held(&ids).await?, self.store.spoke(&ids).await?);
        for ((id, held), spoke) in ids.iter().zip(held).zip(spoke) {
            let Some(gone) = self.gone.get_mut(id) else { continue };
            let forgotten = match spoke {
                Some(spoke) if spoke != gone.spoke => {
                    // It speaks again: it tells everything itself.
                    self.gone.remove(id);
                    continue;
                }
                Some(_) => held < gone.remains.live.len(),
                None => !self.store.remains(id).await?.is_folded(&gone.remains),
            };
            if forgotten {
                tracing::warn!(id, "the store lost the totals of a gone redirector; telling it again");
                self.calm_from = Some(Instant::now() + CALM);
                self.store.tell_remains(id, &gone.remains).await?;
                gone.spoke = self.store.spoke(std::slice::from_ref(id)).await?.into_iter().flatten().next().unwrap_or(gone.spoke);
            } else if spoke.is_none() {
                // Another keeper has folded it.
                self.gone.remove(id);
            }
        }
        Ok(())
    }

    async fn remember(&mut self, replica: &Replica, spoke: u64) -> Result<(), StoreError> {
        let id = &replica.said.id;
        if self.gone.get(id).is_none_or(|gone| gone.spoke != spoke) {
            let remains = self.store.remains(id).await?;
            self.gone.insert(id.clone(), Gone { spoke, left: replica.said.left, remains });
        }
        Ok(())
    }

    async fn fold(&mut self, id: &str) -> Result<(), StoreError> {
        let Some(gone) = self.gone.get(id) else { return Ok(()) };
        match self.store.fold(id, &gone.remains, gone.spoke, self.base.folds).await? {
            Folded::Whole => {
                tracing::info!(id, left = gone.left, "the totals of a gone redirector are folded");
                self.base = self.store.base().await?;
            }
            // The next round looks again.
            Folded::SpokeAgain | Folded::LostData => {}
        }
        self.gone.remove(id);
        Ok(())
    }
}

fn is_gone(replica: &Replica) -> bool {
    replica.said.left || replica.silent_ms >= REMEMBERED_MS
}

/// Whether `held` has everything of `known`.
fn holds(held: &RawTally, known: &RawTally) -> bool {
    known.iter().all(|(key, total)| held.get(key).is_some_and(|held| held >= total))
}
