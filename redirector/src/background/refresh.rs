//! Keeps `Routes` current. The poll of the store is the truth, a hint only makes it sooner; whatever goes wrong, the
//! last good state stays in force.

use crate::background::empty_farms::EmptyFarms;
use crate::background::override_file::ByFile;
use crate::background::state_file::StateFile;
use crate::counters::Counters;
use crate::routes::Routes;
use arc_swap::ArcSwap;
use common::model::check::CheckKey;
use common::model::farm::{Name, ServerId};
use common::model::generation::{Alarm, Table};
use common::store::{Follower, Following, Reader, StoreError};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// From one poll to the next.
const POLL: Duration = Duration::from_secs(1);

/// The shortest time from one poll to the next: a burst of hints is one poll.
const GAP: Duration = Duration::from_millis(25);

/// What the redirector says of its state to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The table's generation, 0 for none.
    pub generation: u64,
    /// The overrides' generation.
    pub overrides: u64,
    /// What is wrong with the state offered, empty if nothing.
    pub alarm: String,
    /// What this host's own file sets by hand, empty if nothing.
    pub by_file: String,
}

/// Shared by the refresher, which writes it, and the flusher, which announces it.
pub type StatusCell = Arc<Mutex<Status>>;

/// The part of the routes that is out of date.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stale {
    all: bool,
    farms: BTreeSet<u32>,
}

/// The refresher's state.
pub struct Refresher {
    follower: Follower,
    counters: Arc<Counters>,
    routes: Arc<ArcSwap<Routes>>,
    status: StatusCell,
    state_file: Option<StateFile>,
    /// What this host's own file sets, as it is now.
    by_file: watch::Receiver<ByFile>,
    /// The servers that the file names and the table does not, as last said.
    unknown: Vec<ServerId>,
    /// The probers whose views were fresh when the routes were built.
    fresh: Vec<String>,
    /// Routes that were replaced, until all threads have let go of them: none that serves is to be the one to free them.
    retired: Vec<Arc<Routes>>,
    /// What of the routes does not show yet what was taken in: a poll can end before they are rebuilt.
    stale: Stale,
    /// The farms that each check speaks for, by their place in the table.
    watchers: HashMap<CheckKey, Vec<u32>>,
    /// The farms without a live server, as the log has them.
    empty: EmptyFarms,
    reachable: bool,
    rng: SmallRng,
}

impl Refresher {
    /// A refresher with no table yet; `state_file` is where the last good one is kept.
    pub fn new(
        reader: Reader,
        cluster: Name,
        counters: Arc<Counters>,
        routes: Arc<ArcSwap<Routes>>,
        status: StatusCell,
        state_file: Option<PathBuf>,
        by_file: watch::Receiver<ByFile>,
    ) -> Self {
        Self {
            follower: Follower::new(reader, Following::Cluster(cluster)),
            counters,
            routes,
            status,
            state_file: state_file.map(StateFile::new),
            by_file,
            unknown: Vec::new(),
            fresh: Vec::new(),
            retired: Vec::new(),
            stale: Stale::default(),
            watchers: HashMap::new(),
            empty: EmptyFarms::default(),
            reachable: true,
            rng: SmallRng::from_rng(&mut rand::rng()),
        }
    }

    /// Polls for ever. The first poll is made at once.
    pub async fn run(mut self) {
        let mut hints = self.follower.reader().hints();
        let mut by_file = self.by_file.clone();
        by_file.mark_unchanged();
        loop {
            let began = Instant::now();
            let outcome = self.poll().await;
            self.note(&outcome);
            self.end_overrides(Instant::now());
            // Many redirectors started together do not go on polling together.
            let pause = if self.reachable {
                POLL.mul_f64(self.rng.random_range(0.9..1.0))
            } else {
                POLL.mul_f64(self.rng.random_range(0.1..1.0))
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = hints.next() => tokio::time::sleep_until((began + GAP).into()).await,
                Ok(()) = by_file.changed() => {
                    // The store may be away: what the file says is in force at once.
                    self.stale.all = true;
                    self.rebuild(Instant::now());
                    self.tell(None);
                }
            }
        }
    }

    /// Takes in what is new in the store, and swaps the routes if anything is. What cannot be read holds back nothing
    /// else.
    pub async fn poll(&mut self) -> Result<(), StoreError> {
        self.retired.retain(|routes| Arc::strong_count(routes) > 1);
        let offered = self.take_offered().await;
        let health = match &offered {
            Err(error) if error.is_silence() => Ok(()),
            _ => self.take_health().await,
        };
        if self.stale != Stale::default() {
            self.rebuild(Instant::now());
        }
        match &offered {
            Ok(alarm) => self.tell(alarm.as_ref().map(ToString::to_string)),
            Err(error) if error.is_damage() => self.tell(Some(format!(
                "{error}; keeping what was read before: run `rbalancer apply`"
            ))),
            Err(_) => {}
        }
        offered.map(drop).and(health)
    }

    /// Takes the table and what is set by hand, if there are newer ones; why not, if something is wrong with them.
    async fn take_offered(&mut self) -> Result<Option<Alarm>, StoreError> {
        let news = self.follower.take_table().await?;
        if news.table {
            self.hold();
        }
        news.turned
            .iter()
            .for_each(|words| tracing::info!("{words}"));
        self.stale.all |= news.overrides;
        let held = self.follower.table().filter(|_| news.alarm.is_none());
        if let (Some(state_file), Some(table)) = (&mut self.state_file, held) {
            state_file.confirm(table, Instant::now());
        }
        Ok(news.alarm)
    }

    async fn take_health(&mut self) -> Result<(), StoreError> {
        let outcome = self.follower.take_health().await.map(|(changed, _)| {
            let watchers = changed.iter().filter_map(|check| self.watchers.get(check));
            self.stale.farms.extend(watchers.flatten());
        });
        let follower = &self.follower;
        let fresh = follower.views().fresh(Instant::now(), follower.window());
        self.stale.all |= fresh != self.fresh;
        self.fresh = fresh;
        outcome
    }

    /// There is a new table: which farms each check speaks for, and nothing of the routes is as it should be.
    fn hold(&mut self) {
        let Some(table) = self.follower.table() else {
            return;
        };
        let (generation, farms, by) = (table.stamp.table, table.farms.len(), &table.stamp.by);
        tracing::info!(generation, farms, by, "new table");
        self.watchers.clear();
        for (index, farm) in (0..).zip(table.farms.iter()) {
            for check in farm
                .servers
                .iter()
                .filter_map(|server| server.check.as_ref())
            {
                self.watchers.entry(check.key()).or_default().push(index);
            }
        }
        self.stale.all = true;
    }

    /// Takes over the table the last run wrote down, so that this one answers without the store.
    pub fn adopt(&mut self, table: Table) {
        let generation = table.stamp.table;
        tracing::info!(generation, "starting from the last good table on disk");
        self.follower.adopt(table);
        self.hold();
        self.rebuild(Instant::now());
        self.tell(None);
    }

    /// Lets go of what was set by hand for a time that is over, whether or not the store answers.
    fn end_overrides(&mut self, now: Instant) {
        let turned = self.follower.end_overrides(now);
        if !turned.is_empty() {
            turned.iter().for_each(|words| tracing::info!("{words}"));
            self.stale.all = true;
            self.rebuild(now);
        }
    }

    fn rebuild(&mut self, now: Instant) {
        let Some(table) = self.follower.table() else {
            return;
        };
        if self.stale.all {
            self.unknown = self.by_file.borrow().unknown(&table.farms, &self.unknown);
        }
        let health = self.follower.health(now);
        let previous = self.routes.load_full();
        let overrides = self.by_file.borrow().over(self.follower.overrides());
        let routes = if self.stale.all {
            Routes::build(
                &table.farms,
                &overrides,
                &health,
                &self.counters,
                &previous,
                &mut self.rng,
            )
        } else {
            previous.rebuild(
                &table.farms,
                &self.stale.farms,
                &overrides,
                &health,
                &self.counters,
            )
        };
        let stale = (!self.stale.all).then_some(&self.stale.farms);
        self.empty.take(&table.farms, stale, &routes);
        self.routes.store(Arc::new(routes));
        self.retired.push(previous);
        self.stale = Stale::default();
    }

    /// Says what is in use, and logs an alarm when it begins or ends.
    fn tell(&self, alarm: Option<String>) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let alarm = alarm.unwrap_or_default();
        match (status.alarm.is_empty(), alarm.is_empty()) {
            (_, false) if status.alarm != alarm => tracing::error!("{alarm}"),
            (false, true) => tracing::info!("the store offers a good table again"),
            _ => {}
        }
        status.alarm = alarm;
        status.by_file = self.by_file.borrow().words();
        if let Some(table) = self.follower.table() {
            status.generation = table.stamp.table;
            status.overrides = self.follower.overrides_generation();
        }
    }

    fn note(&mut self, outcome: &Result<(), StoreError>) {
        match (outcome, self.reachable) {
            (Err(error), true) if self.follower.table().is_some() => {
                tracing::warn!("{error}; answering from the table in memory");
            }
            (Err(error), true) => tracing::warn!("{error}; no table yet, clients get 503"),
            (Ok(()), false) => tracing::info!("the store answers again"),
            _ => {}
        }
        self.reachable = outcome.is_ok();
    }
}
