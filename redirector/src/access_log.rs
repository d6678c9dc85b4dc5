//! One request as a line, and the way of lines to a file.
//! Nothing here may hold up or fail a request.

pub mod entry;
pub mod requests;
pub mod writer;
