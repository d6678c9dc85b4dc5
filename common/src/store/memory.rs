//! The store in this process: what `rbalancer up` runs on. The same verbs with the same meaning as on Redis.

use super::{Announcement, EVENTS_KEPT, Event, HealthReport, OwnView, Publication, Published, Replica};
use crate::check::CheckKey;
use crate::clock::unix_ms;
use crate::farm::{Override, ServerId};
use crate::generation::{SCHEMA, Stamp, checksum};
use crate::health::{Finding, ViewChanges};
use crate::tally::{CountKey, Tally, Totals};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// The store in this process.
#[derive(Debug, Clone)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    published: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    table: Option<(Stamp, Vec<u8>)>,
    overrides: HashMap<ServerId, Override>,
    /// The overrides' generation: it is there before the first table is.
    overridden: u64,
    views: BTreeMap<String, View>,
    replicas: BTreeMap<String, (Announcement, Instant)>,
    totals: Totals,
    events: VecDeque<Event>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct View {
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
        Self { state: Arc::default(), published: watch::Sender::new(0) }
    }
}

impl Memory {
    /// A store that goes on where `snapshot` was taken: its totals are the base, its findings are adopted.
    pub fn restore(snapshot: Snapshot) -> Self {
        let memory = Self::default();
        {
            let mut state = memory.state();
            state.totals.base = snapshot.totals;
            for (id, findings) in snapshot.views {
                let findings = findings.into_iter().map(|(check, finding)| (check, (1, finding))).collect();
                state.views.insert(id, View { sequence: 1, findings });
            }
        }
        memory
    }

    /// What to write down so that [`Memory::restore`] can go on.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let plain = |view: &View| view.findings.iter().map(|(check, (_, finding))| (check.clone(), finding.clone())).collect();
        Snapshot { totals: state.totals.sum(), views: state.views.iter().map(|(id, view)| (id.clone(), plain(view))).collect() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hints(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.state().table.as_ref().map(|(stamp, _)| stamp.clone())
    }

    pub(super) fn table_json(&self, stamp: &Stamp) -> Option<Vec<u8>> {
        self.state().table.as_ref().filter(|(held, _)| held.table == stamp.table).map(|(_, json)| json.clone())
    }

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
        OwnView { sequence: view.sequence, findings: view.findings.into_iter().map(|(check, (_, finding))| (check, finding)).collect() }
    }

    pub(super) fn replicas(&self) -> Vec<Replica> {
        let silent = |at: &Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state().replicas.values().map(|(said, at)| Replica { said: said.clone(), silent_ms: silent(at) }).collect()
    }

    pub(super) fn totals(&self) -> Totals {
        self.state().totals.clone()
    }

    pub(super) fn events(&self, count: usize) -> Vec<Event> {
        self.state().events.iter().rev().take(count).cloned().collect()
    }

    pub(super) fn publish(&self, publication: &Publication) -> Published {
        let mut state = self.state();
        let held = state.table.as_ref().map(|(stamp, _)| stamp);
        let generation = held.map_or(0, |stamp| stamp.table);
        if let Some(stamp) = held.filter(|stamp| stamp.nonce == publication.nonce) {
            return Published::Now(stamp.table);
        }
        if generation != publication.expected {
            return Published::Lost { generation, by: held.map(|stamp| stamp.by.clone()).unwrap_or_default() };
        }
        let json = serde_json::to_vec(&publication.farms).unwrap_or_default();
        let stamp = Stamp {
            table: unix_ms().max(generation + 1),
            overrides: state.overridden,
            checksum: checksum(&json),
            cluster: publication.cluster.clone(),
            schema: SCHEMA,
            min_reader: SCHEMA,
            nonce: publication.nonce.clone(),
            by: publication.by.clone(),
            why: publication.why.clone(),
        };
        let new = stamp.table;
        let what = format!("generation {new} published");
        state.remember(Event { at: unix_ms(), by: publication.by.clone(), what, why: publication.why.clone() });
        state.table = Some((stamp, json));
        drop(state);
        self.published.send_replace(new);
        Published::Now(new)
    }

    pub(super) fn set_override(&self, id: &ServerId, value: Option<&Override>, event: &Event) {
        let mut state = self.state();
        match value {
            Some(value) => drop(state.overrides.insert(id.clone(), value.clone())),
            None => drop(state.overrides.remove(id)),
        }
        state.overridden = unix_ms().max(state.overridden + 1);
        let overridden = state.overridden;
        if let Some((stamp, _)) = &mut state.table {
            stamp.overrides = overridden;
        }
        state.remember(event.clone());
        drop(state);
        self.published.send_modify(|count| *count += 1);
    }

    pub(super) fn report(&self, report: &HealthReport) -> usize {
        let mut state = self.state();
        report.events.iter().for_each(|event| state.remember(event.clone()));
        let view = state.views.entry(report.id.clone()).or_default();
        view.sequence = report.sequence;
        for (check, finding) in &report.changed {
            view.findings.insert(check.clone(), (report.sequence, finding.clone()));
        }
        for (check, finding) in &report.touched {
            if let Some((_, held)) = view.findings.get_mut(check) {
                *held = finding.clone();
            }
        }
        report.removed.iter().for_each(|check| drop(view.findings.remove(check)));
        let held = view.findings.len();
        drop(state);
        if !report.changed.is_empty() {
            self.published.send_modify(|count| *count += 1);
        }
        held
    }

    pub(super) fn flush(&self, id: &str, totals: &[(CountKey, u64)]) {
        let mut state = self.state();
        let tally = state.totals.live.entry(id.to_owned()).or_default();
        totals.iter().for_each(|(key, total)| tally.raise(key.clone(), *total));
    }

    pub(super) fn announce(&self, announcement: &Announcement) -> usize {
        let mut state = self.state();
        state.replicas.insert(announcement.id.clone(), (announcement.clone(), Instant::now()));
        state.totals.live.get(&announcement.id).map_or(0, |tally| tally.iter().count())
    }
}

impl State {
    fn remember(&mut self, event: Event) {
        self.events.push_back(event);
        while self.events.len() > EVENTS_KEPT {
            self.events.pop_front();
        }
    }
}
