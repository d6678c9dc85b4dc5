//! Probers that are silent for good: their view says nothing any more, and costs every reader a question in each poll.
//! Pure: time comes in as an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A prober whose sequence stands still for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(86_400);

/// The sequence of every prober, and since when it stands there.
#[derive(Debug, Default)]
pub struct Silent {
    seen: BTreeMap<String, (u64, Instant)>,
}

impl Silent {
    /// Takes in the `sequences` there are at `now`; those to forget, with the sequence they stand at.
    pub fn look(&mut self, sequences: BTreeMap<String, u64>, now: Instant) -> Vec<(String, u64)> {
        let since = |(id, sequence)| {
            let held = self
                .seen
                .get(&id)
                .filter(|(held, _)| *held == sequence)
                .map_or(now, |(_, since)| *since);
            (id, (sequence, held))
        };
        self.seen = sequences.into_iter().map(since).collect();
        let old = self
            .seen
            .iter()
            .filter(|(_, (_, since))| now.saturating_duration_since(*since) >= FORGOTTEN);
        old.map(|(id, (sequence, _))| (id.clone(), *sequence))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_still_for_a_day_is_forgotten() {
        let (start, mut silent) = (Instant::now(), Silent::default());
        let look = |silent: &mut Silent, hours: u64, b: u64| {
            silent.look(
                [("a".to_owned(), 7), ("b".to_owned(), b)].into(),
                start + Duration::from_secs(3600 * hours),
            )
        };
        assert!(look(&mut silent, 0, 1).is_empty() && look(&mut silent, 23, 2).is_empty());
        assert_eq!(look(&mut silent, 24, 2), [("a".to_owned(), 7)]);
        assert!(look(&mut silent, 46, 3).iter().all(|(id, _)| id == "a"));
    }
}
