//! Redis away, hung or emptied: redirectors answer on, and every count made meanwhile is in the totals afterwards.

use tests::origin::Origin;
use tests::redis::RedisServer;
use tests::traffic::{Received, Traffic};
use tests::up::one_farm;
use tests::world::World;

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
    assert_eq!((received.lost, received.others.len()), (0, 0), "not every request was redirected: {received:?}");
    world.settles_at(before + received.total());
    let by_server: u64 = ["a", "b"].iter().filter_map(|name| world.stats().server("img", name)["redirects"].as_u64()).sum();
    assert_eq!(by_server, before + received.total());
    assert!(world.redirectors.iter_mut().all(|redirector| redirector.process.is_running()));
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
