//! `rbalancer doctor` at the bed of healthy and of sick systems.
#![allow(clippy::panic, reason = "a test that cannot go on says why and fails")]

use rustix::process::Signal;
use tempfile::TempDir;
use tests::origin::Origin;
use tests::process::{Ended, Process};
use tests::redis::RedisServer;
use tests::up::one_farm;
use tests::world::{World, apply, command};
use tests::{START, eventually};

fn files() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn doctor(redis: &RedisServer) -> Ended {
    command(redis, &files(), &["doctor"])
}

/// The one line with `word` in it.
fn line(ended: &Ended, word: &str) -> String {
    let found = ended.lines.iter().find(|line| line.contains(word));
    found
        .unwrap_or_else(|| panic!("no `{word}` in:\n{}", ended.text()))
        .clone()
}

#[test]
fn a_healthy_cluster_is_well_until_its_prober_stops() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let conf = one_farm("", "", &[("a", &a, 1), ("b", &b, 1)]);
    let world = World::start(RedisServer::persistent(), &conf, "img.test");
    let well = || world.command(&["doctor"]);
    // Just started, a server may not have been checked yet.
    eventually!(START, well().text().contains("2 servers probed"));
    let ended = well();
    ended.expect(
        0,
        &[
            "answers in",
            "Redis ",
            "2 of 2 redirectors are at work",
            "checksum right",
            "kept on disk",
            "may write",
        ],
    );
    assert!(!ended.text().contains("wrong"), "{}", ended.text());
    assert!(
        line(&ended, "no user rbalancer-redirector").starts_with("risk"),
        "{}",
        ended.text()
    );
    world.healthd.signal(Signal::STOP);
    let ended = well();
    world.healthd.signal(Signal::CONT);
    ended.expect(1, &["start rbalancer-healthd", "1 of "]);
    assert!(line(&ended, "no healthd is at work").starts_with("wrong"));
}

#[test]
fn a_redis_that_loses_keys_is_told_of() {
    let redis = RedisServer::forgetful();
    let ended = doctor(&redis);
    ended.expect(
        1,
        &[
            "nothing is kept on disk",
            "appendonly yes",
            "no table is in force",
            "rbalancer apply",
        ],
    );
    assert!(line(&ended, "nothing is kept on disk").starts_with("risk"));
    apply(&redis, &files(), b"[farms]\nlist = a\n[a]\ndomain = a.test\nlist = s\n[s]\ndomain = http://s.test\ncheck = off\n")
        .expect(0, &[]);
    doctor(&redis).expect(0, &["no redirector has announced itself"]);
    redis.order("CONFIG SET maxmemory 100mb");
    redis.order("CONFIG SET maxmemory-policy allkeys-lru");
    let ended = doctor(&redis);
    ended.expect(1, &["noeviction"]);
    assert!(
        line(&ended, "allkeys-lru").starts_with("wrong"),
        "{}",
        ended.text()
    );
    redis.order("CONFIG SET maxmemory-policy noeviction");
    redis.order("CONFIG SET min-replicas-to-write 1");
    doctor(&redis).expect(1, &["min-replicas-to-write is 1", "cannot write what"]);
}

#[test]
fn a_replica_and_a_dead_redis_are_named() {
    let (mut primary, copy) = (RedisServer::persistent(), RedisServer::persistent());
    copy.order(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
    eventually!(
        START,
        doctor(&primary)
            .text()
            .contains("1 Redis replicas, none of them behind"),
        "{}",
        doctor(&primary).text()
    );
    let ended = doctor(&copy);
    ended.expect(1, &["point --redis at the primary"]);
    assert!(line(&ended, "this is a replica of 127.0.0.1").starts_with("wrong"));
    primary.stop();
    doctor(&primary).expect(1, &["cannot reach redis", "start it"]);
}

#[test]
fn rights_are_looked_at() {
    let redis = RedisServer::persistent();
    redis.order("ACL SETUSER rbalancer-statsd on >s ~* +@all");
    redis.order("ACL SETUSER rbalancer-healthd on >s ~* +@read");
    let ended = doctor(&redis);
    assert!(line(&ended, "the user default needs no password").starts_with("risk"));
    ended.expect(
        1,
        &[
            "no user rbalancer-redirector",
            "kept to their own keys: rbalancer-healthd",
        ],
    );
    let line_of = line(&ended, "user rbalancer-statsd may do what is not its own");
    assert!(
        line_of.starts_with("wrong") && line_of.contains("HSET {rbalancer}:generation"),
        "{line_of}"
    );
    // A user who may only read is told what it cannot see, and what it cannot do.
    redis.order("ACL SETUSER guest on >g ~* +@read +time");
    let (files, url) = (
        files(),
        format!("redis://guest:g@127.0.0.1:{}", redis.port()),
    );
    let ended = Process::start(
        "rbalancer",
        files.path(),
        &["doctor"],
        &[("RBALANCER_REDIS_URL", &url)],
    )
    .wait(START);
    ended.expect(
        1,
        &[
            "cannot write what `rbalancer apply` writes",
            "connect as a user with the operator's rights",
        ],
    );
    assert_eq!(
        ended
            .lines
            .iter()
            .filter(|line| line.starts_with("unknown") && line.contains("not allowed to ask"))
            .count(),
        3
    );
}
