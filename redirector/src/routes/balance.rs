//! Choosing one of a farm's live servers: pure, with the random source passed in.

use rand::{Rng, RngExt};
use std::hint::cold_path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The longest round-robin cycle; weights that would need a longer one are scaled down.
const MAX_CYCLE: u64 = 4096;

/// How to choose among servers that lie in [`AliasSlot`]s.
#[derive(Debug)]
pub enum Pick {
    /// There is none, or one.
    First,
    /// Weighted random, in constant time: the alias method in exact integers (Walker 1977; Vose, "A linear algorithm
    /// for generating random numbers with a given distribution", 1991).
    Random {
        /// The sum of the weights: every column is this high.
        height: u64,
    },
    /// Smooth weighted round-robin.
    RoundRobin(Box<Cycle>),
}

/// The order of a round-robin.
#[derive(Debug)]
pub struct Cycle {
    order: Box<[u16]>,
    /// The next place in it, shared by all threads and kept when the table changes, so that clients on new
    /// connections see a smooth order too.
    position: Arc<AtomicU32>,
}

/// One server with its column of the alias method: choosing it and reading what it is costs one cache line.
#[derive(Debug)]
#[repr(align(64))]
pub struct AliasSlot<T> {
    /// Below this height the column is its own server, above it the other. Beyond 2³² (65,538 servers of the
    /// greatest weight) shares are no longer exact.
    own: u32,
    other: u32,
    /// The server.
    pub server: T,
}

impl Pick {
    /// Weighted random among `servers`, each with a weight that is not 0.
    pub fn random<T>(servers: Vec<(u16, T)>) -> (Self, Vec<AliasSlot<T>>) {
        let weights: Vec<u16> = servers.iter().map(|(weight, _)| *weight).collect();
        let (height, heights) = alias(&weights);
        let columns = servers
            .into_iter()
            .zip(heights)
            .map(|((_, server), (own, other))| AliasSlot { own, other, server })
            .collect();
        (
            if weights.len() > 1 {
                Self::Random { height }
            } else {
                Self::First
            },
            columns,
        )
    }

    /// Smooth round-robin among `servers`, each with a weight that is not 0, going on at `position`.
    pub fn round_robin<T>(
        servers: Vec<(u16, T)>,
        position: Arc<AtomicU32>,
    ) -> (Self, Vec<AliasSlot<T>>) {
        let weights: Vec<u16> = servers.iter().map(|(weight, _)| *weight).collect();
        let columns = servers
            .into_iter()
            .map(|(_, server)| AliasSlot {
                own: 0,
                other: 0,
                server,
            })
            .collect();
        let pick = if weights.len() > 1 {
            Self::RoundRobin(Box::new(Cycle {
                order: smooth_cycle(&weights),
                position,
            }))
        } else {
            Self::First
        };
        (pick, columns)
    }

    /// The place of the next one among the servers this was made for; none where there is none.
    #[inline]
    pub fn next<T>(&self, servers: &[AliasSlot<T>], rng: &mut impl Rng) -> Option<usize> {
        let index = match self {
            Self::First => 0,
            Self::Random { height } => {
                let index = rng.random_range(0..servers.len());
                let AliasSlot { own, other, .. } = servers[index];
                if rng.random_range(0..*height) < u64::from(own) {
                    index
                } else {
                    // A guess that it is not this one lets the processor fetch what follows from `index` meanwhile.
                    cold_path();
                    other as usize
                }
            }
            Self::RoundRobin(cycle) => {
                let at = cycle.position.fetch_add(1, Ordering::Relaxed) as usize;
                cycle.order[at % cycle.order.len()] as usize
            }
        };
        (index < servers.len()).then_some(index)
    }
}

/// The sum of the weights, and for each the height below which its column is its own, with the other's index.
fn alias(weights: &[u16]) -> (u64, Vec<(u32, u32)>) {
    let count = weights.len() as u64;
    let height: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let mut own: Vec<u64> = weights
        .iter()
        .map(|&weight| u64::from(weight) * count)
        .collect();
    let mut other = vec![0; weights.len()];
    let (mut low, mut high): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|&index| own[index] < height);
    while let (Some(short), Some(&tall)) = (low.pop(), high.last()) {
        other[short] = tall as u32;
        own[tall] -= height - own[short];
        if own[tall] < height {
            high.pop();
            low.push(tall);
        }
    }
    (
        height,
        own.into_iter()
            .map(|own| u32::try_from(own).unwrap_or(u32::MAX))
            .zip(other)
            .collect(),
    )
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
    let divisor = weights
        .iter()
        .fold(0, |divisor, &weight| gcd(divisor, u64::from(weight)))
        .max(1);
    let sum: u64 = weights
        .iter()
        .map(|&weight| u64::from(weight) / divisor)
        .sum();
    let shrink = |weight: u64| {
        if sum <= MAX_CYCLE {
            weight
        } else {
            (weight * MAX_CYCLE / sum).max(1)
        }
    };
    weights
        .iter()
        .map(|&weight| shrink(u64::from(weight) / divisor) as i64)
        .collect()
}

#[cfg(test)]
mod tests;
