//! Which checks are to be made: the table and the overrides in force, followed in the store.

use common::check::{Check, CheckKey};
use common::farm::{Intent, Name, Override, ServerId};
use common::generation::{self, Step, Table};
use common::store::{Reader, StoreError};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::watch;

/// From one poll to the next.
const POLL: Duration = Duration::from_secs(1);

/// A server a check speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Which.
    pub id: ServerId,
    /// Whether it takes new clients: it is on and has weight.
    pub serves: bool,
}

/// Every check to make, with the servers it speaks for.
pub type Checks = BTreeMap<CheckKey, (Check, Vec<Seat>)>;

/// Follows the store for ever, and tells of new sets of checks. What cannot be read changes nothing.
pub async fn follow(reader: Reader, cluster: Name, checks: watch::Sender<Checks>) {
    let mut hints = reader.hints();
    let mut held = Held::default();
    let mut told = String::new();
    loop {
        let problem = match held.poll(&reader, &cluster).await {
            Ok(Some(new)) => {
                checks.send_replace(new);
                String::new()
            }
            Ok(None) => String::new(),
            Err(problem) => problem,
        };
        if problem != told {
            if problem.is_empty() {
                tracing::info!("the table can be read again");
            } else {
                tracing::warn!("{problem}");
            }
            told = problem;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = hints.next() => {}
        }
    }
}

#[derive(Default)]
struct Held {
    table: Option<Table>,
    overrides: HashMap<ServerId, Override>,
    overrides_generation: u64,
}

impl Held {
    async fn poll(&mut self, reader: &Reader, cluster: &Name) -> Result<Option<Checks>, String> {
        let words = |error: StoreError| error.to_string();
        let Some(offered) = reader.stamp().await.map_err(words)? else { return Ok(None) };
        let mut changed = false;
        match generation::step(cluster, self.table.as_ref().map(|table| &table.stamp), Some(&offered)) {
            Step::Keep => {}
            Step::Alarm(alarm) => return Err(alarm.to_string()),
            Step::Fetch => {
                let table = reader.table(offered.clone()).await.map_err(words)?.map_err(|alarm| alarm.to_string())?;
                tracing::debug!(generation = table.stamp.table, "new table");
                self.table = Some(table);
                changed = true;
            }
        }
        if offered.overrides != self.overrides_generation {
            self.overrides = reader.overrides().await.map_err(words)?;
            self.overrides_generation = offered.overrides;
            changed = true;
        }
        Ok(changed.then(|| self.checks()))
    }

    fn checks(&self) -> Checks {
        let mut checks = Checks::new();
        for (id, server) in self.table.iter().flat_map(|table| table.farms.servers()) {
            let hand = self.overrides.get(&id);
            let enable = hand.and_then(|hand| hand.enable).unwrap_or(server.enable);
            let weight = hand.and_then(|hand| hand.weight).unwrap_or(server.weight);
            if let Some(check) = server.check.as_ref().filter(|_| enable != Intent::Off) {
                let serves = enable == Intent::On && weight.0 > 0;
                checks.entry(check.key()).or_insert_with(|| (check.clone(), Vec::new())).1.push(Seat { id, serves });
            }
        }
        checks
    }
}
