//! Rounds that the machine's host did not disturb. Where the machine is a virtual one its host takes processor time away,
//! and with it what the caches held; it says how much (`steal` in proc_stat(5)).

use anyhow::Context;
use std::fmt;

/// The share of the time that the host may have taken in a round that was calm.
const CALM: f64 = 0.01;

/// How many rounds are made at the most for each that is wanted.
const TRIES: usize = 3;

/// The rounds that count, chosen by what the host took and by nothing else.
#[derive(Debug)]
pub struct Calmest {
    /// Their numbers, in the order in which they were made.
    rounds: Vec<usize>,
    made: usize,
    /// The greatest share of the time that the host took in one of them.
    taken: f64,
}

impl Calmest {
    /// Calls `round` until `wanted` of the rounds were calm, but not for ever.
    ///
    /// # Errors
    /// Those of `round`, or that the kernel does not tell its times.
    pub fn of(
        wanted: usize,
        mut round: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut taken: Vec<f64> = Vec::new();
        while taken.iter().filter(|&&share| share <= CALM).count() < wanted
            && taken.len() < TRIES * wanted
        {
            let (stolen, all) = times()?;
            round()?;
            let (stolen_since, all_since) = times()?;
            taken.push((stolen_since - stolen) as f64 / (all_since - all).max(1) as f64);
        }
        let rounds = least(&taken, wanted);
        Ok(Self {
            made: taken.len(),
            taken: rounds.iter().map(|&round| taken[round]).fold(0.0, f64::max),
            rounds,
        })
    }

    /// What `of_all` holds of the rounds that count.
    pub fn only<T>(&self, of_all: Vec<T>) -> Vec<T> {
        of_all
            .into_iter()
            .enumerate()
            .filter(|(round, _)| self.rounds.contains(round))
            .map(|(_, held)| held)
            .collect()
    }
}

impl fmt::Display for Calmest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rounds,
            made,
            taken,
        } = self;
        write!(
            f,
            "{} rounds of {made}: those in which the host took least of the time, at most {:.1} %.",
            rounds.len(),
            taken * 100.0
        )
    }
}

/// Where the `count` least of `shares` are, in order; of equal ones the first.
fn least(shares: &[f64], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..shares.len()).collect();
    places.sort_by(|&one, &other| shares[one].total_cmp(&shares[other]));
    places.truncate(count);
    places.sort_unstable();
    places
}

/// The ticks so far that the host took, and all, of all cores.
fn times() -> anyhow::Result<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or("")
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; what follows is counted in them.
    let stolen = *ticks
        .get(7)
        .context("/proc/stat does not say what the host takes")?;
    Ok((stolen, ticks[..8].iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calmest_are_kept_in_their_order() {
        assert_eq!(least(&[0.3, 0.0, 0.2, 0.0, 0.1], 3), [1, 3, 4]);
        assert_eq!(least(&[0.3], 3), [0]);
    }

    #[test]
    fn rounds_come_to_an_end_and_are_as_many_as_wanted() {
        let mut made = Vec::new();
        let calmest = Calmest::of(2, || {
            made.push(made.len());
            Ok(())
        });
        let calmest = calmest.expect("a kernel that tells its times");
        assert!(
            (2..=6).contains(&made.len()) && calmest.only(made).len() == 2,
            "{calmest}"
        );
    }
}
