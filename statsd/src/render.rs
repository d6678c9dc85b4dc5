//! The forms a report is shown in.

pub mod csv;
pub mod html;
pub mod json;
pub mod openmetrics;
mod text;
