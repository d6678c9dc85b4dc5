//! Sockets: what a listener is, how the kernel is asked for it, and small pages for people and monitoring.
//! No word of the domain may enter here.

pub mod listen;
pub mod network;
pub mod socket;
pub mod web;
