//! One command a file: its words in and out.
//! A command knows no other command.

pub mod apply;
pub mod doctor;
pub mod export;
pub mod format;
pub mod history;
pub mod keys;
pub mod plan;
pub mod rollback;
pub mod set_server;
pub mod show;
