//! Counts that a process could not write before it ended: kept beside the state file, written by the next one.
//! Processes that overlap in a restart share the file: each adds and takes away only what is its own business.

use anyhow::Context;
use common::files;
use common::model::tally::Tally;
use common::store::Announcement;
use common::time::{UnixMs, unix_ms};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Totals older than this are not told any more: the store has forgotten what of them was folded into its base.
const TOLD_FOR: Duration = Duration::from_secs(7 * 86_400);

/// The totals of one ended process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwritten {
    /// Who it was.
    #[serde(rename = "said")]
    pub announcement: Announcement,
    /// Everything it counted.
    pub totals: Tally,
    /// When it ended.
    pub at: UnixMs,
}

/// What earlier processes left, and the file it is in, if there is one.
#[derive(Debug, Default)]
pub struct UnwrittenCounts {
    path: Option<PathBuf>,
    earlier: Vec<Unwritten>,
}

impl UnwrittenCounts {
    /// Reads the file beside `state_file`. One that hangs or is damaged is for the log: what is in it waits for the next
    /// start.
    pub async fn open(state_file: Option<&Path>) -> Self {
        let Some(path) = state_file.map(beside) else {
            return Self::default();
        };
        let (earlier, problem) = files::within(KEY, &path, read)
            .await
            .unwrap_or_else(|hangs| (Vec::new(), Some(hangs.to_string())));
        problem
            .iter()
            .for_each(|problem| tracing::warn!("{problem}"));
        Self {
            path: Some(path),
            earlier,
        }
    }

    /// An earlier process whose counts are not in the store yet.
    pub fn last(&self) -> Option<&Unwritten> {
        self.earlier.last()
    }

    /// The [`last`](Self::last) is in the store. A file that cannot be changed tells it again at the next start, which
    /// does no harm.
    pub async fn forget_last(&mut self) {
        let Some((path, Unwritten { announcement, .. })) =
            self.path.as_deref().zip(self.earlier.pop())
        else {
            return;
        };
        if let Err(error) = change_within(path, move |path| forget(path, &announcement.id)).await {
            tracing::warn!("{error:#}");
        }
    }

    /// Adds what this process leaves; none where there is no file.
    pub async fn keep(&self, mine: Unwritten) -> Option<anyhow::Result<()>> {
        Some(change_within(self.path.as_deref()?, move |path| keep(path, &mine)).await)
    }
}

/// The key that names the state file, and so the one beside it.
const KEY: &str = "state_file";

async fn change_within(
    path: &Path,
    change: impl FnOnce(&Path) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    files::within(KEY, path, change)
        .await
        .map_err(anyhow::Error::from)
        .flatten()
}

/// The file beside a state file.
pub fn beside(state_file: &Path) -> PathBuf {
    state_file.with_added_extension("counts")
}

/// What earlier processes left in `path`. What is wrong is for the log.
pub fn read(path: &Path) -> (Vec<Unwritten>, Option<String>) {
    let kept: Vec<Unwritten> = match common::process::durable::read(path) {
        Ok(kept) => kept.unwrap_or_default(),
        Err(error) => return (Vec::new(), Some(format!("{error:#}"))),
    };
    let oldest = unix_ms().saturating_sub(TOLD_FOR.as_millis() as u64);
    let (told, old): (Vec<_>, Vec<_>) = kept
        .into_iter()
        .partition(|unwritten| unwritten.at >= oldest);
    let lost: u64 = old
        .iter()
        .flat_map(|unwritten| unwritten.totals.iter())
        .map(|(_, total)| total)
        .sum();
    let problem = (lost > 0).then(|| {
        format!(
            "{}: {lost} counts are older than seven days: not written",
            path.display()
        )
    });
    (told, problem)
}

/// Adds `unwritten` to what is kept in `path`.
///
/// # Errors
/// Names the path and the step that failed.
pub fn keep(path: &Path, unwritten: &Unwritten) -> anyhow::Result<()> {
    change(path, |kept| {
        kept.retain(|held| held.announcement.id != unwritten.announcement.id);
        kept.push(unwritten.clone());
    })
}

/// Takes away what the process with `id` left in `path`.
///
/// # Errors
/// Names the path and the step that failed.
pub fn forget(path: &Path, id: &str) -> anyhow::Result<()> {
    change(path, |kept| kept.retain(|held| held.announcement.id != id))
}

/// One change at a time, whoever makes it; nothing left to keep: no file.
fn change(path: &Path, make: impl FnOnce(&mut Vec<Unwritten>)) -> anyhow::Result<()> {
    let place = || format!("state file {}", path.display());
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let directory = File::open(directory).with_context(place)?;
    directory.lock().with_context(place)?;
    let (mut kept, _) = read(path);
    make(&mut kept);
    if !kept.is_empty() {
        return common::process::durable::write(path, &kept);
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(place)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwritten(id: &str, at: UnixMs) -> Unwritten {
        let said = serde_json::json!({"id": id, "host": "", "address": "", "version": "", "generation": 0, "overrides": 0, "started": 0});
        let mut totals = Tally::default();
        totals.raise(&"img/a".parse().expect("valid"), 7);
        Unwritten {
            announcement: serde_json::from_value(said).expect("valid"),
            totals,
            at,
        }
    }

    #[test]
    fn counts_are_carried_for_a_week() {
        let folder = tempfile::tempdir().expect("folder");
        let path = beside(&folder.path().join("state"));
        assert_eq!(read(&path), (Vec::new(), None));
        let (old, new) = (unwritten("old", 1), unwritten("new", unix_ms()));
        common::process::durable::write(&path, &[&old, &new]).expect("written");
        let (told, problem) = read(&path);
        assert_eq!(told, [new]);
        assert!(problem.expect("old counts are named").contains("7 counts"));
    }

    #[test]
    fn processes_that_share_a_file_keep_what_the_others_left() {
        let folder = tempfile::tempdir().expect("folder");
        let path = beside(&folder.path().join("state"));
        let all = ["a", "b", "c"].map(|id| unwritten(id, unix_ms()));
        std::thread::scope(|threads| {
            all.iter().for_each(|unwritten| {
                drop(threads.spawn(|| keep(&path, unwritten).expect("kept")));
            });
        });
        assert_eq!(read(&path).0.len(), 3);
        keep(&path, &all[0]).expect("kept");
        forget(&path, "b").expect("forgotten");
        let mut left: Vec<String> = read(&path)
            .0
            .into_iter()
            .map(|unwritten| unwritten.announcement.id)
            .collect();
        left.sort();
        assert_eq!(left, ["a", "c"]);
        ["a", "c"]
            .iter()
            .for_each(|id| forget(&path, id).expect("forgotten"));
        assert!(!path.exists());
    }
}
