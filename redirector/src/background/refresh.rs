//! Keeps `Routes` current. The poll of the store is the truth, a hint only makes it sooner; whatever goes wrong, the
//! last good state stays in force.

use crate::background::empty_farms::EmptyFarms;
use crate::background::override_file::ByFile;
use crate::background::state_file::Keeping;
use crate::counters::Counters;
use crate::routes::Routes;
use arc_swap::ArcSwap;
use common::model::check::CheckKey;
use common::model::farm::{Name, ServerId};
use common::model::generation::{self, Alarm, Stamp, Step, Table};
use common::model::health::{FRESH, Views, view_window};
use common::model::overrides::{Override, probed, turned};
use common::store::{Reader, StoreError};
use common::time::UnixMs;
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

/// How long a table that was found damaged is not read again: it is large, and an operator has to replace it.
const DAMAGED_REST: Duration = Duration::from_secs(10);

/// What the redirector says of its state to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
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
pub type InUseCell = Arc<Mutex<InUse>>;

/// The part of the routes that is out of date.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stale {
    all: bool,
    farms: BTreeSet<u32>,
}

/// The refresher's state.
pub struct Refresher {
    reader: Reader,
    cluster: Name,
    counters: Arc<Counters>,
    routes: Arc<ArcSwap<Routes>>,
    in_use: InUseCell,
    last_good: Option<Keeping>,
    table: Option<Table>,
    /// A table that was found damaged, and when.
    damaged: Option<(Stamp, Alarm, Instant)>,
    overrides: HashMap<ServerId, Override>,
    overrides_generation: u64,
    /// The store's time when the overrides were read; none where none of them ends.
    read_at: Option<(UnixMs, Instant)>,
    /// What this host's own file sets, as it is now.
    by_file: watch::Receiver<ByFile>,
    /// The servers that the file names and the table does not, as last said.
    unknown: Vec<ServerId>,
    views: Views,
    /// How long a view stays fresh.
    window: Duration,
    /// Whether the routes were built from a fresh view.
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
        in_use: InUseCell,
        state_file: Option<PathBuf>,
        by_file: watch::Receiver<ByFile>,
    ) -> Self {
        Self {
            reader,
            cluster,
            counters,
            routes,
            in_use,
            last_good: state_file.map(Keeping::new),
            table: None,
            damaged: None,
            overrides: HashMap::new(),
            overrides_generation: 0,
            read_at: None,
            by_file,
            unknown: Vec::new(),
            views: Views::default(),
            window: FRESH,
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
        let mut hints = self.reader.hints();
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
        let offered = self.reader.stamp().await?;
        let mut alarm = None;
        let mut is_new = false;
        match generation::step(
            &self.cluster,
            self.table.as_ref().map(|table| &table.stamp),
            offered.as_ref(),
        ) {
            Step::Keep => {}
            Step::Alarm(reason) => alarm = Some(reason),
            Step::Fetch => {
                if let Some(stamp) = &offered {
                    match self.read_table(stamp).await? {
                        Ok(table) => {
                            tracing::info!(
                                generation = table.stamp.table,
                                farms = table.farms.len(),
                                by = table.stamp.by,
                                "new table"
                            );
                            self.hold(table);
                            is_new = true;
                        }
                        Err(reason) => alarm = Some(reason),
                    }
                }
            }
        }
        let Some(offered) = offered.filter(|_| alarm.is_none()) else {
            return Ok(alarm);
        };
        if let (Some(last_good), Some(table)) = (&mut self.last_good, &self.table) {
            last_good.confirm(table, Instant::now());
        }
        if offered.overrides < self.overrides_generation && !is_new {
            return Ok(Some(Alarm::OlderOverrides {
                held: self.overrides_generation,
                offered: offered.overrides,
            }));
        }
        self.take_overrides(offered.overrides).await?;
        Ok(None)
    }

    /// Reads the table of `stamp`, unless it was found damaged a moment ago.
    async fn read_table(&mut self, stamp: &Stamp) -> Result<Result<Table, Alarm>, StoreError> {
        if let Some((damaged, alarm, at)) = &self.damaged
            && damaged == stamp
            && at.elapsed() < DAMAGED_REST
        {
            return Ok(Err(alarm.clone()));
        }
        let read = self.reader.table(stamp.clone()).await?;
        self.damaged = read
            .as_ref()
            .err()
            .map(|alarm| (stamp.clone(), alarm.clone(), Instant::now()));
        Ok(read)
    }

    async fn take_health(&mut self) -> Result<(), StoreError> {
        let changes = self.reader.health(&self.views.read_to()).await;
        let now = Instant::now();
        let outcome = changes.map(|changes| {
            let changed = self.views.take(changes, now);
            self.stale.farms.extend(
                changed
                    .iter()
                    .filter_map(|check| self.watchers.get(check))
                    .flatten(),
            );
        });
        let fresh = self.views.fresh(now, self.window);
        self.stale.all |= fresh != self.fresh;
        self.fresh = fresh;
        outcome
    }

    fn hold(&mut self, table: Table) {
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
        self.table = Some(table);
        self.stale.all = true;
    }

    /// Takes over the table the last run wrote down, so that this one answers without the store.
    pub fn adopt(&mut self, table: Table) {
        tracing::info!(
            generation = table.stamp.table,
            "starting from the last good table on disk"
        );
        self.hold(table);
        self.rebuild(Instant::now());
        self.tell(None);
    }

    async fn take_overrides(&mut self, offered: u64) -> Result<(), StoreError> {
        if self.overrides_generation != offered {
            let overrides = self.reader.overrides().await?;
            // Ends are in the store's time, and carried on by our own monotonic clock.
            let time = if overrides.values().any(|set| set.until.is_some()) {
                Some(self.reader.time().await?)
            } else {
                None
            };
            self.read_at = time.map(|time| (time, Instant::now()));
            let overrides = overrides
                .into_iter()
                .map(|(id, set)| (id, set.at(time.unwrap_or(0))))
                .collect();
            turned(&self.overrides, &overrides)
                .iter()
                .for_each(|words| tracing::info!("{words}"));
            self.overrides = overrides;
            (self.overrides_generation, self.stale.all) = (offered, true);
        }
        Ok(())
    }

    /// The store's time at `now`.
    fn store_time(&self, now: Instant) -> UnixMs {
        self.read_at.map_or(0, |(time, read)| {
            time + now.saturating_duration_since(read).as_millis() as u64
        })
    }

    /// Lets go of what was set by hand for a time that is over, whether or not the store answers.
    fn end_overrides(&mut self, now: Instant) {
        let time = self.store_time(now);
        if self
            .overrides
            .values()
            .any(|set| set.until.is_some_and(|until| until <= time))
        {
            let held = self.overrides.clone();
            self.overrides
                .values_mut()
                .for_each(|set| *set = set.at(time));
            turned(&held, &self.overrides)
                .iter()
                .for_each(|words| tracing::info!("{words}"));
            self.stale.all = true;
            self.rebuild(now);
        }
    }

    fn rebuild(&mut self, now: Instant) {
        let Some(table) = &self.table else { return };
        if self.stale.all {
            self.window = view_window(probed(&table.farms, &self.overrides));
            self.unknown = self.by_file.borrow().unknown(&table.farms, &self.unknown);
        }
        let health = self.views.merge(now, self.window);
        let previous = self.routes.load_full();
        let overrides = self.by_file.borrow().over(&self.overrides);
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
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let alarm = alarm.unwrap_or_default();
        match (in_use.alarm.is_empty(), alarm.is_empty()) {
            (_, false) if in_use.alarm != alarm => tracing::error!("{alarm}"),
            (false, true) => tracing::info!("the store offers a good table again"),
            _ => {}
        }
        in_use.alarm = alarm;
        in_use.by_file = self.by_file.borrow().words();
        if let Some(table) = &self.table {
            (in_use.generation, in_use.overrides) = (table.stamp.table, self.overrides_generation);
        }
    }

    fn note(&mut self, outcome: &Result<(), StoreError>) {
        match (outcome, self.reachable) {
            (Err(error), true) if self.table.is_some() => {
                tracing::warn!("{error}; answering from the table in memory");
            }
            (Err(error), true) => tracing::warn!("{error}; no table yet, clients get 503"),
            (Ok(()), false) => tracing::info!("the store answers again"),
            _ => {}
        }
        self.reachable = outcome.is_ok();
    }
}
