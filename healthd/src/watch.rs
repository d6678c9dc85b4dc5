//! The list of what is checked, when, by how many at a time, and what the store is told.
//! How a server is asked is no business of this wing.

pub mod id_claim;
pub mod left;
pub mod list;
pub mod queue;
mod report;
pub mod schedule;
mod unchecked;
pub mod watched;
pub mod witness;
