//! What readers ask of Redis.

use super::{Partial, Redis, SCAN, SLICE, TEXT_SLICE, content};
use crate::model::check::CheckKey;
use crate::model::farm::ServerId;
use crate::model::generation::Stamp;
use crate::model::health::{Finding, ViewChanges};
use crate::model::overrides::Override;
use crate::model::tally::{Tally, Totals};
use crate::store::error::StoreError;
use crate::store::history_entry::HistoryEntry;
use crate::store::keeper::{Base, RawTally};
use crate::store::records::{Announcement, Event, OwnView, Replica};
use crate::time::UnixMs;
use redis::{Pipeline, Value, pipe};
use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;

/// Redirectors asked for in one go: each says about ten things.
const REPLICAS: usize = SLICE / 10;

impl Redis {
    pub(in crate::store) async fn stamp(&self) -> Result<Option<Stamp>, StoreError> {
        let mut call = pipe();
        call.cmd("HMGET").arg(self.keys.generation());
        for field in [
            "table",
            "overrides",
            "checksum",
            "cluster",
            "schema",
            "min_reader",
            "nonce",
            "by",
            "why",
            "forced",
            "farms",
        ] {
            call.arg(field);
        }
        let (fields,): (Vec<Option<String>>,) = self.reading.pipeline(&call).await?;
        if fields.first().is_none_or(Option::is_none) {
            return Ok(None);
        }
        let mut fields = fields.into_iter().map(Option::unwrap_or_default);
        let mut next = || fields.next().unwrap_or_default();
        let number = |name: &str, text: String| {
            text.parse()
                .map_err(|_| content(format!("generation field {name} is `{text}`")))
        };
        Ok(Some(Stamp {
            table: number("table", next())?,
            overrides: number("overrides", next()).unwrap_or(0),
            checksum: next(),
            cluster: next().parse().map_err(content)?,
            schema: u32::try_from(number("schema", next())?).map_err(content)?,
            min_reader: u32::try_from(number("min_reader", next())?).map_err(content)?,
            nonce: next(),
            by: next(),
            why: next(),
            forced: next() == "1",
            farms: next().parse().ok(),
        }))
    }

    pub(in crate::store) async fn history(&self) -> Result<Vec<HistoryEntry>, StoreError> {
        let mut call = pipe();
        call.cmd("HVALS").arg(self.keys.tables());
        let (held,): (Vec<String>,) = self.reading.pipeline(&call).await?;
        // One that cannot be read, by a newer version perhaps, is not shown; the others are.
        let mut editions: Vec<HistoryEntry> = held
            .iter()
            .filter_map(|json| serde_json::from_str(json).ok())
            .collect();
        editions.sort_by_key(|edition| std::cmp::Reverse(edition.stamp.table));
        Ok(editions)
    }

    pub(in crate::store) async fn time(&self) -> Result<UnixMs, StoreError> {
        let mut call = pipe();
        call.cmd("TIME");
        let ((seconds, micros),): ((u64, u64),) = self.reading.pipeline(&call).await?;
        Ok(seconds * 1000 + micros / 1000)
    }

    pub(in crate::store) async fn table_json(
        &self,
        stamp: &Stamp,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let key = self.keys.table(stamp.table);
        let held = self
            .partial
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut json = held
            .filter(|partial| partial.generation == stamp.table)
            .map(|partial| partial.json)
            .unwrap_or_default();
        loop {
            let mut call = pipe();
            call.cmd("GETRANGE")
                .arg(&key)
                .arg(json.len())
                .arg(json.len() + TEXT_SLICE - 1);
            let slice: Vec<u8> = match self.reading.pipeline(&call).await {
                Ok((slice,)) => slice,
                Err(error) => {
                    let partial = Partial {
                        generation: stamp.table,
                        json,
                    };
                    *self.partial.lock().unwrap_or_else(PoisonError::into_inner) = Some(partial);
                    return Err(error);
                }
            };
            let last = slice.len() < TEXT_SLICE;
            json.extend(slice);
            if last {
                return Ok((!json.is_empty()).then_some(json));
            }
        }
    }

    /// One that is set between two slices moves the overrides' generation: then all are read again.
    pub(in crate::store) async fn overrides(
        &self,
    ) -> Result<HashMap<ServerId, Override>, StoreError> {
        let (mut overrides, mut cursor) = (HashMap::new(), 0u64);
        loop {
            let mut call = pipe();
            call.cmd("HSCAN")
                .arg(self.keys.overrides())
                .arg(cursor)
                .arg("COUNT")
                .arg(SCAN);
            let ((next, slice),): ((u64, Vec<(String, String)>),) =
                self.reading.pipeline(&call).await?;
            for (id, json) in slice {
                match (id.parse(), serde_json::from_str(&json)) {
                    (Ok(id), Ok(set)) => drop(overrides.insert(id, set)),
                    // One that cannot be read is one server as the file has it, not a reason to read none.
                    _ => tracing::warn!(
                        "what was set by hand for `{id}` cannot be read and does not count: `rbalancer clear {id}` removes it"
                    ),
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(overrides);
            }
        }
    }

    pub(in crate::store) async fn health(
        &self,
        read_to: &BTreeMap<String, u64>,
    ) -> Result<ViewChanges, StoreError> {
        let mut call = pipe();
        call.cmd("ZRANGE")
            .arg(self.keys.probers())
            .arg(0)
            .arg(SLICE - 1)
            .arg("WITHSCORES");
        read_to
            .iter()
            .for_each(|(id, from)| self.add_changes(&mut call, id, *from));
        let answers: Vec<Value> = self.reading.pipeline(&call).await?;
        let mut answers = answers.into_iter();
        let sequences: BTreeMap<String, u64> = decode::<Vec<(String, f64)>>(answers.next())?
            .into_iter()
            .map(|(id, sequence)| (id, sequence as u64))
            .collect();
        let mut changes = ViewChanges {
            sequences,
            ..ViewChanges::default()
        };
        for ((id, &from), answer) in read_to.iter().zip(answers) {
            let sequence = changes.sequences.get(id).copied().unwrap_or(0);
            self.read_changes(id, from, sequence, decode(Some(answer))?, &mut changes)
                .await?;
        }
        let new = |(id, sequence): (&String, &u64)| {
            (!read_to.contains_key(id)).then(|| (id.clone(), *sequence))
        };
        let unknown: Vec<(String, u64)> = changes.sequences.iter().filter_map(new).collect();
        for (id, sequence) in unknown {
            self.read_changes(&id, 0, sequence, self.latest(&id, 0).await?, &mut changes)
                .await?;
        }
        Ok(changes)
    }

    fn add_changes(&self, call: &mut Pipeline, prober: &str, from: u64) {
        call.cmd("ZRANGEBYSCORE")
            .arg(self.keys.health_at(prober))
            .arg(format!("({from}"))
            .arg("+inf");
        call.arg("WITHSCORES").arg("LIMIT").arg(0).arg(SLICE);
    }

    /// A slice of a prober's checks, those that changed last first. By rank: to skip a slice costs Redis nothing.
    async fn latest(&self, prober: &str, offset: usize) -> Result<Vec<(String, f64)>, StoreError> {
        let mut call = pipe();
        call.cmd("ZRANGE")
            .arg(self.keys.health_at(prober))
            .arg(offset)
            .arg(offset + SLICE - 1)
            .arg("REV")
            .arg("WITHSCORES");
        let (slice,) = self.reading.pipeline(&call).await?;
        Ok(slice)
    }

    /// Reads the findings of the checks in `slice`; where that is full, there may be more of them, and all are read
    /// from the latest on. A prober that writes between two slices moves members from one to the other: then all is
    /// read again the next time.
    async fn read_changes(
        &self,
        prober: &str,
        from: u64,
        sequence: u64,
        mut slice: Vec<(String, f64)>,
        into: &mut ViewChanges,
    ) -> Result<(), StoreError> {
        let (mut offset, mut read_to, mut findings) = (0, from, HashMap::new());
        let several = slice.len() >= SLICE;
        if several {
            slice = self.latest(prober, 0).await?;
        }
        let latest = slice.first().map_or(0, |(_, at)| *at as u64);
        while !slice.is_empty() {
            let mut call = pipe();
            call.cmd("HMGET").arg(self.keys.health(prober));
            slice.iter().for_each(|(check, _)| {
                call.arg(check);
            });
            let (texts,): (Vec<Option<String>>,) = self.reading.pipeline(&call).await?;
            for ((check, at), json) in slice.iter().zip(texts) {
                read_to = read_to.max(*at as u64);
                // One unreadable finding is one server without an opinion, not a reason to read none.
                if let Some(finding) =
                    json.and_then(|json| serde_json::from_str::<Finding>(&json).ok())
                {
                    findings.insert(CheckKey(check.as_str().into()), finding);
                }
            }
            offset += slice.len();
            slice = if several {
                self.latest(prober, offset).await?
            } else {
                Vec::new()
            };
            slice.retain(|(_, at)| *at as u64 > from);
        }
        if several && self.standing(prober).await? != (sequence, latest) {
            read_to = from;
        }
        if !findings.is_empty() {
            into.changed.insert(prober.to_owned(), (read_to, findings));
        }
        Ok(())
    }

    /// A prober's sequence, and the index of its latest change.
    async fn standing(&self, prober: &str) -> Result<(u64, u64), StoreError> {
        let mut call = pipe();
        call.cmd("ZSCORE").arg(self.keys.probers()).arg(prober);
        call.cmd("ZRANGE")
            .arg(self.keys.health_at(prober))
            .arg(0)
            .arg(0)
            .arg("REV")
            .arg("WITHSCORES");
        let (sequence, latest): (Option<f64>, Vec<(String, f64)>) =
            self.reading.pipeline(&call).await?;
        Ok((
            sequence.unwrap_or(0.0) as u64,
            latest.first().map_or(0, |(_, at)| *at as u64),
        ))
    }

    pub(in crate::store) async fn own_view(&self, id: &str) -> Result<OwnView, StoreError> {
        let (sequence, _) = self.standing(id).await?;
        let mut changes = ViewChanges::default();
        self.read_changes(id, 0, sequence, self.latest(id, 0).await?, &mut changes)
            .await?;
        let (read_to, findings) = changes.changed.remove(id).unwrap_or_default();
        Ok(OwnView {
            sequence: read_to.max(sequence),
            findings,
        })
    }

    /// Every listed redirector, with when it spoke last. Each moves in the order as it speaks: no slices by rank.
    pub(super) async fn listed(&self) -> Result<Vec<(String, f64)>, StoreError> {
        let (mut listed, mut cursor) = (BTreeMap::new(), 0u64);
        loop {
            let mut call = pipe();
            call.cmd("ZSCAN")
                .arg(self.keys.replicas())
                .arg(cursor)
                .arg("COUNT")
                .arg(SCAN);
            let ((next, slice),): ((u64, Vec<(String, f64)>),) =
                self.reading.pipeline(&call).await?;
            listed.extend(slice);
            cursor = next;
            if cursor == 0 {
                return Ok(listed.into_iter().collect());
            }
        }
    }

    pub(in crate::store) async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        let mut spoke = self.listed().await?;
        spoke.sort_by(|left, right| left.1.total_cmp(&right.1));
        let now = self.time().await?;
        let mut said: Vec<HashMap<String, String>> = Vec::with_capacity(spoke.len());
        for slice in spoke.chunks(REPLICAS) {
            let mut call = pipe();
            slice.iter().for_each(|(id, _)| {
                call.cmd("HGETALL").arg(self.keys.replica(id));
            });
            said.extend(self.reading.pipeline::<Vec<_>>(&call).await?);
        }
        let replica = |((id, at), fields): (&(String, f64), HashMap<String, String>)| {
            let text = |name: &str| fields.get(name).cloned().unwrap_or_default();
            let number = |name: &str| text(name).parse().unwrap_or(0);
            let said = Announcement {
                id: id.clone(),
                host: text("host"),
                address: text("address"),
                version: text("version"),
                generation: number("generation"),
                overrides: number("overrides"),
                started: number("started"),
                alarm: text("alarm"),
                by_file: text("by_file"),
                certificate_expires: number("certificate_expires"),
                refused_hosts: serde_json::from_str(&text("refused_hosts")).unwrap_or_default(),
                left: text("left") == "true",
            };
            Replica {
                announcement: said,
                silent_ms: now.saturating_sub(*at as u64),
            }
        };
        Ok(spoke.iter().zip(said).map(replica).collect())
    }

    /// Totals grow and are folded while they are read: what counts is that no fold came in between.
    pub(in crate::store) async fn totals(&self) -> Result<Totals, StoreError> {
        loop {
            let base = self.base().await?;
            let folds = base.folds;
            let totals = self.totals_over(base).await?;
            if self.folds().await? == folds {
                return Ok(totals);
            }
        }
    }

    async fn totals_over(&self, base: Base) -> Result<Totals, StoreError> {
        let mut totals = Totals {
            base: tally(base.totals),
            ..Totals::default()
        };
        for (id, _) in self.listed().await? {
            let mut remains = self.remains(&id).await?;
            // What was folded of it is in the base.
            for (member, folded) in remains.folded {
                if let Some(total) = remains.live.get_mut(&member) {
                    *total = total.saturating_sub(folded);
                }
            }
            totals.live.insert(id, tally(remains.live));
        }
        Ok(totals)
    }

    pub(in crate::store) async fn events(&self, count: usize) -> Result<Vec<Event>, StoreError> {
        let mut call = pipe();
        call.cmd("XREVRANGE")
            .arg(self.keys.events())
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(count);
        let (entries,): (Vec<StreamEntry>,) = self.reading.pipeline(&call).await?;
        let event = |(_, fields): StreamEntry| {
            let text = |name: &str| {
                fields
                    .iter()
                    .find(|(field, _)| field == name)
                    .map(|(_, value)| value.clone())
                    .unwrap_or_default()
            };
            Event {
                at: text("at").parse().unwrap_or(0),
                by: text("by"),
                what: text("what"),
                why: text("why"),
            }
        };
        Ok(entries.into_iter().map(event).collect())
    }
}

/// A stream entry: its id, its fields and values.
type StreamEntry = (String, Vec<(String, String)>);

pub(super) fn decode<T: redis::FromRedisValue>(value: Option<Value>) -> Result<T, StoreError> {
    redis::from_redis_value(value.unwrap_or(Value::Nil)).map_err(content)
}

/// What this version counts of `raw`: the rest is a newer one's, and not lost on it.
fn tally(raw: RawTally) -> Tally {
    let mut tally = Tally::default();
    raw.into_iter()
        .filter_map(|(key, total)| Some((key.parse().ok()?, total)))
        .for_each(|(key, total)| tally.raise(&key, total));
    tally
}
