//! Who is probed when: every check on its own schedule, never driven by traffic, a bounded number at once.

use crate::checks::Checks;
use crate::evidence::Evidence;
use crate::probe::Prober as ProbeClient;
use crate::watch::id_claim::{Claim, READING, Taken};
use crate::watch::list::{At, WatchList};
use crate::watch::queue::{Lane, ProbePermits};
use crate::watch::witness::Witness;
use common::model::check::CheckKey;
use common::store::{HealthReport, OwnView, Prober, Reported, StoreError};
use common::time::unix_ms;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{self, JoinError, JoinSet};

/// Probes at once of servers that answer: more would wait for a processor, and seem late.
const ANSWERING: usize = 512;

/// Probes at once of servers that fail: most of them wait for nothing.
const FAILING: usize = 2048;

/// From one look at the clock to the next, at the most.
const TICK: Duration = Duration::from_millis(250);

/// From one report to the next while nothing urgent has happened.
const REPORT: Duration = Duration::from_secs(1);

/// A turn later than this (or than two intervals) means that this process was stopped.
const FROZEN: Duration = Duration::from_secs(2);

/// After the store was away for this long another prober may have come under this id.
const AWAY: Duration = Duration::from_secs(10);

/// What the schedule has done so far, for monitoring.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Probes that succeeded.
    pub succeeded: AtomicU64,
    /// Probes that failed.
    pub failed: AtomicU64,
    /// Probes that said nothing.
    pub inconclusive: AtomicU64,
    /// Checks watched.
    pub checks: AtomicU64,
    /// Checks of which no probe has ever said anything.
    pub never: AtomicU64,
    /// Checks held in service because the prober suspects itself.
    pub held: AtomicU64,
    /// Whether the prober suspects itself.
    pub suspect: AtomicBool,
}

type Joined = Result<(task::Id, (Instant, Evidence)), JoinError>;
type Told = (HealthReport, Result<Reported, StoreError>);

/// What the schedule waits for.
enum Turn {
    Tick,
    Landed(Joined),
    Told(Told),
    Read(Result<OwnView, StoreError>),
    Reached(Option<IpAddr>),
    Checks,
}

/// How many probes may be on their way in a process that may open so many files.
pub(crate) fn room(files: u64) -> ProbePermits {
    ProbePermits::new(
        ANSWERING,
        FAILING.min(usize::try_from(files / 4).unwrap_or(FAILING)),
    )
}

/// The schedule's state.
pub(crate) struct Schedule {
    id: String,
    store: Prober,
    checks: watch::Receiver<Checks>,
    prober: ProbeClient,
    done: Arc<Done>,
    list: WatchList,
    probes: JoinSet<(Instant, Evidence)>,
    /// Which check each of them is of.
    flying: HashMap<task::Id, (CheckKey, Lane, Instant)>,
    /// What is left of the room for them.
    room: ProbePermits,
    /// What there is while none is on its way.
    whole_room: ProbePermits,
    telling: JoinSet<Told>,
    reading: JoinSet<Result<OwnView, StoreError>>,
    next_report: Instant,
    next_reading: Instant,
    /// Since when the store takes no report.
    away: Option<Instant>,
    adopted: bool,
    /// Whether a reading has ended, well or not: probing begins then.
    asked: bool,
    claim: Claim,
    /// Where the claim begins: a store of one's own is nobody else's.
    unclaimed: Claim,
    witness: Witness,
    rng: SmallRng,
}

impl Schedule {
    /// A schedule that watches what `checks` says; `alone` where nobody else can be at work under `id`.
    pub(crate) fn new(
        id: String,
        alone: bool,
        room: ProbePermits,
        store: Prober,
        checks: watch::Receiver<Checks>,
        done: Arc<Done>,
    ) -> Self {
        let (now, unclaimed) = (
            Instant::now(),
            if alone { Claim::Ours } else { Claim::Unread },
        );
        Self {
            id,
            store,
            checks,
            prober: ProbeClient::new(),
            done,
            list: WatchList::new(format!("{:016x}", rand::random::<u64>())),
            probes: JoinSet::new(),
            flying: HashMap::new(),
            room,
            whole_room: room,
            telling: JoinSet::new(),
            reading: JoinSet::new(),
            next_report: now,
            next_reading: now,
            away: None,
            adopted: false,
            asked: false,
            claim: unclaimed,
            unclaimed,
            witness: Witness::new(Vec::new()),
            rng: SmallRng::from_rng(&mut rand::rng()),
        }
    }

    /// With somebody to reach while the prober suspects itself.
    pub(crate) fn beside(mut self, witness: Witness) -> Self {
        self.witness = witness;
        self
    }

    /// Probes and reports for ever.
    ///
    /// # Errors
    /// When another healthd is at work under the same id.
    pub(crate) async fn run(mut self) -> Result<(), Taken> {
        let mut last_turn = Instant::now();
        loop {
            let now = Instant::now();
            self.start_reading(now);
            self.start_probes(now);
            self.start_report(now);
            if self.list.is_in_doubt() {
                self.witness.start(now);
            }
            let wake = self
                .list
                .next_due(self.room)
                .map_or(now + TICK, |due| due.min(now + TICK));
            let turn = tokio::select! {
                () = tokio::time::sleep_until(wake.into()) => Turn::Tick,
                Some(joined) = self.probes.join_next_with_id() => Turn::Landed(joined),
                Some(Ok(told)) = self.telling.join_next() => Turn::Told(told),
                Some(Ok(view)) = self.reading.join_next() => Turn::Read(view),
                address = self.witness.reached() => Turn::Reached(address),
                Ok(()) = self.checks.changed() => Turn::Checks,
            };
            // Before anything is concluded from what has come: a process that was stopped sees its timers run out.
            let turned = Instant::now();
            let stood = turned.duration_since(last_turn);
            last_turn = turned;
            let frozen = stood
                > self
                    .list
                    .shortest()
                    .map_or(FROZEN, |inter| (2 * inter).max(FROZEN));
            if frozen {
                self.stood_still(stood, turned).await;
            }
            match turn {
                Turn::Tick => {}
                Turn::Landed(_) if frozen => {}
                Turn::Landed(joined) => self.take(joined),
                Turn::Told(told) => self.acknowledged(told),
                Turn::Reached(address) => address
                    .into_iter()
                    .for_each(|address| self.list.heard_of(address)),
                Turn::Read(view) => self.read(view, turned)?,
                Turn::Checks => {
                    let checks = self.checks.borrow_and_update().clone();
                    self.done
                        .checks
                        .store(checks.made.len() as u64, Ordering::Relaxed);
                    self.list.set(checks, turned);
                }
            }
        }
    }

    /// Nothing is concluded from what was under way, and another prober may have taken over meanwhile.
    async fn stood_still(&mut self, stood: Duration, now: Instant) {
        tracing::warn!("this process stood still for {stood:?}; probes in flight are dropped");
        self.probes.shutdown().await;
        self.flying.clear();
        self.room = self.whole_room;
        self.list.stood_still(now);
        self.claim = self.unclaimed;
    }

    /// Reads what stands in the store under this id, until it is clear that nobody else is at work under it. The first
    /// reading is adopted. A store that does not answer does not hold probing up.
    fn start_reading(&mut self, now: Instant) {
        if (self.claim == Claim::Ours && self.adopted)
            || !self.reading.is_empty()
            || !self.telling.is_empty()
            || now < self.next_reading
        {
            return;
        }
        self.next_reading = now + READING;
        let (store, id) = (self.store.clone(), self.id.clone());
        self.reading.spawn(async move { store.own_view(&id).await });
    }

    fn read(&mut self, view: Result<OwnView, StoreError>, now: Instant) -> Result<(), Taken> {
        self.asked = true;
        let Ok(view) = view else { return Ok(()) };
        let sequence = view.sequence;
        if !self.adopted {
            self.list.adopt(view, now);
            self.adopted = true;
        }
        if self
            .claim
            .read(sequence, self.list.sequence(), self.list.reached(), now)
        {
            Ok(())
        } else {
            Err(Taken(self.id.clone()))
        }
    }

    fn start_probes(&mut self, now: Instant) {
        if !self.asked {
            return;
        }
        for (key, row, check) in self.list.take_due(now, &mut self.room) {
            let prober = self.prober.clone();
            self.fly(key, row, now, async move { prober.probe(&check).await });
        }
    }

    fn fly(
        &mut self,
        key: CheckKey,
        row: Lane,
        now: Instant,
        probe: impl Future<Output = Evidence> + Send + 'static,
    ) {
        let task = self
            .probes
            .spawn(async move { (Instant::now(), probe.await) });
        self.flying.insert(task.id(), (key, row, now));
    }

    /// A probe has ended. One that panicked says nothing: the others go on, and so does its check.
    fn take(&mut self, joined: Joined) {
        let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some((key, row, taken)) = self.flying.remove(&id) else {
            return;
        };
        let (started, evidence) = match joined {
            Ok((_, outcome)) => outcome,
            Err(error) => (
                taken,
                Evidence::Nothing(format!("the probe itself failed: {error}")),
            ),
        };
        self.room.give_back(row);
        let counter = match &evidence {
            Evidence::Success(_) => &self.done.succeeded,
            Evidence::Hard(_) | Evidence::Soft(_) => &self.done.failed,
            Evidence::Nothing(_) => &self.done.inconclusive,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let at = At {
            now: Instant::now(),
            unix: unix_ms(),
            by: &self.id,
        };
        if matches!(evidence, Evidence::Hard(_)) {
            self.list.locate(&key, |host| self.prober.address(host));
        }
        self.list.take(&key, &evidence, started, at, &mut self.rng);
        self.done
            .suspect
            .store(self.list.is_in_doubt(), Ordering::Relaxed);
    }

    /// One report at a time, on its own: a store that does not answer delays no probe.
    fn start_report(&mut self, now: Instant) {
        let urgent = self.away.is_none() && self.list.is_urgent();
        if self.claim != Claim::Ours
            || !self.adopted
            || !self.telling.is_empty()
            || (now < self.next_report && !urgent)
        {
            return;
        }
        self.next_report = now + REPORT.mul_f64(self.rng.random_range(0.8..1.0));
        let report = self.list.report(&self.id, now);
        let tally = self.list.tally();
        self.done.never.store(tally.never, Ordering::Relaxed);
        self.done.held.store(tally.held, Ordering::Relaxed);
        if let Some(report) = report {
            let store = self.store.clone();
            self.telling.spawn(async move {
                let outcome = store.report(&report).await;
                (report, outcome)
            });
        }
    }

    fn acknowledged(&mut self, (report, outcome): Told) {
        if outcome.is_err() {
            self.list.failed();
        }
        match (outcome, self.away) {
            (Err(error), None) => {
                tracing::warn!("{error}; probing goes on, findings are told later");
                self.away = Some(Instant::now());
            }
            // Whether it was carried out all the same is not known; that we are the only one is to be looked at anew.
            (Err(_), Some(since)) if since.elapsed() > AWAY => self.claim = self.unclaimed,
            (Err(_), Some(_)) => {}
            (Ok(reported), _) => {
                self.away = None;
                // Nobody but another prober has told of more than we have: two began at once, and found nobody.
                if !report.idle
                    && reported
                        .before
                        .is_some_and(|before| before >= report.sequence)
                {
                    self.claim = self.unclaimed;
                }
                self.list.acknowledged(report, reported);
            }
        }
    }
}

#[cfg(test)]
mod tests;
