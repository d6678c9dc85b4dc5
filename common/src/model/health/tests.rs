//! How views vote, and how they become one.

use super::*;
use proptest::prelude::*;

const WINDOW: Duration = Duration::from_secs(5);

fn key() -> CheckKey {
    CheckKey("HEAD http://a/".into())
}

fn finding(state: State) -> Finding {
    Finding {
        state,
        checked: Checked::Ok,
        since: 1,
        why: String::new(),
        last_check: 1,
    }
}

fn changes(id: &str, sequence: u64, state: State) -> ViewChanges {
    ViewChanges {
        sequences: [(id.to_owned(), sequence)].into(),
        changed: [(id.to_owned(), (sequence, [(key(), finding(state))].into()))].into(),
    }
}

#[test]
fn a_server_is_out_only_if_nobody_reaches_it() {
    let now = Instant::now();
    let mut views = Views::default();
    views.take(changes("a", 1, State::Down), now);
    assert_eq!(views.merge(now, WINDOW).state(&key()), State::Down);
    views.take(changes("b", 1, State::Abstain), now);
    assert_eq!(views.merge(now, WINDOW).state(&key()), State::Down);
    views.take(changes("b", 2, State::Up), now);
    assert_eq!(views.merge(now, WINDOW).state(&key()), State::Up);
}

fn with(id: &str, state: State, checked: Checked) -> ViewChanges {
    let mut changes = changes(id, 1, state);
    changes
        .changed
        .values_mut()
        .flat_map(|(_, findings)| findings.values_mut())
        .for_each(|finding| finding.checked = checked);
    changes
}

#[test]
fn up_without_a_success_of_late_yields_to_down_and_to_nothing_else() {
    let now = Instant::now();
    for checked in [Checked::Failing, Checked::Lapsed, Checked::Never] {
        let mut views = Views::default();
        views.take(with("a", State::Up, checked), now);
        assert_eq!(views.merge(now, WINDOW).state(&key()), State::Up);
        views.take(changes("b", 1, State::Suspect), now);
        assert_eq!(views.merge(now, WINDOW).state(&key()), State::Up);
        views.take(changes("c", 1, State::Down), now);
        assert_eq!(views.merge(now, WINDOW).state(&key()), State::Down);
    }
}

#[test]
fn probers_that_disagree_are_named() {
    let now = Instant::now();
    let mut views = Views::default();
    views.take(changes("a", 1, State::Up), now);
    views.take(changes("b", 1, State::Suspect), now);
    assert!(views.disagreements(now, WINDOW).is_empty());
    // Who is at work shows in what moves.
    views.take(changes("a", 2, State::Up), now);
    views.take(changes("b", 2, State::Down), now);
    let said = vec![("a".to_owned(), State::Up), ("b".to_owned(), State::Down)];
    assert_eq!(views.disagreements(now, WINDOW), [(key(), said)]);
    let later = now + WINDOW + Duration::from_secs(1);
    views.take(changes("b", 3, State::Down), later);
    assert!(
        views.disagreements(later, WINDOW).is_empty(),
        "a stale view disagrees with nobody"
    );
}

#[test]
fn a_word_of_a_later_version_vouches_for_nothing() {
    let json = r#"{"state":"up","checked":"something new","since":1,"why":"","last_check":1}"#;
    let finding: Finding = serde_json::from_str(json).expect("is read");
    assert!(!finding.vouches());
    assert_eq!(
        serde_json::to_value(Checked::Lapsed).expect("a word"),
        "lapsed"
    );
}

#[test]
fn a_stale_view_has_no_vote_while_another_is_fresh() {
    let start = Instant::now();
    let mut views = Views::default();
    views.take(changes("a", 1, State::Up), start);
    let later = start + Duration::from_secs(10);
    views.take(changes("b", 7, State::Down), later);
    assert_eq!(views.merge(later, WINDOW).state(&key()), State::Down);
}

#[test]
fn with_every_prober_gone_the_last_state_stays() {
    let start = Instant::now();
    let mut views = Views::default();
    views.take(changes("a", 1, State::Down), start);
    views.take(ViewChanges::default(), start + Duration::from_secs(1));
    let health = views.merge(start + Duration::from_secs(3600), WINDOW);
    assert_eq!(
        (health.state(&key()), health.is_fresh()),
        (State::Down, false)
    );
}

#[test]
fn a_prober_that_suspects_itself_is_named_whether_or_not_it_is_fresh() {
    let start = Instant::now();
    let mut views = Views::default();
    at_work(
        &mut views,
        start,
        0..3,
        &[("a", State::Up), ("b", State::Up)],
    );
    let why = format!("timed out after 1s; held in service: {IN_DOUBT}");
    let doubted = Finding {
        checked: Checked::Failing,
        why,
        ..finding(State::Up)
    };
    let mut changed = changes("b", 3, State::Up);
    changed
        .changed
        .insert("b".into(), (4, [(key(), doubted)].into()));
    let now = start + Duration::from_secs(3);
    assert!(views.doubtful(now, WINDOW).is_empty());
    views.take(changed, now);
    assert_eq!(views.doubtful(now, WINDOW), ["b"]);
    assert_eq!(
        views.doubtful(start + Duration::from_secs(60), WINDOW),
        ["b"]
    );
}

#[test]
fn what_counts_as_up_without_a_good_probe_is_told_apart() {
    let of = |state, checked, why: &str| {
        Finding {
            checked,
            why: why.into(),
            ..finding(state)
        }
        .caution()
    };
    let doubted = format!("connection refused; held in service: {IN_DOUBT}");
    assert_eq!(
        of(State::Up, Checked::Failing, &doubted),
        Some(Caution::Held)
    );
    assert_eq!(
        of(State::Abstain, Checked::Failing, &doubted),
        Some(Caution::Held)
    );
    assert_eq!(
        of(State::Abstain, Checked::Never, "name does not resolve: x"),
        Some(Caution::NeverChecked)
    );
    assert_eq!(of(State::Abstain, Checked::Never, NOT_PROBED_YET), None);
    assert_eq!(
        of(State::Up, Checked::Lapsed, "HTTP 200"),
        Some(Caution::NoLongerChecked)
    );
    assert_eq!(of(State::Up, Checked::Ok, "HTTP 200"), None);
    assert_eq!(of(State::Up, Checked::Failing, "connection refused"), None);
    assert_eq!(
        of(State::Down, Checked::Failing, "connection refused"),
        None
    );
}

/// Lets the probers of `ids` tell `state` with the sequence of the second, from `from` on for `seconds`.
fn at_work(
    views: &mut Views,
    start: Instant,
    seconds: std::ops::Range<u64>,
    ids: &[(&str, State)],
) {
    for second in seconds {
        for (id, state) in ids {
            views.take(
                changes(id, second + 1, *state),
                start + Duration::from_secs(second),
            );
        }
    }
}

#[test]
fn with_every_prober_gone_those_count_that_were_fresh_last() {
    let start = Instant::now();
    let mut views = Views::default();
    at_work(
        &mut views,
        start,
        0..3,
        &[("a", State::Up), ("b", State::Up)],
    );
    at_work(&mut views, start, 3..60, &[("a", State::Down)]);
    let (soon, later) = (
        start + Duration::from_secs(60),
        start + Duration::from_secs(600),
    );
    assert_eq!(views.merge(soon, WINDOW).state(&key()), State::Down);
    let health = views.merge(later, WINDOW);
    assert_eq!(
        (health.state(&key()), health.is_fresh()),
        (State::Down, false),
        "what b said before does not come back"
    );
    // Both gone at once: both count.
    let mut views = Views::default();
    at_work(
        &mut views,
        start,
        0..60,
        &[("a", State::Down), ("b", State::Up)],
    );
    assert_eq!(views.merge(later, WINDOW).state(&key()), State::Up);
}

#[test]
fn a_view_that_was_only_seen_counts_until_another_moves() {
    let start = Instant::now();
    let mut views = Views::default();
    at_work(
        &mut views,
        start,
        0..1,
        &[("a", State::Down), ("b", State::Up)],
    );
    assert_eq!(
        (
            views.merge(start, WINDOW).state(&key()),
            views.fresh(start, WINDOW).len()
        ),
        (State::Up, 2)
    );
    assert!(!views.is_settled());
    let next = start + Duration::from_secs(1);
    views.take(changes("a", 2, State::Down), next);
    assert_eq!(
        (
            views.merge(next, WINDOW).state(&key()),
            views.fresh(next, WINDOW)
        ),
        (State::Down, vec!["a".to_owned()])
    );
    views.take(changes("b", 2, State::Up), next);
    assert_eq!(
        (views.merge(next, WINDOW).state(&key()), views.is_settled()),
        (State::Up, true)
    );
}

#[test]
fn a_sequence_that_falls_is_read_anew_and_shows_nobody_at_work() {
    let start = Instant::now();
    let mut views = Views::default();
    at_work(&mut views, start, 0..5, &[("b", State::Up)]);
    at_work(&mut views, start, 5..60, &[("a", State::Down)]);
    let now = start + Duration::from_secs(60);
    views.take(changes("b", 3, State::Up), now);
    assert_eq!(
        (views.merge(now, WINDOW).state(&key()), views.read_to()["b"]),
        (State::Down, 3)
    );
}

#[test]
fn a_prober_the_store_knows_no_more_is_forgotten_after_a_while() {
    let start = Instant::now();
    let mut views = Views::default();
    at_work(
        &mut views,
        start,
        0..1,
        &[("a", State::Up), ("b", State::Up)],
    );
    for (hours, known) in [(0, 2), (2, 1)] {
        let now = start + Duration::from_secs(3600 * hours + 1);
        views.take(ViewChanges::default(), now);
        assert_eq!(views.read_to().len(), 2, "an empty store says nothing");
        views.take(changes("a", hours + 2, State::Up), now);
        assert_eq!(views.read_to().len(), known, "after {hours} hours");
    }
}

fn any_checked() -> impl Strategy<Value = Checked> {
    prop_oneof![
        Just(Checked::Ok),
        Just(Checked::Failing),
        Just(Checked::Never),
        Just(Checked::Lapsed)
    ]
}

fn any_state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Up),
        Just(State::Down),
        Just(State::Suspect),
        Just(State::Abstain)
    ]
}

proptest! {
    #[test]
    fn merging_does_not_depend_on_order(states in proptest::collection::vec((any_state(), any_checked(), 0u64..4, "[ab]?"), 3)) {
        let all: Vec<Finding> = states.into_iter()
            .map(|(state, checked, since, why)| Finding { state, checked, since, why, last_check: 0 }).collect();
        let [a, b, c] = [&all[0], &all[1], &all[2]];
        prop_assert_eq!(stronger(stronger(a, b), c), stronger(a, stronger(b, c)));
        prop_assert_eq!(stronger(a, b), stronger(b, a));
    }
}

#[test]
fn a_view_is_fresh_for_as_long_as_a_prober_may_have_nothing_to_tell() {
    let check = |inter: u64, downinter: u64, timeout: u64| -> Check {
        let json = serde_json::json!({"scheme": "http", "host": "h", "port": 80, "method": "HEAD", "uri": "/", "expect": "200-399",
            "tls_verify": true, "inter": inter, "fastinter": 300, "downinter": downinter, "timeout": timeout, "rise": 2, "fall": 3});
        serde_json::from_value(json).expect("valid check")
    };
    let of = |checks: &[Check]| view_window(checks.iter()).as_millis();
    assert_eq!(
        (of(&[]), of(&[check(1000, 2000, 1200)])),
        (5000, 5000),
        "the defaults"
    );
    assert_eq!(
        of(&[check(10_000, 2000, 1200), check(20_000, 2000, 1200)]),
        30_000,
        "the soonest decides"
    );
    assert_eq!(
        of(&[check(1000, 20_000, 5000)]),
        22_000 + 5000 + 1000,
        "all down, and silent"
    );
}
