//! Checks that are watched no more.

use common::model::health::{Checked, Finding, State};
use common::time::UnixMs;
use std::time::{Duration, Instant};

/// How long the store keeps what it was told of a check that left: longer than any reader needs to hear of it.
pub(super) const LINGER: Duration = Duration::from_secs(60);

/// A check that is watched no more.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) since: Instant,
    /// Whether the store was told.
    pub(super) told: bool,
}

impl Left {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            told: false,
        }
    }

    /// What readers hear: if it is watched again, what was found before counts for nothing.
    pub(super) fn finding(now: UnixMs) -> Finding {
        let why = "not probed any more".into();
        Finding {
            state: State::Abstain,
            checked: Checked::Never,
            since: now,
            why,
            last_check: 0,
        }
    }
}
