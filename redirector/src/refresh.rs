//! Keeps `Routes` current. The poll of the store is the truth, a hint only makes it sooner; whatever goes wrong, the
//! last good state stays in force.

use crate::counters::Counters;
use crate::override_file::ByFile;
use crate::routes::Routes;
use arc_swap::ArcSwap;
use common::farm::{Name, Override, ServerId};
use common::generation::{self, Alarm, Step, Table};
use common::health::Views;
use common::store::{Reader, StoreError};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// From one poll to the next.
const POLL: Duration = Duration::from_secs(1);

/// The shortest time from one poll to the next: a burst of hints is one poll.
const GAP: Duration = Duration::from_millis(25);

/// The shortest time a view stays fresh without its sequence moving.
const FRESH: Duration = Duration::from_secs(5);

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

/// The refresher's state.
pub struct Refresher {
    reader: Reader,
    cluster: Name,
    counters: Arc<Counters>,
    routes: Arc<ArcSwap<Routes>>,
    in_use: InUseCell,
    state_file: Option<PathBuf>,
    table: Option<Table>,
    overrides: HashMap<ServerId, Override>,
    overrides_generation: u64,
    /// What this host's own file sets, as it is now.
    by_file: watch::Receiver<ByFile>,
    views: Views,
    /// Whether the routes were built from a fresh view.
    fresh: Vec<String>,
    /// Whether something was taken in that the routes do not show yet: a poll can end before they are rebuilt.
    stale: bool,
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
            state_file,
            table: None,
            overrides: HashMap::new(),
            overrides_generation: 0,
            by_file,
            views: Views::default(),
            fresh: Vec::new(),
            stale: false,
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
            // Many redirectors started together do not go on polling together.
            let pause =
                if self.reachable { POLL.mul_f64(self.rng.random_range(0.9..1.0)) } else { POLL.mul_f64(self.rng.random_range(0.1..1.0)) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = hints.next() => tokio::time::sleep_until((began + GAP).into()).await,
                Ok(()) = by_file.changed() => {
                    // The store may be away: what the file says is in force at once.
                    self.rebuild(Instant::now());
                    self.tell(None);
                }
            }
        }
    }

    /// Takes in what is new in the store, and swaps the routes if anything is.
    pub async fn poll(&mut self) -> Result<(), StoreError> {
        let offered = self.reader.stamp().await?;
        let mut alarm = None;
        match generation::step(&self.cluster, self.table.as_ref().map(|table| &table.stamp), offered.as_ref()) {
            Step::Keep => {}
            Step::Alarm(reason) => alarm = Some(reason),
            Step::Fetch => {
                if let Some(stamp) = &offered {
                    match self.reader.table(stamp.clone()).await? {
                        Ok(table) => self.take_table(table),
                        Err(reason) => alarm = Some(reason),
                    }
                }
            }
        }
        if alarm.is_none()
            && let Some(offered) = &offered
        {
            self.take_overrides(offered.overrides).await?;
        }
        // Health that cannot be read holds back no table: the last known stays.
        let changes = self.reader.health(&self.views.read_to()).await;
        let now = Instant::now();
        let outcome = changes.map(|changes| self.stale |= self.views.take(changes, now));
        let fresh = self.views.fresh(now, self.window());
        self.stale |= fresh != self.fresh;
        self.fresh = fresh;
        if self.stale {
            self.rebuild(now);
        }
        self.tell(alarm.as_ref());
        outcome
    }

    fn take_table(&mut self, table: Table) {
        tracing::info!(generation = table.stamp.table, farms = table.farms.len(), by = table.stamp.by, "new table");
        if let Some(path) = &self.state_file
            && let Err(error) = common::durable::write(path, &crate::last_good::LastGood::of(&table))
        {
            tracing::warn!("{error:#}; a restart without the store would start without a table");
        }
        self.table = Some(table);
        self.stale = true;
    }

    /// Takes over the table the last run wrote down, so that this one answers without the store.
    pub fn adopt(&mut self, table: Table) {
        tracing::info!(generation = table.stamp.table, "starting from the last good table on disk");
        self.table = Some(table);
        self.rebuild(Instant::now());
        self.tell(None);
    }

    async fn take_overrides(&mut self, offered: u64) -> Result<(), StoreError> {
        if self.overrides_generation != offered {
            self.overrides = self.reader.overrides().await?;
            (self.overrides_generation, self.stale) = (offered, true);
        }
        Ok(())
    }

    /// How long a view stays fresh: three probing intervals, and no less than [`FRESH`].
    fn window(&self) -> Duration {
        let checks = self.table.iter().flat_map(|table| table.farms.servers()).filter_map(|(_, server)| server.check.as_ref());
        checks.map(|check| check.inter).min().map_or(FRESH, |inter| (3 * inter).max(FRESH))
    }

    fn rebuild(&mut self, now: Instant) {
        let Some(table) = &self.table else { return };
        let health = self.views.merge(now, self.window());
        let previous = self.routes.load_full();
        let overrides = self.by_file.borrow().over(&self.overrides);
        let routes = Routes::build(&table.farms, &overrides, &health, &self.counters, &previous, &mut self.rng);
        self.routes.store(Arc::new(routes));
        self.stale = false;
    }

    /// Says what is in use, and logs an alarm when it begins or ends.
    fn tell(&self, alarm: Option<&Alarm>) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let alarm = alarm.map(ToString::to_string).unwrap_or_default();
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
            (Err(error), true) => tracing::warn!("{error}; answering from the table in memory"),
            (Ok(()), false) => tracing::info!("the store answers again"),
            _ => {}
        }
        self.reachable = outcome.is_ok();
    }
}
