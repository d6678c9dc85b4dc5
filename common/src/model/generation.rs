//! Which table is in force: the stamp a published table carries, and what a reader does when it meets one.

use crate::model::farm::{Farms, Name};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The version of the table's format this program writes.
pub const SCHEMA: u32 = 1;

/// Everything known of the table in force without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The table's generation: grows with every publication, across restarts and data loss; never a clock.
    pub table: u64,
    /// The overrides' generation, counted apart so that a drain costs its own size.
    pub overrides: u64,
    /// SHA-256 of the table's JSON, in hexadecimal.
    pub checksum: String,
    /// The cluster the table is meant for.
    pub cluster: Name,
    /// The format it is written in.
    pub schema: u32,
    /// The oldest format a reader must know to use it.
    pub min_reader: u32,
    /// Marks the publication, to tell a lost reply from a lost race.
    pub nonce: String,
    /// Who published it.
    pub by: String,
    /// Why.
    pub why: String,
    /// Whether the operator insisted: only then may an empty table replace one with farms.
    #[serde(default)]
    pub forced: bool,
    /// How many farms the table holds, so that an empty one is known before it is read; none where it was not noted.
    #[serde(default)]
    pub farms: Option<u64>,
}

/// A table with the stamp it came under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which one it is.
    pub stamp: Stamp,
    /// What it says.
    pub farms: Farms,
}

/// Why an offered table is not taken, in words an operator can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// The store holds no table though one is in memory.
    #[error(
        "the store holds no table (emptied, or another database?); keeping generation {0}: run `rbalancer apply`"
    )]
    Missing(u64),
    /// The store went backwards.
    #[error(
        "the store offers generation {offered}, older than {held} in memory (restored from a backup, or a lagging replica?); keeping {held}: run `rbalancer apply`"
    )]
    Older {
        /// In memory.
        held: u64,
        /// In the store.
        offered: u64,
    },
    /// What is set by hand went backwards under the same table.
    #[error(
        "what is set by hand in the store is of generation {offered}, older than {held} in memory (restored from a backup, or a lagging replica?); keeping what was set: set it again, or run `rbalancer apply`"
    )]
    OlderOverrides {
        /// In memory.
        held: u64,
        /// In the store.
        offered: u64,
    },
    /// One generation, two contents.
    #[error(
        "generation {0} in the store has another checksum than the one in memory; keeping the one in memory: run `rbalancer apply`"
    )]
    Checksum(u64),
    /// A table without a farm, where one with farms is in use.
    #[error(
        "generation {offered} in the store holds no farm and was published without --force; keeping generation {held}: run `rbalancer rollback`, or apply it with --force if that is meant"
    )]
    Empty {
        /// In memory.
        held: u64,
        /// In the store.
        offered: u64,
    },
    /// A table of another cluster.
    #[error(
        "the store holds the table of cluster `{offered}`, this is `{held}`; keeping `{held}`: check the redis URL and `cluster` in [global]"
    )]
    OtherCluster {
        /// Ours.
        held: Name,
        /// The store's.
        offered: Name,
    },
    /// A table only newer programs can read.
    #[error("the table needs a reader of format {0}, this program knows {SCHEMA}: upgrade it")]
    TooNew(u32),
    /// A table that is not what its stamp says, or not a valid table.
    #[error("the table of generation {generation} is damaged: {why}; run `rbalancer apply`")]
    Damaged {
        /// Its generation.
        generation: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// What a reader does about an offered stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing new.
    Keep,
    /// A newer table: fetch it.
    Fetch,
    /// Keep the held one and say why.
    Alarm(Alarm),
}

/// Compares the stamp in the store with the one held. A reader without a table takes any of its own `cluster`.
pub fn step(cluster: &Name, held: Option<&Stamp>, offered: Option<&Stamp>) -> Step {
    let Some(offered) = offered else {
        return held.map_or(Step::Keep, |held| Step::Alarm(Alarm::Missing(held.table)));
    };
    if offered.cluster != *cluster {
        return Step::Alarm(Alarm::OtherCluster {
            held: cluster.clone(),
            offered: offered.cluster.clone(),
        });
    }
    if offered.min_reader > SCHEMA {
        return Step::Alarm(Alarm::TooNew(offered.min_reader));
    }
    match held {
        None => Step::Fetch,
        // Where nobody noted how many farms are held, there is at least one: an empty table serves nobody.
        Some(held)
            if offered.table > held.table
                && offered.farms == Some(0)
                && !offered.forced
                && held.farms != Some(0) =>
        {
            Step::Alarm(Alarm::Empty {
                held: held.table,
                offered: offered.table,
            })
        }
        Some(held) if offered.table > held.table => Step::Fetch,
        Some(held) if offered.table < held.table => Step::Alarm(Alarm::Older {
            held: held.table,
            offered: offered.table,
        }),
        Some(held) if offered.checksum != held.checksum => Step::Alarm(Alarm::Checksum(held.table)),
        Some(_) => Step::Keep,
    }
}

/// SHA-256 of a table's JSON in hexadecimal.
pub fn checksum(json: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(json) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Parses a table's JSON under its stamp, as untrusted input.
pub fn read_table(stamp: Stamp, json: &[u8]) -> Result<Table, Alarm> {
    let damaged = |why: String| Alarm::Damaged {
        generation: stamp.table,
        why,
    };
    if checksum(json) != stamp.checksum {
        return Err(damaged(format!(
            "its checksum does not match ({} bytes)",
            json.len()
        )));
    }
    let farms: Farms = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
    if let Some(noted) = stamp.farms.filter(|noted| *noted != farms.len() as u64) {
        return Err(damaged(format!(
            "it holds {} farms where {noted} were noted",
            farms.len()
        )));
    }
    Ok(Table { stamp, farms })
}

#[cfg(test)]
mod tests;
