//! The store: where the roles meet. Its verbs are grouped by who may use them, so that a role that is handed a
//! [`Reader`] cannot even compile a write. The ACL users of a Redis mirror the groups.

mod address;
mod answer;
mod dial;
mod edition;
mod hints;
mod keeper;
mod keys;
mod link;
mod memory;
mod redis;
mod scripts;
mod trouble;

pub use self::address::{BadRedisAddress, RedisAddress};
pub use self::answer::{Answer, Copies};
pub use self::dial::RedisSettings;
pub use self::edition::Edition;
pub use self::hints::Hints;
pub use self::keeper::{Base, FOLDED_KEPT_MS, Folded, Keeper, RawTally, Remains};
pub use self::memory::{Memory, Snapshot};
pub use self::redis::Redis;
pub use self::trouble::{TlsTrouble, Trouble};

use crate::model::check::CheckKey;
use crate::model::farm::{Farms, Name, ServerId};
use crate::model::followed_totals::Counted;
use crate::model::generation::{self, Alarm, Stamp, Table};
use crate::model::health::{Finding, ViewChanges};
use crate::model::overrides::Override;
use crate::model::tally::{CountKey, Totals};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};

/// Why a verb failed. Every caller keeps its last good state and tries again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No connection.
    #[error("cannot reach redis at {at}: {why}")]
    Unreachable {
        /// The address, without a password.
        at: String,
        /// The cause.
        why: Trouble,
    },
    /// No answer within the limit. What was sent may still be carried out.
    #[error("redis at {0} did not answer in time")]
    TimedOut(String),
    /// Redis answered with an error.
    #[error("redis at {at} refused: {why}")]
    Refused {
        /// The address, without a password.
        at: String,
        /// The cause.
        why: Trouble,
    },
    /// What the store holds is not what its key promises.
    #[error("the store holds something else than expected: {0}")]
    Content(String),
}

impl StoreError {
    /// Whether nobody answered: another question now would only take as long again.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut(_))
    }

    /// Whether the answer was that the store holds something it should not: that heals by what an operator does.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Content(_) => true,
            Self::Refused { why, .. } => matches!(why, Trouble::WrongType(_)),
            Self::Unreachable { .. } | Self::TimedOut(_) => false,
        }
    }
}

/// The generations by which somebody judged that a change does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
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
    pub said: Announcement,
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

/// State shared by the roles: in this process, or on Redis.
#[derive(Debug, Clone)]
pub enum Store {
    /// On Redis.
    Redis(Redis),
    /// In this process.
    Memory(Memory),
}

impl Store {
    /// Reading: every role.
    pub fn reader(&self) -> Reader {
        Reader(self.clone())
    }

    /// Setting what is wanted: the command line.
    pub fn operator(&self) -> Operator {
        Operator(self.clone())
    }

    /// Writing what was seen: healthd.
    pub fn prober(&self) -> Prober {
        Prober(self.clone())
    }

    /// Keeping what gone redirectors counted: healthd. What is in memory has one process: nothing to keep.
    pub fn keeper(&self) -> Option<Keeper> {
        match self {
            Self::Redis(store) => Some(Keeper(store.clone())),
            Self::Memory(_) => None,
        }
    }

    /// Writing what was answered: redirectors.
    pub fn replica(&self) -> ReplicaWriter {
        ReplicaWriter(self.clone())
    }
}

/// One method per verb, the same on both stores.
macro_rules! verbs {
    ($($(#[$doc:meta])* $verb:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {
        $($(#[$doc])*
        pub async fn $verb(&self $(, $arg: $type)*) -> Result<$out, StoreError> {
            match &self.0 {
                Store::Redis(store) => store.$verb($($arg),*).await,
                Store::Memory(store) => Ok(store.$verb($($arg),*)),
            }
        })*
    };
}

/// The verbs of every role.
#[derive(Debug, Clone)]
pub struct Reader(Store);

impl Reader {
    verbs! {
        /// The stamp of the table in force; none in an empty store.
        stamp() -> Option<Stamp>;
        /// What is set by hand.
        overrides() -> HashMap<ServerId, Override>;
        /// The probers, and each one's findings changed after the index `read_to` names for it (all, if none).
        health(read_to: &BTreeMap<String, u64>) -> ViewChanges;
        /// Every redirector that was heard of and not folded yet.
        replicas() -> Vec<Replica>;
        /// All totals, by owner.
        totals() -> Totals;
        /// Reads the totals on: at once where they are few, in turn where they are many.
        follow(counted: &mut Counted) -> ();
        /// What one prober found of some `checks`, changed or only newer.
        findings(prober: &str, checks: &[CheckKey]) -> HashMap<CheckKey, Finding>;
        /// The latest `count` events, newest first.
        events(count: usize) -> Vec<Event>;
        /// The tables kept, newest first, the one in force included.
        history() -> Vec<Edition>;
        /// The store's clock: what the end of an override is measured in.
        time() -> UnixMs;
    }

    /// Hints that something was published. One may be missed: the poll of [`Reader::stamp`] is the truth. On Redis
    /// this takes a connection of its own, and a runtime.
    pub fn hints(&self) -> Hints {
        match &self.0 {
            Store::Redis(store) => store.hints(),
            Store::Memory(store) => Hints::of(store.hints()),
        }
    }

    /// The table under `stamp`. What comes from elsewhere is verified whole; what this process published is shared.
    pub async fn table(&self, stamp: Stamp) -> Result<Result<Table, Alarm>, StoreError> {
        let missing = Alarm::Damaged {
            generation: stamp.table,
            why: "its text is missing".into(),
        };
        Ok(match &self.0 {
            Store::Redis(store) => match store.table_json(&stamp).await? {
                Some(json) => generation::read_table(stamp, &json),
                None => Err(missing),
            },
            Store::Memory(store) => store
                .farms(&stamp)
                .map(|farms| Table { stamp, farms })
                .ok_or(missing),
        })
    }
}

/// The verbs of the command line.
#[derive(Debug, Clone)]
pub struct Operator(Store);

impl Operator {
    verbs! {
        /// Puts a table in force if the expected generation still is.
        publish(publication: &Publication) -> Published;
        /// Sets what `value` names over what is set already (see [`Override::over`]), or clears all with none. False, and
        /// nothing is set, where what is in force is no more what it was `judged` by.
        set_override(id: &ServerId, value: Option<&Override>, event: &Event, judged: Option<Judged>) -> bool;
        /// How many of the store's connected copies hold all that was written up to now; none where it has none.
        copies() -> Option<Copies>;
        /// Makes every kind of write an operator needs, none with an effect: refused if one of them is.
        try_writes() -> ();
    }

    /// Asks the store's server itself, in its own words.
    ///
    /// # Errors
    /// As any verb; [`StoreError::Refused`] by a store that has no server.
    pub async fn ask(&self, command: &[&str]) -> Result<Answer, StoreError> {
        match &self.0 {
            Store::Redis(store) => store.ask(command).await,
            Store::Memory(_) => Err(StoreError::Refused {
                at: "memory".into(),
                why: Trouble::Other("there is no server to ask".into()),
            }),
        }
    }
}

/// The verbs of healthd.
#[derive(Debug, Clone)]
pub struct Prober(Store);

impl Prober {
    verbs! {
        /// What an earlier run under the same id left.
        own_view(id: &str) -> OwnView;
        /// Writes findings and the heartbeat in one step; what the store held of this prober tells whether it lost any.
        report(report: &HealthReport) -> Reported;
    }
}

/// The verbs of a redirector.
#[derive(Debug, Clone)]
pub struct ReplicaWriter(Store);

impl ReplicaWriter {
    verbs! {
        /// Writes absolute totals; a total already greater in the store stays.
        flush(id: &str, totals: &[(impl Borrow<CountKey>, u64)]) -> ();
        /// Says that this redirector is there, and how it is; the number of its totals the store then holds, which is
        /// less than it wrote after the store lost data.
        announce(announcement: &Announcement) -> usize;
    }
}
