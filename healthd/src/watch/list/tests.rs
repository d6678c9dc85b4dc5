//! A whole prober in simulated time: what it tells of a world that fails in this way or that.

mod haste;

use super::*;
use crate::watch::left::LINGER;
use common::store::Reported;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::BTreeSet;

/// A world that answers probes, and the list that watches it.
struct Simulation {
    list: WatchList,
    start: Instant,
    now: Instant,
    flying: BTreeSet<(Instant, Instant, CheckKey)>,
    rng: SmallRng,
    /// Everything told so far.
    told: Vec<String>,
    /// Reports that show a prober at work.
    beats: usize,
    /// The address of each server, as far as one is known.
    addresses: fn(usize) -> Option<IpAddr>,
    /// What is reached over the network besides the servers, while the prober suspects itself.
    witness: Option<IpAddr>,
}

fn good() -> Evidence {
    Evidence::Success("HTTP 200".into())
}

fn refused() -> Evidence {
    Evidence::Hard("connection refused".into())
}

fn silent() -> Evidence {
    Evidence::Soft("timed out after 1.2s".into())
}

/// One farm of servers on addresses of their own.
fn farm(size: usize) -> Checks {
    let check = |n: usize| -> Check {
        let json = serde_json::json!({"scheme": "http", "host": format!("s{n}"), "port": 80, "method": "HEAD", "uri": "/",
            "expect": "200-399", "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1200,
            "rise": 2, "fall": 3});
        serde_json::from_value(json).expect("valid check")
    };
    let seat = |n: usize| CheckedServer {
        id: format!("img/s{n}").parse().expect("valid"),
        serves: true,
    };
    Checks {
        made: (0..size)
            .map(|n| (check(n).key(), (check(n), vec![seat(n)])))
            .collect(),
        ..Checks::default()
    }
}

impl Simulation {
    fn start(size: usize, seed: u64) -> Self {
        let now = Instant::now();
        let mut list = WatchList::default();
        list.set(farm(size), now);
        Self {
            list,
            start: now,
            now,
            flying: BTreeSet::new(),
            rng: SmallRng::seed_from_u64(seed),
            told: Vec::new(),
            beats: 0,
            addresses: |_| None,
            witness: None,
        }
    }

    /// Lets `seconds` pass in a world where server `n` gives `world(n)`; failures by silence take their time.
    fn run(&mut self, seconds: f64, world: impl Fn(usize) -> Evidence) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while self.now < end {
            for (key, _, check) in self
                .list
                .take_due(self.now, &mut ProbePermits::new(512, 512))
            {
                let soft = matches!(outcome(&key, &world), Evidence::Soft(_));
                let takes = if soft {
                    check.timeout
                } else {
                    Duration::from_millis(5)
                };
                self.flying.insert((self.now + takes, self.now, key));
            }
            while let Some((landed, started, key)) = self
                .flying
                .first()
                .filter(|(landed, ..)| *landed <= self.now)
                .cloned()
            {
                self.flying.pop_first();
                // A probe that ran out of time did so in the world it was made in.
                let ran_out = landed.duration_since(started) > Duration::from_secs(1);
                let evidence = if ran_out {
                    silent()
                } else {
                    outcome(&key, &world)
                };
                self.list
                    .locate(&key, |host| (self.addresses)(number(host)));
                self.list.take(
                    &key,
                    &evidence,
                    started,
                    At {
                        now: self.now,
                        unix: 1,
                        by: "h",
                    },
                    &mut self.rng,
                );
            }
            self.witness
                .iter()
                .for_each(|address| self.list.heard_of(*address));
            self.told.extend(
                self.list
                    .report("h", self.now)
                    .into_iter()
                    .flat_map(|report| {
                        let said: Vec<String> = report
                            .events
                            .iter()
                            .map(|event| event.what.clone())
                            .collect();
                        self.beats += usize::from(!report.idle);
                        let before = self.list.shown;
                        self.list.acknowledged(
                            report,
                            Reported {
                                before,
                                held: usize::MAX,
                            },
                        );
                        said
                    }),
            );
            self.now += Duration::from_millis(5);
        }
    }

    fn states(&self) -> Vec<State> {
        self.list
            .checks
            .values()
            .map(|watched| watched.judge.finding().state)
            .collect()
    }

    fn count(&self, state: State) -> usize {
        self.states()
            .into_iter()
            .filter(|held| *held == state)
            .count()
    }

    /// How many servers were said to be down so far.
    fn falls(&self) -> usize {
        self.told
            .iter()
            .filter(|what| what.ends_with("is down"))
            .count()
    }

    fn restarted(self, seed: u64) -> Self {
        let findings = self
            .list
            .checks
            .iter()
            .map(|(key, watched)| (key.clone(), watched.judge.finding().clone()))
            .collect();
        let mut new = Self::start(self.list.checks.len(), seed);
        new.list.adopt(
            OwnView {
                sequence: self.list.sequence,
                findings,
            },
            new.now,
        );
        new
    }
}

fn number(host: &str) -> usize {
    host.strip_prefix('s')
        .and_then(|number| number.parse().ok())
        .expect("the host is s and a number")
}

fn outcome(key: &CheckKey, world: &impl Fn(usize) -> Evidence) -> Evidence {
    let (_, rest) = key.0.split_once("//s").expect("the host is s and a number");
    world(
        rest.split_once(':')
            .expect("a port")
            .0
            .parse()
            .expect("a number"),
    )
}

#[test]
fn cut_off_from_everything_takes_nothing_out_however_it_looks() {
    for (seed, failure) in (0..20).flat_map(|seed| [(seed, silent()), (seed, refused())]) {
        let mut sim = Simulation::start(6, seed);
        sim.run(5.0 + seed as f64 / 10.0, |_| good());
        sim.run(25.0, |_| failure.clone());
        assert_eq!(
            (sim.count(State::Up), sim.list.is_in_doubt()),
            (6, true),
            "{:?}",
            sim.told
        );
        sim.run(10.0, |_| good());
        assert_eq!(
            (sim.count(State::Up), sim.list.is_in_doubt()),
            (6, false),
            "{:?}",
            sim.told
        );
        assert_eq!(
            sim.told,
            ["prober suspect", "prober no longer suspect"],
            "seed {seed}, {failure:?}"
        );
    }
}

#[test]
fn after_a_while_hard_evidence_is_believed_and_soft_is_not() {
    let mut sim = Simulation::start(6, 1);
    sim.run(5.0, |_| good());
    sim.run(40.0, |n| if n < 4 { refused() } else { silent() });
    assert_eq!(
        (sim.count(State::Down), sim.falls(), sim.list.is_in_doubt()),
        (4, 4, true),
        "{:?}",
        sim.told
    );
}

#[test]
fn a_restart_while_cut_off_takes_nothing_out() {
    for (seed, failure) in (0..20).flat_map(|seed| [(seed, silent()), (seed, refused())]) {
        let mut sim = Simulation::start(6, seed);
        sim.run(5.0, |n| if n == 0 { refused() } else { good() });
        assert_eq!(sim.count(State::Down), 1);
        let mut sim = sim.restarted(seed + 100);
        sim.run(25.0, |_| failure.clone());
        assert_eq!(
            (sim.count(State::Down), sim.falls()),
            (1, 0),
            "{:?}",
            sim.told
        );
    }
}

#[test]
fn cut_off_from_four_of_six_takes_out_half_and_the_rest_when_others_kept_answering() {
    for seed in 0..20 {
        let mut sim = Simulation::start(6, seed);
        sim.run(40.0, |_| good());
        sim.run(20.0, |n| if n < 4 { silent() } else { good() });
        assert_eq!(
            (sim.count(State::Down), sim.count(State::Suspect)),
            (3, 1),
            "{:?}",
            sim.told
        );
        sim.run(20.0, |n| if n < 4 { silent() } else { good() });
        assert_eq!(
            (sim.count(State::Down), sim.count(State::Up)),
            (4, 2),
            "{:?}",
            sim.told
        );
        sim.run(10.0, |_| good());
        assert_eq!(sim.count(State::Up), 6, "{:?}", sim.told);
    }
}

#[test]
fn a_dead_server_is_out_soon_whatever_its_mates_do() {
    for (seed, (failure, limit)) in
        (0..50).flat_map(|seed| [(seed, (refused(), 2.0)), (seed, (silent(), 4.0))])
    {
        let mut sim = Simulation::start(3, seed);
        sim.run(3.0 + seed as f64 / 50.0, |_| good());
        sim.run(limit, |n| if n == 0 { failure.clone() } else { good() });
        assert_eq!(
            sim.states(),
            [State::Down, State::Up, State::Up],
            "{failure:?} after {limit} s, seed {seed}: {:?}",
            sim.told
        );
    }
}

#[test]
fn the_dead_are_out_though_a_mate_answers_now_and_then() {
    for (seed, failure) in (0..20).flat_map(|seed| [(seed, refused()), (seed, silent())]) {
        let mut sim = Simulation::start(3, seed);
        sim.run(5.0, |_| good());
        // A probe looks at the world when it begins, and again when it ends.
        let asked = std::cell::Cell::new(0);
        let overloaded = |n: usize| {
            asked.set(asked.get() + usize::from(n == 2));
            if n == 2 && asked.get() % 8 < 2 {
                good()
            } else {
                failure.clone()
            }
        };
        sim.run(60.0, overloaded);
        let states = sim.states();
        assert!(
            states[..2].iter().all(|state| *state != State::Up),
            "{states:?}, seed {seed}, {failure:?}: {:?}",
            sim.told
        );
        assert!(
            refused() != failure || states[..2] == [State::Down; 2],
            "{states:?}, seed {seed}: {:?}",
            sim.told
        );
    }
}

#[test]
fn hard_evidence_takes_out_the_last_server_too() {
    let mut sim = Simulation::start(2, 1);
    sim.run(3.0, |_| good());
    sim.run(3.0, |_| refused());
    assert_eq!(sim.states(), [State::Down, State::Down]);
    let mut soft = Simulation::start(2, 1);
    soft.run(3.0, |_| good());
    soft.run(60.0, |_| silent());
    assert_eq!(
        (soft.count(State::Down), soft.count(State::Suspect)),
        (1, 1),
        "{:?}",
        soft.told
    );
    assert_eq!(
        soft.told
            .iter()
            .filter(|what| what.ends_with("is suspect"))
            .count(),
        1,
        "{:?}",
        soft.told
    );
    soft.run(10.0, |_| good());
    assert_eq!(soft.count(State::Up), 2);
}

#[test]
fn a_view_whose_probes_say_nothing_goes_stale_and_vouches_for_nobody() {
    let mut sim = Simulation::start(3, 1);
    sim.run(5.0, |_| good());
    sim.run(10.0, |_| Evidence::Nothing("no way out from here".into()));
    let sequence = sim.list.sequence;
    let vouching = |sim: &Simulation| {
        sim.list
            .checks
            .values()
            .filter(|watched| watched.judge.finding().vouches())
            .count()
    };
    assert_eq!(
        (sim.count(State::Up), vouching(&sim), sim.told.len()),
        (3, 0, 0)
    );
    sim.run(30.0, |_| Evidence::Nothing("no way out from here".into()));
    assert_eq!(
        sim.list.sequence, sequence,
        "nothing conclusive, no heartbeat"
    );
    sim.run(3.0, |_| good());
    assert!(vouching(&sim) == 3 && sim.list.sequence > sequence && sim.start < sim.now);
}

/// How many findings the next report has as changed, and the sequence it is answered with.
fn told_with(list: &mut WatchList, now: Instant, before: Option<u64>) -> usize {
    let report = list.report("h", now).expect("something to tell");
    let changed = report.changed.len();
    list.acknowledged(report, Reported { before, held: 3 });
    changed
}

#[test]
fn a_store_that_may_have_lost_findings_is_told_them_all_again() {
    let mut sim = Simulation::start(3, 1);
    let answered = |list: &mut WatchList, now| {
        for (key, _, _) in list.take_due(now, &mut ProbePermits::new(512, 512)) {
            list.take(
                &key,
                &good(),
                now,
                At {
                    now,
                    unix: 1,
                    by: "h",
                },
                &mut SmallRng::seed_from_u64(1),
            );
        }
    };
    let mut next = || {
        sim.now += Duration::from_secs(2);
        answered(&mut sim.list, sim.now);
        sim.now
    };
    let times: Vec<Instant> = (0..8).map(|_| next()).collect();
    let list = &mut sim.list;
    assert_eq!(
        told_with(list, times[0], Some(77)),
        3,
        "whatever an earlier run left"
    );
    assert!(list.report("h", times[1]).is_none() && !list.is_urgent());
    let beat = |list: &mut WatchList| list.conclusive = true;
    beat(list);
    assert_eq!(told_with(list, times[2], Some(1)), 0);
    beat(list);
    assert_eq!(
        (told_with(list, times[3], Some(1)), list.is_urgent()),
        (0, true),
        "it came back with what it held before"
    );
    assert_eq!(told_with(list, times[4], Some(3)), 3);
    // A report whose reply was lost may have been carried out before the store came back with an older copy.
    beat(list);
    list.report("h", times[5]).expect("something to tell");
    list.failed();
    beat(list);
    assert_eq!(
        (told_with(list, times[6], Some(4)), list.is_urgent()),
        (0, true)
    );
    assert_eq!(
        (told_with(list, times[7], Some(6)), list.is_urgent()),
        (3, false)
    );
}

#[test]
fn words_that_change_show_nobody_at_work() {
    let mut sim = Simulation::start(6, 1);
    sim.run(5.0, |_| good());
    sim.run(5.0, |_| silent());
    assert!(sim.list.is_in_doubt());
    let (beats, sequence) = (sim.beats, sim.list.sequence);
    for n in 0..10 {
        sim.run(1.5, |_| Evidence::Hard(format!("another reason {n}")));
    }
    assert!(sim.list.sequence > sequence, "the words are told");
    assert_eq!(
        sim.beats, beats,
        "an own trouble that changes is still an own trouble"
    );
    sim.run(3.0, |_| good());
    assert!(sim.beats > beats);
}

#[test]
fn what_was_found_of_a_check_that_left_counts_for_nothing() {
    let (now, mut list) = (Instant::now(), WatchList::default());
    let tell = |list: &mut WatchList, at: Instant| {
        let report = list.report("h", at)?;
        let (changed, removed) = (report.changed.clone(), report.removed.len());
        list.acknowledged(
            report,
            Reported {
                before: list.shown,
                held: 3,
            },
        );
        Some((changed, removed))
    };
    list.set(farm(3), now);
    assert_eq!(
        tell(&mut list, now).map(|(changed, removed)| (changed.len(), removed)),
        Some((3, 0))
    );
    // Readers hear that it is not probed; one that comes back is told of anew.
    for _ in 0..2 {
        list.set(farm(2), now);
        let (changed, removed) = tell(&mut list, now).expect("something to tell");
        assert_eq!(
            (
                changed.len(),
                removed,
                changed[0].1.state,
                changed[0].1.checked
            ),
            (1, 0, State::Abstain, Checked::Never)
        );
        assert!(list.report("h", now + LINGER / 2).is_none());
        list.set(farm(3), now);
        assert_eq!(
            tell(&mut list, now).map(|(changed, removed)| (changed.len(), removed)),
            Some((1, 0))
        );
        assert!(list.report("h", now + LINGER).is_none());
    }
    list.set(farm(2), now);
    tell(&mut list, now);
    assert_eq!(
        tell(&mut list, now + LINGER).map(|(changed, removed)| (changed.len(), removed)),
        Some((0, 1))
    );
    assert!(list.report("h", now + 2 * LINGER).is_none());
}

#[test]
fn an_event_keeps_its_number_until_it_is_told() {
    let (now, mut list) = (Instant::now(), WatchList::new("run".into()));
    let at = At {
        now,
        unix: 1,
        by: "h",
    };
    let told = |list: &mut WatchList| {
        let report = list.report("h", now).expect("something to tell");
        (report.first_event, report.events.len(), report)
    };
    (0..3).for_each(|_| list.tell("something", String::new(), at));
    let (first, events, report) = told(&mut list);
    assert_eq!((first, events, report.run.as_str()), (0, 3, "run"));
    list.failed();
    // While that was on its way more came than are kept: the oldest go, and the others keep their numbers.
    (0..EVENTS_KEPT).for_each(|_| list.tell("something", String::new(), at));
    let (first, events, later) = told(&mut list);
    assert_eq!((first, events), (3, EVENTS_KEPT));
    list.acknowledged(
        report,
        Reported {
            before: None,
            held: 0,
        },
    );
    assert_eq!(list.first_event, 3, "what was told is gone already");
    list.acknowledged(
        later,
        Reported {
            before: None,
            held: 0,
        },
    );
    assert_eq!(
        (list.first_event, list.events.len()),
        (3 + EVENTS_KEPT as u64, 0)
    );
}
