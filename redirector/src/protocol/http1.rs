//! HTTP/1: the head, the connection, keep-alive and pipelining (RFC 9112).
//! Nothing of HTTP/2 and no choice of a server may enter here.

pub mod connection;
pub mod head;
pub(crate) mod scan;
pub mod write;
