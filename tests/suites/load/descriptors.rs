//! More clients than descriptors: the redirector rests instead of spinning, serves those it holds, and those who wait
//! as soon as there is room.
#![allow(
    clippy::print_stdout,
    clippy::panic,
    reason = "the figures are what the suite is for; a test that cannot go on says why"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tests::client::{self, Connection};
use tests::crowd::Crowd;
use tests::process::Process;
use tests::redis::RedisServer;
use tests::scenario::Scale;
use tests::{START, eventually, world};

const FARM: &str =
    "[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = a.test\ncheck = off\n";
const HOST: &str = "img.test";

/// Descriptors it may have, and clients that come.
const LIMIT: usize = 64;
const CLIENTS: usize = 200;

/// From free descriptors to an answer for one who waited.
const SERVED: Duration = Duration::from_millis(200);

/// A redirector with a table, under a limit of descriptors.
struct Limited {
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
    redis: RedisServer,
    _directory: TempDir,
}

impl Limited {
    /// With a soft and a hard limit of [`LIMIT`].
    fn start(more: &[(&str, &str)]) -> Self {
        Self::start_with(LIMIT, more)
    }

    fn start_with(hard: usize, more: &[(&str, &str)]) -> Self {
        let (redis, directory) = (
            RedisServer::forgetful(),
            tempfile::tempdir().expect("a temporary directory"),
        );
        assert_eq!(
            world::apply(&redis, &directory, FARM.as_bytes()).code,
            Some(0)
        );
        let limit = format!("--nofile={LIMIT}:{hard}");
        let arguments = ["--redis", &redis.url(), "--listen", "127.0.0.1:0"];
        let environment = [
            &[
                ("RBALANCER_ADMIN_BIND", "127.0.0.1:0"),
                ("RBALANCER_CLIENT_TIMEOUT", "60s"),
            ],
            more,
        ]
        .concat();
        let process = Process::start_under(
            &["prlimit", &limit],
            "rbalancer-redirector",
            directory.path(),
            &arguments,
            &environment,
        );
        let address = process.wait_for_address(START);
        let line = process.wait_for_line("admin pages on ", START);
        let admin = line
            .rsplit(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .expect("an address at the end of the line");
        eventually!(START, client::get(address, HOST, "/").status == 302);
        Self {
            process,
            address,
            admin,
            redis,
            _directory: directory,
        }
    }

    /// The share of a core it uses while nothing happens.
    fn idle_share(&self) -> f64 {
        let (before, time) = (
            self.process.cpu(),
            Duration::from_secs(Scale::asked().pick(1, 10)),
        );
        std::thread::sleep(time);
        (self.process.cpu() - before).as_secs_f64() / time.as_secs_f64()
    }

    /// Everybody begins a head and does not end it, one more asks and waits; then the others go.
    fn besiege(&self, what: &str) {
        let mut crowd = Crowd::open(self.address, CLIENTS, b"GET /slow HTTP/1.1\r\nX: ");
        let mut waiting = Connection::open(self.address).expect("the kernel takes it");
        waiting
            .send(b"GET /waited HTTP/1.1\r\nHost: img.test\r\n\r\n")
            .expect("sent");
        // What the kernel holds back for its silence is offered after a second.
        std::thread::sleep(Duration::from_millis(1500));
        let (held, share) = (self.process.descriptors(), self.idle_share());
        let admin = admin(self.admin);
        crowd.round(b"x", Duration::ZERO);
        let left = crowd.left();
        let freed = Instant::now();
        drop(crowd);
        let answer = waiting.answer(false).expect("an answer");
        let served = freed.elapsed();
        println!(
            "{what}: {held} of {LIMIT} descriptors, {:.2} % of a core, /healthz on the admin port {admin:?}; served {served:.1?} after",
            share * 100.0
        );
        assert_eq!(answer.status, 302);
        // Nobody was idle: each had begun to ask and had time left.
        assert_eq!(left, CLIENTS, "{what}: clients lost their connections");
        assert!(
            share < 0.05,
            "{what}: {:.1} % of a core while nothing happens",
            share * 100.0
        );
        assert!(
            served <= SERVED * Scale::asked().pick(2, 1),
            "{what}: served {served:?} after descriptors were free"
        );
    }
}

/// How long `/healthz` took on the admin port; none where nobody answered for two seconds.
fn admin(address: SocketAddr) -> Option<Duration> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let began = Instant::now();
        let asked = Connection::open(address)
            .and_then(|mut connection| connection.get("localhost", b"/healthz"));
        sender.send(
            asked
                .is_ok_and(|answer| answer.status == 200)
                .then(|| began.elapsed()),
        )
    });
    receiver.recv_timeout(Duration::from_secs(2)).ok().flatten()
}

#[test]
fn slow_clients_at_the_limit_cost_nothing_and_those_who_wait_are_served_next() {
    let _alone = crate::alone();
    let redirector = Limited::start(&[]);
    redirector.besiege("default maxconn");
    eventually!(START, admin(redirector.admin).is_some());
    assert_eq!(client::get(redirector.address, HOST, "/").status, 302);
}

#[test]
fn the_same_where_maxconn_is_more_than_there_are_descriptors() {
    let _alone = crate::alone();
    let redirector = Limited::start(&[("RBALANCER_MAXCONN", "10000")]);
    redirector.besiege("maxconn 10000");
    eventually!(START, admin(redirector.admin).is_some());
    // It finds its store again, and takes the next table.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let changed = FARM.replace("domain = a.test", "domain = b.test");
    assert_eq!(
        world::apply(&redirector.redis, &directory, changed.as_bytes()).code,
        Some(0)
    );
    eventually!(
        START,
        client::get(redirector.address, HOST, "/").location() == "http://b.test/"
    );
}

#[test]
fn idle_clients_make_room() {
    let _alone = crate::alone();
    for more in [&[][..], &[("RBALANCER_MAXCONN", "10000")]] {
        let redirector = Limited::start(more);
        let began = Instant::now();
        let mut slowest = Duration::ZERO;
        let kept: Vec<Connection> = (0..CLIENTS)
            .map(|number| {
                let asked = Instant::now();
                let mut connection = Connection::open(redirector.address).expect("a connection");
                let answer = connection
                    .get(HOST, b"/")
                    .unwrap_or_else(|error| panic!("client {number}, {more:?}: {error}"));
                assert_eq!(answer.status, 302);
                slowest = slowest.max(asked.elapsed());
                connection
            })
            .collect();
        let (all, share) = (began.elapsed(), redirector.idle_share() * 100.0);
        println!(
            "{CLIENTS} clients that stay, {more:?}: served in {all:.1?}, the slowest in {slowest:.1?}; then {share:.2} % of a core"
        );
        assert!(slowest <= SERVED * Scale::asked().pick(2, 1), "{slowest:?}");
        assert!(share < 5.0, "{share:.1} % of a core while nothing happens");
        drop(kept);
    }
}

#[test]
fn as_many_as_the_hard_limit_allows_whether_or_not_maxconn_says_how_many() {
    let _alone = crate::alone();
    for more in [&[][..], &[("RBALANCER_MAXCONN", "1000")]] {
        let redirector = Limited::start_with(4096, more);
        let mut kept: Vec<Connection> = (0..CLIENTS)
            .map(|_| Connection::open(redirector.address).expect("a connection"))
            .collect();
        // Each asks twice: nobody had to make room for others in between.
        for round in ["/1", "/2"] {
            let answers = kept
                .iter_mut()
                .map(|connection| connection.get(HOST, round.as_bytes()));
            let lost = answers
                .filter(|answer| !answer.as_ref().is_ok_and(|answer| answer.status == 302))
                .count();
            assert_eq!(
                lost, 0,
                "{more:?}: {lost} of {CLIENTS} got no answer to {round}"
            );
        }
    }
}
