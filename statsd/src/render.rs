//! The forms a report is shown in.
//! No store may enter here, and nothing is decided: what is shown stands in the report.

pub(crate) mod csv;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod openmetrics;
mod text;
