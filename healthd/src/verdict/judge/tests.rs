//! What a judge makes of rows of evidence.

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

fn soft() -> Evidence {
    Evidence::Soft("timed out after 1s".into())
}

/// Takes a probe in and carries out every fall that is due.
fn take(judge: &mut Judge, check: &Check, evidence: &Evidence, at: Instant) {
    if judge.take(check, evidence, at, 1).is_some() {
        judge.rule(check, Ruling::Down, at, 1);
    }
}

fn states(check: &Check, evidence: &[Evidence]) -> Vec<State> {
    let mut judge = Judge::new(0);
    let start = Instant::now();
    let step = |(n, evidence): (usize, &Evidence)| {
        take(
            &mut judge,
            check,
            evidence,
            start + Duration::from_secs(n as u64),
        );
        judge.finding().state
    };
    evidence.iter().enumerate().map(step).collect()
}

#[test]
fn rise_and_fall_are_counted_in_a_row() {
    use State::{Abstain, Down, Up};
    let check = check(2, 3);
    assert_eq!(
        states(&check, &[good(), bad(), bad(), good(), bad(), bad(), bad()]),
        [Up, Up, Up, Up, Up, Up, Down]
    );
    assert_eq!(
        states(
            &check,
            &[bad(), bad(), bad(), good(), bad(), good(), good()]
        ),
        [Abstain, Abstain, Down, Down, Down, Down, Up]
    );
}

#[test]
fn a_failed_look_up_changes_nothing() {
    let nothing = Evidence::Nothing("name does not resolve: x".into());
    let check = check(2, 1);
    let mut judge = Judge::new(0);
    assert_eq!(judge.take(&check, &nothing, Instant::now(), 1), None);
    assert_eq!(
        (
            judge.finding().state,
            judge.finding().checked,
            judge.finding().why.as_str()
        ),
        (State::Abstain, Checked::Never, "name does not resolve: x")
    );
    take(&mut judge, &check, &good(), Instant::now());
    let before = judge.clone();
    take(&mut judge, &check, &nothing, Instant::now());
    assert_eq!(judge.finding(), before.finding());
}

#[test]
fn probes_come_faster_while_a_state_is_about_to_turn() {
    let check = check(2, 3);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut near = |judge: &Judge, ms: u64| {
        let interval = judge.interval(&check, &mut rng).as_millis() as u64;
        assert!(
            (ms * 9 / 10..=ms * 11 / 10).contains(&interval),
            "{interval} is not near {ms}"
        );
    };
    let mut judge = Judge::new(0);
    near(&judge, 1000);
    take(&mut judge, &check, &good(), Instant::now());
    near(&judge, 1000);
    take(&mut judge, &check, &bad(), Instant::now());
    near(&judge, 300);
    take(&mut judge, &check, &bad(), Instant::now());
    take(&mut judge, &check, &bad(), Instant::now());
    near(&judge, 2000);
    take(&mut judge, &check, &good(), Instant::now());
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

#[test]
fn only_as_many_hard_failures_in_a_row_as_a_fall_takes_are_hard() {
    let check = check(2, 2);
    let now = Instant::now();
    let falls = |evidence: &[Evidence]| {
        let mut judge = Judge::new(0);
        evidence
            .iter()
            .map(|evidence| judge.take(&check, evidence, now, 1))
            .last()
            .flatten()
    };
    assert_eq!(falls(&[good(), bad(), bad()]), Some(Fall::Hard));
    assert_eq!(falls(&[good(), bad(), soft()]), Some(Fall::Soft));
    assert_eq!(falls(&[good(), soft(), soft(), bad()]), Some(Fall::Soft));
    assert_eq!(
        falls(&[good(), soft(), soft(), bad(), bad()]),
        Some(Fall::Hard)
    );
    assert_eq!(falls(&[good(), bad()]), None);
}

#[test]
fn a_suspect_that_answers_is_up_again_and_says_why_it_was_held() {
    let check = check(2, 1);
    let now = Instant::now();
    let mut judge = Judge::new(0);
    judge.take(&check, &good(), now, 1);
    assert_eq!(judge.take(&check, &soft(), now, 2), Some(Fall::Soft));
    judge.rule(
        &check,
        Ruling::Suspect("half of farm img is out already".into()),
        now,
        2,
    );
    let why = "timed out after 1s; held in service: half of farm img is out already";
    assert_eq!(
        (judge.finding().state, judge.finding().why.as_str()),
        (State::Suspect, why)
    );
    judge.take(&check, &good(), now, 3);
    assert_eq!(
        (judge.finding().state, judge.finding().why.as_str()),
        (State::Suspect, why)
    );
    judge.take(&check, &good(), now, 4);
    assert_eq!(
        (judge.finding().state, judge.finding().why.as_str()),
        (State::Up, "HTTP 200")
    );
}

#[test]
fn a_server_that_flaps_is_held_longer_and_says_so() {
    let check = check(2, 1);
    let now = Instant::now();
    let mut judge = Judge::new(0);
    for evidence in [good(), bad(), good(), good()] {
        take(&mut judge, &check, &evidence, now);
    }
    assert_eq!(judge.finding().state, State::Up);
    take(&mut judge, &check, &bad(), now);
    assert_eq!(
        judge.finding().why,
        "connection refused; up again after 4 good probes in a row (flapping)"
    );
    let states = [0; 4].map(|_| {
        take(&mut judge, &check, &good(), now);
        judge.finding().state
    });
    assert_eq!(states, [State::Down, State::Down, State::Down, State::Up]);
}

#[test]
fn rows_are_not_counted_across_a_gap() {
    let check = check(2, 2);
    let now = Instant::now();
    let mut judge = Judge::new(0);
    judge.take(&check, &good(), now, 1);
    judge.take(&check, &bad(), now, 2);
    judge.forget_rows();
    assert_eq!(judge.take(&check, &bad(), now, 3), None);
    assert_eq!(judge.take(&check, &bad(), now, 4), Some(Fall::Hard));
}

#[test]
fn a_success_too_old_vouches_no_more() {
    let check = check(2, 3);
    let now = Instant::now();
    let mut judge = Judge::new(0);
    judge.take(&check, &good(), now, 1);
    judge.lapse(&check, now + Duration::from_secs(5));
    assert!(judge.finding().vouches());
    judge.take(
        &check,
        &Evidence::Nothing("no way out from here".into()),
        now + Duration::from_secs(5),
        2,
    );
    judge.lapse(&check, now + Duration::from_secs(6));
    assert_eq!(
        (judge.finding().state, judge.finding().checked),
        (State::Up, Checked::Lapsed)
    );
    judge.take(&check, &good(), now + Duration::from_secs(7), 3);
    assert!(judge.finding().vouches());
}
