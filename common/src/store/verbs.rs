//! What each role may do: a role that is handed a [`Reader`] cannot even compile a write.

use super::answer::{Answer, Replication};
use super::error::StoreError;
use super::hints::Hints;
use super::history_entry::HistoryEntry;
use super::keeper::Keeper;
use super::memory::Memory;
use super::records::{
    Announcement, Event, ExpectedGenerations, HealthReport, OwnView, Publication, Published,
    Replica, Reported,
};
use super::redis::Redis;
use super::trouble::Trouble;
use crate::model::check::CheckKey;
use crate::model::farm::ServerId;
use crate::model::followed_totals::FollowedTotals;
use crate::model::generation::{self, Alarm, Stamp, Table};
use crate::model::health::{Finding, ViewChanges};
use crate::model::overrides::Override;
use crate::model::tally::{CountKey, Totals};
use crate::time::UnixMs;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};

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
        follow(counted: &mut FollowedTotals) -> ();
        /// What one prober found of some `checks`, changed or only newer.
        findings(prober: &str, checks: &[CheckKey]) -> HashMap<CheckKey, Finding>;
        /// The latest `count` events, newest first.
        events(count: usize) -> Vec<Event>;
        /// The tables kept, newest first, the one in force included.
        history() -> Vec<HistoryEntry>;
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
        set_override(id: &ServerId, value: Option<&Override>, event: &Event, judged: Option<ExpectedGenerations>) -> bool;
        /// How many of the store's connected copies hold all that was written up to now; none where it has none.
        copies() -> Option<Replication>;
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
