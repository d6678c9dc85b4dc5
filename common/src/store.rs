//! The store: where the roles meet, in this process or on Redis, with the follower that all of them read it by. Its verbs
//! are grouped by who may use them, so that a role that is handed a [`Reader`] cannot even compile a write.
//! No role, no socket of a client and no page may enter here.

mod address;
mod answer;
mod configured;
mod dial;
mod error;
mod follower;
mod hints;
mod history_entry;
mod keeper;
mod keys;
mod link;
mod memory;
mod records;
mod redis;
mod scripts;
mod trouble;
mod verbs;

pub use self::address::{BadRedisAddress, RedisAddress};
pub use self::answer::{Answer, Replication};
pub use self::dial::RedisSettings;
pub use self::error::StoreError;
pub use self::follower::{Follower, Following, News};
pub use self::hints::Hints;
pub use self::history_entry::HistoryEntry;
pub use self::keeper::{Base, FOLDED_KEPT_MS, Folded, Keeper, RawTally, Remains};
pub use self::memory::{Memory, Snapshot};
pub use self::records::{
    Announcement, EVENTS_KEPT, Event, ExpectedGenerations, HealthReport, OwnView, Publication,
    Published, RefusedHost, Replica, Reported, TABLES_KEPT,
};
pub use self::redis::Redis;
pub use self::trouble::{TlsTrouble, Trouble};
pub use self::verbs::{Operator, Prober, Reader, ReplicaWriter, Store};
