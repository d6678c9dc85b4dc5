//! How a redirector ends and how it begins: what a killed one takes with it, what one that is asked to end does not,
//! and how soon a new one answers while Redis is away.

#![allow(clippy::print_stdout, reason = "the figures are what the suite is for")]
use rustix::process::Signal;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tests::h2::kind::{GOAWAY, HEADERS};
use tests::h2::{self, END_HEADERS, END_STREAM, Raw, frame};
use tests::paced::Paced;
use tests::process::Process;
use tests::redis::RedisServer;
use tests::scenario::Scale;
use tests::stats::Stats;
use tests::tls::{self, SecureUp, Secured};
use tests::traffic::Received;
use tests::world::{Daemon, Way};
use tests::{FLUSH, START, client, eventually, port};

const HOST: &str = "img.test";

/// Requests a second.
const RATE: u32 = 400;

/// What a killed redirector may take with it: one flush interval, its jitter, and the flush that was under way.
const ONE_FLUSH: Duration = Duration::from_millis(550 + 250);

const TABLE: &str = "[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\ncheck = off\n[a]\ndomain = http://a.test\n";

/// A redirector with a report beside it.
struct House {
    redis: RedisServer,
    way: Way,
    directory: TempDir,
    statsd: Daemon,
}

impl House {
    fn build() -> Self {
        let (redis, directory) = (
            RedisServer::persistent(),
            tempfile::tempdir().expect("a temporary directory"),
        );
        let way = Way::to(&redis);
        let ended = way.apply(directory.path(), TABLE.as_bytes());
        assert_eq!(ended.code, Some(0), "{:?}", ended.lines);
        let statsd = way.listening("rbalancer-statsd", directory.path(), "statsd");
        Self {
            redis,
            way,
            directory,
            statsd,
        }
    }

    /// The redirector; each one started has the same state file.
    fn redirector(&self) -> Daemon {
        self.way.redirector(self.directory.path(), "redirector")
    }

    fn reported(&self) -> u64 {
        Stats::of(self.statsd.address).redirects()
    }

    fn settles_at(&self, expected: u64) {
        eventually!(
            FLUSH * 2,
            self.reported() >= expected,
            "{} of {expected}",
            self.reported()
        );
        assert_eq!(
            self.reported(),
            expected,
            "more was counted than clients received"
        );
    }
}

/// Waits until the redirector redirects, with one redirect.
fn redirects(address: SocketAddr) -> u64 {
    eventually!(START, client::get(address, HOST, "/").status == 302);
    1
}

/// Asks on and on at a set rate; `end` is called once `duration` has passed, and is still asked through.
fn asked_through(address: SocketAddr, duration: Duration, end: impl FnOnce()) -> Received {
    let (traffic, started) = (Paced::start(&[address], HOST, RATE), Instant::now());
    eventually!(
        START,
        started.elapsed() > duration && traffic.asked() > u64::from(RATE) / 2
    );
    end();
    traffic.stop()
}

#[test]
fn a_killed_redirector_takes_one_flush_interval_with_it_at_the_most() {
    let house = House::build();
    let mut before = 0;
    for _ in 0..Scale::asked().pick(2, 5) {
        let Daemon { process, address } = house.redirector();
        before += redirects(address);
        let received = asked_through(address, Duration::from_millis(2250), move || drop(process));
        // Nobody writes any more: what the report shows next stays.
        eventually!(FLUSH, house.reported() > before);
        let shown = Instant::now();
        eventually!(FLUSH, shown.elapsed() > Duration::from_millis(1500));
        let (given, kept) = (before + received.total(), house.reported());
        let lost = given.saturating_sub(kept);
        assert!(kept <= given, "{kept} counted, {given} received");
        assert!(
            lost <= u64::from(RATE) * ONE_FLUSH.as_millis() as u64 / 1000,
            "{lost} of {given} lost at {RATE}/s"
        );
        before = kept;
    }
}

#[test]
fn one_that_is_asked_to_end_loses_nothing() {
    let house = House::build();
    let Daemon { process, address } = house.redirector();
    let before = redirects(address);
    let received = asked_through(address, Duration::from_secs(1), move || {
        assert_eq!(process.terminate(START).code, Some(0));
    });
    house.settles_at(before + received.total());
}

#[test]
fn one_that_ends_while_redis_is_away_leaves_its_counts_to_the_next() {
    let mut house = House::build();
    let Daemon { process, address } = house.redirector();
    let before = redirects(address);
    let first = asked_through(address, Duration::from_secs(1), || ());
    house.redis.stop();
    let second = asked_through(address, Duration::from_secs(1), || ());
    assert_eq!(process.terminate(START).code, Some(0));
    house.redis.start();
    let next = house.redirector();
    let after = redirects(next.address);
    house.settles_at(before + first.total() + second.total() + after);
}

#[test]
fn two_that_end_while_redis_is_away_leave_the_counts_of_both() {
    let mut house = House::build();
    let both = [house.redirector(), house.redirector()];
    let before: u64 = both
        .iter()
        .map(|redirector| redirects(redirector.address))
        .sum();
    house.redis.stop();
    let given: u64 = both
        .iter()
        .map(|redirector| {
            asked_through(redirector.address, Duration::from_millis(500), || ()).total()
        })
        .sum();
    both.into_iter()
        .for_each(|redirector| assert_eq!(redirector.process.terminate(START).code, Some(0)));
    house.redis.start();
    let next = house.redirector();
    let after = redirects(next.address);
    house.settles_at(before + given + after);
}

/// Starts a redirector on a port known before; from its start to its first answer with `status`, and itself.
fn first_answer(way: &Way, directory: &Path, name: &str, status: u16) -> (Duration, Daemon) {
    let (listen, state) = (format!("127.0.0.1:{}", port::free()), directory.join(name));
    let address: SocketAddr = listen.parse().expect("an address");
    let environment = [
        ("RBALANCER_ADMIN_BIND", "127.0.0.1:0"),
        (
            "RBALANCER_STATE_FILE",
            state.to_str().expect("a path in UTF-8"),
        ),
    ];
    let started = Instant::now();
    let process = Process::start(
        "rbalancer-redirector",
        directory,
        &["--redis", &way.url, "--listen", &listen],
        &environment,
    );
    while client::Connection::open(address)
        .and_then(|mut open| open.get(HOST, b"/"))
        .ok()
        .is_none_or(|answer| answer.status != status)
    {
        assert!(
            started.elapsed() < START,
            "no {status} came:\n{}",
            process.lines().join("\n")
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    (started.elapsed(), Daemon { process, address })
}

#[test]
fn a_start_without_redis_answers_at_once_from_the_table_on_disk() {
    let mut house = House::build();
    let first = house.redirector();
    redirects(first.address);
    assert_eq!(first.process.terminate(START).code, Some(0));
    house.redis.stop();
    let starts =
        (0..3).map(|_| first_answer(&house.way, house.directory.path(), "redirector.state", 302).0);
    // The best of three: a busy machine is not what is looked at.
    let best = starts.min().expect("three");
    assert!(
        best <= Duration::from_millis(200),
        "{best:?} to the first redirect"
    );
}

#[test]
fn a_start_without_redis_or_file_says_so_and_answers_when_redis_comes() {
    let mut house = House::build();
    house.redis.stop();
    let (_, redirector) = first_answer(&house.way, house.directory.path(), "none.state", 503);
    let refused = client::get(redirector.address, HOST, "/");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(
        client::get(redirector.address, "monitor.test", "/readyz").status,
        503
    );
    house.redis.start();
    let came = Instant::now();
    eventually!(
        START,
        client::get(redirector.address, HOST, "/").status == 302
    );
    assert!(
        came.elapsed() <= Duration::from_secs(2),
        "{:?} after redis came",
        came.elapsed()
    );
    assert_eq!(
        client::get(redirector.address, "monitor.test", "/readyz").status,
        200
    );
}

/// Reads what is left of a connection; whether it ended in order.
fn ends_in_order(stream: &mut impl Read) -> bool {
    stream.read_to_end(&mut Vec::new()).is_ok()
}

#[test]
fn idle_clients_hold_nobody_up_and_see_an_orderly_end() {
    let count = Scale::asked().pick(150, 1000);
    common::net::socket::raise_file_limit();
    let up = SecureUp::start(
        "grace = 60s",
        "",
        &[("a", "http://a.test"), ("b", "https://b.test")],
    );
    let asked = |_| {
        let mut connection = client::Connection::open(up.plain).expect("it listens");
        assert_eq!(connection.get(HOST, b"/").expect("an answer").status, 302);
        connection
    };
    let plain: Vec<client::Connection> = (0..count).map(asked).collect();
    let config = tls::http1();
    let secured = |_| {
        let mut connection = Secured::open(up.secure, HOST, config.clone()).expect("a handshake");
        connection.head("/").expect("an answer");
        connection
    };
    let mut secure: Vec<Secured> = (0..count).map(secured).collect();
    let multiplexed = |_| {
        let mut raw = Raw::open(up.secure);
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &h2::get("/")));
        assert!(raw.until(HEADERS, 1).is_some());
        raw
    };
    let mut multiplexed: Vec<Raw> = (0..count).map(multiplexed).collect();
    // Some have never said anything, over TLS neither.
    let silent: Vec<TcpStream> = [up.plain, up.secure]
        .map(|address| TcpStream::connect(address).expect("it listens"))
        .into();
    let asked = Instant::now();
    eventually!(START, asked.elapsed() > Duration::from_millis(1500));
    let began = Instant::now();
    assert_eq!(up.process.terminate(START).code, Some(0));
    let took = began.elapsed();
    println!(
        "{count} idle clients each over HTTP/1, TLS and HTTP/2: {took:?} from TERM to the end"
    );
    assert!(took <= Duration::from_secs(2), "{took:?} with idle clients");
    plain
        .into_iter()
        .for_each(|connection| assert!(ends_in_order(&mut connection.into_stream())));
    silent
        .into_iter()
        .for_each(|mut stream| assert!(ends_in_order(&mut stream)));
    // A close without a goodbye would be an error here.
    secure
        .iter_mut()
        .for_each(|connection| assert!(ends_in_order(&mut connection.0)));
    multiplexed
        .iter_mut()
        .for_each(|raw| assert!(raw.until(GOAWAY, 0).is_some(), "an end without GOAWAY"));
}

#[test]
fn who_was_just_active_may_ask_once_more_and_what_is_under_way_is_finished() {
    let up = SecureUp::start(
        "grace = 20s",
        "",
        &[("a", "http://a.test"), ("b", "https://b.test")],
    );
    let mut plain = client::Connection::open(up.plain).expect("it listens");
    let mut secure = Secured::open(up.secure, HOST, tls::http1()).expect("a handshake");
    let mut half = client::Connection::open(up.plain).expect("it listens");
    half.send(b"GET /half HTTP/1.1\r\n").expect("sent");
    assert_eq!(plain.get(HOST, b"/").expect("an answer").status, 302);
    secure.head("/").expect("an answer");
    up.process.signal(Signal::TERM);
    up.process.wait_for_line("ending after TERM", START);
    let began = Instant::now();
    // Threads that serve are told a moment after the log is.
    eventually!(Duration::from_secs(1), {
        let last = plain
            .get(HOST, b"/last")
            .expect("an answer while it drains");
        assert_eq!(last.status, 302);
        last.header("connection").as_deref() == Some("close")
    });
    eventually!(Duration::from_secs(1), {
        let last = secure.head("/last").expect("an answer while it drains");
        assert!(last.starts_with("HTTP/1.1 302 "), "{last}");
        last.contains("Connection: close\r\n")
    });
    // A head that has begun is no idle connection.
    eventually!(START, began.elapsed() > Duration::from_millis(2200));
    half.send(b"Host: img.test\r\n\r\n").expect("sent");
    let answer = half.answer(false).expect("an answer");
    assert_eq!(
        (answer.status, answer.header("connection").as_deref()),
        (302, Some("close"))
    );
    drop((plain, secure, half));
    assert_eq!(up.process.wait(START).code, Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?} though everything was done",
        began.elapsed()
    );
}
