//! One epoll loop a thread: accepts, waits, times out.
//! It knows no protocol: no byte of HTTP is looked at here, but in the box `tls_tasks`, which has tasks and HTTP/2.

pub(crate) mod accept;
pub(crate) mod address_limit;
pub(crate) mod connections;
pub(crate) mod limits;
pub(crate) mod threads;
pub(crate) mod tls_tasks;
pub(crate) mod worker;
