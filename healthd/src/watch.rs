//! The list of what is checked, when, by how many at a time, and what the store is told.
//! How a server is asked is no business of this wing.

pub mod id_claim;
pub mod list;
pub mod queue;
pub mod schedule;
pub mod witness;
