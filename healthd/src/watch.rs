//! The list of what is checked, when, by how many at a time, and what the store is told.
//! How a server is asked is no business of this module.

pub(crate) mod id_claim;
pub(crate) mod left;
pub(crate) mod list;
pub(crate) mod queue;
mod report;
pub(crate) mod schedule;
mod unchecked;
pub(crate) mod watched;
pub(crate) mod witness;
