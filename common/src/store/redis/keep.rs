//! What the keeper does in Redis. Steps of at most a slice, each idempotent: two keepers, or one that asks again after
//! a lost answer, add nothing twice.

use super::{Redis, SCAN, SLICE};
use crate::store::error::StoreError;
use crate::store::keeper::{Base, FOLDED_KEPT_MS, Folded, RawTally, Remains};
use crate::store::scripts;
use crate::time::UnixMs;
use redis::{Pipeline, pipe};

/// The member of the base that counts its folds. No counter's key begins so.
const FOLDS: &str = "@folds";

/// Members a fold may take at once: it looks each up twice.
const FOLD_SLICE: usize = 500;

/// How long what was folded of a redirector is kept after it: a write that was under way, or a process that was
/// stopped and goes on, finds it and counts nothing twice.
const KEPT_SECONDS: u64 = FOLDED_KEPT_MS / 1000;

impl Redis {
    pub(in crate::store) async fn base(&self) -> Result<Base, StoreError> {
        // A fold between two slices would leave a part of it out.
        loop {
            let folds = self.folds().await?;
            let mut totals = self.raw_tally(&self.keys.count("base")).await?;
            totals.remove(FOLDS);
            if self.folds().await? == folds {
                return Ok(Base { folds, totals });
            }
        }
    }

    pub(in crate::store) async fn base_size(&self) -> Result<(u64, usize), StoreError> {
        let (key, mut call) = (self.keys.count("base"), pipe());
        call.cmd("ZSCORE")
            .arg(&key)
            .arg(FOLDS)
            .cmd("ZCARD")
            .arg(&key);
        let (folds, members): (Option<f64>, usize) = self.reading.pipeline(&call).await?;
        Ok((
            folds.unwrap_or(0.0) as u64,
            members.saturating_sub(usize::from(folds.is_some())),
        ))
    }

    /// How many folds the base has seen.
    pub(in crate::store) async fn folds(&self) -> Result<u64, StoreError> {
        let mut call = pipe();
        call.cmd("ZSCORE").arg(self.keys.count("base")).arg(FOLDS);
        let (folds,): (Option<f64>,) = self.reading.pipeline(&call).await?;
        Ok(folds.unwrap_or(0.0) as u64)
    }

    pub(in crate::store) async fn remains(&self, id: &str) -> Result<Remains, StoreError> {
        // What was folded first: what is folded meanwhile was live before.
        let folded = self.raw_tally(&self.keys.folded(id)).await?;
        Ok(Remains {
            live: self.raw_tally(&self.keys.count(id)).await?,
            folded,
        })
    }

    /// Scans instead of reading by rank: totals grow while slices are read, and would shift members between ranks.
    /// A scan returns each member that stays at least once; one returned twice counts with the greater total.
    async fn raw_tally(&self, key: &str) -> Result<RawTally, StoreError> {
        let (mut tally, mut cursor) = (RawTally::new(), 0u64);
        loop {
            let mut call = pipe();
            call.cmd("ZSCAN")
                .arg(key)
                .arg(cursor)
                .arg("COUNT")
                .arg(SCAN);
            let ((next, slice),): ((u64, Vec<(String, f64)>),) =
                self.reading.pipeline(&call).await?;
            for (member, total) in slice {
                let held = tally.entry(member).or_default();
                *held = (*held).max(total as u64);
            }
            cursor = next;
            if cursor == 0 {
                return Ok(tally);
            }
        }
    }

    pub(in crate::store) async fn spoke(
        &self,
        ids: &[String],
    ) -> Result<Vec<Option<u64>>, StoreError> {
        let replicas = self.keys.replicas();
        let spoke: Vec<Option<f64>> = self
            .of_each(ids, |call, id| {
                _ = call.cmd("ZSCORE").arg(&replicas).arg(id);
            })
            .await?;
        Ok(spoke.into_iter().map(|at| at.map(|at| at as u64)).collect())
    }

    pub(in crate::store) async fn held(&self, ids: &[String]) -> Result<Vec<usize>, StoreError> {
        self.of_each(ids, |call, id| {
            _ = call.cmd("ZCARD").arg(self.keys.count(id));
        })
        .await
    }

    pub(in crate::store) async fn folded_index(&self) -> Result<RawTally, StoreError> {
        self.raw_tally(&self.keys.folded_index()).await
    }

    pub(in crate::store) async fn folded(&self, id: &str) -> Result<RawTally, StoreError> {
        self.raw_tally(&self.keys.folded(id)).await
    }

    pub(in crate::store) async fn folded_held(
        &self,
        ids: &[String],
    ) -> Result<Vec<usize>, StoreError> {
        self.of_each(ids, |call, id| {
            _ = call.cmd("ZCARD").arg(self.keys.folded(id));
        })
        .await
    }

    pub(in crate::store) async fn tell_folded(
        &self,
        id: &str,
        totals: &RawTally,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        self.raise(&self.keys.folded(id), totals).await?;
        let mut call = scripts::NOTE_FOLDED.prepare_invoke();
        call.key(self.keys.replicas())
            .key(self.keys.folded(id))
            .key(self.keys.folded_index());
        call.arg(id).arg(at).arg(KEPT_SECONDS);
        self.writing.script::<()>(&call).await
    }

    pub(in crate::store) async fn forget_folded(&self, ids: &[String]) -> Result<(), StoreError> {
        for slice in ids.chunks(SLICE) {
            let mut call = pipe();
            call.cmd("ZREM")
                .arg(self.keys.folded_index())
                .arg(slice)
                .ignore();
            self.writing.pipeline::<()>(&call).await?;
        }
        Ok(())
    }

    pub(in crate::store) async fn probers(&self) -> Result<RawTally, StoreError> {
        self.raw_tally(&self.keys.probers()).await
    }

    pub(in crate::store) async fn forget_prober(
        &self,
        id: &str,
        sequence: u64,
    ) -> Result<bool, StoreError> {
        let mut call = scripts::FORGET_PROBER.prepare_invoke();
        call.key(self.keys.probers())
            .key(self.keys.health(id))
            .key(self.keys.health_at(id))
            .arg(id)
            .arg(sequence);
        self.writing.script(&call).await
    }

    async fn of_each<T: redis::FromRedisValue>(
        &self,
        ids: &[String],
        ask: impl Fn(&mut Pipeline, &str),
    ) -> Result<Vec<T>, StoreError> {
        let mut answers = Vec::with_capacity(ids.len());
        for slice in ids.chunks(SLICE) {
            let mut call = pipe();
            slice.iter().for_each(|id| ask(&mut call, id));
            answers.extend(self.reading.pipeline::<Vec<T>>(&call).await?);
        }
        Ok(answers)
    }

    pub(in crate::store) async fn fold(
        &self,
        id: &str,
        remains: &Remains,
        spoke: u64,
        mut folds: u64,
    ) -> Result<Folded, StoreError> {
        let open = |member: &&String| {
            remains.live[*member] > remains.folded.get(*member).copied().unwrap_or(0)
        };
        let members: Vec<&String> = remains.live.keys().filter(open).collect();
        for slice in members.chunks(FOLD_SLICE) {
            let mut call = scripts::FOLD.prepare_invoke();
            call.key(self.keys.count("base"))
                .key(self.keys.count(id))
                .key(self.keys.folded(id))
                .key(self.keys.replicas());
            call.key(self.keys.folded_index());
            call.arg(id).arg(folds).arg(spoke);
            slice.iter().for_each(|member| {
                call.arg(*member);
            });
            match self.writing.script::<i32>(&call).await? {
                1 => folds += 1,
                0 => return Ok(Folded::SpokeAgain),
                _ => return Ok(Folded::LostData),
            }
        }
        let mut call = scripts::RETIRE.prepare_invoke();
        call.key(self.keys.replicas())
            .key(self.keys.replica(id))
            .key(self.keys.count(id))
            .key(self.keys.folded(id));
        call.arg(id).arg(spoke).arg(KEPT_SECONDS);
        let retired: bool = self.writing.script(&call).await?;
        Ok(if retired {
            Folded::Whole
        } else {
            Folded::SpokeAgain
        })
    }

    pub(in crate::store) async fn tell_base(&self, base: &Base) -> Result<(), StoreError> {
        // The folds last: a base that is told in part is known to be incomplete.
        self.raise(&self.keys.count("base"), &base.totals).await?;
        self.raise(
            &self.keys.count("base"),
            &[(FOLDS.to_owned(), base.folds)].into(),
        )
        .await
    }

    pub(in crate::store) async fn tell_remains(
        &self,
        id: &str,
        remains: &Remains,
    ) -> Result<(), StoreError> {
        // What was folded first: totals that stand alone would count a second time.
        self.raise(&self.keys.folded(id), &remains.folded).await?;
        self.raise(&self.keys.count(id), &remains.live).await?;
        let mut call = scripts::RELIST.prepare_invoke();
        call.key(self.keys.replicas()).arg(id);
        self.writing.script::<()>(&call).await
    }

    async fn raise(&self, key: &str, totals: &RawTally) -> Result<(), StoreError> {
        let members: Vec<(&String, &u64)> = totals.iter().collect();
        for slice in members.chunks(SLICE) {
            let mut call = pipe();
            call.cmd("ZADD").arg(key).arg("GT");
            for (member, total) in slice {
                call.arg(**total).arg(member.as_str());
            }
            self.writing.pipeline::<()>(call.ignore()).await?;
        }
        Ok(())
    }
}
