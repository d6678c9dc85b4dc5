//! Redirects per second over the last seconds, from a ring of samples of ever-growing totals. Pure.

use common::model::followed_totals::FollowedTotals;
use common::model::tally::CountKey;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How far back a rate looks at the least.
const SPAN: Duration = Duration::from_secs(10);

/// How often something was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Count {
    /// Ever.
    pub total: u64,
    /// Per second, lately.
    pub rate: f64,
}

/// Everything that is counted.
#[derive(Debug, Clone, Default)]
pub struct Counts(HashMap<CountKey, Count>);

impl Counts {
    /// The counts of `key`; 0 for what was never counted.
    pub fn of(&self, key: &CountKey) -> Count {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// What is counted, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&CountKey, Count)> {
        self.0.iter().map(|(key, count)| (key, *count))
    }
}

impl FromIterator<(CountKey, Count)> for Counts {
    fn from_iter<I: IntoIterator<Item = (CountKey, Count)>>(counts: I) -> Self {
        Self(counts.into_iter().collect())
    }
}

/// The samples of the last seconds.
#[derive(Debug, Default)]
pub struct Rates(VecDeque<Sample>);

/// The sums read at one time, by place.
#[derive(Debug)]
struct Sample {
    at: Instant,
    /// How often every total had been read by then.
    rounds: u64,
    sums: Vec<u64>,
}

impl Rates {
    /// Takes in what was read by `at`, which never lies before the last sample's.
    pub fn push(&mut self, at: Instant, counted: &FollowedTotals) {
        let (rounds, sums) = (counted.rounds(), counted.sums());
        self.0.push_back(Sample { at, rounds, sums });
        // The oldest kept is the youngest that reaches over the whole span, and over a reading of every total.
        let reaches = |sample: &Sample| {
            at.saturating_duration_since(sample.at) >= SPAN && sample.rounds < rounds
        };
        while self.0.get(1).is_some_and(reaches) {
            self.0.pop_front();
        }
    }

    /// The newest sums, with their rates since the oldest. What fell (the store lost data) has none.
    pub fn counts(&self, counted: &FollowedTotals) -> Counts {
        let (Some(old), Some(new)) = (self.0.front(), self.0.back()) else {
            return Counts::default();
        };
        let seconds = new.at.saturating_duration_since(old.at).as_secs_f64();
        let rate = |place: usize, total: u64| {
            let grown = total.saturating_sub(old.sums.get(place).copied().unwrap_or(0));
            if seconds > 0.0 {
                grown as f64 / seconds
            } else {
                0.0
            }
        };
        let keyed = counted.keys().iter().zip(&new.sums).enumerate();
        keyed
            .map(|(place, (key, &total))| {
                (
                    key.clone(),
                    Count {
                        total,
                        rate: rate(place, total),
                    },
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
