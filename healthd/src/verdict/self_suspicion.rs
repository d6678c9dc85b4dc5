//! Doubt in the prober itself: when everything seems to fail at once, the trouble is likely here. Pure: time comes in
//! as an argument.
//!
//! Targets are counted by host and port: two paths of one port fail together for good reasons, and a farm of several
//! ports on one host is still several servers to its operator. To hold them all costs their clients nothing: with
//! everything down there is nowhere better to send them.
//!
//! # When a doubt is believed away
//! Soft evidence is not believed before something answers again. Hard evidence is believed after half a minute in any
//! case, and after five seconds where it cannot well be this machine's doing. A refusal is an answer, as a bad status
//! is: a machine without a network hears neither. What refuses everything on behalf of others is a firewall that rejects, or
//! a proxy on this machine that all connections are led through and that has died. Therefore:
//! - What refuses on this machine's own loopback, asked for by that address, is believed: nothing lies between. A
//!   `check_addr` on loopback for a server elsewhere is a go-between, and may be what has died: no haste.
//! - Fewer machines than it takes targets for a doubt (names of one address are one) are believed: one nginx with
//!   ten ports that was killed looks as one that had a single port, which is out without any doubt.
//! - Several machines are believed once something else is reached by a new connection over the network: the store's own
//!   address. A rule that rejects all, or the dead proxy of all, would have refused that too. (One for the ports of the
//!   web alone would not: then this is wrong 25 s sooner than it was before, and until the fault ends.) A connection that
//!   was open before is no witness, firewalls let those live. Nor is the gateway, which no rule for others rejects.
//! - Anything that tells of trouble here at the same time (no route, no descriptors, no look-up) is no time for haste.
//!
//! Five seconds outlast the restart of a server or a proxy, and are over within ten of a death.

use crate::verdict::ejection_limit::{CheckState, Machine};
use crate::verdict::judge::Fall;
use common::model::health::{Checked, IN_DOUBT, State};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// With fewer targets a coincidence is too likely.
const FEWEST: usize = 3;

/// Hard evidence is believed after this long.
const BELIEVED: Duration = Duration::from_secs(30);

/// The same where it cannot well be this machine's doing, from the first failure.
const SOONER: Duration = Duration::from_secs(5);

/// From one look at all checks to the next while in doubt.
const WEIGHED: Duration = Duration::from_millis(250);

/// Whether the prober suspects itself, and since when.
#[derive(Debug, Clone, Default)]
pub(crate) struct SelfSuspicion(Option<Raised>);

/// A doubt.
#[derive(Debug, Clone)]
struct Raised {
    since: Instant,
    /// When the first of the targets began to fail.
    begun: Instant,
    /// Whether something that is no target was reached over the network since.
    reached: bool,
    /// Whether the evidence cannot well be this machine's doing, and when that was looked at last.
    sound: bool,
    weighed: Instant,
}

impl Raised {
    /// Whether hard evidence is believed.
    fn is_over(&self, now: Instant) -> bool {
        let passed = |since: Instant| now.saturating_duration_since(since);
        passed(self.since) >= BELIEVED || (self.sound && passed(self.begun) >= SOONER)
    }
}

impl SelfSuspicion {
    /// Whether it does.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a failure says anything now: while in doubt, only hard evidence does, and only after a while.
    pub(crate) fn is_conclusive(&self, hard: bool, now: Instant) -> bool {
        self.0
            .as_ref()
            .is_none_or(|raised| hard && raised.is_over(now))
    }

    /// Something that is no target was reached over the network.
    pub(crate) fn reach(&mut self) {
        self.0.iter_mut().for_each(|raised| raised.reached = true);
    }

    /// Looks, now and then, whether the evidence of `all` cannot well be this machine's doing.
    pub(crate) fn weigh<'a>(
        &mut self,
        all: impl Iterator<Item = CheckState<'a>> + Clone,
        now: Instant,
    ) {
        if let Some(raised) = self
            .0
            .as_mut()
            .filter(|raised| now.saturating_duration_since(raised.weighed) >= WEIGHED)
        {
            (raised.weighed, raised.sound) = (now, is_sound(all, raised.reached));
        }
    }

    /// Looks whether every target that was not down before has begun to fail within the same two intervals. How many
    /// targets it doubts from now on; none if nothing has changed.
    pub(crate) fn look<'a>(
        &mut self,
        all: impl Iterator<Item = CheckState<'a>>,
        now: Instant,
    ) -> Option<usize> {
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
        self.0 = suspicious.then_some(Raised {
            since: now,
            begun: first,
            reached: false,
            sound: false,
            weighed: first,
        });
        suspicious.then_some(targets.len())
    }

    /// Something answers. True if that ends a doubt.
    pub(crate) fn end(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Why `fallen` is held in service whatever the ejection limit says; none if it is not. Before there is doubt a fall waits
    /// until another target has answered, or two intervals: else the first of all to fail would be out too soon.
    pub(crate) fn holds<'a>(
        &self,
        all: &(impl Iterator<Item = CheckState<'a>> + Clone),
        fallen: &CheckState<'_>,
        fall: Fall,
        now: Instant,
    ) -> Option<&'static str> {
        if self.is_raised() {
            return (!self.is_conclusive(fall == Fall::Hard, now)).then_some(IN_DOUBT);
        }
        let since = fallen.judge.trail().failing_since.unwrap_or(now);
        let answered = |seen: CheckState<'_>| {
            seen.target() != fallen.target()
                && seen.judge.trail().last_good.is_some_and(|at| at >= since)
        };
        let patience = 2 * fallen.check.inter + fallen.check.timeout;
        let waits = now.saturating_duration_since(since) < patience && !all.clone().any(answered);
        let several = || {
            living(all.clone())
                .map(|seen| seen.target())
                .collect::<BTreeSet<_>>()
                .len()
                >= FEWEST
        };
        (waits && several()).then_some("no other target has answered since")
    }
}

/// Whether what fails everywhere cannot well be this machine's doing (see above).
fn is_sound<'a>(all: impl Iterator<Item = CheckState<'a>> + Clone, reached: bool) -> bool {
    let is_lost = |seen: CheckState<'_>| {
        seen.judge.trail().quiet && seen.judge.finding().checked != Checked::Never
    };
    if all.clone().any(is_lost) {
        return false;
    }
    let mut machines = BTreeSet::new();
    for seen in living(all) {
        if !seen.judge.fails_hard() {
            return false;
        }
        match seen.machine() {
            Machine::GoBetween => return false,
            Machine::Here => {}
            elsewhere => _ = machines.insert(elsewhere),
        }
    }
    reached || machines.len() < FEWEST
}

/// The checks whose failure would be news.
fn living<'a>(all: impl Iterator<Item = CheckState<'a>>) -> impl Iterator<Item = CheckState<'a>> {
    let is_news = |seen: &CheckState<'_>| {
        let trail = seen.judge.trail();
        seen.judge.finding().state != State::Down && !trail.quiet && !trail.has_outlived()
    };
    all.filter(is_news)
}

#[cfg(test)]
mod tests;
