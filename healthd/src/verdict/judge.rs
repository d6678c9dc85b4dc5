//! Evidence → state: rise and fall in a row, and when to probe next. Pure: time and chance come in as arguments.
//! A judge knows one check alone; whether a fall that is due may happen is ruled by those who see all checks.

use crate::evidence::Evidence;
use crate::verdict::flapping::Flapping;
use common::model::check::Check;
use common::model::health::{Checked, Finding, NOT_PROBED_YET, State, vouch_limit};
use common::time::UnixMs;
use rand::{Rng, RngExt};
use std::time::{Duration, Instant};

/// The part by which an interval may be longer or shorter, so that probers and servers do not beat in time.
const JITTER: f64 = 0.1;

/// What is known of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judge {
    finding: Finding,
    /// Conclusive probes in a row that went as the latest one did.
    row: u16,
    /// The latest of them that were hard evidence.
    hard_row: u16,
    /// Probes in a row, up to the latest of all, that said nothing.
    silent: u16,
    trail: Trail,
    flapping: Flapping,
}

/// When probes went how, by the monotonic clock; each probe counts from its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trail {
    /// The first of the failures in a row that end with the latest conclusive probe.
    pub failing_since: Option<Instant>,
    /// The first of the successes in a row that end with the latest conclusive probe.
    pub good_since: Option<Instant>,
    /// The latest success.
    pub last_good: Option<Instant>,
    /// Whether the latest probe of all said nothing.
    pub quiet: bool,
    /// When the state became suspect.
    pub suspect_since: Option<Instant>,
    /// How often since its latest success the prober ceased to suspect itself, because another target answered.
    pub outlived: u8,
}

/// What fails through so many doubts that others' answers ended is dead by itself: else one server that answers now and
/// then would hold the dead beside it in service for ever.
const OUTLIVED: u8 = 2;

impl Trail {
    /// Whether it fails whatever the prober thinks of itself.
    pub(crate) fn has_outlived(&self) -> bool {
        self.outlived >= OUTLIVED
    }
}

/// What a fall that is due rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fall {
    /// As many hard failures in a row as it takes.
    Hard,
    /// Failures in a row that may all be the prober's own trouble.
    Soft,
}

/// What becomes of a fall that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It happens.
    Down,
    /// The server is suspect and stays in service, for this reason.
    Suspect(String),
    /// Nothing changes, for this reason.
    Hold(String),
}

impl Judge {
    /// Nothing seen yet.
    pub(crate) fn new(now: UnixMs) -> Self {
        let finding = Finding {
            state: State::Abstain,
            checked: Checked::Never,
            since: now,
            why: NOT_PROBED_YET.into(),
            last_check: 0,
        };
        Self {
            finding,
            row: 0,
            hard_row: 0,
            silent: 0,
            trail: Trail::default(),
            flapping: Flapping::default(),
        }
    }

    /// Goes on where an earlier run stopped. What that run counted in a row counts no more.
    pub(crate) fn adopt(finding: Finding, now: Instant) -> Self {
        let trail = Trail {
            last_good: (finding.checked == Checked::Ok).then_some(now),
            suspect_since: (finding.state == State::Suspect).then_some(now),
            ..Trail::default()
        };
        Self {
            finding,
            row: 0,
            hard_row: 0,
            silent: 0,
            trail,
            flapping: Flapping::default(),
        }
    }

    /// What to publish.
    pub(crate) fn finding(&self) -> &Finding {
        &self.finding
    }

    /// Whether what it says rests on no probe, or on none of late.
    pub(crate) fn is_unchecked(&self) -> bool {
        matches!(self.finding.checked, Checked::Never | Checked::Lapsed)
    }

    /// Probes in a row that said nothing.
    pub(crate) fn silent(&self) -> u16 {
        self.silent
    }

    /// When its probes went how.
    pub(crate) fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Failures in a row that count towards a fall.
    pub(crate) fn failures(&self) -> u16 {
        let counts = self.finding.checked == Checked::Failing && self.finding.state != State::Down;
        if counts { self.row } else { 0 }
    }

    /// Whether the latest conclusive probe was a failure by hard evidence.
    pub(crate) fn fails_hard(&self) -> bool {
        self.hard_row > 0
    }

    /// Takes in the outcome of a probe begun at `started`. A fall that is due waits for [`Judge::rule`].
    pub(crate) fn take(
        &mut self,
        check: &Check,
        evidence: &Evidence,
        started: Instant,
        now: UnixMs,
    ) -> Option<Fall> {
        self.trail.quiet = matches!(evidence, Evidence::Nothing(_));
        match evidence {
            Evidence::Success(why) => {
                self.count(Checked::Ok, started, now);
                self.hard_row = 0;
                self.succeed(check, why, started, now);
                None
            }
            Evidence::Hard(why) | Evidence::Soft(why) => {
                self.count(Checked::Failing, started, now);
                self.hard_row = if matches!(evidence, Evidence::Hard(_)) {
                    self.hard_row.saturating_add(1)
                } else {
                    0
                };
                self.finding.why = self.reason(why, check);
                let due = self.finding.state != State::Down && self.row >= check.fall;
                due.then_some(if self.hard_row >= check.fall {
                    Fall::Hard
                } else {
                    Fall::Soft
                })
            }
            Evidence::Nothing(why) => {
                self.silent = self.silent.saturating_add(1);
                if self.is_unchecked() {
                    self.finding.why.clone_from(why);
                }
                None
            }
        }
    }

    fn count(&mut self, checked: Checked, started: Instant, now: UnixMs) {
        self.silent = 0;
        self.row = if self.finding.checked == checked {
            self.row.saturating_add(1)
        } else {
            1
        };
        (self.finding.checked, self.finding.last_check) = (checked, now);
        let since = |held: Option<Instant>| Some(held.unwrap_or(started));
        let trail = &mut self.trail;
        if checked == Checked::Ok {
            (trail.good_since, trail.last_good, trail.failing_since) =
                (since(trail.good_since), Some(started), None);
            trail.outlived = 0;
        } else {
            (trail.failing_since, trail.good_since) = (since(trail.failing_since), None);
        }
    }

    fn succeed(&mut self, check: &Check, why: &str, started: Instant, now: UnixMs) {
        let needed = match self.finding.state {
            State::Up => 0,
            // The first success of one never seen is enough: it works.
            State::Abstain => 1,
            State::Suspect => check.rise,
            State::Down => self.flapping.needed(check.rise),
        };
        if self.row < needed {
            // On the way up the reason of the fall stays.
            return;
        }
        if self.finding.state == State::Down {
            self.flapping.rose(started);
        }
        self.turn(State::Up, started, now);
        why.clone_into(&mut self.finding.why);
    }

    /// Carries out what was ruled about a fall that is due.
    pub(crate) fn rule(&mut self, check: &Check, ruling: Ruling, started: Instant, now: UnixMs) {
        match ruling {
            Ruling::Down => {
                self.flapping.fell(started);
                self.turn(State::Down, started, now);
                self.finding.why = self.reason(&self.finding.why, check);
            }
            Ruling::Suspect(why) => {
                self.turn(State::Suspect, started, now);
                self.hold(&why);
            }
            Ruling::Hold(why) => self.hold(&why),
        }
    }

    fn hold(&mut self, why: &str) {
        self.finding.why = format!("{}; held in service: {why}", self.finding.why);
    }

    fn turn(&mut self, to: State, at: Instant, now: UnixMs) {
        if self.finding.state != to {
            (self.finding.state, self.finding.since) = (to, now);
            self.trail.suspect_since = (to == State::Suspect).then_some(at);
        }
    }

    /// A failure in words, and how long a server that flaps is held for it.
    fn reason(&self, why: &str, check: &Check) -> String {
        match self.flapping.needed(check.rise) {
            needed if self.finding.state == State::Down && needed > check.rise => {
                format!("{why}; up again after {needed} good probes in a row (flapping)")
            }
            _ => why.to_owned(),
        }
    }

    /// Starts every row anew: what was counted before may have been this process's own trouble.
    pub(crate) fn forget_rows(&mut self) {
        (self.row, self.hard_row) = (0, 0);
        (self.trail.failing_since, self.trail.good_since) = (None, None);
    }

    /// Another target has answered while the prober suspected itself: what failed in a row meanwhile says nothing of
    /// anybody. Who goes on failing each time that happens is not failing because of the prober.
    pub(crate) fn outlive_doubt(&mut self) {
        self.trail.outlived = self
            .trail
            .outlived
            .saturating_add(u8::from(self.trail.failing_since.is_some()));
        self.forget_rows();
    }

    /// Withdraws the vouch for a server that is up when its last success is too old and nothing conclusive came since.
    pub(crate) fn lapse(&mut self, check: &Check, now: Instant) {
        let old = |last: Instant| now.saturating_duration_since(last) > vouch_limit(check.inter);
        if (self.finding.state, self.finding.checked) == (State::Up, Checked::Ok)
            && self.trail.last_good.is_none_or(old)
        {
            self.finding.checked = Checked::Lapsed;
        }
    }

    /// From the start of the last probe to the start of the next.
    pub(crate) fn interval(&self, check: &Check, rng: &mut impl Rng) -> Duration {
        let settled = match (self.finding.state, self.finding.checked) {
            (State::Up, Checked::Ok) | (_, Checked::Never | Checked::Lapsed) => check.inter,
            (State::Down, Checked::Failing) => check.downinter,
            _ => check.fastinter,
        };
        settled.mul_f64(rng.random_range(1.0 - JITTER..=1.0 + JITTER))
    }
}

#[cfg(test)]
mod tests;
