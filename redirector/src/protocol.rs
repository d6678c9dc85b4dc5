//! Bytes to requests and answers to bytes: state machines that cannot wait.
//! No socket is opened, no clock read and no choice made here.

pub mod context;
pub mod http1;
pub(crate) mod send_queue;
pub mod transport;
