//! A published table as the history lists it: who, why, when and how large; the table itself lies elsewhere.

use crate::model::generation::{SCHEMA, Stamp, checksum};
use crate::store::records::Publication;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// A published table as the history lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it was put in force, by the store's clock.
    pub at: UnixMs,
    /// What it was published under; the overrides' generation is not kept.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// How many servers it holds.
    pub servers: u64,
}

impl HistoryEntry {
    /// What `publication`, written as `json`, will be listed as. The store fills in what it alone knows: the
    /// generation and the time.
    pub(super) fn of(publication: &Publication, json: &[u8]) -> Self {
        let stamp = Stamp {
            table: 0,
            overrides: 0,
            checksum: checksum(json),
            cluster: publication.cluster.clone(),
            schema: SCHEMA,
            min_reader: SCHEMA,
            nonce: publication.nonce.clone(),
            by: publication.by.clone(),
            why: publication.why.clone(),
            forced: publication.forced,
            farms: Some(publication.farms.len() as u64),
        };
        Self {
            at: 0,
            stamp,
            servers: publication.farms.server_count() as u64,
        }
    }
}
