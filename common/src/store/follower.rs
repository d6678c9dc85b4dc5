//! One way to follow what is in the store: the table, what is set by hand, and health. Nothing older is ever taken; what
//! cannot be read changes nothing, and is said as an alarm.

use crate::model::check::CheckKey;
use crate::model::farm::{Name, ServerId};
use crate::model::generation::{self, Alarm, Stamp, Step, Table};
use crate::model::health::{FRESH, Finding, Health, ViewChanges, Views, view_window};
use crate::model::in_force;
use crate::model::overrides::{Override, turned};
use crate::store::error::StoreError;
use crate::store::verbs::Reader;
use crate::time::UnixMs;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a table that was found damaged is not read again: it is large, and an operator has to replace it.
const DAMAGED_REST: Duration = Duration::from_secs(10);

/// Whose table is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Following {
    /// That of this cluster: another's is an alarm, and so is an older one.
    Cluster(Name),
    /// Whatever the store holds, for who looks at it once.
    Anything,
}

/// Table, overrides and health as they were read last.
#[derive(Debug)]
pub struct Follower {
    reader: Reader,
    following: Following,
    table: Option<Table>,
    /// A table that was found damaged, and when.
    damaged: Option<(Stamp, Alarm, Instant)>,
    /// What is set by hand, as the store holds it.
    set: HashMap<ServerId, Override>,
    /// What of it is in force.
    overrides: HashMap<ServerId, Override>,
    overrides_generation: u64,
    /// The store's time when the overrides were read; none where none of them ends.
    read_at: Option<(UnixMs, Instant)>,
    views: Views,
    /// How long a view stays fresh.
    window: Duration,
}

/// What one look at table and overrides found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The stamp in force; none in an empty store.
    pub stamp: Option<Stamp>,
    /// Whether there is a new table.
    pub table: bool,
    /// Whether something else is set by hand.
    pub overrides: bool,
    /// What of it is to be said, a sentence a server.
    pub turned: Vec<String>,
    /// What is wrong with what the store offers: the last good state stays in force.
    pub alarm: Option<Alarm>,
}

impl Follower {
    /// One that has read nothing yet.
    pub fn new(reader: Reader, following: Following) -> Self {
        Self {
            reader,
            following,
            table: None,
            damaged: None,
            set: HashMap::new(),
            overrides: HashMap::new(),
            overrides_generation: 0,
            read_at: None,
            views: Views::default(),
            window: FRESH,
        }
    }

    /// What it reads with.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The table in force, if one was read.
    pub fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// What is set by hand as the store holds it, ended or not.
    pub fn set(&self) -> &HashMap<ServerId, Override> {
        &self.set
    }

    /// What is in force of what is set by hand.
    pub fn overrides(&self) -> &HashMap<ServerId, Override> {
        &self.overrides
    }

    /// The generation of what is set by hand.
    pub fn overrides_generation(&self) -> u64 {
        self.overrides_generation
    }

    /// What the probers say, each for itself.
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// How long a view stays fresh.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// What the probers say together.
    pub fn health(&self, now: Instant) -> Health {
        self.views.merge(now, self.window)
    }

    /// Goes on from a table that an earlier run wrote down.
    pub fn adopt(&mut self, table: Table) {
        self.table = Some(table);
        self.set_window();
    }

    /// Takes table and overrides if there are newer ones.
    ///
    /// # Errors
    /// When the store does not answer; what was taken before that stays taken.
    pub async fn take_table(&mut self) -> Result<News, StoreError> {
        let offered = self.reader.stamp().await?;
        let mut news = News {
            stamp: offered.clone(),
            ..News::default()
        };
        match self.step(offered.as_ref()) {
            Step::Keep => {}
            Step::Alarm(alarm) => news.alarm = Some(alarm),
            Step::Fetch => {
                if let Some(stamp) = &offered {
                    match self.read_table(stamp).await? {
                        Ok(table) => {
                            self.adopt(table);
                            news.table = true;
                        }
                        Err(alarm) => news.alarm = Some(alarm),
                    }
                }
            }
        }
        // Overrides that came with a table of no use to us are another cluster's, or older than ours.
        let Some(offered) = offered.filter(|_| news.alarm.is_none()) else {
            return Ok(news);
        };
        if offered.overrides < self.overrides_generation && !news.table {
            news.alarm = Some(Alarm::OlderOverrides {
                held: self.overrides_generation,
                offered: offered.overrides,
            });
        } else if offered.overrides != self.overrides_generation {
            news.turned = self.take_overrides(offered.overrides).await?;
            news.overrides = true;
        }
        Ok(news)
    }

    fn step(&self, offered: Option<&Stamp>) -> Step {
        let held = self.table.as_ref().map(|table| &table.stamp);
        match &self.following {
            Following::Cluster(cluster) => generation::step(cluster, held, offered),
            Following::Anything if offered.is_some() => Step::Fetch,
            Following::Anything => Step::Keep,
        }
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
        let damaged = read.as_ref().err();
        self.damaged = damaged.map(|alarm| (stamp.clone(), alarm.clone(), Instant::now()));
        Ok(read)
    }

    /// Reads what is set by hand; what of it is to be said.
    async fn take_overrides(&mut self, generation: u64) -> Result<Vec<String>, StoreError> {
        let set = self.reader.overrides().await?;
        // Ends are in the store's time, and carried on by our own monotonic clock.
        let ends = set.values().any(|set| set.until.is_some());
        let time = if ends {
            Some(self.reader.time().await?)
        } else {
            None
        };
        self.read_at = time.map(|time| (time, Instant::now()));
        self.set = set;
        self.overrides_generation = generation;
        Ok(self.put_in_force(time.unwrap_or(0)))
    }

    /// Lets go of what was set by hand for a time that is over, whether or not the store answers: what of it is to be
    /// said, if anything.
    pub fn end_overrides(&mut self, now: Instant) -> Vec<String> {
        let Some(time) = self.store_time(now) else {
            return Vec::new();
        };
        let is_over = |set: &Override| set.until.is_some_and(|until| until <= time);
        if self.overrides.values().any(is_over) {
            self.put_in_force(time)
        } else {
            Vec::new()
        }
    }

    /// The store's time at `now`, as far as it was asked for.
    pub fn store_time(&self, now: Instant) -> Option<UnixMs> {
        let (time, read) = self.read_at?;
        Some(time + now.saturating_duration_since(read).as_millis() as u64)
    }

    fn put_in_force(&mut self, time: UnixMs) -> Vec<String> {
        let held = std::mem::take(&mut self.overrides);
        let at_time = |(id, set): (&ServerId, &Override)| (id.clone(), set.at(time));
        self.overrides = self.set.iter().map(at_time).collect();
        self.set_window();
        turned(&held, &self.overrides)
    }

    fn set_window(&mut self) {
        if let Some(table) = &self.table {
            self.window = view_window(in_force::checks(&table.farms, &self.overrides));
        }
    }

    /// Takes what is new in the probers' views: the checks whose findings are, and who the probers are.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn take_health(&mut self) -> Result<(Vec<CheckKey>, Vec<String>), StoreError> {
        let changes = self.reader.health(&self.views.read_to()).await?;
        let probers = changes.sequences.keys().cloned().collect();
        Ok((self.take_changes(changes), probers))
    }

    fn take_changes(&mut self, changes: ViewChanges) -> Vec<CheckKey> {
        self.views.take(changes, Instant::now())
    }

    /// Takes findings of one prober that may only be newer.
    pub fn renew(&mut self, prober: &str, findings: HashMap<CheckKey, Finding>) {
        self.views.renew(prober, findings);
    }
}

#[cfg(test)]
mod tests;
