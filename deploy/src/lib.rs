//! The operator's hand: what the `rbalancer` command does. The one crate that sees every role.

pub mod arguments;
pub mod change;
pub mod commands;
pub mod conf;
pub mod up;
