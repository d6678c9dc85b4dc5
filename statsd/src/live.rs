//! The store sampled on a timer, the newest report, and its forms made once for everybody.
//! What a report says is no business of this module.

pub(crate) mod latest;
pub(crate) mod rendered;
pub(crate) mod sampler;
