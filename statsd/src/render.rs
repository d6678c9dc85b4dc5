//! The forms a report is shown in.
//! No store may enter here, and nothing is decided: what is shown stands in the report.

pub mod csv;
pub mod html;
pub mod json;
pub mod openmetrics;
mod text;
