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
mod tests {
    use super::*;
    use common::store::{Memory, Store};

    fn key() -> CountKey {
        "img/srv1".parse().expect("valid")
    }

    /// A store where one thing is counted, and a reader that follows.
    struct Counting(Store, FollowedTotals, Rates);

    impl Counting {
        fn new() -> Self {
            Self(
                Store::Memory(Memory::default()),
                FollowedTotals::default(),
                Rates::default(),
            )
        }

        async fn sample(&mut self, at: Instant, replica: &str, total: u64) -> Count {
            let Self(store, counted, ring) = self;
            store
                .replica()
                .flush(replica, &[(key(), total)])
                .await
                .expect("memory never fails");
            store
                .reader()
                .follow(counted)
                .await
                .expect("memory never fails");
            ring.push(at, counted);
            ring.counts(counted).of(&key())
        }
    }

    #[tokio::test]
    async fn one_sample_has_no_rate_and_a_new_counter_starts_from_zero() {
        let (start, mut counting) = (Instant::now(), Counting::new());
        let Counting(_, counted, ring) = &mut counting;
        ring.push(start, counted);
        assert_eq!(ring.counts(counted).of(&key()), Count::default());
        assert_eq!(
            counting
                .sample(start + Duration::from_secs(2), "r", 100)
                .await,
            Count {
                total: 100,
                rate: 50.0
            }
        );
    }

    #[tokio::test]
    async fn a_rate_forgets_what_is_older_than_its_span_and_is_never_negative() {
        let (start, mut counting) = (Instant::now(), Counting::new());
        let mut last = Count::default();
        for second in 0..=30 {
            last = counting
                .sample(
                    start + Duration::from_secs(second),
                    "r",
                    100 * second.min(10),
                )
                .await;
        }
        assert_eq!(
            (last, counting.2.0.len()),
            (
                Count {
                    total: 1000,
                    rate: 0.0
                },
                11
            )
        );
        // The store is emptied: the total falls.
        counting.0 = Store::Memory(Memory::default());
        let fallen = counting
            .sample(start + Duration::from_secs(31), "another", 1)
            .await;
        assert_eq!(
            fallen,
            Count {
                total: 1,
                rate: 0.0
            }
        );
    }
}
