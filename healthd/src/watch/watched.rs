//! One check as it is watched.

use crate::checks::CheckedServer;
use crate::verdict::ejection_limit::CheckState;
use crate::verdict::judge::Judge;
use crate::watch::queue::Lane;
use common::model::check::Check;
use common::model::health::{Checked, Finding};
use std::net::IpAddr;
use std::time::Instant;

/// How many checks there are to be careful with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CautionCounts {
    /// Those of which no probe has ever said anything.
    pub never: u64,
    /// Those held in service because the prober suspects itself.
    pub held: u64,
}

/// One check.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) check: Check,
    pub(super) servers: Vec<CheckedServer>,
    pub(super) judge: Judge,
    /// What the store is known to hold.
    pub(super) published: Option<Finding>,
    pub(super) due: Instant,
    /// Probes on their way.
    pub(super) in_flight: u16,
    /// Where its probes go, as far as is known.
    pub(super) address: Option<IpAddr>,
    /// Whether it was said that its probes say nothing.
    pub(super) warned: bool,
}

impl Watched {
    /// How many probes may be on their way at once. To one that has begun to fail as many as a fall still takes: those
    /// that time out do not wait for each other.
    pub(super) fn allowed(&self) -> u16 {
        let failures = self.judge.failures();
        if failures == 0 {
            1
        } else {
            self.check.fall.saturating_sub(failures).max(1)
        }
    }

    /// Where it waits.
    pub(super) fn row(&self) -> Lane {
        if self.judge.finding().checked == Checked::Failing {
            Lane::Failing
        } else {
            Lane::Answering
        }
    }

    pub(super) fn seen(&self) -> CheckState<'_> {
        CheckState {
            check: &self.check,
            servers: &self.servers,
            judge: &self.judge,
            address: self.address,
        }
    }
}
