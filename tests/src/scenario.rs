//! One case of the fault suite: load on two redirectors, trouble in the store, a server that fails and a table that
//! is changed meanwhile, healing; then every request must have been redirected, every redirect counted once, and the
//! new table in use soon.

use crate::paced::{Paced, Sighting};
use crate::scene::{HOST, NEW_SERVER, Scene};
use crate::world::Way;
use crate::{FLUSH, START, TURN, eventually};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::{fmt, thread};

/// How soon after healing the new table must be in use.
pub const FRESH: Duration = Duration::from_secs(2);

/// Redirects a second in a full run, at the least.
const FULL_RATE: u64 = 2000;

/// A server named this long ago is no longer in use.
const QUIET: Duration = Duration::from_millis(700);

/// How much is done: the test command runs every case once and shortened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Once, briefly, beside others.
    Short,
    /// Five times, whole, alone: `RBALANCER_TESTS=full`.
    Full,
}

impl Scale {
    /// What the environment asks for.
    pub fn asked() -> Self {
        if std::env::var_os("RBALANCER_TESTS").is_some_and(|value| value == "full") {
            Self::Full
        } else {
            Self::Short
        }
    }

    /// One of two values.
    pub fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

/// What goes wrong, and the store it goes wrong with.
pub trait Trouble {
    /// What it is called in the figures.
    fn name(&self) -> String;
    /// How redirectors and healthd find the store.
    fn daemons(&self) -> Way;
    /// How the report and the operator find it.
    fn direct(&self) -> Way;
    /// Whether the store holds a key that matches.
    fn holds(&self, pattern: &str) -> bool;
    /// Begins.
    fn begin(&mut self, scene: &Scene, scale: Scale);
    /// Heals; returns when it has.
    fn heal(&mut self);
    /// How long it lasts.
    fn lasts(&self, scale: Scale) -> Duration {
        scale.pick(Duration::from_millis(2500), Duration::from_secs(10))
    }
    /// Whether a table can be applied while it lasts.
    fn takes_tables(&self) -> bool {
        false
    }
    /// Whether the daemons must notice: trouble that nobody notices was none.
    fn is_noticed(&self) -> bool {
        true
    }
    /// How soon the new table must be in use.
    fn limit(&self) -> Duration {
        FRESH
    }
}

/// What was seen.
#[derive(Debug)]
struct Figures {
    name: String,
    phase: Duration,
    requests: u64,
    rate: u64,
    others: u64,
    lost: u64,
    /// Reported minus received.
    error: i64,
    /// From healing (or the beginning of the apply after it) to the first redirect by the new table, for each redirector.
    fresh: Vec<Option<Duration>>,
    /// From healing to the last redirect to the server that failed.
    flipped: Option<Duration>,
    /// Warnings and errors the daemons logged meanwhile.
    complaints: usize,
    note: String,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: &Option<Duration>| {
            time.map_or("never".to_owned(), |time| {
                format!("{} ms", time.as_millis())
            })
        };
        let fresh: Vec<String> = self.fresh.iter().map(ms).collect();
        write!(
            f,
            "{}: phase {} ms, requests {} ({}/s), others {}, lost {}, counter error {}, table fresh {}, failed server out {}, complaints {}{}",
            self.name,
            self.phase.as_millis(),
            self.requests,
            self.rate,
            self.others,
            self.lost,
            self.error,
            fresh.join(" and "),
            ms(&self.flipped),
            self.complaints,
            self.note
        )
    }
}

/// Runs a case as often as the scale says.
pub fn run<T: Trouble>(make: impl Fn() -> T) {
    let scale = Scale::asked();
    (0..scale.pick(1, 5)).for_each(|_| once(make(), scale));
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are what a full run is for"
)]
fn once(mut trouble: impl Trouble, scale: Scale) {
    let mut scene = Scene::start(
        &trouble.daemons(),
        trouble.direct(),
        || trouble.holds("{rbalancer}:folded:*"),
        scale,
    );
    let figures = observe(&mut trouble, &mut scene, scale);
    println!("{figures}");
    let late = figures
        .fresh
        .iter()
        .any(|fresh| fresh.is_none_or(|fresh| fresh > trouble.limit()));
    let exact = (figures.others, figures.lost, figures.error) == (0, 0, 0);
    let fast = scale == Scale::Short || figures.rate >= FULL_RATE;
    let noticed = figures.complaints > 0 || !trouble.is_noticed();
    let good = noticed && exact && fast && !late && figures.flipped.is_some_and(|time| time < TURN);
    assert!(good, "{figures}\n{}", scene.log());
}

fn observe(trouble: &mut impl Trouble, scene: &mut Scene, scale: Scale) -> Figures {
    let addresses = scene.addresses();
    let traffic = Paced::start(&addresses, HOST, scale.pick(400, 2200));
    let flipping = scene.flipping.url();
    eventually!(
        START,
        addresses
            .iter()
            .all(|address| traffic.sighting(*address, &flipping).is_some())
    );
    let phase = Duration::from_millis(RandomState::new().hash_one(()) % 1000);
    thread::sleep(phase);

    let (begun, complaints) = (Instant::now(), scene.complaints());
    trouble.begin(scene, scale);
    scene.flipping.stop();
    if trouble.takes_tables() {
        scene.change();
    }
    thread::sleep(trouble.lasts(scale).saturating_sub(begun.elapsed()));
    trouble.heal();
    let mut healed = Instant::now();
    if !trouble.takes_tables() {
        // The command returns when redirectors have taken the table.
        healed = Instant::now();
        scene.change();
    }

    let sightings = |server: &str| -> Vec<Option<Sighting>> {
        addresses
            .iter()
            .map(|at: &SocketAddr| traffic.sighting(*at, server))
            .collect()
    };
    let waited = |done: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !done() && started.elapsed() < START {
            thread::sleep(crate::LOOK);
        }
    };
    waited(&|| sightings(NEW_SERVER).iter().all(Option::is_some));
    waited(&|| {
        sightings(&flipping)
            .iter()
            .flatten()
            .all(|seen| seen.last.elapsed() > QUIET)
    });
    let since = |at: Instant| at.saturating_duration_since(healed);
    let fresh = sightings(NEW_SERVER)
        .into_iter()
        .map(|seen| seen.map(|seen| since(seen.first)))
        .collect();
    let last = sightings(&flipping)
        .into_iter()
        .flatten()
        .map(|seen| seen.last)
        .max();
    let flipped = last.filter(|last| last.elapsed() > QUIET).map(since);

    let (requests, rate) = (traffic.asked(), traffic.rate());
    let received = traffic.stop();
    let expected = scene.counted + received.total();
    let settling = Instant::now();
    while scene.reported() != expected && settling.elapsed() < FLUSH * 3 {
        thread::sleep(crate::LOOK * 5);
    }
    Figures {
        name: trouble.name(),
        phase,
        requests,
        rate,
        others: received.others.values().sum(),
        lost: received.lost,
        error: scene.reported() as i64 - expected as i64,
        fresh,
        flipped,
        complaints: scene.complaints() - complaints,
        note: scene.note.clone(),
    }
}
