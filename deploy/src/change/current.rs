//! What is in force now, read from the store in one go: what a command compares its wish with.

use crate::conf::Conf;
use anyhow::anyhow;
use common::model::farm::{Farms, ServerId};
use common::model::generation::{Alarm, SCHEMA, Stamp, Table};
use common::model::health::Health;
use common::model::overrides::Override;
use common::store::{Follower, Following, Reader, StoreError};
use common::time::UnixMs;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The least time a prober is given to show that it is at work.
const SHORTEST: Duration = Duration::from_secs(2);

/// From one look at the probers to the next.
const LOOK: Duration = Duration::from_millis(100);

/// Whoever was seen at work while one command ran is fresh.
const WINDOW: Duration = Duration::from_secs(60);

/// How long a prober at work needs to show that it is: its sequence moves with conclusive probes.
pub(crate) fn patience(farms: &Farms) -> Duration {
    let checks = farms
        .servers()
        .filter_map(|(_, server)| server.check.as_ref());
    let soonest = checks.map(|check| check.inter).min().unwrap_or_default();
    (2 * soonest).clamp(SHORTEST, Duration::from_secs(12))
}

/// Takes what probers say. Of several each is given time to show that it is at work: a view of one that is gone has no
/// vote.
async fn look(follower: &mut Follower, patience: Duration) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        follower.take_health().await?;
        if follower.views().is_settled() || began.elapsed() >= patience {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The state of the cluster as one command sees it.
#[derive(Debug)]
pub struct Current {
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

impl Current {
    /// Reads it.
    ///
    /// # Errors
    /// When the store does not answer. A damaged table is no error here: it can be replaced.
    pub async fn read(reader: &Reader) -> Result<Self, StoreError> {
        let mut follower = Follower::new(reader.clone(), Following::Anything);
        let news = follower.take_table().await?;
        let table = match news.alarm {
            Some(alarm) => Some(Err(alarm)),
            None => follower.table().cloned().map(Ok),
        };
        // The table may be damaged: what is set by hand is not its affair.
        let (set, now) = (reader.overrides().await?, reader.time().await?);
        let overrides = set
            .iter()
            .map(|(id, value)| (id.clone(), value.at(now)))
            .collect();
        let patience = follower
            .table()
            .map_or(SHORTEST, |table| patience(&table.farms));
        look(&mut follower, patience).await?;
        let health = follower.views().merge(Instant::now(), WINDOW);
        Ok(Self {
            table,
            stamp: news.stamp,
            set,
            overrides,
            health,
            now,
        })
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

    /// The stamp in force, if its table is a good one of just these `farms`, written as we would write it.
    pub fn holds(&self, farms: &Farms) -> Option<&Stamp> {
        let table = self.table.as_ref()?.as_ref().ok()?;
        (table.farms == *farms && table.stamp.schema == SCHEMA).then_some(&table.stamp)
    }

    /// The farms in force; none where there is no good table.
    pub fn farms(&self) -> Farms {
        self.table()
            .map(|table| table.farms.clone())
            .unwrap_or_default()
    }
}

/// Refuses a file that is for another cluster than the one in the store.
///
/// # Errors
/// When it is.
pub fn same_cluster(current: &Current, conf: &Conf) -> anyhow::Result<()> {
    match current.stamp.as_ref().map(|stamp| &stamp.cluster) {
        Some(theirs) if *theirs != conf.cluster => Err(anyhow!(
            "this redis holds cluster `{theirs}`, the file is for `{}`: check --redis and `cluster` in [global]",
            conf.cluster
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::model::check::CheckKey;
    use common::model::health::{Checked, Finding, State};
    use common::store::{HealthReport, Memory, Store};

    #[tokio::test]
    async fn a_view_of_a_prober_that_is_gone_has_no_vote() {
        let (store, key) = (Store::Memory(Memory::default()), CheckKey("c".into()));
        let tell = async |id: &str, sequence, state| {
            let finding = Finding {
                state,
                checked: Checked::Ok,
                since: 1,
                why: String::new(),
                last_check: 1,
            };
            let report = HealthReport {
                id: id.into(),
                sequence,
                changed: vec![(key.clone(), finding)],
                ..HealthReport::default()
            };
            store.prober().report(&report).await.expect("memory");
        };
        tell("gone", 1, State::Up).await;
        let alone = Current::read(&store.reader()).await.expect("memory");
        assert_eq!(alone.health.state(&key), State::Up);
        tell("at work", 1, State::Down).await;
        let reader = store.reader();
        let working = async {
            for sequence in 2.. {
                tell("at work", sequence, State::Down).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        tokio::select! {
            current = Current::read(&reader) => assert_eq!(current.expect("memory").health.state(&key), State::Down),
            () = working => {}
        }
    }
}
