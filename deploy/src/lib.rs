//! The operator's hand: what the `rbalancer` command does. The one floor that sees every role.

pub mod apply;
pub mod conf;
pub mod demo;
pub mod origin;
pub mod show;
pub mod up;
pub mod values;
