//! Redis away, hung or emptied: redirectors answer on, and every count made meanwhile is in the totals afterwards.

use rustix::process::Signal;
use tests::origin::Origin;
use tests::process::Process;
use tests::redis::RedisServer;
use tests::traffic::{Received, Traffic, load};
use tests::up::{one_farm, write};
use tests::world::World;
use tests::{START, TURN, eventually};

/// Asks on and on while `trouble` comes and goes; the report must then hold everything that was received.
fn counts_survive(redis: RedisServer, trouble: impl FnOnce(&mut World, &Traffic, &str)) {
    let [a, b] = ["a", "b"].map(Origin::start);
    let conf = one_farm("", "", &[("a", &a, 2), ("b", &b, 1)]);
    let mut world = World::start(redis, &conf, "img.test");
    let before = world.counted_so_far();
    let traffic = Traffic::start(&world.addresses(), &["img.test"]);
    traffic.go_on_for(500);
    trouble(&mut world, &traffic, &conf);
    traffic.go_on_for(500);
    let received: Received = traffic.stop();
    assert_eq!(
        (received.lost, received.others.len()),
        (0, 0),
        "not every request was redirected: {received:?}"
    );
    world.settles_at(before + received.total());
    let by_server: u64 = ["a", "b"]
        .iter()
        .filter_map(|name| world.stats().server("img", name)["redirects"].as_u64())
        .sum();
    assert_eq!(by_server, before + received.total());
    assert!(
        world
            .redirectors
            .iter_mut()
            .all(|redirector| redirector.process.is_running())
    );
}

#[test]
fn a_redis_that_hangs_holds_nobody_up() {
    counts_survive(RedisServer::forgetful(), |world, traffic, _| {
        world.redis.pause();
        traffic.go_on_for(6000);
        world.redis.resume();
    });
}

#[test]
fn a_redis_that_comes_back_with_its_data_gets_the_counts_made_meanwhile() {
    counts_survive(RedisServer::persistent(), |world, traffic, _| {
        world.redis.stop();
        traffic.go_on_for(6000);
        world.redis.start();
    });
}

#[test]
fn a_redis_that_comes_back_empty_gets_every_count_again() {
    counts_survive(RedisServer::forgetful(), |world, traffic, conf| {
        world.redis.stop();
        traffic.go_on_for(3000);
        world.redis.start();
        traffic.go_on_for(3000);
        // The table is gone with the rest; redirectors keep theirs until the operator applies it again.
        world.apply(conf);
    });
}

#[test]
fn a_redis_emptied_while_it_runs_gets_every_count_again() {
    counts_survive(RedisServer::forgetful(), |world, traffic, conf| {
        assert!(world.redis.flush() > 0);
        traffic.go_on_for(3000);
        world.apply(conf);
    });
}

#[test]
fn a_server_is_taken_out_by_a_file_while_redis_is_away() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let world = World::start(
        RedisServer::forgetful(),
        &one_farm("", "", &[("a", &a, 1), ("b", &b, 1)]),
        "img.test",
    );
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = write(directory.path(), "by-hand", "img/b on\nimg/bb off\n");
    let environment = [
        ("RBALANCER_ADMIN_BIND", "127.0.0.1:0"),
        ("RBALANCER_OVERRIDE_FILE", file.as_str()),
    ];
    let arguments = ["--redis", &world.redis.url(), "--listen", "127.0.0.1:0"];
    let here = Process::start(
        "rbalancer-redirector",
        directory.path(),
        &arguments,
        &environment,
    );
    let address = here.wait_for_address(START);
    let uses = |origin: &Origin| load(address, "img.test", 100, 2).to(&origin.url()) > 0;
    eventually!(START, uses(&a) && uses(&b));
    here.wait_for_line("not in the table, and so without effect: img/bb", START);
    world.redis.pause();
    write(
        directory.path(),
        "by-hand",
        "img/a off  # its disk is broken\n",
    );
    here.signal(Signal::HUP);
    eventually!(TURN, !uses(&a));
    // A bad file changes nothing, and says what is wrong with it.
    write(directory.path(), "by-hand", "img/a of\nimg\n");
    here.signal(Signal::HUP);
    here.wait_for_line("keeping what was set", START);
    here.wait_for_line("by-hand:1", START);
    assert!(!uses(&a) && uses(&b));
    world.redis.resume();
    let replicas = || world.stats().0["replicas"].to_string();
    eventually!(TURN, replicas().contains("img/a off"), "{}", replicas());
    // The store's word does not bring it back; the file's end does.
    world.command(&["enable", "img/a"]).expect(0, &[]);
    assert!(!uses(&a));
    std::fs::remove_file(&file).expect("the file is there");
    here.signal(Signal::HUP);
    eventually!(TURN, uses(&a));
    // At a start a bad file is a bad configuration.
    write(directory.path(), "by-hand", "img/a of\n");
    let refused = Process::start(
        "rbalancer-redirector",
        directory.path(),
        &arguments,
        &environment,
    )
    .wait(START);
    refused.expect(78, &["by-hand:1", "off, drain, on"]);
}
