//! What is in force now, read from the store in one go: what a command compares its wish with.

use common::clock::UnixMs;
use common::farm::{Farms, Override, ServerId};
use common::generation::{Alarm, Stamp, Table};
use common::health::{Health, Views};
use common::store::{Reader, StoreError};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// The state of the cluster as one command sees it.
#[derive(Debug)]
pub struct Present {
    /// The table in force, or what is wrong with it; none in an empty store.
    pub table: Option<Result<Table, Alarm>>,
    /// The stamp in force.
    pub stamp: Option<Stamp>,
    /// What is set by hand, ended or not.
    pub set: HashMap<ServerId, Override>,
    /// What of it is in force.
    pub overrides: HashMap<ServerId, Override>,
    /// What probers say.
    pub health: Health,
    /// The store's clock.
    pub now: UnixMs,
}

impl Present {
    /// Reads it.
    ///
    /// # Errors
    /// When the store does not answer. A damaged table is no error here: it can be replaced.
    pub async fn read(reader: &Reader) -> Result<Self, StoreError> {
        let stamp = reader.stamp().await?;
        let table = match stamp.clone() {
            Some(stamp) => Some(reader.table(stamp).await?),
            None => None,
        };
        let (set, now) = (reader.overrides().await?, reader.time().await?);
        let overrides = set.iter().map(|(id, value)| (id.clone(), value.at(now))).collect();
        let (mut views, read) = (Views::default(), Instant::now());
        views.take(reader.health(&BTreeMap::new()).await?, read);
        Ok(Self { table, stamp, set, overrides, health: views.merge(read, Duration::ZERO), now })
    }

    /// The table in force, for what makes no sense without one.
    ///
    /// # Errors
    /// When there is none, or it is damaged, with the remedy.
    pub fn table(&self) -> anyhow::Result<&Table> {
        match &self.table {
            Some(Ok(table)) => Ok(table),
            Some(Err(alarm)) => Err(alarm.clone().into()),
            None => anyhow::bail!("no table is in force: run `rbalancer apply rbalancer.conf`"),
        }
    }

    /// A line about a table in force that cannot be compared with, because it is damaged; empty otherwise.
    pub fn trouble(&self) -> String {
        match &self.table {
            Some(Err(alarm)) => format!("nothing can be compared with what is in force: {alarm}\n"),
            _ => String::new(),
        }
    }

    /// The farms in force; none where there is no good table.
    pub fn farms(&self) -> Farms {
        self.table().map(|table| table.farms.clone()).unwrap_or_default()
    }
}
