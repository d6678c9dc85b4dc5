//! Evidence to state: pure, with the time passed in.
//! No socket, no store and no clock may enter here.

pub(crate) mod ejection_limit;
pub(crate) mod flapping;
pub(crate) mod judge;
pub(crate) mod self_suspicion;
