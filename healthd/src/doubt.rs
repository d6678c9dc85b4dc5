//! Doubt in the prober itself: when everything seems to fail at once, the trouble is likely here. Pure: time comes in
//! as an argument.
//!
//! Targets are counted by host and port: two paths of one port fail together for good reasons, and a farm of several
//! ports on one host is still several servers to its operator. To hold them all costs their clients nothing: with
//! everything down there is nowhere better to send them.

use crate::brake::Seen;
use crate::judge::Fall;
use common::health::{IN_DOUBT, State};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// With fewer targets a coincidence is too likely.
const FEWEST: usize = 3;

/// Hard evidence is believed after this long.
const BELIEVED: Duration = Duration::from_secs(30);

/// Whether the prober suspects itself, and since when.
#[derive(Debug, Clone, Default)]
pub struct Doubt {
    since: Option<Instant>,
}

impl Doubt {
    /// Whether it does.
    pub fn is_raised(&self) -> bool {
        self.since.is_some()
    }

    /// Whether a failure says anything now: while in doubt, only hard evidence does, and only after a while.
    pub fn is_conclusive(&self, hard: bool, now: Instant) -> bool {
        self.since.is_none_or(|since| hard && now.saturating_duration_since(since) >= BELIEVED)
    }

    /// Looks whether every target that was not down before has begun to fail within the same two intervals. How many
    /// targets it doubts from now on; none if nothing has changed.
    pub fn look<'a>(&mut self, all: impl Iterator<Item = Seen<'a>>, now: Instant) -> Option<usize> {
        if self.is_raised() {
            return None;
        }
        let (mut targets, mut begun, mut inter) = (BTreeSet::new(), None, Duration::ZERO);
        for seen in living(all) {
            let since = seen.judge.trail().failing_since?;
            let (first, last) = begun.unwrap_or((since, since));
            begun = Some((since.min(first), since.max(last)));
            inter = inter.max(seen.check.inter);
            targets.insert(seen.target());
        }
        let (first, last) = begun?;
        let suspicious = targets.len() >= FEWEST && last.duration_since(first) <= 2 * inter;
        self.since = suspicious.then_some(now);
        suspicious.then_some(targets.len())
    }

    /// Something answers. True if that ends a doubt.
    pub fn end(&mut self) -> bool {
        self.since.take().is_some()
    }

    /// Why `fallen` is held in service whatever the brake says; none if it is not. Before there is doubt a fall waits
    /// until another target has answered, or two intervals: else the first of all to fail would be out too soon.
    pub fn holds<'a>(
        &self,
        all: &(impl Iterator<Item = Seen<'a>> + Clone),
        fallen: &Seen<'_>,
        fall: Fall,
        now: Instant,
    ) -> Option<&'static str> {
        if self.is_raised() {
            return (!self.is_conclusive(fall == Fall::Hard, now)).then_some(IN_DOUBT);
        }
        let since = fallen.judge.trail().failing_since.unwrap_or(now);
        let answered = |seen: Seen<'_>| seen.target() != fallen.target() && seen.judge.trail().last_good.is_some_and(|at| at >= since);
        let patience = 2 * fallen.check.inter + fallen.check.timeout;
        let waits = now.saturating_duration_since(since) < patience && !all.clone().any(answered);
        let several = || living(all.clone()).map(|seen| seen.target()).collect::<BTreeSet<_>>().len() >= FEWEST;
        (waits && several()).then_some("no other target has answered since")
    }
}

/// The checks whose failure would be news.
fn living<'a>(all: impl Iterator<Item = Seen<'a>>) -> impl Iterator<Item = Seen<'a>> {
    let is_news = |seen: &Seen<'_>| {
        let trail = seen.judge.trail();
        seen.judge.finding().state != State::Down && !trail.quiet && !trail.has_outlived()
    };
    all.filter(is_news)
}

#[cfg(test)]
#[path = "doubt_tests.rs"]
mod tests;
