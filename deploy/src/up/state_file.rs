//! What `up` keeps in its state file: totals and health, read at the start and written again and again.

use common::files::{self, FileWork};
use common::process::durable;
use common::store::{Memory, Snapshot};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the state file is written.
const SAVE: Duration = Duration::from_secs(10);

/// What reading a state file gives.
type Kept = anyhow::Result<Option<Snapshot>>;

/// Has `memory` go on where `state_file` was written. A file that hangs is taken when it answers: the work of reading it
/// is given back, and until it has ended nothing may be written over what is there.
pub(super) async fn restore(memory: &Memory, state_file: Option<&Path>) -> Option<FileWork<Kept>> {
    // Nobody has begun with it before.
    let mut reading = files::start("state_file", state_file?, durable::read::<Snapshot>).ok()?;
    match reading.within(files::PATIENCE).await {
        Ok(kept) => {
            adopt(memory, kept);
            None
        }
        Err(hangs) => {
            tracing::warn!(
                "{hangs}; starting with empty totals, those of the file are added when it answers"
            );
            Some(reading)
        }
    }
}

fn adopt(memory: &Memory, kept: Kept) {
    match kept {
        Ok(kept) => memory.adopt(kept.unwrap_or_default()),
        Err(error) => tracing::warn!("{error:#}; starting with empty totals"),
    }
}

pub(super) async fn save(path: &Path, memory: &Memory) -> anyhow::Result<()> {
    let snapshot = memory.snapshot();
    files::within("state_file", path, move |path| {
        durable::write(path, &snapshot)
    })
    .await
    .map_err(anyhow::Error::from)
    .flatten()
}

/// Writes the state down again and again, for ever.
pub(super) async fn keep(
    memory: Memory,
    state_file: Option<PathBuf>,
    late: Option<FileWork<Kept>>,
) -> anyhow::Result<()> {
    let Some(path) = state_file else {
        return std::future::pending().await;
    };
    if let Some(mut reading) = late {
        loop {
            if let Ok(kept) = reading.within(SAVE).await {
                break adopt(&memory, kept);
            }
        }
    }
    let (mut saving, mut failing) = (tokio::time::interval(SAVE), false);
    saving.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        saving.tick().await;
        match save(&path, &memory).await {
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!("{error:#}; totals and health are in memory only");
            }
            Ok(()) if std::mem::replace(&mut failing, false) => {
                tracing::info!("state file {}: written again", path.display());
            }
            _ => {}
        }
    }
}
