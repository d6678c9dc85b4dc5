//! `rbalancer rollback`: an older table in force again, as a new generation.

use crate::change::current::Current;
use crate::change::publish::is_agreed;
use crate::change::put_in_force::{PublishOptions, put_in_force};
use anyhow::{Context, anyhow};
use common::process::exit::Failure;
use common::store::{HistoryEntry, Redis, RedisSettings, Store, TABLES_KEPT};

/// Puts the table of `back` (steps back, or a generation) in force again, if `agreed` says yes; the lines to print.
///
/// # Errors
/// As `apply`, and when there is no such table.
pub async fn rollback(
    redis: &RedisSettings,
    back: u64,
    options: &PublishOptions,
    agreed: impl FnOnce(&str) -> anyhow::Result<bool>,
) -> Result<String, Failure> {
    let store = Store::Redis(Redis::pooled(redis));
    let reader = store.reader();
    let current = Current::read(&reader).await.map_err(anyhow::Error::from)?;
    let stamp = current
        .stamp
        .clone()
        .context("no table is in force: there is nothing to go back from")?;
    let history = reader.history().await.map_err(anyhow::Error::from)?;
    let old = choose(&history, stamp.table, back)?.stamp.clone();
    let generation = old.table;
    let farms = reader
        .table(old)
        .await
        .map_err(anyhow::Error::from)?
        .map_err(anyhow::Error::from)?
        .farms;
    if let Some(held) = current.holds(&farms).filter(|_| !options.reset)
        && is_agreed(&reader, held)
            .await
            .map_err(anyhow::Error::from)?
    {
        return Err(
            anyhow!("generation {generation} holds the table in force: `rbalancer history` lists the others, by their checksum").into()
        );
    }
    let why = if options.why.is_empty() {
        String::new()
    } else {
        format!(": {}", options.why)
    };
    let why = format!("rollback to {generation}{why}");
    put_in_force(
        &store,
        &current,
        (stamp.cluster, farms),
        options,
        why,
        agreed,
    )
    .await
}

/// The table `back` steps before the `current` one, or the one of generation `back`. No generation is as small as
/// a number of steps.
fn choose(history: &[HistoryEntry], current: u64, back: u64) -> anyhow::Result<&HistoryEntry> {
    let older: Vec<&HistoryEntry> = history
        .iter()
        .filter(|entry| entry.stamp.table < current)
        .collect();
    if back == 0 || back == current {
        return Err(anyhow!(
            "that table is in force already: `rbalancer history` lists the others"
        ));
    }
    let found = match usize::try_from(back) {
        Ok(steps) if steps <= TABLES_KEPT => older.get(steps - 1),
        _ => older.iter().find(|entry| entry.stamp.table == back),
    };
    found.copied().ok_or_else(|| match older.len() {
        0 => anyhow!(
            "there is no older table to go back to: `rbalancer history` lists what there is"
        ),
        kept => anyhow!(
            "no table for `{back}`: {kept} older ones are kept, `rbalancer history` lists them"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::model::generation::{SCHEMA, Stamp};

    fn edition(table: u64) -> HistoryEntry {
        let stamp = Stamp {
            table,
            overrides: 0,
            checksum: String::new(),
            cluster: "c".parse().expect("valid"),
            schema: SCHEMA,
            min_reader: SCHEMA,
            nonce: String::new(),
            by: String::new(),
            why: String::new(),
            forced: false,
            farms: None,
        };
        HistoryEntry {
            at: 0,
            stamp,
            servers: 0,
        }
    }

    #[test]
    fn steps_and_generations_name_a_table() {
        let history = [5000, 4000, 3000].map(edition);
        let chosen = |back| {
            choose(&history, 5000, back)
                .map(|entry| entry.stamp.table)
                .ok()
        };
        assert_eq!(
            (chosen(1), chosen(2), chosen(3), chosen(0)),
            (Some(4000), Some(3000), None, None)
        );
        assert_eq!(
            (chosen(3000), chosen(5000), chosen(3001)),
            (Some(3000), None, None)
        );
        assert!(
            choose(&history[..1], 5000, 1)
                .is_err_and(|error| error.to_string().contains("no older table"))
        );
    }
}
