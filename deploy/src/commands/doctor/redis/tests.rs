//! Tests of [`super`].

use super::*;
use crate::commands::doctor::finding::Level;

const GOOD: &str = "redis_version:7.0.15\r\naof_enabled:1\r\nrdb_last_bgsave_status:ok\r\naof_last_write_status:ok\r\nused_memory:900000\r\n\
    maxmemory:0\r\nmaxmemory_policy:noeviction\r\nconnected_clients:4\r\nmaxclients:10000\r\nrole:master\r\nconnected_slaves:1\r\n\
    slave0:ip=10.0.0.2,port=6379,state=online,offset=5000000,lag=0\r\nmaster_repl_offset:5000100\r\n";

/// What of [`GOOD`] is replaced, by what, the settings, words of the line and its level.
type Illness = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    Level,
);

/// The level of the line with `word` in it, after one line of INFO was replaced.
fn level(from: &str, to: &str, settings: &[(&'static str, &str)], word: &str) -> Level {
    assert!(from.is_empty() || GOOD.contains(from), "{from}");
    let settings = settings
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    let lines = judge(&Info::parse(&GOOD.replace(from, to), settings));
    let line = lines.iter().find(|line| line.what.contains(word));
    line.unwrap_or_else(|| unreachable!("no line with {word}: {lines:?}"))
        .level
}

#[test]
fn a_healthy_server_is_well() {
    let lines = judge(&Info::parse(GOOD, BTreeMap::new()));
    assert!(
        lines.iter().all(|line| line.level == Level::Ok),
        "{lines:?}"
    );
}

#[test]
fn each_illness_has_its_words() {
    let cases: &[Illness] = &[
        ("7.0.15", "6.0.16", &[], "too old", Level::Wrong),
        ("7.0.15", "6.2.1", &[], "is old", Level::Risk),
        (
            "redis_version:7.0.15",
            "server_name:valkey\r\nvalkey_version:8.1.0",
            &[],
            "Valkey 8.1.0",
            Level::Ok,
        ),
        (
            "aof_enabled:1",
            "aof_enabled:0",
            &[("save", "")],
            "nothing is kept",
            Level::Risk,
        ),
        (
            "aof_enabled:1",
            "aof_enabled:0",
            &[("save", "3600 1")],
            "snapshots only",
            Level::Risk,
        ),
        (
            "aof_enabled:1",
            "aof_enabled:0",
            &[],
            "not allowed to ask",
            Level::Unknown,
        ),
        (
            "bgsave_status:ok",
            "bgsave_status:err",
            &[("save", "3600 1")],
            "MISCONF",
            Level::Wrong,
        ),
        (
            "bgsave_status:ok",
            "bgsave_status:err",
            &[("save", "")],
            "snapshot failed",
            Level::Risk,
        ),
        (
            "aof_last_write_status:ok",
            "aof_last_write_status:err",
            &[],
            "append-only",
            Level::Wrong,
        ),
        (
            "maxmemory:0\r\nmaxmemory_policy:noeviction",
            "maxmemory:1000000\r\nmaxmemory_policy:allkeys-lru",
            &[],
            "allkeys-lru",
            Level::Wrong,
        ),
        ("noeviction", "allkeys-lru", &[], "as soon as", Level::Risk),
        (
            "maxmemory:0\r\nmaxmemory_policy:noeviction",
            "maxmemory:1000000\r\nmaxmemory_policy:volatile-ttl",
            &[],
            "volatile-ttl",
            Level::Risk,
        ),
        (
            "maxmemory:0",
            "maxmemory:950000",
            &[],
            "of memory are used",
            Level::Risk,
        ),
        (
            "connected_clients:4",
            "connected_clients:9500",
            &[],
            "9500 of 10000",
            Level::Risk,
        ),
        (
            "role:master",
            "role:slave\r\nmaster_host:10.0.0.9\r\nmaster_port:6379",
            &[],
            "replica of 10.0.0.9:6379",
            Level::Wrong,
        ),
        ("lag=0", "lag=60", &[], "silent for 60s", Level::Risk),
        (
            "offset=5000000",
            "offset=1000000",
            &[],
            "4000100 bytes behind",
            Level::Risk,
        ),
        (
            "state=online",
            "state=wait_bgsave",
            &[],
            "not in step",
            Level::Risk,
        ),
        (
            "",
            "",
            &[("min-replicas-to-write", "2")],
            "min-replicas-to-write is 2",
            Level::Wrong,
        ),
    ];
    for (from, to, settings, word, expected) in cases {
        assert_eq!(level(from, to, settings, word), *expected, "{from} → {to}");
    }
}

#[test]
fn slowness_is_a_risk() {
    let at = "redis://127.0.0.1:6379".parse().expect("a URL");
    assert_eq!(latency(&at, Duration::from_millis(1)).level, Level::Ok);
    assert_eq!(latency(&at, Duration::from_millis(50)).level, Level::Risk);
}
