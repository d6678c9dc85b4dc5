//! Carries counts to the store: absolute totals that only grow, so that a lost, repeated or late write does no harm.

use crate::counters::Counters;
use crate::refresh::InUseCell;
use common::store::{Announcement, ReplicaWriter, StoreError};
use common::tally::CountKey;
use rand::RngExt;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// From one flush to the next, before jitter.
const FLUSH: Duration = Duration::from_millis(500);

/// Flushes between two rounds of writing down totals that have not changed: about ten seconds.
const ROTATE: u32 = 20;

/// Unchanged totals written in one such round: a store that lost them has them all again after a while.
const ROTATED: usize = 500;

/// How long the last flush may take.
const LAST: Duration = Duration::from_secs(3);

/// Writes one redirector's counts and presence.
pub struct Flusher {
    writer: ReplicaWriter,
    counters: Arc<Counters>,
    in_use: InUseCell,
    said: Announcement,
    /// The totals the store is known to hold.
    written: HashMap<CountKey, u64>,
    /// Whether it may hold less: after an error everything is said again.
    doubtful: bool,
    rotation: usize,
    reachable: bool,
}

impl Flusher {
    /// A flusher that has written nothing yet; `said` is what it announces of this process.
    pub fn new(writer: ReplicaWriter, counters: Arc<Counters>, in_use: InUseCell, said: Announcement) -> Self {
        Self { writer, counters, in_use, said, written: HashMap::new(), doubtful: false, rotation: 0, reachable: true }
    }

    /// Flushes until `end`, then once more, and leaves.
    pub async fn run(mut self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        for round in 0u32.. {
            let rotate = round % ROTATE == ROTATE - 1;
            let outcome = self.flush(rotate, round % 2 == 0).await;
            self.note(&outcome);
            let pause = FLUSH.mul_f64(rand::rng().random_range(0.9..1.1));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut end => break,
            }
        }
        self.said.left = true;
        let last = async {
            while let Err(error) = self.flush(false, true).await {
                tracing::debug!(%error, "last flush");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            let unwritten: u64 = self.unwritten(false).iter().map(|(key, total)| total - self.written.get(key).copied().unwrap_or(0)).sum();
            tracing::error!(unwritten, "the store did not take the last counts");
        }
    }

    /// Writes what has changed; with `rotate` also some of what has not, with `announce` that we are here.
    async fn flush(&mut self, rotate: bool, announce: bool) -> Result<(), StoreError> {
        if announce {
            let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner).clone();
            (self.said.generation, self.said.overrides, self.said.alarm) = (in_use.generation, in_use.overrides, in_use.alarm);
            self.writer.announce(&self.said).await?;
        }
        let totals = self.unwritten(rotate);
        if totals.is_empty() {
            return Ok(());
        }
        let outcome = self.writer.flush(&self.said.id, &totals).await;
        match &outcome {
            Ok(()) => {
                self.written.extend(totals);
                self.doubtful = false;
            }
            Err(_) => self.doubtful = true,
        }
        outcome
    }

    fn unwritten(&mut self, rotate: bool) -> Vec<(CountKey, u64)> {
        let mut unchanged = 0;
        let (from, until) = (self.rotation, self.rotation + ROTATED);
        let mut totals = self.counters.totals();
        totals.retain(|(key, total)| {
            if *total > 0 && (self.doubtful || self.written.get(key) != Some(total)) {
                return true;
            }
            unchanged += 1;
            rotate && *total > 0 && (from..until).contains(&unchanged)
        });
        if rotate {
            self.rotation = if until >= unchanged { 0 } else { until };
        }
        totals
    }

    fn note(&mut self, outcome: &Result<(), StoreError>) {
        match (outcome, self.reachable) {
            (Err(error), true) => tracing::warn!("{error}; counts are kept and written later"),
            (Ok(()), false) => tracing::info!("counts are written again"),
            _ => {}
        }
        self.doubtful |= outcome.is_err();
        self.reachable = outcome.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::store::{Memory, Store};

    #[tokio::test]
    async fn what_was_counted_is_in_the_store_at_the_end_exactly() {
        let store = Store::Memory(Memory::default());
        let counters = Arc::new(Counters::new(1));
        let key: CountKey = "img/a".parse().expect("valid");
        let slot = counters.slot(&key);
        let said = serde_json::from_str(r#"{"id":"r1","host":"","address":"","version":"","generation":0,"overrides":0,"started":0}"#)
            .expect("valid");
        let flusher = Flusher::new(store.replica(), counters.clone(), InUseCell::default(), said);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(flusher.run(async { drop(stopped.await) }));
        (0..1000).for_each(|_| counters.shard(0).count(slot));
        stop.send(()).expect("running");
        running.await.expect("no panic");
        assert_eq!(store.reader().totals().await.expect("memory").sum().get(&key), 1000);
        assert!(store.reader().replicas().await.expect("memory")[0].said.left);
    }
}
