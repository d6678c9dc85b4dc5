//! The report as JSON.

use crate::report::Report;

/// The report as JSON.
///
/// # Errors
/// When a value has no JSON form.
pub(crate) fn page(report: &Report) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(report)
}
