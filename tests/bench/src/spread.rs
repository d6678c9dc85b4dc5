//! Many measurements of one thing → min, median, max; latencies → quantiles.

use std::fmt;
use std::time::Duration;

/// The least, the middle and the greatest of some measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The middle.
    pub median: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Spread {
    /// Over `values`; not a number where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        Self {
            least: at(0),
            median: f64::midpoint(at(last / 2), at(values.len() / 2)),
            greatest: at(last),
        }
    }

    /// `above` over `below`, each measurement over that of the same round.
    pub fn ratio(above: &[f64], below: &[f64]) -> Self {
        Self::of(above.iter().zip(below).map(|(above, below)| above / below))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            least,
            median,
            greatest,
        } = *self;
        match median {
            _ if median >= 1000.0 => write!(f, "{median:.0} ({least:.0}-{greatest:.0})"),
            _ if median >= 10.0 => write!(f, "{median:.1} ({least:.1}-{greatest:.1})"),
            _ => write!(f, "{median:.2} ({least:.2}-{greatest:.2})"),
        }
    }
}

/// How long each of many requests took.
#[derive(Debug, Default, Clone)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds one; more than four seconds count as four.
    pub fn push(&mut self, time: Duration) {
        self.0
            .push(u32::try_from(time.as_nanos()).unwrap_or(u32::MAX));
    }

    /// Sorts them, once all are in.
    pub fn sort(&mut self) {
        self.0.sort_unstable();
    }

    /// The microseconds that `share` of the requests did not exceed; they are sorted.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0
            .get(rank.saturating_sub(1))
            .map_or(f64::NAN, |&nanoseconds| f64::from(nanoseconds) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]);
        assert_eq!(
            (spread.least, spread.median, spread.greatest),
            (1.0, 2.5, 4.0)
        );
        assert_eq!(Spread::ratio(&[4.0, 9.0], &[2.0, 3.0]).greatest, 3.0);
        assert!(Spread::of([]).median.is_nan());
    }

    #[test]
    fn quantiles_are_of_the_requests() {
        let mut latencies = Latencies::default();
        (1..=100)
            .rev()
            .for_each(|count| latencies.push(Duration::from_micros(count)));
        latencies.sort();
        assert_eq!(
            (
                latencies.quantile(0.5),
                latencies.quantile(0.99),
                latencies.quantile(1.0)
            ),
            (50.0, 99.0, 100.0)
        );
    }
}
