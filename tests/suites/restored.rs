//! Redis comes back with older data, or another server takes its place: health goes on from what probers know.

use std::time::{Duration, Instant};
use tests::origin::Origin;
use tests::redis::RedisServer;
use tests::up::one_farm;
use tests::world::World;
use tests::{TURN, eventually};

#[test]
fn a_server_that_is_down_stays_out_when_redis_comes_back_with_an_older_copy() {
    let [mut a, b] = ["a", "b"].map(Origin::start);
    let mut world = World::start(RedisServer::forgetful(), &one_farm("", "", &[("a", &a, 1), ("b", &b, 1)]), "img.test");
    let health = |world: &World| world.stats().server("img", "a")["health"].clone();
    eventually!(TURN, world.stats().server("img", "a")["checked"] == "ok", "{:?}", world.stats());
    world.redis.order("SAVE");
    let url = a.url();
    a.stop();
    eventually!(TURN, !world.uses("img.test", &url));
    eventually!(TURN, health(&world) == "down", "{:?}", world.stats());
    world.redis.stop();
    world.redis.start();
    let log = || world.healthd.lines().join("\n");
    eventually!(Duration::from_secs(3), log().contains("telling all"), "{}", log());
    eventually!(Duration::from_secs(3), !world.uses("img.test", &url));
    let back = Instant::now();
    while back.elapsed() < Duration::from_secs(3) {
        assert!(!world.uses("img.test", &url), "{:?} after redis came back", back.elapsed());
    }
    assert_eq!(health(&world), "down", "{:?}", world.stats());
}
