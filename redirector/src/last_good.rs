//! The last good table on disk, so that a redirector can start while the store is away.

use common::clock::{UnixMs, unix_ms};
use common::farm::{Farms, Name};
use common::generation::{Stamp, Table};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
pub struct LastGood {
    stamp: Stamp,
    farms: Farms,
    written: UnixMs,
}

impl LastGood {
    /// The table as of now.
    pub fn of(table: &Table) -> Self {
        Self { stamp: table.stamp.clone(), farms: table.farms.clone(), written: unix_ms() }
    }
}

/// Reads the table kept in `path`, unless it is another cluster's or older than `max_age`. What is wrong is for
/// the log: the process can start without it.
pub fn read(path: &Path, cluster: &Name, max_age: Duration) -> Result<Option<Table>, String> {
    let kept: LastGood = match common::durable::read(path) {
        Ok(Some(kept)) => kept,
        Ok(None) => return Ok(None),
        Err(error) => return Err(format!("{error:#}")),
    };
    let file = format!("state file {}", path.display());
    if kept.stamp.cluster != *cluster {
        return Err(format!("{file} belongs to cluster `{}`, this is `{cluster}`: not used", kept.stamp.cluster));
    }
    if unix_ms().saturating_sub(kept.written) > max_age.as_millis() as u64 {
        return Err(format!("{file} is older than state_max_age: not used"));
    }
    // Overrides are not in the file: their generation is read anew.
    let stamp = Stamp { overrides: 0, ..kept.stamp };
    Ok(Some(Table { stamp, farms: kept.farms }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_table_of_our_cluster_is_taken() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state");
        let name = |text: &str| text.parse::<Name>().expect("valid");
        let stamp = Stamp {
            table: 5,
            overrides: 9,
            checksum: "x".into(),
            cluster: name("prod"),
            schema: 1,
            min_reader: 1,
            nonce: String::new(),
            by: String::new(),
            why: String::new(),
            forced: false,
            farms: None,
        };
        let table = Table { stamp, farms: Farms::default() };
        let day = Duration::from_secs(86_400);
        assert_eq!(read(&path, &name("prod"), day), Ok(None));
        common::durable::write(&path, &LastGood::of(&table)).expect("written");
        assert_eq!(read(&path, &name("prod"), day).expect("good").map(|table| table.stamp.table), Some(5));
        assert!(read(&path, &name("stage"), day).is_err());
        let old = LastGood { written: 1, ..LastGood::of(&table) };
        common::durable::write(&path, &old).expect("written");
        assert!(read(&path, &name("prod"), day).is_err_and(|error| error.contains("state_max_age")));
    }
}
