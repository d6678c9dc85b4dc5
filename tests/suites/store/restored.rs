//! Redis comes back with older data, or another server takes its place: health goes on from what probers know.

use std::time::{Duration, Instant};
use tests::fault::Proxy;
use tests::origin::Origin;
use tests::redis::RedisServer;
use tests::traffic::load;
use tests::up::one_farm;
use tests::world::{Way, World};
use tests::{START, TURN, eventually};

#[test]
fn a_server_that_is_down_stays_out_when_redis_comes_back_with_an_older_copy() {
    let [mut a, b] = ["a", "b"].map(Origin::start);
    let mut world = World::start(
        RedisServer::forgetful(),
        &one_farm("", "", &[("a", &a, 1), ("b", &b, 1)]),
        "img.test",
    );
    let health = |world: &World| world.stats().server("img", "a")["health"].clone();
    eventually!(
        TURN,
        world.stats().server("img", "a")["checked"] == "ok",
        "{:?}",
        world.stats()
    );
    world.redis.order("SAVE");
    let url = a.url();
    a.stop();
    eventually!(TURN, !world.uses("img.test", &url));
    eventually!(TURN, health(&world) == "down", "{:?}", world.stats());
    world.redis.stop();
    world.redis.start();
    let log = || world.healthd.lines().join("\n");
    eventually!(
        Duration::from_secs(3),
        log().contains("telling all"),
        "{}",
        log()
    );
    eventually!(Duration::from_secs(3), !world.uses("img.test", &url));
    let back = Instant::now();
    while back.elapsed() < Duration::from_secs(3) {
        assert!(
            !world.uses("img.test", &url),
            "{:?} after redis came back",
            back.elapsed()
        );
    }
    assert_eq!(health(&world), "down", "{:?}", world.stats());
}

#[test]
fn a_primary_that_is_one_no_more_is_left_on_connections_that_stay_open() {
    let [mut a, b] = ["a", "b"].map(Origin::start);
    let [old, new] = [(); 2].map(|()| RedisServer::forgetful());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let conf = one_farm("", "", &[("a", &a, 1), ("b", &b, 1)]);
    assert_eq!(
        Way::to(&old).apply(directory.path(), conf.as_bytes()).code,
        Some(0)
    );
    new.call(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]);
    new.wait_for_info("replication", "master_link_status:up", START);
    let proxy = Proxy::to(old.address());
    let way = Way {
        url: format!("redis://{}", proxy.address()),
        password_file: None,
    };
    let redirector = way.redirector(directory.path(), "redirector");
    let healthd = way.start(
        "rbalancer-healthd",
        directory.path(),
        &["--id", "watcher"],
        "healthd",
    );
    let uses = |url: &str| load(redirector.address, "img.test", 100, 2).to(url) > 0;
    eventually!(START, uses(&a.url()) && uses(&b.url()));
    new.call(&["REPLICAOF", "NO", "ONE"]);
    old.follow_nobody();
    proxy.lead_new_to(new.address());
    let url = a.url();
    a.stop();
    eventually!(
        TURN,
        !uses(&url),
        "{}\n--\n{}",
        healthd.lines().join("\n"),
        redirector.process.lines().join("\n")
    );
}
