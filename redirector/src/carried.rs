//! Counts that a process could not write before it ended: kept beside the state file, written by the next one.

use anyhow::Context;
use common::clock::{UnixMs, unix_ms};
use common::store::Announcement;
use common::tally::Tally;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Totals older than this are not told any more: the store has forgotten what of them was folded into its base.
const TOLD_FOR: Duration = Duration::from_secs(7 * 86_400);

/// The totals of one ended process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Who it was.
    pub said: Announcement,
    /// Everything it counted.
    pub totals: Tally,
    /// When it ended.
    pub at: UnixMs,
}

/// The file beside a state file.
pub fn beside(state_file: &Path) -> PathBuf {
    state_file.with_added_extension("counts")
}

/// What earlier processes left in `path`. What is wrong is for the log.
pub fn read(path: &Path) -> (Vec<Carried>, Option<String>) {
    let kept: Vec<Carried> = match common::durable::read(path) {
        Ok(kept) => kept.unwrap_or_default(),
        Err(error) => return (Vec::new(), Some(format!("{error:#}"))),
    };
    let oldest = unix_ms().saturating_sub(TOLD_FOR.as_millis() as u64);
    let (told, old): (Vec<_>, Vec<_>) = kept.into_iter().partition(|carried| carried.at >= oldest);
    let lost: u64 = old.iter().flat_map(|carried| carried.totals.iter()).map(|(_, total)| total).sum();
    let problem = (lost > 0).then(|| format!("{}: {lost} counts are older than seven days: not written", path.display()));
    (told, problem)
}

/// Keeps `carried` in `path`; nothing to keep: no file.
///
/// # Errors
/// Names the path and the step that failed.
pub fn write(path: &Path, carried: &[Carried]) -> anyhow::Result<()> {
    if !carried.is_empty() {
        return common::durable::write(path, &carried);
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("state file {}", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(at: UnixMs) -> Carried {
        let said = serde_json::from_str(r#"{"id":"r1","host":"","address":"","version":"","generation":0,"overrides":0,"started":0}"#);
        let mut totals = Tally::default();
        totals.raise("img/a".parse().expect("valid"), 7);
        Carried { said: said.expect("valid"), totals, at }
    }

    #[test]
    fn counts_are_carried_for_a_week() {
        let folder = tempfile::tempdir().expect("folder");
        let path = beside(&folder.path().join("state"));
        assert_eq!(read(&path), (Vec::new(), None));
        let (old, new) = (carried(1), carried(unix_ms()));
        write(&path, &[old, new.clone()]).expect("written");
        let (told, problem) = read(&path);
        assert_eq!(told, [new]);
        assert!(problem.expect("old counts are named").contains("7 counts"));
        write(&path, &[]).expect("removed");
        assert!(!path.exists());
    }
}
