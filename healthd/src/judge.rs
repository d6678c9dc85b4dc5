//! Evidence → state: rise and fall in a row, and when to probe next. Pure: time and chance come in as arguments.

use crate::probe::Evidence;
use common::check::Check;
use common::clock::UnixMs;
use common::health::{Checked, Finding, State};
use rand::{Rng, RngExt};
use std::time::Duration;

/// The part by which an interval may be longer or shorter, so that probers and servers do not beat in time.
const JITTER: f64 = 0.1;

/// What is known of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    finding: Finding,
    /// Conclusive probes in a row that went as the latest one did.
    row: u16,
}

impl Judge {
    /// Nothing seen yet.
    pub fn new(now: UnixMs) -> Self {
        let finding = Finding { state: State::Abstain, checked: Checked::Never, since: now, why: "not probed yet".into(), last_check: 0 };
        Self { finding, row: 0 }
    }

    /// Goes on where an earlier run stopped.
    pub fn adopt(finding: Finding) -> Self {
        Self { finding, row: 0 }
    }

    /// What to publish.
    pub fn finding(&self) -> &Finding {
        &self.finding
    }

    /// Takes in a probe's outcome. True if it was conclusive.
    pub fn take(&mut self, check: &Check, evidence: &Evidence, now: UnixMs) -> bool {
        let (checked, why) = match evidence {
            Evidence::Success(why) => (Checked::Ok, why),
            Evidence::Hard(why) | Evidence::Soft(why) => (Checked::Failing, why),
            Evidence::Nothing(why) => {
                if self.finding.checked == Checked::Never {
                    self.finding.why.clone_from(why);
                }
                return false;
            }
        };
        self.row = if self.finding.checked == checked { self.row.saturating_add(1) } else { 1 };
        (self.finding.checked, self.finding.last_check) = (checked, now);
        let (towards, needed) = match (self.finding.state, checked) {
            // The first success of one never seen is enough: it works.
            (State::Abstain, Checked::Ok) => (State::Up, 1),
            (_, Checked::Ok) => (State::Up, check.rise),
            _ => (State::Down, check.fall),
        };
        if self.finding.state != towards && self.row >= needed {
            (self.finding.state, self.finding.since) = (towards, now);
        }
        // On the way up the reason of the fall stays; on the way down the failure is worth showing at once.
        if self.finding.state != State::Down || checked == Checked::Failing {
            self.finding.why.clone_from(why);
        }
        true
    }

    /// From the start of the last probe to the start of the next.
    pub fn interval(&self, check: &Check, rng: &mut impl Rng) -> Duration {
        let settled = match (self.finding.state, self.finding.checked) {
            (State::Up, Checked::Ok) | (_, Checked::Never) => check.inter,
            (State::Down, Checked::Failing) => check.downinter,
            _ => check.fastinter,
        };
        settled.mul_f64(rng.random_range(1.0 - JITTER..=1.0 + JITTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn check(rise: u16, fall: u16) -> Check {
        let json = serde_json::json!({"scheme": "http", "host": "h", "port": 80, "method": "HEAD", "uri": "/", "expect": "200-399",
            "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1000, "rise": rise, "fall": fall});
        serde_json::from_value(json).expect("valid check")
    }

    fn good() -> Evidence {
        Evidence::Success("HTTP 200".into())
    }

    fn bad() -> Evidence {
        Evidence::Hard("connection refused".into())
    }

    fn states(check: &Check, evidence: &[Evidence]) -> Vec<State> {
        let mut judge = Judge::new(0);
        let step = |(n, evidence): (usize, &Evidence)| {
            judge.take(check, evidence, n as u64);
            judge.finding().state
        };
        evidence.iter().enumerate().map(step).collect()
    }

    #[test]
    fn rise_and_fall_are_counted_in_a_row() {
        use State::{Abstain, Down, Up};
        let check = check(2, 3);
        assert_eq!(states(&check, &[good(), bad(), bad(), good(), bad(), bad(), bad()]), [Up, Up, Up, Up, Up, Up, Down]);
        assert_eq!(states(&check, &[bad(), bad(), bad(), good(), bad(), good(), good()]), [Abstain, Abstain, Down, Down, Down, Down, Up]);
    }

    #[test]
    fn a_failed_look_up_changes_nothing() {
        let nothing = Evidence::Nothing("name does not resolve: x".into());
        let check = check(2, 1);
        let mut judge = Judge::new(0);
        assert!(!judge.take(&check, &nothing, 1));
        assert_eq!(
            (judge.finding().state, judge.finding().checked, judge.finding().why.as_str()),
            (State::Abstain, Checked::Never, "name does not resolve: x")
        );
        judge.take(&check, &good(), 2);
        let before = judge.clone();
        judge.take(&check, &nothing, 3);
        assert_eq!(judge, before);
    }

    #[test]
    fn probes_come_faster_while_a_state_is_about_to_turn() {
        let check = check(2, 3);
        let mut rng = SmallRng::seed_from_u64(1);
        let mut near = |judge: &Judge, ms: u64| {
            let interval = judge.interval(&check, &mut rng).as_millis() as u64;
            assert!((ms * 9 / 10..=ms * 11 / 10).contains(&interval), "{interval} is not near {ms}");
        };
        let mut judge = Judge::new(0);
        near(&judge, 1000);
        judge.take(&check, &good(), 1);
        near(&judge, 1000);
        judge.take(&check, &bad(), 2);
        near(&judge, 300);
        judge.take(&check, &bad(), 3);
        judge.take(&check, &bad(), 4);
        near(&judge, 2000);
        judge.take(&check, &good(), 5);
        near(&judge, 300);
    }

    proptest! {
        #[test]
        fn a_turn_needs_that_many_in_a_row(evidence in proptest::collection::vec(any::<bool>(), 1..60), rise in 1u16..5, fall in 1u16..5) {
            let check = check(rise, fall);
            let probes: Vec<_> = evidence.iter().map(|&works| if works { good() } else { bad() }).collect();
            let states = states(&check, &probes);
            for at in 1..states.len() {
                if states[at] != states[at - 1] {
                    let works = states[at] == State::Up;
                    let needed = match (states[at - 1], works) { (State::Abstain, true) => 1, (_, true) => rise, (_, false) => fall };
                    let row = evidence[..=at].iter().rev().take_while(|&&probe| probe == works).count();
                    prop_assert!(row >= usize::from(needed), "{:?} turned to {:?} after {} in a row", states[at - 1], states[at], row);
                }
            }
        }
    }
}
