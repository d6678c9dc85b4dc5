//! A table, with what is worked out of it once and not with every report.

use common::check::CheckKey;
use common::farm::Farm;
use common::generation::Table;
use std::collections::HashSet;
use std::time::Duration;

/// A view that has not moved for this long has no vote, unless its checks are rarer.
const SHORTEST_WINDOW: Duration = Duration::from_secs(5);

/// A table that was read.
#[derive(Debug)]
pub struct Known {
    table: Table,
    /// The key of each server's check, in the order of farms and servers.
    keys: Vec<Vec<Option<CheckKey>>>,
    /// Every check once.
    checks: Vec<CheckKey>,
    window: Duration,
}

impl Known {
    /// Works it out.
    pub fn new(table: Table) -> Self {
        let of_farm = |farm: &Farm| farm.servers.iter().map(|server| Some(server.check.as_ref()?.key())).collect();
        let keys: Vec<Vec<Option<CheckKey>>> = table.farms.iter().map(of_farm).collect();
        let mut seen = HashSet::new();
        let checks = keys.iter().flatten().flatten().filter(|key| seen.insert(*key)).cloned().collect();
        let intervals = table.farms.iter().flat_map(|farm| &farm.servers).filter_map(|server| Some(server.check.as_ref()?.inter));
        let window = intervals.min().map_or(SHORTEST_WINDOW, |inter| (3 * inter).max(SHORTEST_WINDOW));
        Self { table, keys, checks, window }
    }

    /// The table itself.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Its farms, each with the keys of its servers' checks.
    pub fn farms(&self) -> impl Iterator<Item = (&Farm, &[Option<CheckKey>])> {
        self.table.farms.iter().zip(self.keys.iter().map(Vec::as_slice))
    }

    /// Every check that is to be made.
    pub fn checks(&self) -> &[CheckKey] {
        &self.checks
    }

    /// How long a view stays fresh without its sequence moving.
    pub fn window(known: Option<&Self>) -> Duration {
        known.map_or(SHORTEST_WINDOW, |known| known.window)
    }
}
