//! What a redirect costs: real servers on one core, a load on another, everything compared side by side in one run.

pub mod calm;
pub mod cases;
pub mod cluster;
pub mod configuration;
pub mod floor;
pub mod handshake;
pub mod idle;
pub mod load;
mod presence;
pub mod report;
pub mod server;
pub mod socket;
pub mod spread;
