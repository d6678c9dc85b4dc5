//! Everything that is watched: the state of each check.

use crate::checks::{CheckedServer, Checks};
use crate::evidence::Evidence;
use crate::verdict::ejection_limit::{self, Machine};
use crate::verdict::judge::{Fall, Judge, Ruling};
use crate::verdict::self_suspicion::SelfSuspicion;
use crate::watch::left::Left;
use crate::watch::queue::{Lane, ProbePermits, Queue};
use crate::watch::watched::{CautionCounts, Watched};
use common::model::check::{Check, CheckKey};
use common::model::farm::Name;
use common::model::health::{Checked, State};
use common::store::{Event, OwnView};
use common::time::{UnixMs, unix_ms};
use rand::Rng;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Probes brought forward when a server begins to fail: whether others answer tells its trouble from ours.
const OPINIONS: usize = 2;

/// The next probes those are chosen from.
const CHOICE: usize = 64;

/// Events kept while the store cannot be told.
const EVENTS_KEPT: usize = 1000;

/// When an outcome is taken in, and by whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    /// By the monotonic clock.
    pub now: Instant,
    /// By the wall clock, for people.
    pub unix: UnixMs,
    /// The prober's id.
    pub by: &'a str,
}

/// All checks.
#[derive(Debug, Default)]
pub(crate) struct WatchList {
    pub(super) checks: BTreeMap<CheckKey, Watched>,
    /// How many servers of each farm take clients whatever is found.
    pub(super) always_in: BTreeMap<Name, usize>,
    /// The checks that wait. One that is watched no more is skipped when its time comes.
    pub(super) due: Queue,
    /// The shortest interval of all checks.
    pub(super) shortest: Option<Duration>,
    /// Those that are watched no more: readers hear so before the store forgets them.
    pub(super) left: BTreeMap<CheckKey, Left>,
    pub(super) events: Vec<Event>,
    /// The number of the first of them.
    pub(super) first_event: u64,
    /// What tells this run's numbers from those of another.
    pub(super) run: String,
    pub(super) sequence: u64,
    /// The sequence this run told last; none before its first report.
    pub(super) reached: Option<u64>,
    /// The sequence the store then showed to readers.
    pub(super) shown: Option<u64>,
    /// Whether a report failed since: what the store holds is not known.
    pub(super) unsure: bool,
    /// Whether a state has turned since the last report.
    pub(super) turned: bool,
    /// Whether any probe since the last report was conclusive.
    pub(super) conclusive: bool,
    /// Whether this prober itself is in doubt.
    pub(super) doubt: SelfSuspicion,
    /// What is to be known of all of them, as of the last report.
    pub(super) tally: CautionCounts,
    /// What an earlier run knew of checks that are not watched yet.
    pub(super) adopted: OwnView,
}

impl WatchList {
    /// An empty one for one run of a prober.
    pub(crate) fn new(run: String) -> Self {
        Self {
            run,
            ..Self::default()
        }
    }

    /// Goes on where an earlier run of the same prober stopped: what is watched from now on keeps its state.
    pub(crate) fn adopt(&mut self, view: OwnView, now: Instant) {
        self.sequence = self.sequence.max(view.sequence);
        self.adopted = view;
        for (key, watched) in &mut self.checks {
            if watched.judge.finding().state == State::Abstain
                && let Some(finding) = self.adopted.findings.remove(key)
            {
                watched.published = Some(finding.clone());
                watched.judge = Judge::adopt(finding, now);
            }
        }
    }

    /// Watches exactly `checks` from now on. New ones are due at once.
    pub(crate) fn set(&mut self, checks: Checks, now: Instant) {
        let mut old = std::mem::take(&mut self.checks);
        self.always_in = checks.always_in;
        for (key, (check, servers)) in checks.made {
            let watched = match old.remove(&key) {
                Some(held) => Watched { servers, ..held },
                None => {
                    let known = self.adopted.findings.remove(&key);
                    let judge = known
                        .clone()
                        .map_or_else(|| Judge::new(unix_ms()), |known| Judge::adopt(known, now));
                    self.due.wait(Lane::Answering, now, key.clone());
                    Watched {
                        check,
                        servers,
                        judge,
                        published: known,
                        due: now,
                        in_flight: 0,
                        address: None,
                        warned: false,
                    }
                }
            };
            self.checks.insert(key, watched);
        }
        self.shortest = self
            .checks
            .values()
            .map(|watched| watched.check.inter)
            .min();
        self.left.retain(|key, _| !self.checks.contains_key(key));
        // And what an earlier run watched, and nobody wants any more.
        for key in old
            .into_keys()
            .chain(std::mem::take(&mut self.adopted.findings).into_keys())
        {
            self.left.insert(key, Left::new(now));
        }
    }

    /// The checks that are due at `now`, as many as there is `room` for; they are in flight from then on.
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        room: &mut ProbePermits,
    ) -> Vec<(CheckKey, Lane, Check)> {
        let mut taken = Vec::new();
        // An entry of a check that left and came back meanwhile counts for nothing.
        let waits =
            |watched: &Watched, due| watched.in_flight < watched.allowed() && watched.due == due;
        while let Some((row, key)) = self.due.pop(now, room, |due, key| {
            self.checks
                .get(key)
                .is_some_and(|watched| waits(watched, due))
        }) && let Some(watched) = self.checks.get_mut(&key)
        {
            watched.in_flight += 1;
            taken.push((key.clone(), row, watched.check.clone()));
            if watched.judge.failures() > 0 && watched.in_flight < watched.allowed() {
                watched.due = now + watched.check.fastinter;
                self.due.wait(Lane::Failing, watched.due, key);
            }
        }
        taken
    }

    /// When the next check is due of those there is room for.
    pub(crate) fn next_due(&self, room: ProbePermits) -> Option<Instant> {
        self.due.next_due(room)
    }

    /// The shortest interval of all checks.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.shortest
    }

    /// Takes in the outcome of a probe that was begun at `started`.
    pub(crate) fn take(
        &mut self,
        key: &CheckKey,
        evidence: &Evidence,
        started: Instant,
        at: At<'_>,
        rng: &mut impl Rng,
    ) {
        let Some(watched) = self.checks.get_mut(key) else {
            return;
        };
        watched.in_flight = watched.in_flight.saturating_sub(1);
        let before = watched.judge.finding().state;
        let was_failing = watched.judge.trail().failing_since.is_some();
        let fall = watched
            .judge
            .take(&watched.check, evidence, started, at.unix);
        let begins = !was_failing && watched.judge.trail().failing_since.is_some();
        self.conclusive |= match evidence {
            Evidence::Success(_) => true,
            Evidence::Hard(_) | Evidence::Soft(_) => self
                .doubt
                .is_conclusive(matches!(evidence, Evidence::Hard(_)), at.now),
            Evidence::Nothing(_) => false,
        };
        self.doubt(key, evidence, at);
        if begins && before != State::Down {
            self.ask_others(key, at.now);
        }
        if let Some(fall) = fall {
            self.rule(key, fall, started, at);
        }
        self.settle(key, before, started, at, rng);
    }

    /// Begins or ends the doubt in this prober itself.
    fn doubt(&mut self, key: &CheckKey, evidence: &Evidence, at: At<'_>) {
        match evidence {
            Evidence::Success(why) if self.doubt.end() => {
                let others = self.checks.iter_mut().filter(|(other, _)| *other != key);
                others.for_each(|(_, watched)| watched.judge.outlive_doubt());
                self.tell(
                    "prober no longer suspect",
                    format!("{key} answers again: {why}"),
                    at,
                );
            }
            Evidence::Hard(_) | Evidence::Soft(_) => {
                if let Some(targets) = self
                    .doubt
                    .look(self.checks.values().map(Watched::seen), at.now)
                {
                    let why = format!(
                        "all {targets} targets began to fail at once: they are held in service"
                    );
                    tracing::warn!("prober suspect: {why}");
                    self.keep("prober suspect", why, at);
                }
                self.doubt
                    .weigh(self.checks.values().map(Watched::seen), at.now);
            }
            _ => {}
        }
    }

    /// Brings some probes of other targets forward.
    fn ask_others(&mut self, key: &CheckKey, now: Instant) {
        let Some(target) = self.checks.get(key).map(|watched| watched.seen().target()) else {
            return;
        };
        let waits = |watched: &&Watched| {
            let settled = watched.judge.finding().checked == Checked::Ok && watched.due > now;
            settled && watched.in_flight == 0 && watched.seen().target() != target
        };
        let next = self
            .due
            .waiting(Lane::Answering)
            .take(CHOICE)
            .filter(|key| self.checks.get(key).filter(waits).is_some());
        let others: Vec<CheckKey> = next.take(OPINIONS).cloned().collect();
        for key in others {
            if let Some(watched) = self.checks.get_mut(&key) {
                watched.due = now;
                self.due.wait(Lane::Answering, now, key);
            }
        }
    }

    fn rule(&mut self, key: &CheckKey, fall: Fall, started: Instant, at: At<'_>) {
        let Some(fallen) = self.checks.get(key).map(Watched::seen) else {
            return;
        };
        let all = self.checks.values().map(Watched::seen);
        let ruling = match self.doubt.holds(&all, &fallen, fall, at.now) {
            Some(why) => Ruling::Hold(why.to_owned()),
            None if fall == Fall::Hard => Ruling::Down,
            None => ejection_limit::held(&all, &self.always_in, &fallen, at.now)
                .map_or(Ruling::Down, Ruling::Suspect),
        };
        if let Some(watched) = self.checks.get_mut(key) {
            watched.judge.rule(&watched.check, ruling, started, at.unix);
        }
    }

    /// After a probe: when the next one is due, and what has turned.
    fn settle(
        &mut self,
        key: &CheckKey,
        before: State,
        started: Instant,
        at: At<'_>,
        rng: &mut impl Rng,
    ) {
        let Some(watched) = self.checks.get_mut(key) else {
            return;
        };
        // With more on their way the next one's time is set already, or set by the last of them.
        if watched.in_flight == 0 {
            watched.due = started + watched.judge.interval(&watched.check, rng);
            self.due.wait(watched.row(), watched.due, key.clone());
        }
        let finding = watched.judge.finding();
        if before == finding.state {
            return;
        }
        self.turned = true;
        let turned = match (before, finding.state) {
            (State::Abstain, State::Up) | (_, State::Abstain) => return,
            (_, State::Up) => "up",
            (_, State::Down) => "down",
            (_, State::Suspect) => "suspect",
        };
        let why = finding.why.clone();
        for CheckedServer { id, serves } in watched.servers.clone() {
            let what = format!("{id} is {turned}");
            let (left, enabled) = self.left(&id.farm);
            match (turned, serves) {
                ("up", true) => tracing::info!("{what}: {why} ({left} of {enabled} in service)"),
                ("up", false) => tracing::info!("{what}: {why}"),
                (_, true) => tracing::warn!("{what}: {why} ({left} of {enabled} left)"),
                (_, false) => tracing::warn!("{what}: {why}"),
            }
            self.keep(&what, why.clone(), at);
        }
    }

    /// How many servers of a farm that take clients are not down, and how many take clients.
    fn left(&self, farm: &Name) -> (usize, usize) {
        let always_in = self.always_in.get(farm).copied().unwrap_or(0);
        let (enabled, down) = ejection_limit::enabled_and_down(
            farm,
            self.checks.values().map(Watched::seen),
            always_in,
        );
        (enabled - down, enabled)
    }

    fn tell(&mut self, what: &str, why: String, at: At<'_>) {
        tracing::info!("{what}: {why}");
        self.keep(what, why, at);
    }

    /// Keeps an event until the store is told.
    fn keep(&mut self, what: &str, why: String, at: At<'_>) {
        self.events.push(Event {
            at: at.unix,
            by: at.by.to_owned(),
            what: what.to_owned(),
            why,
        });
        self.drop_events(self.events.len().saturating_sub(EVENTS_KEPT));
    }

    pub(super) fn drop_events(&mut self, count: usize) {
        self.first_event += self.events.drain(..count).count() as u64;
    }

    /// Whether this prober itself is in doubt.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubt.is_raised()
    }

    /// Notes where the probes of a check go; `address` knows what its host stands for.
    pub(crate) fn locate(&mut self, key: &CheckKey, address: impl Fn(&str) -> Option<IpAddr>) {
        if let Some(watched) = self.checks.get_mut(key) {
            watched.address = address(watched.seen().host());
        }
    }

    /// Something that is not probed was reached over the network at `address`, by a new connection.
    pub(crate) fn heard_of(&mut self, address: IpAddr) {
        let is_target = || {
            self.checks
                .values()
                .any(|watched| watched.seen().machine() == Machine::At(address))
        };
        if !address.is_loopback() && !is_target() {
            self.doubt.reach();
        }
    }

    /// This very process stood still: nothing is concluded from probes in flight, and rows start anew.
    pub(crate) fn stood_still(&mut self, now: Instant) {
        self.checks
            .values_mut()
            .for_each(|watched| watched.judge.forget_rows());
        for (key, watched) in self
            .checks
            .iter_mut()
            .filter(|(_, watched)| watched.in_flight > 0)
        {
            (watched.in_flight, watched.due) = (0, now);
            self.due.wait(watched.row(), now, key.clone());
        }
    }

    /// Whether a state waits to be told that readers must hear of at once.
    pub(crate) fn is_urgent(&self) -> bool {
        self.turned
    }

    /// The sequence counted up to.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The sequence told last; none before the first report.
    pub(crate) fn reached(&self) -> Option<u64> {
        self.reached
    }
}

#[cfg(test)]
mod tests;
