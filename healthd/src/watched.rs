//! Everything that is watched: the state of each check, and what of it the store has still to be told.

use crate::judge::Judge;
use crate::probe::Evidence;
use crate::table::Checks;
use common::check::{Check, CheckKey};
use common::clock::{UnixMs, unix_ms};
use common::farm::ServerId;
use common::health::{Finding, State};
use common::store::{Event, HealthReport, OwnView};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A later last_check alone is worth a write after this long.
const TOUCH_MS: u64 = 5_000;

/// Events kept while the store cannot be told.
const EVENTS_KEPT: usize = 1000;

/// One check.
#[derive(Debug)]
struct Watched {
    check: Check,
    servers: Vec<ServerId>,
    judge: Judge,
    /// What the store is known to hold.
    published: Option<Finding>,
    due: Instant,
    in_flight: bool,
}

/// All checks.
#[derive(Debug, Default)]
pub struct WatchList {
    checks: BTreeMap<CheckKey, Watched>,
    /// The checks that wait, by when they are due. One that is watched no more is skipped when its time comes.
    due: BTreeSet<(Instant, CheckKey)>,
    /// The shortest interval of all checks.
    shortest: Option<Duration>,
    removed: Vec<CheckKey>,
    events: Vec<Event>,
    sequence: u64,
    /// Whether a state has turned since the last report.
    turned: bool,
    /// Whether any probe since the last report was conclusive.
    conclusive: bool,
    /// What an earlier run knew of checks that are not watched yet.
    adopted: OwnView,
}

impl WatchList {
    /// Goes on where an earlier run of the same prober stopped: what is watched from now on keeps its state.
    pub fn adopt(&mut self, view: OwnView) {
        self.sequence = self.sequence.max(view.sequence);
        self.adopted = view;
        for (key, watched) in &mut self.checks {
            if watched.judge.finding().last_check == 0
                && let Some(finding) = self.adopted.findings.remove(key)
            {
                watched.published = Some(finding.clone());
                watched.judge = Judge::adopt(finding);
            }
        }
    }

    /// Watches exactly `checks` from now on. New ones are due at once.
    pub fn set(&mut self, checks: Checks, now: Instant) {
        let mut old = std::mem::take(&mut self.checks);
        for (key, (check, servers)) in checks {
            let watched = match old.remove(&key) {
                Some(held) => Watched { servers, ..held },
                None => {
                    let known = self.adopted.findings.remove(&key);
                    let judge = known.clone().map_or_else(|| Judge::new(unix_ms()), Judge::adopt);
                    self.due.insert((now, key.clone()));
                    Watched { check, servers, judge, published: known, due: now, in_flight: false }
                }
            };
            self.checks.insert(key, watched);
        }
        self.shortest = self.checks.values().map(|watched| watched.check.inter).min();
        self.removed.extend(old.into_keys());
        self.removed.retain(|key| !self.checks.contains_key(key));
        // What an earlier run watched and nobody wants any more.
        self.removed.extend(std::mem::take(&mut self.adopted.findings).into_keys());
    }

    /// Up to `room` checks that are due at `now`; they are in flight from then on.
    pub fn take_due(&mut self, now: Instant, room: usize) -> Vec<(CheckKey, Check)> {
        let mut taken = Vec::new();
        while taken.len() < room
            && let Some((due, key)) = self.due.first().filter(|(due, _)| *due <= now).cloned()
        {
            self.due.pop_first();
            // An entry of a check that left and came back meanwhile counts for nothing.
            if let Some(watched) = self.checks.get_mut(&key).filter(|watched| !watched.in_flight && watched.due == due) {
                watched.in_flight = true;
                taken.push((key, watched.check.clone()));
            }
        }
        taken
    }

    /// When the next check is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The shortest interval of all checks.
    pub fn shortest(&self) -> Option<Duration> {
        self.shortest
    }

    /// Takes in the outcome of a probe that was begun at `started`.
    pub fn take(&mut self, key: &CheckKey, evidence: &Evidence, started: Instant, now: UnixMs, by: &str, rng: &mut impl Rng) {
        let Some(watched) = self.checks.get_mut(key) else { return };
        watched.in_flight = false;
        let before = watched.judge.finding().state;
        self.conclusive |= watched.judge.take(&watched.check, evidence, now);
        watched.due = started + watched.judge.interval(&watched.check, rng);
        self.due.insert((watched.due, key.clone()));
        let finding = watched.judge.finding();
        self.turned |= before != finding.state;
        let turned = match (before, finding.state) {
            (State::Abstain, State::Up) => None,
            (before, after) if before != after => Some(if after == State::Up { "up" } else { "down" }),
            _ => None,
        };
        for (id, turned) in watched.servers.iter().filter_map(|id| Some((id, turned?))) {
            tracing::info!("{id} is {turned}: {}", finding.why);
            self.events.push(Event { at: now, by: by.to_owned(), what: format!("{id} is {turned}"), why: finding.why.clone() });
        }
        if self.events.len() > EVENTS_KEPT {
            self.events.drain(..self.events.len() - EVENTS_KEPT);
        }
    }

    /// Probes in flight were lost to a stop of this very process: nothing is concluded from them.
    pub fn forget_flights(&mut self, now: Instant) {
        for (key, watched) in self.checks.iter_mut().filter(|(_, watched)| watched.in_flight) {
            (watched.in_flight, watched.due) = (false, now);
            self.due.insert((now, key.clone()));
        }
    }

    /// What the store has still to be told; none if nothing.
    pub fn report(&mut self, id: &str) -> Option<HealthReport> {
        let mut report =
            HealthReport { id: id.to_owned(), removed: self.removed.clone(), events: self.events.clone(), ..HealthReport::default() };
        for (key, watched) in &self.checks {
            let finding = watched.judge.finding();
            match &watched.published {
                Some(published) if !published.differs(finding) => {
                    if finding.last_check >= published.last_check + TOUCH_MS {
                        report.touched.push((key.clone(), finding.clone()));
                    }
                }
                _ => report.changed.push((key.clone(), finding.clone())),
            }
        }
        let nothing = report.changed.is_empty() && report.removed.is_empty() && report.events.is_empty() && !self.conclusive;
        if nothing {
            return None;
        }
        if self.conclusive || !report.changed.is_empty() {
            self.sequence += 1;
        }
        (self.conclusive, self.turned) = (false, false);
        report.sequence = self.sequence;
        Some(report)
    }

    /// The store has taken `report` and holds `held` findings of ours. Fewer than it was told of: it lost some.
    pub fn told(&mut self, report: HealthReport, held: usize) {
        for (key, finding) in report.changed.into_iter().chain(report.touched) {
            if let Some(watched) = self.checks.get_mut(&key) {
                watched.published = Some(finding);
            }
        }
        self.removed.retain(|key| !report.removed.contains(key));
        self.events.drain(..report.events.len().min(self.events.len()));
        let told = self.checks.values().filter(|watched| watched.published.is_some()).count();
        if held < told {
            tracing::warn!(held, told, "the store lost findings; telling all again");
            self.checks.values_mut().for_each(|watched| watched.published = None);
        }
    }

    /// Whether a state waits to be told that readers must hear of at once.
    pub fn is_urgent(&self) -> bool {
        self.turned
    }

    /// How many checks there are.
    pub fn len(&self) -> usize {
        self.checks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }
}
