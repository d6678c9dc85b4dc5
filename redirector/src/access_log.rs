//! One request as a line, and the way of lines to a file.
//! Nothing here may hold up or fail a request.

pub(crate) mod entry;
pub(crate) mod requests;
pub(crate) mod writer;
