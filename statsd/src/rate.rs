//! Redirects per second over the last seconds, from a ring of samples of ever-growing totals. Pure.

use common::tally::{CountKey, Tally};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How far back a rate looks.
const SPAN: Duration = Duration::from_secs(10);

/// What is counted, with its rate per second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates(HashMap<CountKey, f64>);

impl Rates {
    /// The rate of `key` per second; 0 for what has not moved.
    pub fn of(&self, key: &CountKey) -> f64 {
        self.0.get(key).copied().unwrap_or(0.0)
    }
}

/// The samples of the last seconds.
#[derive(Debug, Default)]
pub struct Ring(VecDeque<(Instant, Tally)>);

impl Ring {
    /// Takes in the totals read at `at`, which never lies before the last sample's.
    pub fn push(&mut self, at: Instant, totals: Tally) {
        self.0.push_back((at, totals));
        // The oldest kept is the youngest that reaches over the whole span.
        while self.0.get(1).is_some_and(|(second, _)| at.saturating_duration_since(*second) >= SPAN) {
            self.0.pop_front();
        }
    }

    /// The rates between the oldest and the newest sample. A total that fell (the store lost data) has none.
    pub fn rates(&self) -> Rates {
        let (Some((start, old)), Some((end, new))) = (self.0.front(), self.0.back()) else { return Rates::default() };
        let seconds = end.saturating_duration_since(*start).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let grown = |(key, total): (&CountKey, u64)| (key.clone(), total.saturating_sub(old.get(key)) as f64 / seconds);
        Rates(new.iter().map(grown).filter(|(_, rate)| *rate > 0.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CountKey {
        "img/srv1".parse().expect("valid")
    }

    fn tally(total: u64) -> Tally {
        let mut tally = Tally::default();
        tally.raise(key(), total);
        tally
    }

    #[test]
    fn one_sample_has_no_rate_and_a_new_counter_starts_from_zero() {
        let (start, mut ring) = (Instant::now(), Ring::default());
        ring.push(start, Tally::default());
        assert_eq!(ring.rates().of(&key()), 0.0);
        ring.push(start + Duration::from_secs(2), tally(100));
        assert_eq!(ring.rates().of(&key()), 50.0);
    }

    #[test]
    fn a_rate_forgets_what_is_older_than_its_span_and_is_never_negative() {
        let (start, mut ring) = (Instant::now(), Ring::default());
        (0..=30).for_each(|second| ring.push(start + Duration::from_secs(second), tally(if second < 10 { second * 100 } else { 1000 })));
        assert_eq!(ring.rates().of(&key()), 0.0);
        assert_eq!(ring.0.len(), 11);
        ring.push(start + Duration::from_secs(31), tally(1));
        assert_eq!(ring.rates().of(&key()), 0.0);
    }
}
