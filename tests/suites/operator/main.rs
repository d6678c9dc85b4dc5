//! What an operator does: files, commands, starts, reloads and stops, and the form of the tree itself.

mod bad_configuration;
mod by_hand;
mod demo;
mod doctor;
mod publishing;
mod restart;
mod shutdown;
mod stalls;
mod story;
mod structure;
mod systemd;
mod up;
