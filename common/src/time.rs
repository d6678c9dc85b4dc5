//! Wall-clock milliseconds, for people to read. Decisions use monotonic clocks passed in as arguments.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch. Only ever shown or stored for showing: two hosts' values are never compared.
pub type UnixMs = u64;

/// The wall clock now.
pub fn unix_ms() -> UnixMs {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
