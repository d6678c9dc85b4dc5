//! The last good table on disk, so that a redirector can start while the store is away.
//!
//! It is written beside serving: a disk that stands still holds up no table. While the store confirms the table, the
//! file is renewed from time to time, so that its age says how long the store has been away.

use common::files;
use common::model::farm::{Farms, Name};
use common::model::generation::{Stamp, Table};
use common::time::{UnixMs, unix_ms};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// From one writing of a table that is still in force to the next.
const RENEW: Duration = Duration::from_secs(3600);

/// From one try to the next while the file cannot be written.
const RETRY: Duration = Duration::from_secs(10);

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
        Self {
            stamp: table.stamp.clone(),
            farms: table.farms.clone(),
            written: unix_ms(),
        }
    }
}

/// Writes the file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// The generation written last, or tried last, and when.
    written: Option<(u64, Instant)>,
    /// Whether the last try failed.
    failing: Arc<AtomicBool>,
}

impl StateFile {
    /// Keeps the table in `path`; nothing is written yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: None,
            failing: Arc::default(),
        }
    }

    /// Writes `table`, which the store confirms, where the file has another one or has not been written for long. One
    /// writing at a time: what comes meanwhile is written at a later call.
    pub fn confirm(&mut self, table: &Table, now: Instant) {
        let again = if self.failing.load(Ordering::Relaxed) {
            RETRY
        } else {
            RENEW
        };
        let is_due = match self.written {
            Some((generation, at)) => {
                generation != table.stamp.table || now.saturating_duration_since(at) >= again
            }
            None => true,
        };
        if !is_due {
            return;
        }
        let (kept, failing) = (LastGood::of(table), self.failing.clone());
        let begun = files::start("state_file", &self.path, move |path| {
            match common::process::durable::write(path, &kept) {
                Err(error) if !failing.swap(true, Ordering::Relaxed) => {
                    tracing::warn!(
                        "{error:#}; a restart without the store would start with an older table or none"
                    );
                }
                Ok(()) if failing.swap(false, Ordering::Relaxed) => {
                    tracing::info!("the last good table is written again");
                }
                _ => {}
            }
        });
        // Where an earlier writing has not ended, the next call tries again.
        if begun.is_ok() {
            self.written = Some((table.stamp.table, now));
        }
    }
}

/// Reads the table kept in `path`, unless it is another cluster's or older than `max_age`. What is wrong is for
/// the log: the process can start without it.
pub fn read(path: &Path, cluster: &Name, max_age: Duration) -> Result<Option<Table>, String> {
    let kept: LastGood = match common::process::durable::read(path) {
        Ok(Some(kept)) => kept,
        Ok(None) => return Ok(None),
        Err(error) => return Err(format!("{error:#}")),
    };
    let file = format!("state file {}", path.display());
    if kept.stamp.cluster != *cluster {
        return Err(format!(
            "{file} belongs to cluster `{}`, this is `{cluster}`: not used",
            kept.stamp.cluster
        ));
    }
    if unix_ms().saturating_sub(kept.written) > max_age.as_millis() as u64 {
        return Err(format!("{file} is older than state_max_age: not used"));
    }
    // Overrides are not in the file: their generation is read anew.
    let stamp = Stamp {
        overrides: 0,
        ..kept.stamp
    };
    Ok(Some(Table {
        stamp,
        farms: kept.farms,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(cluster: &str, generation: u64) -> Table {
        let stamp = serde_json::json!({"table": generation, "overrides": 9, "checksum": "x", "cluster": cluster, "schema": 1,
            "min_reader": 1, "nonce": "", "by": "", "why": ""});
        Table {
            stamp: serde_json::from_value(stamp).expect("a stamp"),
            farms: Farms::default(),
        }
    }

    /// Nobody is writing `path` any more.
    async fn written(path: &Path) {
        while files::within("state_file", path, |_| ()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_table_is_written_when_it_is_new_and_again_while_the_store_confirms_it() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state");
        let (mut keeping, start) = (StateFile::new(path.clone()), Instant::now());
        let mut confirm = async |generation, at| {
            keeping.confirm(&table("prod", generation), at);
            written(&path).await;
            let held = common::process::durable::read::<LastGood>(&path)
                .expect("a good file")
                .map(|kept| kept.stamp.table);
            let _ = std::fs::remove_file(&path);
            held
        };
        assert_eq!(confirm(5, start).await, Some(5));
        assert_eq!(confirm(5, start + RENEW / 2).await, None);
        assert_eq!(confirm(6, start + RENEW / 2).await, Some(6));
        assert_eq!(confirm(6, start + RENEW + RENEW / 2).await, Some(6));
    }

    #[tokio::test]
    async fn a_table_that_could_not_be_written_is_written_soon() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("gone").join("state");
        let (mut keeping, start) = (StateFile::new(path.clone()), Instant::now());
        let mut confirm = async |at| {
            keeping.confirm(&table("prod", 5), at);
            written(&path).await;
            common::process::durable::read::<LastGood>(&path)
                .expect("a good file, or none")
                .is_some()
        };
        assert!(!confirm(start).await);
        std::fs::create_dir(folder.path().join("gone")).expect("a folder");
        assert!(!confirm(start + RETRY / 2).await && confirm(start + RETRY).await);
    }

    #[test]
    fn only_a_fresh_table_of_our_cluster_is_taken() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state");
        let name = |text: &str| text.parse::<Name>().expect("valid");
        let table = table("prod", 5);
        let day = Duration::from_secs(86_400);
        assert_eq!(read(&path, &name("prod"), day), Ok(None));
        common::process::durable::write(&path, &LastGood::of(&table)).expect("written");
        assert_eq!(
            read(&path, &name("prod"), day)
                .expect("good")
                .map(|table| table.stamp.table),
            Some(5)
        );
        assert!(read(&path, &name("stage"), day).is_err());
        let old = LastGood {
            written: 1,
            ..LastGood::of(&table)
        };
        common::process::durable::write(&path, &old).expect("written");
        assert!(
            read(&path, &name("prod"), day).is_err_and(|error| error.contains("state_max_age"))
        );
    }
}
