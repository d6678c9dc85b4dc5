//! The shared words and wires of rbalancer: domain types, the store, sockets, process plumbing.
//! Knows no role: nothing here may depend on who answers, probes or reports.

pub mod admin;
pub mod check;
pub mod clock;
pub mod counted;
pub mod durable;
pub mod environment;
pub mod exposition;
pub mod farm;
pub mod files;
pub mod generation;
pub mod health;
pub mod host;
pub mod ini;
pub mod keys;
pub mod listen;
pub mod memory;
pub mod name;
pub mod overrides;
pub mod precedence;
pub mod process;
pub mod settings;
pub mod socket;
pub mod store;
pub mod suggest;
pub mod tally;
pub mod target;
pub mod web;
pub mod words;
