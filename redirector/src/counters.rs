//! What was answered, counted without a shared line: one shard of counters a thread, summed at each flush.
//!
//! A counter belongs to what it counts for the life of the process, whatever the table does meanwhile.

use common::model::tally::CountKey;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Counters a page; pages are made when the first counter in them is.
const PAGE: usize = 1024;

/// Pages a shard can have: four million counters, far beyond any farm's life.
const PAGES: usize = 4096;

/// The place of one counter in every shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    /// Its place among [`Counters::keys`].
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The one so many places behind.
    #[inline]
    pub(crate) fn plus(self, places: u32) -> Self {
        Self(self.0.saturating_add(places))
    }
}

/// The counters of one thread. Only that thread adds.
#[derive(Debug)]
pub struct Shard(Box<[OnceLock<Box<[AtomicU64]>>]>);

impl Shard {
    fn new() -> Self {
        Self((0..PAGES).map(|_| OnceLock::new()).collect())
    }

    fn make(&self, slot: Slot) {
        self.0[slot.0 as usize / PAGE]
            .get_or_init(|| (0..PAGE).map(|_| AtomicU64::new(0)).collect());
    }

    /// Counts one. A plain load and store: the thread is the only writer, flushing only reads.
    #[inline]
    pub fn count(&self, slot: Slot) {
        if let Some(page) = self.0[slot.0 as usize / PAGE].get() {
            let counter = &page[slot.0 as usize % PAGE];
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }
}

/// All counters of the process.
#[derive(Debug)]
pub struct Counters {
    shards: Vec<Arc<Shard>>,
    known: Mutex<KnownKeys>,
}

#[derive(Debug, Default)]
struct KnownKeys {
    keys: Vec<CountKey>,
    slots: HashMap<CountKey, Slot>,
}

impl Counters {
    /// Counters for `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self {
            shards: (0..threads).map(|_| Arc::new(Shard::new())).collect(),
            known: Mutex::default(),
        }
    }

    /// The shard of one thread.
    pub fn shard(&self, thread: usize) -> Arc<Shard> {
        self.shards[thread].clone()
    }

    /// The slot of `key`, made if it is new. The last slot is shared by all that come after it.
    pub fn slot(&self, key: &CountKey) -> Slot {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = known.slots.get(key) {
            return *slot;
        }
        let slot = Slot(
            u32::try_from(known.keys.len())
                .unwrap_or(u32::MAX)
                .min((PAGES * PAGE - 1) as u32),
        );
        self.shards.iter().for_each(|shard| shard.make(slot));
        known.keys.push(key.clone());
        known.slots.insert(key.clone(), slot);
        slot
    }

    /// What is counted, by slot, from the slot `from` on.
    pub fn keys(&self, from: usize) -> Vec<CountKey> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys
            .get(from..)
            .unwrap_or_default()
            .to_vec()
    }

    /// Every counter's total over all threads, by slot.
    pub fn numbers(&self) -> Vec<u64> {
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys
            .len()
            .min(PAGES * PAGE);
        let mut numbers = vec![0; known];
        for shard in &self.shards {
            for (page, numbers) in shard.0.iter().zip(numbers.chunks_mut(PAGE)) {
                let counters = page.get().into_iter().flatten();
                numbers
                    .iter_mut()
                    .zip(counters)
                    .for_each(|(number, counter)| *number += counter.load(Ordering::Relaxed));
            }
        }
        numbers
    }

    /// Every total with what it counts, in the order the counters were made.
    pub fn totals(&self) -> Vec<(CountKey, u64)> {
        let numbers = self.numbers();
        self.keys(0).into_iter().zip(numbers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_apart_and_are_summed() {
        let counters = Counters::new(2);
        let keys: Vec<CountKey> = (0..3000)
            .map(|n| format!("img/s{n}").parse().expect("valid"))
            .collect();
        let slots: Vec<Slot> = keys.iter().map(|key| counters.slot(key)).collect();
        assert_eq!(counters.slot(&keys[7]), slots[7]);
        counters.shard(0).count(slots[2999]);
        counters.shard(1).count(slots[2999]);
        assert_eq!(counters.totals()[2999], (keys[2999].clone(), 2));
    }
}
