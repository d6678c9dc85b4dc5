//! Choosing one of a farm's live servers: pure, with the random source passed in.

use rand::{Rng, RngExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The longest round-robin cycle; weights that would need a longer one are scaled down.
const MAX_CYCLE: u64 = 4096;

/// A ready-made choice among `n` servers, as indices 0 to n-1. Never made for none.
#[derive(Debug)]
pub enum Pick {
    /// The only server.
    Only,
    /// Weighted random.
    Random(Alias),
    /// Smooth weighted round-robin.
    RoundRobin {
        /// The cycle.
        cycle: Box<[u16]>,
        /// The next place in it, shared by all threads and kept when the table changes, so that clients on new
        /// connections see a smooth order too.
        position: Arc<AtomicU32>,
    },
}

impl Pick {
    /// Weighted random over `weights`, of which none is 0.
    pub fn random(weights: &[u16]) -> Self {
        if weights.len() == 1 { Self::Only } else { Self::Random(Alias::new(weights)) }
    }

    /// Smooth round-robin over `weights`, of which none is 0, going on at `position`.
    pub fn round_robin(weights: &[u16], position: Arc<AtomicU32>) -> Self {
        if weights.len() == 1 { Self::Only } else { Self::RoundRobin { cycle: smooth_cycle(weights), position } }
    }

    /// The next server.
    #[inline]
    pub fn next(&self, rng: &mut impl Rng) -> usize {
        match self {
            Self::Only => 0,
            Self::Random(alias) => alias.sample(rng),
            Self::RoundRobin { cycle, position } => {
                let at = position.fetch_add(1, Ordering::Relaxed) as usize;
                cycle[at % cycle.len()] as usize
            }
        }
    }
}

/// Weighted sampling in constant time: the alias method in exact integers (Walker 1977; Vose, "A linear algorithm
/// for generating random numbers with a given distribution", 1991).
#[derive(Debug)]
pub struct Alias {
    /// The sum of the weights: every column is this high.
    height: u64,
    columns: Box<[Column]>,
}

/// Eight bytes: the columns of ten servers are two cache lines.
#[derive(Debug, Clone, Copy)]
struct Column {
    /// Below this height the column is its own server, above it the other. Beyond 2³² (65,538 servers of the
    /// greatest weight) shares are no longer exact.
    own: u32,
    other: u32,
}

impl Alias {
    fn new(weights: &[u16]) -> Self {
        let count = weights.len() as u64;
        let height: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut own: Vec<u64> = weights.iter().map(|&weight| u64::from(weight) * count).collect();
        let mut other = vec![0; weights.len()];
        let (mut low, mut high): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|&index| own[index] < height);
        while let (Some(short), Some(&tall)) = (low.pop(), high.last()) {
            other[short] = tall as u32;
            own[tall] -= height - own[short];
            if own[tall] < height {
                high.pop();
                low.push(tall);
            }
        }
        let column = |(own, other)| Column { own: u32::try_from(own).unwrap_or(u32::MAX), other };
        Self { height, columns: own.into_iter().zip(other).map(column).collect() }
    }

    #[inline]
    fn sample(&self, rng: &mut impl Rng) -> usize {
        let point = rng.random_range(0..self.height * self.columns.len() as u64);
        let (index, at) = ((point / self.height) as usize, point % self.height);
        let column = self.columns[index];
        if at < u64::from(column.own) { index } else { column.other as usize }
    }
}

/// One cycle of smooth weighted round-robin, as nginx's upstream module orders it: at each step every server gains
/// its weight, the richest is chosen and pays the sum. Weights 2:1 give a b a, never a a b.
fn smooth_cycle(weights: &[u16]) -> Box<[u16]> {
    let scaled = scale(weights);
    let sum: i64 = scaled.iter().sum();
    let mut credit = vec![0i64; scaled.len()];
    let mut cycle = Vec::with_capacity(sum as usize);
    for _ in 0..sum {
        let mut richest = 0;
        for (index, weight) in scaled.iter().enumerate() {
            credit[index] += weight;
            if credit[index] > credit[richest] {
                richest = index;
            }
        }
        credit[richest] -= sum;
        cycle.push(richest as u16);
    }
    cycle.into()
}

/// The weights over their greatest common divisor, made smaller where their cycle would be too long.
fn scale(weights: &[u16]) -> Vec<i64> {
    fn gcd(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    let divisor = weights.iter().fold(0, |divisor, &weight| gcd(divisor, u64::from(weight))).max(1);
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight) / divisor).sum();
    let shrink = |weight: u64| if sum <= MAX_CYCLE { weight } else { (weight * MAX_CYCLE / sum).max(1) };
    weights.iter().map(|&weight| shrink(u64::from(weight) / divisor) as i64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    /// The exact share of each server: the part of all columns that leads to it.
    fn shares(alias: &Alias) -> Vec<u64> {
        let mut shares = vec![0; alias.columns.len()];
        for (index, column) in alias.columns.iter().enumerate() {
            let own = u64::from(column.own).min(alias.height);
            shares[index] += own;
            shares[column.other as usize] += alias.height - own;
        }
        shares
    }

    #[test]
    fn round_robin_is_smooth() {
        let pick = Pick::round_robin(&[20, 10], Arc::default());
        let mut rng = SmallRng::seed_from_u64(1);
        let order: Vec<usize> = (0..6).map(|_| pick.next(&mut rng)).collect();
        assert_eq!(order, [0, 1, 0, 0, 1, 0]);
        assert_eq!(smooth_cycle(&[5, 1, 1]).as_ref(), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn a_long_cycle_is_cut_down_and_leaves_nobody_out() {
        let cycle = smooth_cycle(&[65535, 65534, 1]);
        assert!(cycle.len() as u64 <= MAX_CYCLE + 3, "{}", cycle.len());
        assert!(cycle.contains(&2));
    }

    proptest! {
        #[test]
        fn random_keeps_exactly_the_shares(weights in proptest::collection::vec(1u16.., 2..40)) {
            let alias = Alias::new(&weights);
            let expected: Vec<u64> = weights.iter().map(|&weight| u64::from(weight) * weights.len() as u64).collect();
            prop_assert_eq!(shares(&alias), expected);
        }

        #[test]
        fn round_robin_gives_each_its_weight(weights in proptest::collection::vec(1u16..50, 2..20)) {
            let cycle = smooth_cycle(&weights);
            let scaled = scale(&weights);
            for (index, weight) in scaled.iter().enumerate() {
                prop_assert_eq!(cycle.iter().filter(|&&at| at as usize == index).count() as i64, *weight);
            }
        }
    }
}
