//! What probers find, and what becomes of it.

mod health;
mod keeper;
mod prober;
