//! Tests of [`super`].

use super::*;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

fn numbered(weights: &[u16]) -> Vec<(u16, usize)> {
    weights.iter().copied().zip(0..).collect()
}

/// The exact share of each server: the part of all columns that leads to it.
fn shares(weights: &[u16]) -> Vec<u64> {
    let (height, columns) = alias(weights);
    let mut shares = vec![0; columns.len()];
    for (index, (own, other)) in columns.into_iter().enumerate() {
        let own = u64::from(own).min(height);
        shares[index] += own;
        shares[other as usize] += height - own;
    }
    shares
}

#[test]
fn round_robin_is_smooth() {
    let (pick, servers) = Pick::round_robin(numbered(&[20, 10]), Arc::default());
    let mut rng = SmallRng::seed_from_u64(1);
    let order: Vec<usize> = (0..6)
        .filter_map(|_| pick.next(&servers, &mut rng))
        .collect();
    assert_eq!(order, [0, 1, 0, 0, 1, 0]);
    assert_eq!(smooth_cycle(&[5, 1, 1]).as_ref(), [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn one_is_always_picked_and_of_none_nobody() {
    let mut rng = SmallRng::seed_from_u64(1);
    for (pick, servers) in [
        Pick::random(numbered(&[7])),
        Pick::round_robin(numbered(&[7]), Arc::default()),
    ] {
        assert_eq!(
            (
                pick.next(&servers, &mut rng),
                pick.next(&servers[..0], &mut rng)
            ),
            (Some(0), None)
        );
    }
}

#[test]
fn random_follows_the_weights() {
    let (pick, servers) = Pick::random(numbered(&[30, 10, 20]));
    let (mut rng, mut counts) = (SmallRng::seed_from_u64(1), [0; 3]);
    (0..60_000)
        .filter_map(|_| pick.next(&servers, &mut rng))
        .for_each(|server| counts[server] += 1);
    // Four standard deviations of a third of 60,000.
    assert!(
        counts
            .iter()
            .zip([30_000, 10_000, 20_000])
            .all(|(count, expected): (&i32, i32)| (count - expected).abs() < 500),
        "{counts:?}"
    );
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
        let expected: Vec<u64> = weights.iter().map(|&weight| u64::from(weight) * weights.len() as u64).collect();
        prop_assert_eq!(shares(&weights), expected);
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
