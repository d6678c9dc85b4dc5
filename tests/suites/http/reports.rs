//! A cluster on a real redis-server: exact counts, dead origins, changed tables, all on two redirectors at once.

use std::time::Duration;
use tests::origin::Origin;
use tests::process::Process;
use tests::redis::RedisServer;
use tests::traffic::Traffic;
use tests::up::{ends_well, one_farm};
use tests::world::World;
use tests::{FLUSH, START, TURN, client, eventually, metrics};

/// How soon a change published must be in force everywhere.
const CHANGE: Duration = Duration::from_secs(2);

fn origins() -> [Origin; 3] {
    ["a", "b", "c"].map(Origin::start)
}

#[test]
fn the_report_counts_exactly_what_clients_received() {
    let [a, b, c] = origins();
    let conf = one_farm("", "", &[("a", &a, 2), ("b", &b, 1), ("c", &c, 1)]);
    let mut world = World::start(RedisServer::forgetful(), &conf, "img.test");
    let before = world.counted_so_far();
    let received = world.ask("img.test", 6000);
    assert_eq!((received.total(), received.lost), (6000, 0), "{received:?}");
    world.settles_at(before + 6000);
    // Refusals are counted, but not as redirects.
    assert_eq!(world.ask("unknown.test", 100).others[&403], 100);
    world.settles_at(before + 6000);
    // And of which host they were is told by all of them together.
    let most = || {
        let page = client::get(world.statsd.address, "localhost", "/stats.json");
        serde_json::from_slice::<serde_json::Value>(&page.body).expect("JSON")["refused_hosts"][0]
            .clone()
    };
    eventually!(
        FLUSH,
        most()
            == serde_json::json!({"host": "unknown.test", "reason": "unknown-host", "count": 100}),
        "{}",
        most()
    );
    // What a redirector counted last is written when it leaves, and stays.
    let last = tests::traffic::load(world.redirectors[0].address, "img.test", 500, 2);
    ends_well(world.redirectors.remove(0).process);
    world.settles_at(before + 6000 + last.total());
    ends_well(world.redirectors.remove(0).process);
    ends_well(world.healthd);
    ends_well(world.statsd.process);
}

#[test]
fn every_program_tells_its_metrics_in_the_form_that_is_asked_for() {
    let [a, b, c] = origins();
    let world = World::start(
        RedisServer::forgetful(),
        &one_farm("", "", &[("a", &a, 1), ("b", &b, 1), ("c", &c, 1)]),
        "img.test",
    );
    world.ask("img.test", 10);
    let admin = |process: &Process| -> std::net::SocketAddr {
        let line = process.wait_for_line("admin pages on ", START);
        line.rsplit(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .expect("an address at the end of the line")
    };
    for address in [
        admin(&world.redirectors[0].process),
        admin(&world.healthd),
        world.statsd.address,
    ] {
        metrics::come_in_both_forms(address);
    }
}

#[test]
fn a_killed_origin_is_out_on_both_and_back_on_both() {
    let [mut a, b, c] = origins();
    let conf = one_farm("", "", &[("a", &a, 1), ("b", &b, 1), ("c", &c, 1)]);
    let world = World::start(RedisServer::forgetful(), &conf, "img.test");
    let url = a.url();
    let all_use_it = || {
        world
            .addresses()
            .iter()
            .all(|address| tests::traffic::load(*address, "img.test", 100, 2).to(&url) > 0)
    };
    eventually!(TURN, all_use_it());
    a.stop();
    eventually!(TURN, !world.uses("img.test", &url));
    eventually!(
        TURN,
        world.stats().server("img", "a")["reason"] == "connection refused",
        "{:?}",
        world.stats()
    );
    a.restart();
    eventually!(TURN, all_use_it());
}

#[test]
fn a_changed_weight_moves_both_within_two_seconds() {
    let [a, b, c] = origins();
    let with = |weight: u16| one_farm("", "", &[("a", &a, weight), ("b", &b, 1), ("c", &c, 1)]);
    let world = World::start(RedisServer::forgetful(), &with(1), "img.test");
    assert!(world.uses("img.test", &a.url()));
    world.apply(&with(0));
    eventually!(CHANGE, !world.uses("img.test", &a.url()));
    world.apply(&with(65535));
    eventually!(CHANGE, world.ask("img.test", 200).to(&a.url()) >= 198);
}

/// The `n`th configuration: weights, servers and a second farm come, go and come back.
fn variant(n: u16, [a, b, c]: &[Origin; 3]) -> String {
    let mut servers = vec![("a", a, 1 + n % 4), ("b", b, 1 + n % 3)];
    if n % 2 == 1 {
        servers.push(("c", c, 5));
    }
    let conf = one_farm(
        "",
        if n.is_multiple_of(3) {
            "balance = roundrobin"
        } else {
            ""
        },
        &servers,
    );
    if n.is_multiple_of(3) {
        return conf.replace("list = img", "list = img, stc")
            + &format!(
                "[stc]\nlist = s, t\ndomain = stc.test\n[s]\ndomain = {}\nweight = {}\n[t]\ndomain = {}\n",
                c.url(),
                1 + n,
                b.url()
            );
    }
    conf
}

#[test]
fn ten_changes_under_load_lose_no_count() {
    let origins = origins();
    let world = World::start(RedisServer::forgetful(), &variant(0, &origins), "img.test");
    eventually!(CHANGE, world.ask("stc.test", 2).total() == 2);
    let before = world.counted_so_far();
    let (before_img, before_stc) = (world.stats().of_farm("img"), world.stats().of_farm("stc"));
    let traffic = Traffic::start(&world.addresses(), &["img.test", "stc.test"]);
    for n in 1..=9 {
        traffic.go_on_for(300);
        world.apply(&variant(n, &origins));
    }
    traffic.go_on_for(300);
    // The tenth is the first again: both farms are there when the report is read.
    world.apply(&variant(0, &origins));
    eventually!(
        CHANGE,
        world
            .addresses()
            .iter()
            .all(|address| client::get(*address, "nobody.test", "/").status == 403)
    );
    traffic.go_on_for(300);
    let received = traffic.stop();
    assert_eq!(received.lost, 0, "{received:?}");
    // A farm that was taken away is unknown for as long; nothing else goes wrong.
    assert!(
        received.others.keys().all(|status| *status == 403),
        "{received:?}"
    );
    world.settles_at(before + received.total());
    let stats = world.stats();
    assert_eq!(
        stats.of_farm("img"),
        before_img + received.of_host("img.test"),
        "{stats:?}"
    );
    assert_eq!(
        stats.of_farm("stc"),
        before_stc + received.of_host("stc.test"),
        "{stats:?}"
    );
}
