//! The cluster's book-keeping: totals kept, probers that fell silent named.
//! No probe and no verdict may enter here.

pub mod probers;
pub mod totals;
