//! What a reader asks of Redis who follows it for long: totals are read on slice by slice, findings again where they
//! are old. A reading costs Redis the same however much it holds.

use super::read::decode;
use super::{Redis, SCAN, SLICE};
use crate::model::check::CheckKey;
use crate::model::followed_totals::{FollowedTotals, Owner, Part};
use crate::model::health::Finding;
use crate::store::error::StoreError;
use redis::{Value, pipe};
use std::collections::HashMap;

/// Totals read at one time, beyond those of owners that are new: all of a cluster up to this size.
const ROOM: usize = 10_000;

/// A slice of a sorted set: where to go on, 0 at the end, and the members with their scores.
type Scanned = (u64, Vec<(String, f64)>);

impl Redis {
    /// Totals grow and are folded while they are read: what counts is that no fold came in between. The list is read
    /// first: whoever is missing in it was folded before.
    pub(in crate::store) async fn follow(
        &self,
        counted: &mut FollowedTotals,
    ) -> Result<(), StoreError> {
        loop {
            let ids = self.listed().await?.into_iter().map(|(id, _)| id).collect();
            counted.list(ids);
            let folds = self.folds().await?;
            let known = counted.folds == Some(folds);
            if !known {
                counted.forget_folds();
                self.scan_to_end(counted, Part::Base).await?;
            }
            let unknown =
                |(id, owner): (&String, &Owner)| (!known || !owner.whole).then(|| id.clone());
            let ids: Vec<String> = counted.owners.iter().filter_map(unknown).collect();
            for id in &ids {
                self.scan_to_end(counted, Part::Folded(id)).await?;
            }
            if ids.is_empty() && known || self.folds().await? == folds {
                counted.folds = Some(folds);
                break;
            }
        }
        self.read_newcomers(counted).await?;
        self.read_on(counted).await
    }

    /// How many members there were.
    async fn scan_to_end(
        &self,
        counted: &mut FollowedTotals,
        part: Part<'_>,
    ) -> Result<usize, StoreError> {
        let key = match part {
            Part::Base => self.keys.count("base"),
            Part::Folded(id) => self.keys.folded(id),
            Part::Live(id) => self.keys.count(id),
        };
        let (mut cursor, mut members) = (0, 0);
        loop {
            let (next, slice) = self
                .scans(&[(key.clone(), cursor)])
                .await?
                .pop()
                .unwrap_or_default();
            members += slice.len();
            counted.take(part, slice);
            cursor = next;
            if cursor == 0 {
                return Ok(members);
            }
        }
    }

    /// Whoever was never read to the end is read whole: a part of it would be a wrong figure, not an old one.
    async fn read_newcomers(&self, counted: &mut FollowedTotals) -> Result<(), StoreError> {
        let new: Vec<String> = counted
            .owners
            .iter()
            .filter(|(_, owner)| !owner.whole)
            .map(|(id, _)| id.clone())
            .collect();
        for id in new {
            let size = self.scan_to_end(counted, Part::Live(&id)).await?;
            if let Some(owner) = counted.owners.get_mut(&id) {
                (owner.whole, owner.size) = (true, size);
            }
        }
        Ok(())
    }

    /// Goes on where the last reading stopped: once around at the most, and no further than there is room.
    async fn read_on(&self, counted: &mut FollowedTotals) -> Result<(), StoreError> {
        let (mut room, mut left) = (ROOM, counted.owners.len());
        while left > 0 && room > 0 {
            let batch = counted.next_batch(left);
            let keys: Vec<(String, u64)> = batch
                .iter()
                .map(|(id, cursor)| (self.keys.count(id), *cursor))
                .collect();
            let slices = self.scans(&keys).await?;
            room = room.saturating_sub(slices.iter().map(|(_, slice)| slice.len()).sum());
            left -= slices.iter().filter(|(cursor, _)| *cursor == 0).count();
            counted.take_batch(&batch, slices);
        }
        Ok(())
    }

    /// A slice of each of `keys`, from where each of them stands.
    async fn scans(&self, keys: &[(String, u64)]) -> Result<Vec<Scanned>, StoreError> {
        let mut call = pipe();
        for (key, cursor) in keys {
            call.cmd("ZSCAN")
                .arg(key)
                .arg(cursor)
                .arg("COUNT")
                .arg(SCAN);
        }
        let answers: Vec<Value> = self.reading.pipeline(&call).await?;
        answers
            .into_iter()
            .map(|answer| decode(Some(answer)))
            .collect()
    }

    pub(in crate::store) async fn findings(
        &self,
        prober: &str,
        checks: &[CheckKey],
    ) -> Result<HashMap<CheckKey, Finding>, StoreError> {
        let mut findings = HashMap::with_capacity(checks.len());
        for slice in checks.chunks(SLICE) {
            let mut call = pipe();
            call.cmd("HMGET").arg(self.keys.health(prober));
            slice.iter().for_each(|check| {
                call.arg(&*check.0);
            });
            let (texts,): (Vec<Option<String>>,) = self.reading.pipeline(&call).await?;
            let found = slice.iter().zip(texts).filter_map(|(check, json)| {
                Some((check.clone(), serde_json::from_str(&json?).ok()?))
            });
            findings.extend(found);
        }
        Ok(findings)
    }
}

impl FollowedTotals {
    /// The owners to read next, each from where it stands: as many as make one slice together, and `most`.
    fn next_batch(&self, most: usize) -> Vec<(String, u64)> {
        let (mut batch, mut members) = (Vec::new(), 0);
        let after =
            |(id, _): &(&String, &Owner)| self.reached.as_ref().is_none_or(|reached| *id > reached);
        let (ahead, behind): (Vec<_>, Vec<_>) = self.owners.iter().partition(after);
        for (id, owner) in ahead.into_iter().chain(behind).take(most) {
            members += owner.size.clamp(1, SLICE);
            if members > SLICE && !batch.is_empty() {
                break;
            }
            batch.push((id.clone(), owner.cursor));
        }
        batch
    }

    /// Takes in what was read of a batch. Where one was not read to its end the next batch begins with it.
    fn take_batch(&mut self, batch: &[(String, u64)], slices: Vec<Scanned>) {
        let mut in_a_row = true;
        for ((id, _), (cursor, slice)) in batch.iter().zip(slices) {
            let (read, last) = (
                slice.len(),
                self.owners
                    .last_key_value()
                    .is_some_and(|(last, _)| last == id),
            );
            self.take(Part::Live(id), slice);
            let Some(owner) = self.owners.get_mut(id) else {
                continue;
            };
            (owner.cursor, owner.seen) = (cursor, owner.seen + read);
            if cursor == 0 {
                owner.size = std::mem::take(&mut owner.seen);
            }
            in_a_row &= cursor == 0;
            if in_a_row {
                self.rounds += u64::from(last);
                self.reached = (!last).then(|| id.clone());
            }
        }
    }
}
