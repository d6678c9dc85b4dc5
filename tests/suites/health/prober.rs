//! healthd takes no farm down by mistake: killed, held still, cut off from everything or from a part, without root
//! certificates, beside another one. With `RBALANCER_TESTS=full` the times are as long as they may get.

use common::store::{Redis, Store};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tests::client::{self, Connection};
use tests::netns::Namespace;
use tests::origin::Origin;
use tests::process::Process;
use tests::redis::RedisServer;
use tests::traffic::load;
use tests::{START, TURN, eventually, up, world};

/// Two redirectors and a redis-server; whoever watches is started by the test.
struct Site {
    redirectors: [Process; 2],
    addresses: [SocketAddr; 2],
    redis: RedisServer,
    directory: TempDir,
}

fn is_full() -> bool {
    std::env::var("RBALANCER_TESTS").is_ok_and(|value| value == "full")
}

fn seconds(short: u64, full: u64) -> Duration {
    Duration::from_secs(if is_full() { full } else { short })
}

/// Farms for `<farm>.test` of servers with their domains.
fn conf(farms: &[(&str, Vec<(String, String)>)]) -> String {
    let names = |all: &[(String, String)]| {
        all.iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let list: Vec<&str> = farms.iter().map(|(farm, _)| *farm).collect();
    let mut text = format!("[farms]\nlist = {}\n", list.join(", "));
    for (farm, servers) in farms {
        text += &format!(
            "[{farm}]\nlist = {}\ndomain = {farm}.test\n",
            names(servers)
        );
        text.extend(
            servers
                .iter()
                .map(|(name, domain)| format!("[{name}]\ndomain = {domain}\n")),
        );
    }
    text
}

fn farm<'a>(name: &'a str, origins: &[Origin]) -> (&'a str, Vec<(String, String)>) {
    (
        name,
        origins
            .iter()
            .enumerate()
            .map(|(number, origin)| (format!("{name}{number}"), origin.url()))
            .collect(),
    )
}

fn origins(count: usize) -> Vec<Origin> {
    (0..count)
        .map(|number| Origin::start(&number.to_string()))
        .collect()
}

fn origins_on(namespace: &Namespace, numbers: std::ops::RangeInclusive<u8>) -> Vec<Origin> {
    numbers
        .map(|number| Origin::start_at(&number.to_string(), namespace.address(number)))
        .collect()
}

impl Site {
    fn start(configuration: &str) -> Self {
        let (redis, directory) = (
            RedisServer::forgetful(),
            tempfile::tempdir().expect("a temporary directory"),
        );
        let applied = world::apply(&redis, &directory, configuration.as_bytes());
        assert_eq!(applied.code, Some(0), "{}", applied.lines.join("\n"));
        let redirectors = ["one.state", "two.state"].map(|file| {
            let state = directory.path().join(file);
            let environment = [
                ("RBALANCER_ADMIN_BIND", "127.0.0.1:0"),
                ("RBALANCER_STATE_FILE", state.to_str().expect("UTF-8")),
            ];
            let arguments = ["--redis", &redis.url(), "--listen", "127.0.0.1:0"];
            Process::start(
                "rbalancer-redirector",
                directory.path(),
                &arguments,
                &environment,
            )
        });
        let addresses = redirectors
            .each_ref()
            .map(|redirector| redirector.wait_for_address(START));
        addresses.iter().for_each(|address| {
            eventually!(START, client::get(*address, "img.test", "/").status == 302);
        });
        Self {
            redirectors,
            addresses,
            redis,
            directory,
        }
    }

    fn healthd(&self, id: &str, environment: &[(&str, &str)]) -> Process {
        let environment = [&[("RBALANCER_HEALTHD_BIND", "127.0.0.1:0")], environment].concat();
        Process::start(
            "rbalancer-healthd",
            self.directory.path(),
            &["--redis", &self.redis.url(), "--id", id],
            &environment,
        )
    }

    fn healthd_in(&self, namespace: &Namespace, id: &str) -> Process {
        let port = self
            .redis
            .url()
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .expect("a port");
        let redis = format!("redis://{}", namespace.forward(port));
        namespace.start(
            "rbalancer-healthd",
            self.directory.path(),
            &["--redis", &redis, "--id", id],
            &[("RBALANCER_HEALTHD_BIND", "127.0.0.1:0")],
        )
    }

    fn reading<T>(&self, read: impl AsyncFnOnce(Store) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(read(Store::Redis(Redis::pooled(&self.redis.settings()))))
    }

    /// What was told, the oldest first, with who told it.
    fn events(&self) -> Vec<(String, String)> {
        let events =
            self.reading(async |store| store.reader().events(1000).await.expect("redis answers"));
        events
            .into_iter()
            .rev()
            .map(|event| (event.by, event.what))
            .collect()
    }

    /// How many servers anybody said to be `turned`.
    fn turned(&self, turned: &str) -> usize {
        self.events()
            .iter()
            .filter(|(_, what)| what.ends_with(&format!(" is {turned}")))
            .count()
    }

    /// The states one prober gives, and its sequence.
    fn view(&self, id: &str) -> (Vec<String>, u64) {
        let view =
            self.reading(async |store| store.prober().own_view(id).await.expect("redis answers"));
        let states = view
            .findings
            .values()
            .map(|finding| format!("{:?}/{:?}", finding.state, finding.checked));
        (states.collect(), view.sequence)
    }

    /// How many checks `id` has found in `state`.
    fn held(&self, id: &str, state: &str) -> usize {
        self.view(id)
            .0
            .iter()
            .filter(|held| held.as_str() == state)
            .count()
    }

    /// How many different servers clients of `farm.test` are sent to.
    fn in_use(&self, farm: &str) -> usize {
        let received = load(self.addresses[0], &format!("{farm}.test"), 150, 3);
        assert_eq!((received.total(), received.lost), (150, 0), "{received:?}");
        received.redirects.len()
    }

    /// For `time`, clients are sent to exactly `count` servers of `img`.
    fn stays_at(&self, count: usize, time: Duration) {
        let started = Instant::now();
        while started.elapsed() < time {
            assert_eq!(
                self.in_use("img"),
                count,
                "after {:?}: {:?}",
                started.elapsed(),
                self.events()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_killed_healthd_changes_nothing() {
    let mut origins = origins(4);
    let site = Site::start(&conf(&[farm("img", &origins)]));
    let healthd = site.healthd("h", &[]);
    eventually!(TURN, site.held("h", "Up/Ok") == 4);
    origins[0].stop();
    eventually!(TURN, site.in_use("img") == 3);
    drop(healthd);
    // Well beyond the time a view is fresh.
    site.stays_at(3, seconds(6, 60));
    let sequence = site.view("h").1;
    let _healthd = site.healthd("h", &[]);
    // Whoever takes over at once probes and tells within seconds, and turns nothing.
    eventually!(Duration::from_secs(6), site.view("h").1 > sequence);
    assert_eq!(
        (site.turned("down"), site.turned("up"), site.in_use("img")),
        (1, 0, 3),
        "{:?}",
        site.events()
    );
}

#[test]
fn a_healthd_held_still_turns_nothing_when_it_goes_on() {
    let origins = origins(4);
    let site = Site::start(&conf(&[farm("img", &origins)]));
    let healthd = site.healthd("h", &[]);
    eventually!(TURN, site.held("h", "Up/Ok") == 4);
    healthd.signal(Signal::STOP);
    site.stays_at(4, seconds(6, 60));
    let sequence = site.view("h").1;
    healthd.signal(Signal::CONT);
    healthd.wait_for_line("stood still", TURN);
    eventually!(TURN, site.view("h").1 > sequence);
    site.stays_at(4, Duration::from_secs(2));
    assert_eq!(
        site.events().iter().filter(|(by, _)| by == "h").count(),
        0,
        "{:?}",
        site.events()
    );
}

#[test]
fn a_healthd_cut_off_from_everything_takes_nothing_out() {
    let namespace = Namespace::new();
    let origins = origins_on(&namespace, 1..=6);
    let site = Site::start(&conf(&[farm("img", &origins)]));
    let healthd = site.healthd_in(&namespace, "h");
    eventually!(
        TURN,
        site.held("h", "Up/Ok") == 6,
        "{}",
        healthd.lines().join("\n")
    );
    namespace.connect(false);
    site.stays_at(6, seconds(8, 60));
    healthd.wait_for_line("prober suspect", TURN);
    namespace.connect(true);
    eventually!(
        START,
        site.events()
            .iter()
            .any(|(_, what)| what == "prober no longer suspect"),
        "{}",
        healthd.lines().join("\n")
    );
    eventually!(TURN, site.held("h", "Up/Ok") == 6);
    site.stays_at(6, Duration::from_secs(2));
    assert_eq!(
        (site.turned("down"), site.turned("suspect")),
        (0, 0),
        "{:?}",
        site.events()
    );
}

#[test]
fn servers_that_die_all_at_once_are_out_within_ten_seconds_where_redis_is_reached() {
    let namespace = Namespace::new();
    let mut origins = origins_on(&namespace, 1..=6);
    let site = Site::start(&conf(&[farm("img", &origins)]));
    let healthd = site.healthd_in(&namespace, "h");
    eventually!(
        TURN,
        site.held("h", "Up/Ok") == 6,
        "{}",
        healthd.lines().join("\n")
    );
    let died = Instant::now();
    origins.iter_mut().for_each(Origin::stop);
    let show = |format| world::command(&site.redis, &site.directory, &["show", "--format", format]);
    eventually!(
        TURN,
        show("table")
            .text()
            .contains("held: the prober suspects itself"),
        "{}",
        show("table").text()
    );
    show("json").expect(0, &["\"caution\": \"held\"", "\"health\": \"up\""]);
    eventually!(
        Duration::from_secs(10),
        site.turned("down") == 6,
        "{:?}\n{}",
        site.events(),
        healthd.lines().join("\n")
    );
    eventually!(
        TURN,
        client::get(site.addresses[0], "img.test", "/").status == 503
    );
    assert!(
        died.elapsed() < Duration::from_secs(10),
        "{:?}",
        died.elapsed()
    );
    origins.iter_mut().for_each(Origin::restart);
    eventually!(
        TURN,
        site.held("h", "Up/Ok") == 6,
        "{}",
        healthd.lines().join("\n")
    );
}

#[test]
fn a_healthd_that_never_resolved_a_name_says_so_everywhere() {
    let servers = |name: &str| vec![(name.to_owned(), format!("http://{name}.invalid"))];
    let site = Site::start(&conf(&[("img", servers("one")), ("dl", servers("two"))]));
    let healthd = site.healthd("h", &[]);
    healthd.wait_for_line("never checked", START);
    let admin = healthd.find(START, |line| {
        line.split_once("admin pages on ")
            .and_then(|(_, address)| address.trim().parse().ok())
    });
    let metrics = || client::get(admin.expect("an address"), "localhost", "/metrics").text();
    eventually!(
        TURN,
        metrics().contains("\nrbalancer_healthd_never_checked 2\n"),
        "{}",
        metrics()
    );
    let show = |format| world::command(&site.redis, &site.directory, &["show", "--format", format]);
    eventually!(
        TURN,
        show("table").text().contains("name does not resolve"),
        "{}",
        show("table").text()
    );
    show("table").expect(0, &["never checked", "0 of 1 ever checked"]);
    show("json").expect(
        0,
        &[
            "\"caution\": \"never_checked\"",
            "\"ever_checked\": 0",
            // As the pages have it: it is used, and what is to be known of it stands beside.
            "\"health\": \"up\"",
            "\"in_service\": true",
        ],
    );
    assert_eq!(client::get(site.addresses[0], "img.test", "/").status, 302);
}

#[test]
fn a_healthd_cut_off_from_four_of_six_takes_out_three_and_the_fourth_after_half_a_minute() {
    let namespace = Namespace::new();
    let origins = origins_on(&namespace, 1..=6);
    let site = Site::start(&conf(&[farm("img", &origins)]));
    let healthd = site.healthd_in(&namespace, "h");
    eventually!(
        TURN,
        site.held("h", "Up/Ok") == 6,
        "{}",
        healthd.lines().join("\n")
    );
    (1..=4).for_each(|number| namespace.blackhole(namespace.address(number)));
    eventually!(
        TURN * 2,
        site.turned("down") == 3 && site.turned("suspect") == 1,
        "{:?}",
        site.events()
    );
    let suspect_since = Instant::now();
    eventually!(TURN, site.in_use("img") == 3);
    site.stays_at(3, Duration::from_secs(20));
    assert_eq!(site.turned("down"), 3, "{:?}", site.events());
    eventually!(
        Duration::from_secs(20),
        site.turned("down") == 4,
        "{:?}",
        site.events()
    );
    assert!(
        suspect_since.elapsed() > Duration::from_secs(25),
        "{:?}",
        suspect_since.elapsed()
    );
    eventually!(TURN, site.in_use("img") == 2);
    (1..=4).for_each(|number| namespace.reach(namespace.address(number)));
    eventually!(
        TURN,
        site.in_use("img") == 6,
        "{}",
        healthd.lines().join("\n")
    );
}

#[test]
fn a_healthd_cut_off_takes_nothing_out_that_another_reaches() {
    let namespace = Namespace::new();
    let origins = origins_on(&namespace, 1..=6);
    let site = Site::start(&conf(&[farm("img", &origins)]));
    let _outside = site.healthd("outside", &[]);
    let inside = site.healthd_in(&namespace, "inside");
    eventually!(
        TURN,
        site.held("outside", "Up/Ok") == 6 && site.held("inside", "Up/Ok") == 6,
        "{}",
        inside.lines().join("\n")
    );
    (1..=4).for_each(|number| namespace.blackhole(namespace.address(number)));
    eventually!(
        TURN * 2,
        { site.in_use("img") == 6 && site.held("inside", "Down/Failing") == 3 },
        "{:?}",
        site.view("inside")
    );
    site.stays_at(6, Duration::from_secs(2));
}

#[test]
fn a_healthd_that_reaches_only_another_farm_vetoes_nothing() {
    let namespace = Namespace::new();
    let mut img = origins_on(&namespace, 1..=3);
    let dl = origins_on(&namespace, 4..=4);
    let site = Site::start(&conf(&[farm("img", &img), farm("dl", &dl)]));
    let _outside = site.healthd("outside", &[]);
    let inside = site.healthd_in(&namespace, "inside");
    eventually!(
        TURN,
        site.held("outside", "Up/Ok") == 4 && site.held("inside", "Up/Ok") == 4,
        "{}",
        inside.lines().join("\n")
    );
    // One whose finding a redirector has not read yet waits, too: what follows is to be about the one that stops.
    eventually!(TURN, site.in_use("img") == 3);
    (1..=3).for_each(|number| namespace.prohibit(namespace.address(number)));
    img[0].stop();
    eventually!(TURN, site.in_use("img") == 2, "{:?}", site.view("inside"));
    assert_eq!(
        (site.held("outside", "Down/Failing"), site.in_use("dl")),
        (1, 1),
        "{:?}, {:?}",
        site.view("outside"),
        site.events()
    );
    eventually!(
        TURN,
        site.held("inside", "Up/Lapsed") == 3 && site.held("inside", "Up/Ok") == 1,
        "{:?}",
        site.view("inside")
    );
    site.stays_at(2, Duration::from_secs(2));
}

/// A certificate for 127.0.0.1 and a server of it.
struct TlsOrigin {
    url: String,
    certificate: String,
    _process: Process,
}

impl TlsOrigin {
    fn start(directory: &TempDir, name: &str) -> Self {
        let port = tests::port::free();
        let path = |suffix| {
            directory
                .path()
                .join(format!("{name}.{suffix}"))
                .to_str()
                .expect("UTF-8")
                .to_owned()
        };
        let (key, certificate) = (path("key"), path("pem"));
        let openssl = |arguments: &[&str]| {
            let mut command = std::process::Command::new("openssl");
            command.args(arguments);
            Process::spawn("openssl", command)
        };
        let made = openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=origin",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ])
        .wait(START);
        assert_eq!(made.code, Some(0), "{}", made.lines.join("\n"));
        let listen = format!("127.0.0.1:{port}");
        let process = openssl(&[
            "s_server",
            "-accept",
            &listen,
            "-cert",
            &certificate,
            "-key",
            &key,
            "-www",
        ]);
        process.wait_for_line("ACCEPT", START);
        Self {
            url: format!("https://{listen}"),
            certificate,
            _process: process,
        }
    }
}

#[test]
fn an_emptied_certificate_store_turns_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let origins = ["a", "b"].map(|name| TlsOrigin::start(&directory, name));
    let servers = origins
        .iter()
        .enumerate()
        .map(|(number, origin)| (format!("img{number}"), origin.url.clone()))
        .collect();
    let site = Site::start(&format!(
        "[global]\ncheck_method = GET\n{}",
        conf(&[("img", servers)])
    ));
    let roots: String = origins
        .iter()
        .map(|origin| std::fs::read_to_string(&origin.certificate).expect("a certificate"))
        .collect();
    let store = up::write(directory.path(), "roots.pem", &roots);
    let healthd = site.healthd("h", &[("SSL_CERT_FILE", &store), ("SSL_CERT_DIR", "")]);
    eventually!(
        TURN,
        site.held("h", "Up/Ok") == 2,
        "{:?}\n{}",
        site.view("h"),
        healthd.lines().join("\n")
    );
    up::write(directory.path(), "roots.pem", "");
    site.stays_at(2, seconds(4, 60));
    drop(healthd);
    let healthd = site.healthd("h", &[("SSL_CERT_FILE", &store), ("SSL_CERT_DIR", "")]);
    healthd.wait_for_line("no root certificates", START);
    eventually!(
        START,
        site.held("h", "Up/Lapsed") == 2,
        "{:?}\n{}",
        site.view("h"),
        healthd.lines().join("\n")
    );
    site.stays_at(2, seconds(2, 60));
    up::write(directory.path(), "roots.pem", &roots);
    eventually!(
        TURN,
        site.held("h", "Up/Ok") == 2,
        "{:?}\n{}",
        site.view("h"),
        healthd.lines().join("\n")
    );
    assert_eq!(
        site.events().iter().filter(|(by, _)| by == "h").count(),
        0,
        "{:?}",
        site.events()
    );
}

#[test]
fn a_second_healthd_under_a_live_id_refuses_and_a_successor_does_not() {
    let origins = origins(2);
    let site = Site::start(&conf(&[farm("img", &origins)]));
    let first = site.healthd("h", &[]);
    eventually!(TURN, site.held("h", "Up/Ok") == 2);
    let second = site.healthd("h", &[]).wait(Duration::from_secs(10));
    assert_eq!(second.code, Some(1), "{}", second.lines.join("\n"));
    assert!(
        second
            .lines
            .iter()
            .any(|line| line.contains("`h`") && line.contains("--id")),
        "{}",
        second.lines.join("\n")
    );
    let sequence = site.view("h").1;
    eventually!(TURN, site.view("h").1 > sequence);
    drop(first);
    let sequence = site.view("h").1;
    let mut successor = site.healthd("h", &[]);
    eventually!(
        Duration::from_secs(5),
        site.view("h").1 > sequence,
        "{}",
        successor.lines().join("\n")
    );
    let mut other = site.healthd("h2", &[]);
    eventually!(TURN, site.held("h2", "Up/Ok") == 2);
    assert!(successor.is_running() && other.is_running());
}

/// When each redirector first, and when any last, led to each server.
struct Seen {
    first: [BTreeMap<String, Instant>; 2],
    last: BTreeMap<String, Instant>,
}

impl Seen {
    /// When all redirectors had led to `server`.
    fn everywhere(&self, server: &str) -> Option<Instant> {
        self.first
            .iter()
            .map(|first| first.get(server).copied())
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .max()
    }
}

fn watch(site: &Site, mut done: impl FnMut(&Seen) -> bool) -> Seen {
    let mut seen = Seen {
        first: Default::default(),
        last: BTreeMap::new(),
    };
    let mut connections = site
        .addresses
        .map(|address| Connection::open(address).expect("the redirector listens"));
    while !done(&seen) {
        for (connection, first) in connections.iter_mut().zip(&mut seen.first) {
            let to = connection
                .get("img.test", b"/")
                .expect("an answer")
                .location();
            let now = Instant::now();
            first.entry(to.clone()).or_insert(now);
            seen.last.insert(to, now);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    seen
}

fn fail(origin: &mut Origin, hangs: bool) {
    match hangs {
        true => origin.hang(true),
        false => origin.stop(),
    }
}

fn recover(origin: &mut Origin, hangs: bool) {
    match hangs {
        true => origin.hang(false),
        false => origin.restart(),
    }
}

/// From the death of a server to the last redirect that leads to it, and from its return to the first.
fn dies_and_returns(site: &Site, origin: &mut Origin, hangs: bool) -> (Duration, Duration) {
    let to = format!("{}/", origin.url());
    let quiet = Duration::from_millis(1500);
    let died = Instant::now();
    fail(origin, hangs);
    let limit = died + TURN;
    let is_quiet = |seen: &Seen| {
        seen.last.get(&to).copied().unwrap_or(died).elapsed() > quiet
            || Instant::now() > limit + quiet
    };
    let out = watch(site, is_quiet)
        .last
        .get(&to)
        .map_or(Duration::ZERO, |last| last.duration_since(died));
    let returned = Instant::now();
    recover(origin, hangs);
    let back = watch(site, |seen| {
        seen.everywhere(&to).is_some() || returned.elapsed() > 2 * TURN
    });
    (
        out,
        back.everywhere(&to)
            .map_or(2 * TURN, |first| first.duration_since(returned)),
    )
}

#[test]
fn a_dead_server_is_out_and_a_living_one_back_in_time() {
    // So many that none dies again soon: one that flaps is held longer.
    let mut origins = origins(10);
    let site = Site::start(&conf(&[farm("img", &origins)]));
    let _healthd = site.healthd("h", &[]);
    eventually!(TURN, site.held("h", "Up/Ok") == 10);
    let rounds = if is_full() { 20 } else { 2 };
    let mut worst = [Duration::ZERO; 3];
    for round in 0..2 * rounds {
        // Deaths fall anywhere between two probes.
        std::thread::sleep(Duration::from_millis(
            u64::from(std::process::id()) * 37 % 101 + round * 389 % 1100,
        ));
        let hangs = round % 2 == 1;
        let origin = &mut origins[usize::try_from(round % 10).expect("small")];
        let (out, back) = dies_and_returns(&site, origin, hangs);
        let slot = usize::from(hangs);
        (worst[slot], worst[2]) = (worst[slot].max(out), worst[2].max(back));
    }
    let shown = format!(
        "worst of {rounds}: refused {:?}, hung {:?}, back {:?}",
        worst[0], worst[1], worst[2]
    );
    std::io::Write::write_all(&mut std::io::stdout(), format!("{shown}\n").as_bytes())
        .expect("standard output");
    let [refused, hung, back] = worst.map(|worst| worst.as_secs_f64());
    assert!(refused <= 2.5 && hung <= 5.0 && back <= 4.0, "{shown}");
    assert_eq!(site.turned("suspect"), 0, "{:?}", site.events());
    site.redirectors.into_iter().for_each(up::ends_well);
}
