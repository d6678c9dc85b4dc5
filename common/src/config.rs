//! The INI file and its keys: how it is read, what a value may be, what was probably meant.
//! No socket, no store and no role may enter here.

pub mod environment;
pub mod global;
pub mod ini;
pub mod keys;
pub mod suggest;
pub mod values;
