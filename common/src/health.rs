//! What probers see, and how the views of several probers become one. Pure: time comes in as an argument.

use crate::check::CheckKey;
use crate::clock::UnixMs;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a prober holds of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Answers as expected.
    Up,
    /// Does not: no redirects.
    Down,
    /// Fails in a way that may be the prober's own trouble: still used.
    Suspect,
    /// Nothing conclusive seen yet: no vote.
    Abstain,
}

/// How the latest conclusive probes went, whatever the state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// The latest succeeded.
    Ok,
    /// The latest failed.
    Failing,
    /// None was conclusive so far.
    Never,
    /// The latest conclusive one succeeded, but too long ago to vouch for the server (see [`vouch_limit`]); the
    /// probes since said nothing.
    #[serde(other)]
    Lapsed,
}

/// How old a success may be that outweighs another prober's failures.
pub fn vouch_limit(inter: Duration) -> Duration {
    (3 * inter).max(Duration::from_secs(5))
}

/// One prober's finding about one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The state it gives the check.
    pub state: State,
    /// How the latest probes went.
    pub checked: Checked,
    /// When the state began, by the prober's clock: for people only.
    pub since: UnixMs,
    /// The latest reason, as a person would say it: `connection refused`, `HTTP 200`.
    pub why: String,
    /// When the latest probe ended, by the prober's clock: for people only.
    pub last_check: UnixMs,
}

impl Finding {
    /// Whether it says up on a success of late: only that outweighs another prober's `down`.
    pub fn vouches(&self) -> bool {
        (self.state, self.checked) == (State::Up, Checked::Ok)
    }

    /// Whether `other` differs in what readers must hear of at once (not in `last_check`).
    pub fn differs(&self, other: &Self) -> bool {
        (self.state, self.checked, self.since, &self.why) != (other.state, other.checked, other.since, &other.why)
    }
}

/// What is new in the views since the last time they were read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ViewChanges {
    /// Every prober known to the store with its sequence.
    pub sequences: BTreeMap<String, u64>,
    /// For each prober that has any: the findings changed since, and the change index they reach up to.
    pub changed: BTreeMap<String, (u64, HashMap<CheckKey, Finding>)>,
}

/// One prober's view as a reader follows it.
#[derive(Debug, Clone)]
struct View {
    sequence: u64,
    /// When, by the reader's clock, the sequence last moved.
    moved: Instant,
    /// The highest change index read.
    read_to: u64,
    findings: HashMap<CheckKey, Finding>,
}

impl View {
    fn is_fresh(&self, now: Instant, window: Duration) -> bool {
        now.saturating_duration_since(self.moved) <= window
    }
}

/// All views a reader follows, kept current by [`Views::take`].
#[derive(Debug, Clone, Default)]
pub struct Views {
    views: BTreeMap<String, Arc<View>>,
}

impl Views {
    /// For each prober, the change index read so far: what to ask the store for next.
    pub fn read_to(&self) -> BTreeMap<String, u64> {
        self.views.iter().map(|(id, view)| (id.clone(), view.read_to)).collect()
    }

    /// Takes in what the store answered at `now`; the checks whose findings are new.
    pub fn take(&mut self, changes: ViewChanges, now: Instant) -> Vec<CheckKey> {
        for (id, &sequence) in &changes.sequences {
            let unknown = || Arc::new(View { sequence, moved: now, read_to: 0, findings: HashMap::new() });
            let view = self.views.entry(id.clone()).or_insert_with(unknown);
            // A prober's sequence is compared by inequality: one that starts anew is as alive as one that goes on.
            if view.sequence != sequence {
                let view = Arc::make_mut(view);
                if sequence < view.sequence {
                    view.read_to = 0;
                }
                view.sequence = sequence;
                view.moved = now;
            }
        }
        // A view gone from an emptied store is kept: it goes stale by itself, and the last good state stays.
        let mut new = Vec::new();
        for (id, (read_to, findings)) in changes.changed {
            if let Some(view) = self.views.get_mut(&id).map(Arc::make_mut) {
                view.read_to = view.read_to.max(read_to);
                new.extend(findings.keys().cloned());
                view.findings.extend(findings);
            }
        }
        new
    }

    /// Takes in findings of one prober that may only be newer: what has changed is told of by [`Views::take`] too.
    pub fn renew(&mut self, id: &str, findings: HashMap<CheckKey, Finding>) {
        if let Some(view) = self.views.get_mut(id).map(Arc::make_mut) {
            view.findings.extend(findings);
        }
    }

    /// The probers whose view is fresh at `now`.
    pub fn fresh(&self, now: Instant, window: Duration) -> Vec<String> {
        let fresh = self.views.iter().filter(|(_, view)| view.is_fresh(now, window));
        fresh.map(|(id, _)| id.clone()).collect()
    }

    /// Merges the views that are fresh at `now` (their sequence moved within `window`); with none fresh, the last
    /// state of all stays.
    pub fn merge(&self, now: Instant, window: Duration) -> Health {
        let fresh = self.views.values().any(|view| view.is_fresh(now, window));
        let voters = self.views.values().filter(|view| !fresh || view.is_fresh(now, window));
        Health { voters: voters.cloned().collect(), fresh }
    }

    /// The checks about which the probers that are fresh at `now` disagree, one saying up and another down, with what
    /// each of them says.
    pub fn disagreements(&self, now: Instant, window: Duration) -> Vec<(CheckKey, Vec<(String, State)>)> {
        let fresh: Vec<_> = self.views.iter().filter(|(_, view)| view.is_fresh(now, window)).collect();
        let state = |view: &View, key: &CheckKey| view.findings.get(key).map(|finding| finding.state);
        let some_up = |key: &&CheckKey| fresh.iter().any(|(_, view)| state(view, key) == Some(State::Up));
        let down = fresh.iter().flat_map(|(_, view)| &view.findings).filter(|(_, finding)| finding.state == State::Down);
        let disputed: BTreeSet<&CheckKey> = down.map(|(key, _)| key).filter(some_up).collect();
        let said = |key: &CheckKey| fresh.iter().filter_map(|(id, view)| Some(((*id).clone(), state(view, key)?))).collect();
        disputed.into_iter().map(|key| (key.clone(), said(key))).collect()
    }
}

/// Of two probers' findings about one check the one that counts. A success of late beats a failure (somebody reaches
/// the server). A failure beats a server held up without one (its latest probe failed, or the last success is too
/// old), that beats a suspicion, and anything beats no vote. Among equals the older.
fn stronger<'a>(left: &'a Finding, right: &'a Finding) -> &'a Finding {
    let rank = |finding: &Finding| match finding.state {
        State::Up if finding.vouches() => 0,
        State::Down => 1,
        State::Up => 2,
        State::Suspect => 3,
        State::Abstain => 4,
    };
    let order = |finding: &Finding| (rank(finding), finding.since, finding.checked as u8, finding.last_check);
    if (order(right), &right.why) < (order(left), &left.why) { right } else { left }
}

/// The merged health of all checks; merged where it is asked for, so that one change costs its own size.
#[derive(Debug, Clone, Default)]
pub struct Health {
    voters: Vec<Arc<View>>,
    fresh: bool,
}

impl Health {
    /// What is known of one check.
    pub fn of(&self, check: &CheckKey) -> Option<&Finding> {
        self.voters.iter().filter_map(|view| view.findings.get(check)).reduce(stronger)
    }

    /// Whether at least one prober is at work.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The check's state; one nobody has an opinion about abstains.
    pub fn state(&self, check: &CheckKey) -> State {
        self.of(check).map_or(State::Abstain, |finding| finding.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(5);

    fn key() -> CheckKey {
        CheckKey("HEAD http://a/".into())
    }

    fn finding(state: State) -> Finding {
        Finding { state, checked: Checked::Ok, since: 1, why: String::new(), last_check: 1 }
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
        changes.changed.values_mut().flat_map(|(_, findings)| findings.values_mut()).for_each(|finding| finding.checked = checked);
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
        views.take(changes("b", 2, State::Down), now);
        let said = vec![("a".to_owned(), State::Up), ("b".to_owned(), State::Down)];
        assert_eq!(views.disagreements(now, WINDOW), [(key(), said)]);
        let later = now + WINDOW + Duration::from_secs(1);
        views.take(changes("b", 3, State::Down), later);
        assert!(views.disagreements(later, WINDOW).is_empty(), "a stale view disagrees with nobody");
    }

    #[test]
    fn a_word_of_a_later_version_vouches_for_nothing() {
        let json = r#"{"state":"up","checked":"something new","since":1,"why":"","last_check":1}"#;
        let finding: Finding = serde_json::from_str(json).expect("is read");
        assert!(!finding.vouches());
        assert_eq!(serde_json::to_value(Checked::Lapsed).expect("a word"), "lapsed");
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
        assert_eq!((health.state(&key()), health.is_fresh()), (State::Down, false));
    }

    fn any_checked() -> impl Strategy<Value = Checked> {
        prop_oneof![Just(Checked::Ok), Just(Checked::Failing), Just(Checked::Never), Just(Checked::Lapsed)]
    }

    fn any_state() -> impl Strategy<Value = State> {
        prop_oneof![Just(State::Up), Just(State::Down), Just(State::Suspect), Just(State::Abstain)]
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
}
