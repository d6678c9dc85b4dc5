//! The store in this process: what `rbalancer up` runs on. The same verbs with the same meaning as on Redis.

use crate::model::check::CheckKey;
use crate::model::farm::{Farms, ServerId};
use crate::model::followed_totals::FollowedTotals;
use crate::model::generation::Stamp;
use crate::model::health::{Finding, ViewChanges};
use crate::model::overrides::Override;
use crate::model::tally::{CountKey, Tally, Totals};
use crate::store::answer::Replication;
use crate::store::history_entry::HistoryEntry;
use crate::store::records::{
    Announcement, EVENTS_KEPT, Event, ExpectedGenerations, HealthReport, OwnView, Publication,
    Published, Replica, Reported,
};
use crate::time::{UnixMs, unix_ms};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// How many tables are kept: nobody goes back to an older one than a reader may have just heard of.
const KEPT: usize = 2;

/// The store in this process.
#[derive(Debug, Clone)]
pub struct Memory {
    state: Arc<Mutex<MemoryState>>,
    published: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct MemoryState {
    /// The tables kept, oldest first; the last one is in force.
    tables: VecDeque<(HistoryEntry, Farms)>,
    overrides: HashMap<ServerId, Override>,
    /// The overrides' generation: it is there before the first table is.
    overridden: u64,
    views: BTreeMap<String, StoredView>,
    replicas: BTreeMap<String, (Announcement, Instant)>,
    totals: Totals,
    events: VecDeque<Event>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct StoredView {
    sequence: u64,
    findings: HashMap<CheckKey, (u64, Finding)>,
}

/// What of a memory store outlives its process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The totals of the whole process's past.
    totals: Tally,
    /// What probers found.
    views: BTreeMap<String, Vec<(CheckKey, Finding)>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            published: watch::Sender::new(0),
        }
    }
}

impl Memory {
    /// Goes on where `snapshot` was taken: its totals are the base, its findings are adopted where nobody has probed
    /// since. Once in the life of a store.
    pub fn adopt(&self, snapshot: Snapshot) {
        let mut state = self.state();
        state.totals.base = snapshot.totals;
        for (id, findings) in snapshot.views {
            let findings = findings
                .into_iter()
                .map(|(check, finding)| (check, (1, finding)))
                .collect();
            state.views.entry(id).or_insert(StoredView {
                sequence: 1,
                findings,
            });
        }
    }

    /// What to write down so that [`Memory::adopt`] can go on.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let plain = |view: &StoredView| {
            view.findings
                .iter()
                .map(|(check, (_, finding))| (check.clone(), finding.clone()))
                .collect()
        };
        Snapshot {
            totals: state.totals.sum(),
            views: state
                .views
                .iter()
                .map(|(id, view)| (id.clone(), plain(view)))
                .collect(),
        }
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hints(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    pub(super) fn stamp(&self) -> Option<Stamp> {
        let state = self.state();
        state.tables.back().map(|(edition, _)| Stamp {
            overrides: state.overridden,
            ..edition.stamp.clone()
        })
    }

    pub(super) fn farms(&self, stamp: &Stamp) -> Option<Farms> {
        self.state()
            .tables
            .iter()
            .find(|(held, _)| held.stamp.table == stamp.table)
            .map(|(_, farms)| farms.clone())
    }

    pub(super) fn history(&self) -> Vec<HistoryEntry> {
        self.state()
            .tables
            .iter()
            .rev()
            .map(|(edition, _)| edition.clone())
            .collect()
    }

    pub(super) fn time(&self) -> UnixMs {
        unix_ms()
    }

    pub(super) fn copies(&self) -> Option<Replication> {
        None
    }

    pub(super) fn try_writes(&self) {}

    pub(super) fn overrides(&self) -> HashMap<ServerId, Override> {
        self.state().overrides.clone()
    }

    pub(super) fn health(&self, read_to: &BTreeMap<String, u64>) -> ViewChanges {
        let state = self.state();
        let mut changes = ViewChanges::default();
        for (id, view) in &state.views {
            let from = read_to.get(id).copied().unwrap_or(0);
            let changed: HashMap<_, _> = view
                .findings
                .iter()
                .filter(|(_, (at, _))| *at > from)
                .map(|(check, (_, finding))| (check.clone(), finding.clone()))
                .collect();
            if !changed.is_empty() {
                let reach = view.findings.values().map(|(at, _)| *at).max().unwrap_or(0);
                changes.changed.insert(id.clone(), (reach, changed));
            }
            changes.sequences.insert(id.clone(), view.sequence);
        }
        changes
    }

    pub(super) fn own_view(&self, id: &str) -> OwnView {
        let view = self.state().views.get(id).cloned().unwrap_or_default();
        let reached = view.findings.values().map(|(at, _)| *at).max().unwrap_or(0);
        OwnView {
            sequence: view.sequence.max(reached),
            findings: view
                .findings
                .into_iter()
                .map(|(check, (_, finding))| (check, finding))
                .collect(),
        }
    }

    pub(super) fn replicas(&self) -> Vec<Replica> {
        let silent = |at: &Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state()
            .replicas
            .values()
            .map(|(said, at)| Replica {
                announcement: said.clone(),
                silent_ms: silent(at),
            })
            .collect()
    }

    pub(super) fn totals(&self) -> Totals {
        self.state().totals.clone()
    }

    pub(super) fn follow(&self, counted: &mut FollowedTotals) {
        counted.take_all(&self.state().totals);
    }

    pub(super) fn findings(&self, prober: &str, checks: &[CheckKey]) -> HashMap<CheckKey, Finding> {
        let state = self.state();
        let Some(view) = state.views.get(prober) else {
            return HashMap::new();
        };
        let found = |check: &CheckKey| Some((check.clone(), view.findings.get(check)?.1.clone()));
        checks.iter().filter_map(found).collect()
    }

    pub(super) fn events(&self, count: usize) -> Vec<Event> {
        self.state()
            .events
            .iter()
            .rev()
            .take(count)
            .cloned()
            .collect()
    }

    pub(super) fn publish(&self, publication: &Publication) -> Published {
        // Before anybody has to wait for it.
        let mut edition = HistoryEntry::of(
            publication,
            &serde_json::to_vec(&publication.farms).unwrap_or_default(),
        );
        let mut state = self.state();
        let held = state
            .tables
            .back()
            .map(|(edition, _)| edition.stamp.clone());
        let (generation, by) = held.map_or((0, String::new()), |stamp| (stamp.table, stamp.by));
        if let Some((edition, _)) = state
            .tables
            .iter()
            .find(|(edition, _)| edition.stamp.nonce == publication.nonce)
        {
            let mine = edition.stamp.table;
            return if mine == generation {
                Published::Now(mine)
            } else {
                Published::Replaced {
                    mine,
                    generation,
                    by,
                }
            };
        }
        if generation != publication.expected {
            return Published::Lost { generation, by };
        }
        edition.at = unix_ms();
        let new = edition.at.max(generation + 1);
        edition.stamp.table = new;
        let what = format!("generation {new} published");
        state.remember(Event {
            at: edition.at,
            by: publication.by.clone(),
            what,
            why: publication.why.clone(),
        });
        state.tables.push_back((edition, publication.farms.clone()));
        if state.tables.len() > KEPT {
            state.tables.pop_front();
        }
        if publication.reset && !state.overrides.is_empty() {
            state.overrides.clear();
            state.overridden = unix_ms().max(state.overridden + 1);
        }
        drop(state);
        self.published.send_replace(new);
        Published::Now(new)
    }

    pub(super) fn set_override(
        &self,
        id: &ServerId,
        value: Option<&Override>,
        event: &Event,
        judged: Option<ExpectedGenerations>,
    ) -> bool {
        let mut state = self.state();
        let table = state
            .tables
            .back()
            .map_or(0, |(edition, _)| edition.stamp.table);
        if judged.is_some_and(|judged| {
            judged
                != ExpectedGenerations {
                    table,
                    overrides: state.overridden,
                }
        }) {
            return false;
        }
        match value {
            Some(value) => {
                let held = state.overrides.get(id).cloned().unwrap_or_default();
                drop(state.overrides.insert(id.clone(), value.over(&held)));
            }
            None => drop(state.overrides.remove(id)),
        }
        state.overridden = unix_ms().max(state.overridden + 1);
        state.remember(event.clone());
        drop(state);
        self.published.send_modify(|count| *count += 1);
        true
    }

    pub(super) fn report(&self, report: &HealthReport) -> Reported {
        let mut state = self.state();
        report
            .events
            .iter()
            .for_each(|event| state.remember(event.clone()));
        let before = state.views.get(&report.id).map(|view| view.sequence);
        let view = state.views.entry(report.id.clone()).or_default();
        if !report.idle || before.is_none() {
            view.sequence = report.sequence;
        }
        for (check, finding) in &report.changed {
            view.findings
                .insert(check.clone(), (report.sequence, finding.clone()));
        }
        for (check, finding) in &report.touched {
            if let Some((_, held)) = view.findings.get_mut(check) {
                *held = finding.clone();
            }
        }
        report
            .removed
            .iter()
            .for_each(|check| drop(view.findings.remove(check)));
        let reported = Reported {
            before,
            held: view.findings.len(),
        };
        drop(state);
        if !report.changed.is_empty() {
            self.published.send_modify(|count| *count += 1);
        }
        reported
    }

    pub(super) fn flush(&self, id: &str, totals: &[(impl Borrow<CountKey>, u64)]) {
        let mut state = self.state();
        let tally = state.totals.live.entry(id.to_owned()).or_default();
        totals
            .iter()
            .for_each(|(key, total)| tally.raise(key.borrow(), *total));
    }

    pub(super) fn announce(&self, announcement: &Announcement) -> usize {
        let mut state = self.state();
        state.replicas.insert(
            announcement.id.clone(),
            (announcement.clone(), Instant::now()),
        );
        state
            .totals
            .live
            .get(&announcement.id)
            .map_or(0, |tally| tally.iter().count())
    }
}

impl MemoryState {
    fn remember(&mut self, event: Event) {
        self.events.push_back(event);
        while self.events.len() > EVENTS_KEPT {
            self.events.pop_front();
        }
    }
}
