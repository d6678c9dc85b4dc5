//! Evidence to state: pure, with the time passed in.
//! No socket, no store and no clock may enter here.

pub mod ejection_limit;
pub mod flapping;
pub mod judge;
pub mod self_suspicion;
