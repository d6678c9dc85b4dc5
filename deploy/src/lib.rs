//! The operator's hand: what the `rbalancer` command does. The one floor that sees every role.

pub mod apply;
pub mod arguments;
pub mod conf;
pub mod demo;
pub mod doctor;
pub mod export;
pub mod guard;
pub mod history;
pub mod moment;
pub mod origin;
pub mod plan;
pub mod present;
pub mod publish;
pub mod resolve;
pub mod rollback;
pub mod server;
pub mod show;
pub mod up;
pub mod values;
