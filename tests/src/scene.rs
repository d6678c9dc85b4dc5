//! A cluster with a past, ready for trouble: two redirectors that answer, one that left and one that was killed, five
//! tables applied one after the other, and a report that is known to be exact.

use crate::origin::Origin;
use crate::process::{Ended, Process};
use crate::scenario::Scale;
use crate::stats::Stats;
use crate::traffic::load;
use crate::up::one_farm;
use crate::world::{Daemon, Way};
use crate::{FLUSH, START, client, eventually};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The farm's host.
pub const HOST: &str = "img.test";

/// The server that [`Scene::change`] adds; nothing is there, and nobody probes it.
pub const NEW_SERVER: &str = "http://new.test";

/// Requests to each redirector before any of them ends.
const FIRST: u64 = 100;

/// How long the keeper may take to fold what a redirector left.
const FOLD: Duration = Duration::from_secs(15);

/// After so long a keeper remembers what a redirector that was killed had counted: three seconds of silence, and a round.
/// Nothing shows that it does but a store that loses it.
const REMEMBERED: Duration = Duration::from_secs(6);

/// Whether folding was waited for in vain by another case of this run.
static NEVER_FOLDED: AtomicBool = AtomicBool::new(false);

/// The cluster. Its store is not part of it.
#[derive(Debug)]
pub struct Scene {
    /// Those who answer.
    pub redirectors: Vec<Daemon>,
    /// The server that will fail.
    pub flipping: Origin,
    /// What is worth a note beside the figures.
    pub note: String,
    /// Redirects in the report so far.
    pub counted: u64,
    steady: [Origin; 2],
    statsd: Daemon,
    healthd: Process,
    direct: Way,
    directory: TempDir,
}

impl Scene {
    /// Starts it: redirectors and healthd find the store by `daemons`, the report and the operator by `direct`.
    /// `folded` says whether the store holds a folded replica.
    pub fn start(daemons: &Way, direct: Way, folded: impl Fn() -> bool, scale: Scale) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [a, b, flipping] = ["a", "b", "flipping"].map(Origin::start);
        let place = directory.path();
        // An apply waits for redirectors: in a short run most of the history is made before there are any.
        let early = scale.pick(4, 0);
        for n in 0..=early {
            let ended = direct.apply(place, configuration(&[&a, &b, &flipping], n).as_bytes());
            assert_eq!(ended.code, Some(0), "apply said: {:?}", ended.lines);
        }
        let redirectors = (1..=4)
            .map(|number| daemons.redirector(place, &format!("redirector-{number}")))
            .collect();
        let healthd = daemons.start("rbalancer-healthd", place, &["--id", "watcher"], "healthd");
        let statsd = direct.listening("rbalancer-statsd", place, "statsd");
        let mut scene = Self {
            redirectors,
            flipping,
            note: String::new(),
            counted: 0,
            steady: [a, b],
            statsd,
            healthd,
            direct,
            directory,
        };
        scene.make_history(early, folded);
        scene
    }

    fn make_history(&mut self, early: u16, folded: impl Fn() -> bool) {
        for address in self.addresses() {
            eventually!(START, client::get(address, HOST, "/").status == 302);
            self.counted += 1 + load(address, HOST, FIRST, 2).total();
        }
        self.settles();
        let (leaving, dying) = (
            self.redirectors.pop().expect("four"),
            self.redirectors.pop().expect("three"),
        );
        leaving.process.signal(rustix::process::Signal::TERM);
        drop(dying);
        let died = Instant::now();
        (early + 1..=5).for_each(|n| self.apply(&self.configuration(n)));
        leaving.process.wait(START);
        let (started, limit) = (
            Instant::now(),
            if NEVER_FOLDED.load(Ordering::Relaxed) {
                Duration::ZERO
            } else {
                FOLD
            },
        );
        while !folded() {
            if started.elapsed() > limit {
                NEVER_FOLDED.store(true, Ordering::Relaxed);
                self.note += "; nothing was folded";
                break;
            }
            std::thread::sleep(crate::LOOK);
        }
        std::thread::sleep(REMEMBERED.saturating_sub(died.elapsed()));
        self.settles();
    }

    /// Where the redirectors answer.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.redirectors
            .iter()
            .map(|redirector| redirector.address)
            .collect()
    }

    /// Redirects in the report.
    pub fn reported(&self) -> u64 {
        Stats::of(self.statsd.address).redirects()
    }

    fn settles(&self) {
        eventually!(
            FLUSH * 4,
            self.reported() == self.counted,
            "{} of {}",
            self.reported(),
            self.counted
        );
    }

    /// Applies a table like the last one with other weights.
    pub fn apply_weights(&self) {
        self.apply(&self.configuration(6));
    }

    /// Applies a table with [`NEW_SERVER`] in it.
    pub fn change(&self) {
        let more = format!("[new]\ndomain = {NEW_SERVER}\nweight = 10\ncheck = off\n");
        self.apply(
            &(self
                .configuration(7)
                .replace("list = a, b, flipping", "list = a, b, flipping, new")
                + &more),
        );
    }

    /// Applies another table with other weights where that may fail.
    pub fn try_to_apply(&self) -> Ended {
        self.direct
            .apply(self.directory.path(), self.configuration(8).as_bytes())
    }

    fn apply(&self, configuration: &str) {
        let ended = self
            .direct
            .apply(self.directory.path(), configuration.as_bytes());
        assert_eq!(
            ended.code,
            Some(0),
            "apply said:\n{}",
            ended.lines.join("\n")
        );
    }

    fn configuration(&self, n: u16) -> String {
        let [a, b] = &self.steady;
        configuration(&[a, b, &self.flipping], n)
    }

    /// How many warnings and errors the redirectors and healthd have logged.
    pub fn complaints(&self) -> usize {
        let watched = self
            .redirectors
            .iter()
            .map(|daemon| &daemon.process)
            .chain([&self.healthd]);
        let complains = |line: &&String| line.contains(" WARN ") || line.contains(" ERROR ");
        watched
            .map(|process| process.lines().iter().filter(complains).count())
            .sum()
    }

    /// Everything the daemons said, for a case that failed.
    pub fn log(&self) -> String {
        let all = self
            .redirectors
            .iter()
            .map(|daemon| &daemon.process)
            .chain([&self.healthd, &self.statsd.process]);
        all.map(|process| process.lines().join("\n"))
            .collect::<Vec<_>>()
            .join("\n--\n")
    }
}

/// The `n`th table: the same servers with other weights.
fn configuration(origins: &[&Origin; 3], n: u16) -> String {
    let [a, b, flipping] = origins;
    one_farm(
        "",
        "",
        &[("a", a, 2 + n), ("b", b, 1), ("flipping", flipping, 2)],
    )
}
