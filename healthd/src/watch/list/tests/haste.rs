//! All servers dying at once, in simulated time: how soon that is believed, and when not.

use super::*;
use common::model::health::{Caution, Finding};
use std::net::Ipv4Addr;

/// From a death of everything to the last server out, at the most; telling it and reading it take another second.
const SOON: f64 = 8.0;

/// Well within the half minute that is waited otherwise.
const LATER: f64 = 25.0;

fn address(last: usize) -> Option<IpAddr> {
    Some(Ipv4Addr::new(192, 0, 2, u8::try_from(last).expect("few servers")).into())
}

/// How many of six servers are down so many seconds after all have begun to fail in this way.
fn down_after(
    seconds: f64,
    seed: u64,
    addresses: fn(usize) -> Option<IpAddr>,
    witness: Option<IpAddr>,
    failure: &Evidence,
) -> usize {
    let mut sim = Simulation::start(6, seed);
    (sim.addresses, sim.witness) = (addresses, witness);
    sim.run(5.0 + seed as f64 / 20.0, |_| good());
    sim.run(seconds, |_| failure.clone());
    assert!(sim.list.is_in_doubt(), "{:?}", sim.told);
    sim.count(State::Down)
}

#[test]
fn one_machine_that_refuses_on_every_port_is_believed_soon_and_silence_never() {
    for seed in 0..20 {
        // Not at once: what restarts refuses too.
        assert_eq!(
            down_after(4.5, seed, |_| address(1), None, &refused()),
            0,
            "seed {seed}"
        );
        assert_eq!(
            down_after(SOON, seed, |_| address(1), None, &refused()),
            6,
            "seed {seed}"
        );
        assert_eq!(
            down_after(SOON, seed, |n| address(n % 2), None, &refused()),
            6,
            "two machines, seed {seed}"
        );
        assert_eq!(
            down_after(
                SOON,
                seed,
                |_| Some(Ipv4Addr::LOCALHOST.into()),
                None,
                &refused()
            ),
            6,
            "seed {seed}"
        );
        assert_eq!(
            down_after(60.0, seed, |_| address(1), address(99), &silent()),
            0,
            "seed {seed}"
        );
    }
}

#[test]
fn many_machines_that_refuse_are_believed_soon_where_something_else_is_reached() {
    for seed in 0..20 {
        assert_eq!(
            down_after(LATER, seed, address, None, &refused()),
            0,
            "seed {seed}"
        );
        assert_eq!(
            down_after(SOON, seed, address, address(99), &refused()),
            6,
            "seed {seed}"
        );
        let loopback = Some(Ipv4Addr::LOCALHOST.into());
        assert_eq!(
            down_after(LATER, seed, address, loopback, &refused()),
            0,
            "no network leads there, seed {seed}"
        );
        assert_eq!(
            down_after(LATER, seed, address, address(3), &refused()),
            0,
            "a target of its own, seed {seed}"
        );
    }
}

#[test]
fn where_anything_tells_of_trouble_here_there_is_no_haste() {
    for seed in 0..10 {
        let run = |other: fn() -> Evidence| {
            let mut sim = Simulation::start(6, seed);
            (sim.addresses, sim.witness) = (|_| address(1), address(99));
            sim.run(5.0, |_| good());
            sim.run(LATER, |n| if n == 0 { other() } else { refused() });
            sim.count(State::Down)
        };
        assert_eq!(
            run(|| Evidence::Nothing("no way out from here".into())),
            0,
            "seed {seed}"
        );
        assert_eq!(run(silent), 0, "seed {seed}");
    }
}

#[test]
fn what_restarts_within_five_seconds_never_left() {
    for seed in 0..20 {
        let mut sim = Simulation::start(6, seed);
        sim.addresses = |_| Some(Ipv4Addr::LOCALHOST.into());
        sim.run(5.0 + seed as f64 / 20.0, |_| good());
        sim.run(4.0, |_| refused());
        sim.run(5.0, |_| good());
        assert_eq!(
            (sim.count(State::Up), sim.falls(), sim.list.is_in_doubt()),
            (6, 0, false),
            "{:?}",
            sim.told
        );
    }
}

#[test]
fn the_dead_come_back_after_haste_as_after_any_fall() {
    let mut sim = Simulation::start(4, 1);
    sim.addresses = |_| Some(Ipv4Addr::LOCALHOST.into());
    sim.run(5.0, |_| good());
    sim.run(60.0, |_| refused());
    assert_eq!((sim.count(State::Down), sim.falls()), (4, 4));
    sim.run(6.0, |_| good());
    assert_eq!(
        (sim.count(State::Up), sim.list.is_in_doubt()),
        (4, false),
        "{:?}",
        sim.told
    );
}

#[test]
fn what_is_held_and_what_was_never_checked_is_counted() {
    let mut sim = Simulation::start(6, 1);
    let unresolved = || Evidence::Nothing("name does not resolve: x".into());
    sim.run(5.0, |n| if n < 2 { unresolved() } else { good() });
    assert_eq!(sim.list.tally(), CautionCounts { never: 2, held: 0 });
    sim.run(10.0, |n| if n < 2 { unresolved() } else { refused() });
    assert_eq!(
        (sim.list.tally(), sim.count(State::Abstain)),
        (CautionCounts { never: 2, held: 4 }, 2)
    );
    sim.run(10.0, |_| good());
    assert_eq!(sim.list.tally(), CautionCounts::default());
}

#[test]
fn what_is_no_longer_checked_says_why() {
    let mut sim = Simulation::start(3, 1);
    sim.run(5.0, |_| good());
    sim.run(10.0, |n| {
        if n == 0 {
            Evidence::Nothing("no way out from here".into())
        } else {
            good()
        }
    });
    let findings: Vec<&Finding> = sim
        .list
        .checks
        .values()
        .map(|watched| watched.judge.finding())
        .collect();
    assert_eq!(
        (findings[0].caution(), findings[0].why.as_str()),
        (Some(Caution::NoLongerChecked), "no way out from here")
    );
    assert!(
        findings[1..]
            .iter()
            .all(|finding| finding.caution().is_none())
    );
    let warned = |sim: &Simulation| {
        sim.list
            .checks
            .values()
            .map(|watched| watched.warned)
            .collect::<Vec<_>>()
    };
    assert_eq!(warned(&sim), [true, false, false]);
    sim.run(3.0, |_| good());
    assert_eq!(warned(&sim), [false; 3]);
}
