//! One epoll loop a thread: accepts, waits, times out.
//! It knows no protocol: no byte of HTTP is looked at here.

pub(crate) mod accept;
pub mod address_limit;
pub mod connections;
pub mod limits;
pub(crate) mod threads;
pub mod tls_tasks;
pub mod worker;
