//! The shared words and wires of rbalancer: domain types, the store, sockets, process plumbing.
//! Knows no role: nothing here may depend on who answers, probes or reports.

pub mod config;
pub mod files;
pub mod model;
pub mod net;
pub mod openmetrics;
pub mod process;
pub mod store;
pub mod time;
pub mod words;
