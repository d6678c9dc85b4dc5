//! The words of the domain as values that cannot be wrong: farms, servers, checks, health, overrides, counts.
//! No store, no socket and no configuration file may enter here.

pub mod check;
pub mod farm;
pub mod followed_totals;
pub mod generation;
pub mod health;
pub mod host;
pub mod in_force;
pub mod name;
pub mod overrides;
pub mod tally;
pub mod target;
