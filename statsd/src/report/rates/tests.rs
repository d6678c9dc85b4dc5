//! Tests of [`super`].

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
