//! The store holds something odd: one key that cannot be read holds back nothing else, and what goes back is told of.

use tests::origin::Origin;
use tests::redis::RedisServer;
use tests::traffic::load;
use tests::up::one_farm;
use tests::world::World;
use tests::{TURN, eventually};

fn world(origins: &[Origin; 3]) -> World {
    let [a, b, c] = origins;
    let conf = one_farm("", "", &[("a", a, 1), ("b", b, 1), ("c", c, 1)]);
    let world = World::start(RedisServer::forgetful(), &conf, "img.test");
    eventually!(
        TURN,
        ["a", "b", "c"]
            .iter()
            .all(|name| world.stats().server("img", name)["checked"] == "ok"),
        "{:?}",
        world.stats()
    );
    world
}

fn origins() -> [Origin; 3] {
    ["a", "b", "c"].map(Origin::start)
}

/// Whether every redirector leads to `url`, or none does.
fn all_lead_to(world: &World, url: &str) -> bool {
    world
        .addresses()
        .iter()
        .all(|address| load(*address, "img.test", 100, 2).to(url) > 0)
}

#[test]
fn what_was_set_by_hand_and_cannot_be_read_holds_back_nothing() {
    let mut origins = origins();
    let world = world(&origins);
    world.redis.call(&[
        "HSET",
        "{rbalancer}:overrides",
        "img/a",
        "{\"enable\":\"later\"}",
        "nonsense",
        "x",
    ]);
    world
        .command(&["drain", "img/b"])
        .expect(0, &["2 of 2 live redirectors use it"]);
    eventually!(TURN, !world.uses("img.test", &origins[1].url()));
    assert!(all_lead_to(&world, &origins[0].url()));
    // What probes find counts as well, and the operator sees and replaces what is there.
    let dead = origins[2].url();
    origins[2].stop();
    eventually!(TURN, !world.uses("img.test", &dead));
    world.command(&["show"]).expect(0, &["img/a"]);
    world
        .command(&["drain", "img/a", "--force"])
        .expect(0, &["img/a set to drain"]);
    origins[2].restart();
    eventually!(
        TURN,
        !world.uses("img.test", &origins[0].url()) && all_lead_to(&world, &dead)
    );
    world.command(&["clear", "img/a"]).expect(0, &["cleared"]);
    eventually!(TURN, all_lead_to(&world, &origins[0].url()));
}

#[test]
fn what_is_set_by_hand_does_not_go_back_without_a_word() {
    let origins = origins();
    let world = world(&origins);
    world.command(&["drain", "img/a"]).expect(0, &["2 of 2"]);
    eventually!(TURN, !world.uses("img.test", &origins[0].url()));
    // As after a restart from an older snapshot.
    world
        .redis
        .call(&["HSET", "{rbalancer}:generation", "overrides", "1"]);
    world.redis.call(&["DEL", "{rbalancer}:overrides"]);
    let replicas = || world.stats().0["replicas"].to_string();
    eventually!(
        TURN,
        replicas()
            .matches("what is set by hand in the store is of generation 1")
            .count()
            == 2,
        "{}",
        replicas()
    );
    assert!(!world.uses("img.test", &origins[0].url()));
    // The operator's next word is the store's.
    world.command(&["drain", "img/b"]).expect(0, &[]);
    eventually!(
        TURN,
        all_lead_to(&world, &origins[0].url()) && !world.uses("img.test", &origins[1].url())
    );
    eventually!(
        TURN,
        !replicas().contains("of generation 1"),
        "{}",
        replicas()
    );
}

#[test]
fn a_generation_that_cannot_be_read_is_told_of_and_health_goes_on() {
    let mut origins = origins();
    let world = world(&origins);
    world
        .redis
        .replace_by_other_types(&["{rbalancer}:generation"]);
    let dead = origins[0].url();
    origins[0].stop();
    eventually!(TURN, !world.uses("img.test", &dead));
    for redirector in &world.redirectors {
        redirector
            .process
            .wait_for_line("run `rbalancer apply`", TURN);
    }
}
