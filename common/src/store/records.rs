//! What goes in and out of the store, one type a record.

use crate::model::check::CheckKey;
use crate::model::farm::{Farms, Name};
use crate::model::health::Finding;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The generations by which somebody judged that a change does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedGenerations {
    /// Of the table.
    pub table: u64,
    /// Of what is set by hand.
    pub overrides: u64,
}

/// What a redirector says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Random per process start.
    pub id: String,
    /// The host's name.
    pub host: String,
    /// Where it listens.
    pub address: String,
    /// Its version.
    pub version: String,
    /// The table generation in use, 0 for none.
    pub generation: u64,
    /// The overrides generation in use.
    pub overrides: u64,
    /// When it started.
    pub started: UnixMs,
    /// What is wrong with the state it was offered, if anything.
    #[serde(default)]
    pub alarm: String,
    /// What its own file sets by hand, beating the store: `img/srv2 off`.
    #[serde(default)]
    pub by_file: String,
    /// When the first of its certificates ends; 0: it serves no TLS.
    #[serde(default)]
    pub certificate_expires: UnixMs,
    /// The hosts it refused most in the last hour, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_hosts: Vec<RefusedHost>,
    /// Whether it has left for good, its last totals written.
    #[serde(default)]
    pub left: bool,
}

/// A host that clients asked for in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedHost {
    /// The host as clients wrote it, in small letters: anything they like.
    pub host: String,
    /// Why it was refused, in the words of the access log.
    pub reason: String,
    /// How often in the last hour, at the least.
    pub count: u64,
}

/// A redirector as readers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replica {
    /// What it said last.
    #[serde(flatten)]
    pub announcement: Announcement,
    /// Milliseconds since it said so, by the store's clock.
    pub silent_ms: u64,
}

/// Something that happened, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the writer's clock.
    pub at: UnixMs,
    /// Who says so.
    pub by: String,
    /// What happened: `img/srv1 is down`.
    pub what: String,
    /// The reason.
    pub why: String,
}

/// How many events the store keeps.
pub const EVENTS_KEPT: usize = 1000;

/// How many tables a store on Redis keeps to go back to, the current one included.
pub const TABLES_KEPT: usize = 20;

/// A table on its way into the store.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The generation that must be in force for this to succeed; 0 for none.
    pub expected: u64,
    /// The cluster the table is for.
    pub cluster: Name,
    /// The table.
    pub farms: Farms,
    /// Who publishes.
    pub by: String,
    /// Why.
    pub why: String,
    /// Random, and the same on every try of one publication.
    pub nonce: String,
    /// Whether the operator insists: readers then take even an empty table.
    pub forced: bool,
    /// Whether what was set by hand is dropped in the same step.
    pub reset: bool,
}

/// How a publication ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is in force as this generation.
    Now(u64),
    /// It was put in force, and has been replaced since: its reply was lost on the way.
    Replaced {
        /// The generation it had.
        mine: u64,
        /// The generation in force.
        generation: u64,
        /// Who published that one.
        by: String,
    },
    /// Another publication came first.
    Lost {
        /// The generation in force.
        generation: u64,
        /// Who published it.
        by: String,
    },
}

/// What a prober writes in one go.
#[derive(Debug, Clone, Default)]
pub struct HealthReport {
    /// The prober's stable name.
    pub id: String,
    /// Its sequence, grown since the last report if anything was conclusive or has changed.
    pub sequence: u64,
    /// Whether nothing was conclusive: then the sequence that readers see stays where it is, as it shows who is at work.
    pub idle: bool,
    /// Findings whose change readers must hear of.
    pub changed: Vec<(CheckKey, Finding)>,
    /// Findings that are only newer.
    pub touched: Vec<(CheckKey, Finding)>,
    /// Checks no longer made.
    pub removed: Vec<CheckKey>,
    /// What happened, in words.
    pub events: Vec<Event>,
    /// The number of the first of them. Told again, after a lost reply, they are written once.
    pub first_event: u64,
    /// What tells the numbers of one run of the prober from those of another.
    pub run: String,
}

/// What the store held of a prober when it took a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// The sequence before the report, none if it knew of no such prober: another than the one told last means that
    /// the store lost data.
    pub before: Option<u64>,
    /// The number of findings after it.
    pub held: usize,
}

/// A prober's own view as an earlier run left it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnView {
    /// The sequence reached.
    pub sequence: u64,
    /// The findings.
    pub findings: HashMap<CheckKey, Finding>,
}
