//! Carries counts to the store: absolute totals that only grow, so that a lost, repeated or late write does no harm.

use crate::answer::refused_hosts::Refused;
use crate::background::refresh::{Status, StatusCell};
use crate::background::unwritten_counts::{Unwritten, UnwrittenCounts};
use crate::counters::Counters;
use crate::tls::Tls;
use common::model::tally::{CountKey, Tally};
use common::process::signals::{Phase, Shutdown};
use common::store::{Announcement, ReplicaWriter, StoreError};
use common::time::unix_ms;
use rand::RngExt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// From one flush to the next, before jitter.
const FLUSH: Duration = Duration::from_millis(500);

/// Flushes between two announcements while nothing about this process changes: about two seconds.
const ANNOUNCE: u32 = 4;

/// Flushes between two rounds of writing down totals that have not changed: about ten seconds.
const ROTATE: u32 = 20;

/// Unchanged totals written in one such round: a store that lost them has them all again after a while.
const ROTATED: usize = 500;

/// How long the last flush may take.
const LAST: Duration = Duration::from_secs(3);

/// How long where the store is known to be away: the whole end takes less than two seconds then.
const LAST_AWAY: Duration = Duration::from_millis(300);

/// How long it may take in a process that is to stop at once.
const LAST_STOPPING: Duration = Duration::from_millis(500);

/// Writes one redirector's counts and presence.
pub struct Flusher {
    writer: ReplicaWriter,
    counters: Arc<Counters>,
    status: StatusCell,
    announcement: Announcement,
    tls: Option<Tls>,
    refused: Refused,
    /// What is counted, by slot.
    keys: Vec<CountKey>,
    /// The totals the store is known to hold, by slot; 0 where it holds none.
    written: Vec<u64>,
    /// Whether it may hold less: after an error everything is said again.
    doubtful: bool,
    rotation: usize,
    reachable: bool,
    /// What earlier processes could not write, and where that is kept.
    unwritten: UnwrittenCounts,
}

impl Flusher {
    /// A flusher that has written nothing yet; `announcement` is what it says of this process, `unwritten` where
    /// counts are kept that the store does not take before the process ends.
    pub fn new(
        writer: ReplicaWriter,
        counters: Arc<Counters>,
        status: StatusCell,
        announcement: Announcement,
        tls: Option<Tls>,
        refused: Refused,
        unwritten: UnwrittenCounts,
    ) -> Self {
        Self {
            writer,
            counters,
            status,
            announcement,
            tls,
            refused,
            keys: Vec::new(),
            written: Vec::new(),
            doubtful: false,
            rotation: 0,
            reachable: true,
            unwritten,
        }
    }

    /// Flushes until `end`, then once more, and leaves. What the store does not take then is kept in the file.
    pub async fn run(mut self, end: impl Future<Output = ()>, mut shutdown: Shutdown) {
        let mut end = std::pin::pin!(end);
        for round in 0u32.. {
            let outcome = self
                .flush(round % ROTATE == ROTATE - 1, round % ANNOUNCE == 0)
                .await;
            self.note(&outcome);
            let pause = FLUSH.mul_f64(rand::rng().random_range(0.9..1.1));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut end => break,
            }
        }
        // A store that is known to be away is not waited for.
        let last = if self.reachable { LAST } else { LAST_AWAY };
        let limit = async {
            let stopping = async {
                shutdown.reached(Phase::Stopping).await;
                tokio::time::sleep(LAST_STOPPING).await;
            };
            let _ = tokio::time::timeout(last, stopping).await;
        };
        let left = tokio::select! {
            () = self.leave() => true,
            () = limit => false,
        };
        if !left {
            self.keep().await;
        }
    }

    /// Writes everything and says so, however often it takes.
    async fn leave(&mut self) {
        while let Err(error) = self.last_words().await {
            tracing::debug!(%error, "last flush");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// First the totals, then the word that they are the last: they may be folded from then on.
    async fn last_words(&mut self) -> Result<(), StoreError> {
        self.flush(false, true).await?;
        self.announcement.left = true;
        self.writer.announce(&self.announcement).await.map(drop)
    }

    /// Keeps what the store did not take for the next process.
    async fn keep(&mut self) {
        let unwritten =
            self.counters.numbers().iter().sum::<u64>() - self.written.iter().sum::<u64>();
        if unwritten == 0 {
            return;
        }
        let mut tally = Tally::default();
        self.counters
            .totals()
            .iter()
            .filter(|(_, total)| *total > 0)
            .for_each(|(key, total)| tally.raise(key, *total));
        self.announcement.left = true;
        let mine = Unwritten {
            announcement: self.announcement.clone(),
            totals: tally,
            at: unix_ms(),
        };
        match self.unwritten.keep(mine).await {
            None => tracing::error!(
                unwritten,
                "the store did not take the last counts; with a state_file they would be kept"
            ),
            Some(Err(error)) => tracing::error!(
                unwritten,
                "the store did not take the last counts, and they cannot be kept: {error:#}"
            ),
            Some(Ok(())) => tracing::warn!(
                unwritten,
                "the store did not take the last counts: the next start will tell it"
            ),
        }
    }

    /// Writes what earlier processes could not, one after the other.
    async fn tell_carried(&mut self) -> Result<(), StoreError> {
        while let Some(earlier) = self.unwritten.last() {
            let totals: Vec<(CountKey, u64)> = earlier
                .totals
                .iter()
                .map(|(key, total)| (key.clone(), total))
                .collect();
            self.writer.flush(&earlier.announcement.id, &totals).await?;
            self.writer.announce(&earlier.announcement).await?;
            tracing::info!(
                id = earlier.announcement.id,
                "the counts of an earlier process are written"
            );
            self.unwritten.forget_last().await;
        }
        Ok(())
    }

    /// Writes what has changed; with `rotate` also some of what has not, with `announce` that we are here.
    async fn flush(&mut self, rotate: bool, announce: bool) -> Result<(), StoreError> {
        let unwritten = self.tell_carried().await;
        if unwritten.as_ref().is_err_and(StoreError::is_silence) {
            self.doubtful = true;
            return unwritten;
        }
        // What is refused of an earlier process holds back none of our own.
        let own = self.flush_own(rotate, announce).await;
        self.doubtful |= own.is_err();
        own.and(unwritten)
    }

    async fn flush_own(&mut self, rotate: bool, announce: bool) -> Result<(), StoreError> {
        if self.set_announcement() || announce {
            let held = self.writer.announce(&self.announcement).await?;
            let written = self.written.iter().filter(|&&total| total > 0).count();
            if held < written && !self.doubtful {
                tracing::warn!(held, written, "the store lost counts; telling all again");
                self.doubtful = true;
            }
        }
        let unwritten = self.unwritten(rotate);
        if unwritten.is_empty() {
            return Ok(());
        }
        let totals: Vec<(&CountKey, u64)> = unwritten
            .iter()
            .map(|&(slot, total)| (&self.keys[slot], total))
            .collect();
        let outcome = self.writer.flush(&self.announcement.id, &totals).await;
        match &outcome {
            Ok(()) => {
                unwritten
                    .into_iter()
                    .for_each(|(slot, total)| self.written[slot] = total);
                self.doubtful = false;
            }
            Err(_) => self.doubtful = true,
        }
        outcome
    }

    /// Brings what is announced up to date. True if it changed.
    fn set_announcement(&mut self) -> bool {
        let now = self
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Status {
            generation,
            overrides,
            alarm,
            by_file,
        } = now;
        let announcement = &mut self.announcement;
        let changed = (
            announcement.generation,
            announcement.overrides,
            &announcement.alarm,
            &announcement.by_file,
        ) != (generation, overrides, &alarm, &by_file);
        announcement.certificate_expires = self.tls.as_ref().map(Tls::expires).unwrap_or_default();
        announcement.refused_hosts = self.refused.most(Instant::now());
        (
            announcement.generation,
            announcement.overrides,
            announcement.alarm,
            announcement.by_file,
        ) = (generation, overrides, alarm, by_file);
        changed
    }

    /// What is to be written, by slot.
    fn unwritten(&mut self, rotate: bool) -> Vec<(usize, u64)> {
        let numbers = self.counters.numbers();
        self.keys.extend(self.counters.keys(self.keys.len()));
        self.written.resize(numbers.len(), 0);
        let (from, until) = (self.rotation, self.rotation + ROTATED);
        let mut unchanged = 0;
        let wanted = |&(slot, total): &(usize, u64)| {
            if total > 0 && (self.doubtful || self.written[slot] != total) {
                return true;
            }
            unchanged += 1;
            rotate && total > 0 && (from..until).contains(&unchanged)
        };
        let unwritten = numbers.into_iter().enumerate().filter(wanted).collect();
        if rotate {
            self.rotation = if until >= unchanged { 0 } else { until };
        }
        unwritten
    }

    fn note(&mut self, outcome: &Result<(), StoreError>) {
        match (outcome, self.reachable) {
            (Err(error), true) if self.is_counted() => {
                tracing::warn!("{error}; counts are kept and written later");
            }
            (Err(error), true) => tracing::warn!("{error}; there are no counts to write yet"),
            (Ok(()), false) if self.is_counted() => tracing::info!("counts are written again"),
            _ => {}
        }
        self.reachable = outcome.is_ok();
    }

    /// Whether there is anything to write.
    fn is_counted(&self) -> bool {
        self.counters.numbers().iter().any(|&total| total > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::process::signals::Stop;
    use common::store::{Memory, Store};

    #[tokio::test]
    async fn what_was_counted_is_in_the_store_at_the_end_exactly() {
        let store = Store::Memory(Memory::default());
        let counters = Arc::new(Counters::new(1));
        let key: CountKey = "img/a".parse().expect("valid");
        let slot = counters.slot(&key);
        let said = serde_json::from_str(r#"{"id":"r1","host":"","address":"","version":"","generation":0,"overrides":0,"started":0}"#)
            .expect("valid");
        let flusher = Flusher::new(
            store.replica(),
            counters.clone(),
            StatusCell::default(),
            said,
            None,
            Refused::new(0),
            UnwrittenCounts::default(),
        );
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(flusher.run(async { drop(stopped.await) }, Stop::new().1));
        (0..1000).for_each(|_| counters.shard(0).count(slot));
        stop.send(()).expect("running");
        running.await.expect("no panic");
        assert_eq!(
            store
                .reader()
                .totals()
                .await
                .expect("memory")
                .sum()
                .get(&key),
            1000
        );
        assert!(
            store.reader().replicas().await.expect("memory")[0]
                .announcement
                .left
        );
    }
}
