//! TLS and HTTP/2 on threads of their own, a task a connection.
//! Nothing outside this box may depend on what is inside but the thread.

pub(crate) mod h2;
mod registration;
mod shared;
pub(crate) mod task;
pub(crate) mod thread;
