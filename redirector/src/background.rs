//! Work beside serving: table, health and overrides in, counts out, files kept.
//! Nothing that answers a client may wait for anything here.

pub(crate) mod empty_farms;
pub mod flush;
pub mod override_file;
pub mod refresh;
pub mod state_file;
pub mod unwritten_counts;
