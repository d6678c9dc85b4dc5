//! A server's turn reaches fifty redirectors over a table of ten thousand servers: how soon, and at what price.
#![allow(clippy::print_stdout, reason = "the figures are what the suite is for")]

use arc_swap::ArcSwap;
use common::model::check::CheckKey;
use common::model::farm::Farms;
use common::model::health::{Checked, Finding, State};
use common::store::{HealthReport, Publication, Published, Redis, RedisSettings, Store};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use redirector::background::override_file::ByFile;
use redirector::background::refresh::{Refresher, StatusCell};
use redirector::counters::Counters;
use redirector::routes::Routes;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::redis::RedisServer;
use tests::{START, eventually};
use tokio::sync::watch;
use tokio::task::JoinSet;

const REFRESHERS: usize = 50;
const SERVERS: usize = 10_000;
/// Farms of one server, which turn; the others have a hundred each.
const TURNING: usize = 100;
const FLIPS: usize = 200;

/// What is asked for: 99 of 100 within this, by hints.
const BY_HINT: Duration = Duration::from_millis(100);
/// All within this, without.
const BY_POLL: Duration = Duration::from_secs(2);
const BYTES: u64 = 4096;

fn check(server: usize) -> serde_json::Value {
    json!({"scheme": "http", "host": format!("s{server}.test"), "port": 80, "method": "HEAD", "uri": "/", "expect": "200-399",
        "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1200, "rise": 2, "fall": 3})
}

fn key(server: usize) -> CheckKey {
    serde_json::from_value::<common::model::check::Check>(check(server))
        .expect("a check")
        .key()
}

fn farm(name: &str, servers: std::ops::Range<usize>) -> serde_json::Value {
    let server = |n| json!({"name": format!("s{n}"), "target": format!("http://s{n}.test"), "weight": 1, "enable": "on", "check": check(n)});
    json!({"domains": [format!("{name}.test")], "name": name, "servers": servers.map(server).collect::<Vec<_>>()})
}

fn farms() -> Farms {
    let turning = (0..TURNING).map(|n| farm(&format!("t{n}"), n..n + 1));
    let others = (TURNING..SERVERS)
        .step_by(100)
        .map(|n| farm(&format!("f{n}"), n..n + 100));
    serde_json::from_value(turning.chain(others).collect()).expect("farms")
}

fn finding(state: State) -> Finding {
    Finding {
        state,
        checked: Checked::Ok,
        since: 1,
        why: "HTTP 200".into(),
        last_check: 1,
    }
}

/// The refreshers of many redirectors, and a prober of one's own.
struct Crowd {
    routes: Vec<Arc<ArcSwap<Routes>>>,
    prober: Store,
    sequence: u64,
    _running: JoinSet<()>,
}

impl Crowd {
    async fn gather(settings: &RedisSettings, prober: &RedisSettings) -> Self {
        let prober = Store::Redis(Redis::pooled(prober));
        let cluster: common::model::farm::Name = "rbalancer".parse().expect("a name");
        let publication = Publication {
            expected: 0,
            cluster: cluster.clone(),
            farms: farms(),
            by: "t".into(),
            why: String::new(),
            nonce: "n".into(),
            forced: false,
            reset: false,
        };
        assert!(matches!(
            prober.operator().publish(&publication).await,
            Ok(Published::Now(_))
        ));
        let mut crowd = Self {
            routes: Vec::new(),
            prober,
            sequence: 0,
            _running: JoinSet::new(),
        };
        crowd
            .report(
                (0..SERVERS)
                    .map(|server| (key(server), finding(State::Up)))
                    .collect(),
            )
            .await;
        for _ in 0..REFRESHERS {
            let store = Store::Redis(Redis::dedicated(settings));
            let routes: Arc<ArcSwap<Routes>> = Arc::default();
            let counters = Arc::new(Counters::new(1));
            let by_file = watch::channel(ByFile::default()).1;
            let refresher = Refresher::new(
                store.reader(),
                cluster.clone(),
                counters,
                routes.clone(),
                StatusCell::default(),
                None,
                by_file,
            );
            crowd._running.spawn(refresher.run());
            crowd.routes.push(routes);
        }
        crowd
    }

    async fn report(&mut self, changed: Vec<(CheckKey, Finding)>) {
        self.sequence += 1;
        let report = HealthReport {
            id: "watcher".into(),
            sequence: self.sequence,
            changed,
            ..HealthReport::default()
        };
        self.prober
            .prober()
            .report(&report)
            .await
            .expect("an answer");
    }

    fn shows(&self, refresher: usize, farm: usize, up: bool) -> bool {
        let (routes, host) = (self.routes[refresher].load(), format!("t{farm}.test"));
        let route = routes.farm(host.as_bytes());
        route.is_some_and(|route| route.pick(false, &mut SmallRng::seed_from_u64(1)).is_ok() == up)
    }

    /// Turns one server, and how long each refresher took to show it.
    async fn turn(&mut self, farm: usize, up: bool) -> Vec<Duration> {
        let started = Instant::now();
        self.report(vec![(
            key(farm),
            finding(if up { State::Up } else { State::Down }),
        )])
        .await;
        let mut taken = vec![None; self.routes.len()];
        while taken.iter().any(Option::is_none) {
            for (refresher, taken) in taken
                .iter_mut()
                .enumerate()
                .filter(|(_, taken)| taken.is_none())
            {
                *taken = self.shows(refresher, farm, up).then(|| started.elapsed());
            }
            assert!(
                started.elapsed() < START,
                "farm {farm} did not turn everywhere: {taken:?}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        taken.into_iter().flatten().collect()
    }
}

/// Bytes that went to and from the server so far, by its own word.
fn traffic(server: &RedisServer) -> u64 {
    let info = server.call(&["INFO", "stats"]);
    let number = |line: &str| {
        ["total_net_input_bytes:", "total_net_output_bytes:"]
            .iter()
            .find_map(|name| line.strip_prefix(name)?.parse::<u64>().ok())
    };
    info.text().lines().filter_map(number).sum::<u64>()
}

/// How many connections listen for hints.
fn listening(server: &RedisServer) -> usize {
    server
        .call(&["CLIENT", "LIST", "TYPE", "pubsub"])
        .text()
        .lines()
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_reaches_fifty_redirectors_at_once_and_costs_its_own_size() {
    let _alone = crate::ALONE.lock().await;
    let server = RedisServer::forgetful();
    server.order("ACL SETUSER prober on nopass ~* &* +@all");
    let mut prober = server.settings();
    prober.address = server
        .url()
        .replace("redis://", "redis://prober:any@")
        .parse()
        .expect("a URL");
    let mut crowd = Crowd::gather(&server.settings(), &prober).await;
    eventually!(
        START * 2,
        (0..REFRESHERS).all(|refresher| crowd.shows(refresher, TURNING - 1, true))
    );
    // The crowd listens once the last one's hint connection is there.
    eventually!(START, listening(&server) == REFRESHERS);

    let before = traffic(&server);
    let mut taken = Vec::new();
    for flip in 0..FLIPS {
        taken.extend(crowd.turn(flip % TURNING, flip >= TURNING).await);
    }
    taken.sort();
    let bytes = (traffic(&server) - before) / (FLIPS * REFRESHERS) as u64;
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
    println!(
        "by hint: {FLIPS} turns, {REFRESHERS} refreshers: p50 {:?}, p99 {:?}, max {:?}; {bytes} bytes each",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    // A machine that does other work besides shows its own delays in the tail.
    let judged = if std::env::var_os("RBALANCER_TESTS").is_some_and(|which| which == "full") {
        0.99
    } else {
        0.5
    };
    assert!(
        at(judged) <= BY_HINT,
        "{judged} of all within {:?}",
        at(judged)
    );
    assert!(bytes <= BYTES, "{bytes} bytes for each turn and refresher");

    // Nobody may listen any more: every hint is lost.
    server.order("ACL SETUSER default resetchannels");
    eventually!(START, listening(&server) == 0);
    let mut worst = Duration::ZERO;
    for flip in 0..10 {
        worst = crowd
            .turn(flip, flip % 2 == 1)
            .await
            .into_iter()
            .fold(worst, Duration::max);
        worst = crowd
            .turn(flip, flip % 2 == 0)
            .await
            .into_iter()
            .fold(worst, Duration::max);
    }
    println!("without hints: 20 turns, the last one after {worst:?}");
    assert!(worst <= BY_POLL, "{worst:?}");
}
