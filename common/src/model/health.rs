//! What probers see, and how the views of several probers become one. Pure: time comes in as an argument.

use crate::model::check::{Check, CheckKey};
use crate::time::UnixMs;
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

/// The shortest time a view stays fresh without its sequence moving.
pub const FRESH: Duration = Duration::from_secs(5);

/// How long a view stays fresh without its sequence moving, where `checks` are made: three intervals of the soonest,
/// and no less than it takes to tell of it where the server is down and silent. A prober tells once in an interval,
/// but no more often than twice a second and no less than each five seconds.
pub fn view_window<'a>(checks: impl Iterator<Item = &'a Check>) -> Duration {
    let of = |check: &Check| {
        let told = check
            .inter
            .clamp(Duration::from_millis(500), Duration::from_secs(5));
        // Intervals are up to a tenth longer than they are set.
        let silent = check.inter.max(check.downinter).mul_f64(1.1) + check.timeout + told;
        (3 * check.inter).max(silent)
    };
    checks
        .map(of)
        .min()
        .map_or(FRESH, |window| window.max(FRESH))
}

/// The reason a prober gives for holding in service what fails while it suspects itself.
pub const IN_DOUBT: &str = "everything fails at once, the prober itself is suspect";

/// The reason of a finding before the first probe has ended.
pub const NOT_PROBED_YET: &str = "not probed yet";

/// What a person is to know of a server that counts as up without a good probe of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caution {
    /// It fails, as everything else does: the prober suspects itself, and holds it in service.
    Held,
    /// No probe has ever said anything about it.
    NeverChecked,
    /// Its probes say nothing any more: what was found last stays.
    NoLongerChecked,
}

impl Caution {
    /// The state in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Held => "held: the prober suspects itself",
            Self::NeverChecked => "never checked",
            Self::NoLongerChecked => "no longer checked",
        }
    }
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

    /// Whether the prober held the server in service because it suspects itself.
    pub fn is_doubted(&self) -> bool {
        self.checked == Checked::Failing && self.why.ends_with(IN_DOUBT)
    }

    /// What is to be known of it besides its state.
    pub fn caution(&self) -> Option<Caution> {
        match (self.state, self.checked) {
            (State::Up | State::Abstain, Checked::Failing) if self.is_doubted() => {
                Some(Caution::Held)
            }
            (State::Abstain, Checked::Never) if self.why != NOT_PROBED_YET => {
                Some(Caution::NeverChecked)
            }
            (State::Up, Checked::Lapsed) => Some(Caution::NoLongerChecked),
            _ => None,
        }
    }

    /// Whether `other` differs in what readers must hear of at once (not in `last_check`).
    pub fn differs(&self, other: &Self) -> bool {
        (self.state, self.checked, self.since, &self.why)
            != (other.state, other.checked, other.since, &other.why)
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
    /// When, by the reader's clock, the sequence last moved on, or was first seen.
    moved: Instant,
    /// Whether it was seen to move on: a view that was only seen may be of any age.
    proven: bool,
    /// The highest change index read.
    read_to: u64,
    findings: HashMap<CheckKey, Finding>,
}

impl View {
    fn is_fresh(&self, now: Instant, window: Duration) -> bool {
        now.saturating_duration_since(self.moved) <= window
    }
}

/// A view is forgotten that the store holds no more while it holds others, if it has stood still for so long.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// All views a reader follows, kept current by [`Views::take`].
#[derive(Debug, Clone, Default)]
pub struct Views {
    views: BTreeMap<String, Arc<View>>,
}

impl Views {
    /// For each prober, the change index read so far: what to ask the store for next.
    pub fn read_to(&self) -> BTreeMap<String, u64> {
        self.views
            .iter()
            .map(|(id, view)| (id.clone(), view.read_to))
            .collect()
    }

    /// Takes in what the store answered at `now`; the checks whose findings are new.
    pub fn take(&mut self, changes: ViewChanges, now: Instant) -> Vec<CheckKey> {
        for (id, &sequence) in &changes.sequences {
            let unknown = || {
                Arc::new(View {
                    sequence,
                    moved: now,
                    proven: false,
                    read_to: 0,
                    findings: HashMap::new(),
                })
            };
            let view = self.views.entry(id.clone()).or_insert_with(unknown);
            // One that falls is read anew, whether the prober begins anew or the store has gone back to an older copy.
            // In such a copy the dead seem to move too: only what moves on is at work.
            if view.sequence != sequence {
                let view = Arc::make_mut(view);
                if sequence < view.sequence {
                    view.read_to = 0;
                } else {
                    (view.moved, view.proven) = (now, true);
                }
                view.sequence = sequence;
            }
        }
        // A view gone from an emptied store is kept: it goes stale by itself, and the last good state stays.
        if !changes.sequences.is_empty() {
            self.views.retain(|id, view| {
                changes.sequences.contains_key(id) || view.is_fresh(now, FORGOTTEN)
            });
        }
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

    /// Whether every prober was seen at work; one that is alone is taken at its word.
    pub fn is_settled(&self) -> bool {
        self.views.len() < 2 || self.views.values().all(|view| view.proven)
    }

    /// The views that count at `now`, and whether they are fresh: their sequence moved within `window`. With none
    /// fresh those count that were when the last of them moved, so that the last state stays and older ones do not come
    /// back. As long as none was seen to move at all, as after a start, every view that was seen counts.
    fn voters(&self, now: Instant, window: Duration) -> (Vec<(&String, &Arc<View>)>, bool) {
        let last = self
            .views
            .values()
            .filter(|view| view.proven)
            .map(|view| view.moved)
            .max();
        let fresh = |at: Instant| {
            self.views
                .iter()
                .filter(move |(_, view)| view.proven == last.is_some() && view.is_fresh(at, window))
        };
        let voters: Vec<_> = fresh(now).collect();
        match (voters.is_empty(), last) {
            (false, _) => (voters, true),
            (true, Some(last)) => (fresh(last).collect(), false),
            (true, None) => (self.views.iter().collect(), false),
        }
    }

    /// The probers whose view is fresh at `now`.
    pub fn fresh(&self, now: Instant, window: Duration) -> Vec<String> {
        let (voters, fresh) = self.voters(now, window);
        voters
            .into_iter()
            .filter(|_| fresh)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Merges the views that count at `now`: the fresh ones, or the last state where none is.
    pub fn merge(&self, now: Instant, window: Duration) -> Health {
        let (voters, fresh) = self.voters(now, window);
        Health {
            voters: voters.into_iter().map(|(_, view)| view.clone()).collect(),
            fresh,
        }
    }

    /// The probers of those that count at `now` who suspect themselves.
    pub fn doubtful(&self, now: Instant, window: Duration) -> Vec<String> {
        let (voters, _) = self.voters(now, window);
        let doubtful = voters
            .into_iter()
            .filter(|(_, view)| view.findings.values().any(Finding::is_doubted));
        doubtful.map(|(id, _)| id.clone()).collect()
    }

    /// The checks about which the probers that are fresh at `now` disagree, one saying up and another down, with what
    /// each of them says.
    pub fn disagreements(
        &self,
        now: Instant,
        window: Duration,
    ) -> Vec<(CheckKey, Vec<(String, State)>)> {
        let (fresh, _) = self.voters(now, window);
        let state =
            |view: &Arc<View>, key: &CheckKey| view.findings.get(key).map(|finding| finding.state);
        let some_up = |key: &&CheckKey| {
            fresh
                .iter()
                .any(|(_, view)| state(view, key) == Some(State::Up))
        };
        let down = fresh
            .iter()
            .flat_map(|(_, view)| &view.findings)
            .filter(|(_, finding)| finding.state == State::Down);
        let disputed: BTreeSet<&CheckKey> = down.map(|(key, _)| key).filter(some_up).collect();
        let said = |key: &CheckKey| {
            fresh
                .iter()
                .filter_map(|(id, view)| Some(((*id).clone(), state(view, key)?)))
                .collect()
        };
        disputed
            .into_iter()
            .map(|key| (key.clone(), said(key)))
            .collect()
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
    let order = |finding: &Finding| {
        (
            rank(finding),
            finding.since,
            finding.checked as u8,
            finding.last_check,
        )
    };
    if (order(right), &right.why) < (order(left), &left.why) {
        right
    } else {
        left
    }
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
        self.voters
            .iter()
            .filter_map(|view| view.findings.get(check))
            .reduce(stronger)
    }

    /// Whether at least one prober is at work.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The check's state; one nobody has an opinion about abstains.
    pub fn state(&self, check: &CheckKey) -> State {
        self.of(check)
            .map_or(State::Abstain, |finding| finding.state)
    }
}

#[cfg(test)]
mod tests;
