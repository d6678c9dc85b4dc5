//! Tests of [`super`].

use super::*;

fn shown(url: &str) -> String {
    url.parse::<RedisAddress>().expect(url).to_string()
}

#[test]
fn every_way_to_a_redis_has_its_url() {
    assert_eq!(shown("redis://u:p@127.0.0.1:7/3"), "127.0.0.1:7");
    assert_eq!(shown("rediss://redis.example"), "redis.example:6379");
    assert_eq!(shown("redis+unix:///run/redis.sock"), "/run/redis.sock");
    assert_eq!(
        shown("redis+sentinel://u:p@a,b:1,[::1]:2/main/4"),
        "main of Sentinels a:26379,b:1,[::1]:2"
    );
    assert_eq!(
        shown("rediss+cluster://a,b:7001"),
        "the Cluster of a:6379,b:7001"
    );
    let sentinel = "redis+sentinel://u:p%40ss@a/main/4"
        .parse::<RedisAddress>()
        .expect("valid");
    let redis = sentinel.info.redis_settings();
    assert_eq!(
        (redis.username(), redis.password(), redis.db()),
        (Some("u"), Some("p@ss"), 4)
    );
    assert!(sentinel.has_password() && !sentinel.is_tls());
    assert!(
        "rediss+sentinel://a/main"
            .parse::<RedisAddress>()
            .expect("valid")
            .is_tls()
    );
}

#[test]
fn every_part_of_a_url_is_honoured_or_refused() {
    let database = |url: &str| {
        url.parse::<RedisAddress>()
            .expect(url)
            .info
            .redis_settings()
            .db()
    };
    for url in [
        "redis://h?db=4",
        "redis://h/4?db=4",
        "redis://h/4",
        "redis+unix:///run/r.sock?db=4",
        "redis+sentinel://a/main?db=4",
        "rediss://h/?db=4",
    ] {
        assert_eq!(database(url), 4, "{url}");
    }
    assert_eq!(database("redis+cluster://a?db=0"), 0);
    for bad in [
        "redis://h/4?db=3",
        "redis://h/0?db=4",
        "redis+sentinel://a/main/0?db=4",
        "redis://h?db=3&db=4",
        "redis+unix:///run/r.sock?db=3&db=4",
        "redis://h?db=x",
        "redis://h?db=-1",
        "redis://h?timeout=5",
        "redis://h?protocol=resp3",
        "rediss://h/#insecure",
        "redis://h#x",
        "redis+cluster://a?db=1",
        "redis+sentinel://a/main?master=x",
        "redis+unix:///run/r.sock?name=x",
        "redis://h/1/2",
        "redis+sentinel://a/main/1/2",
    ] {
        assert!(bad.parse::<RedisAddress>().is_err(), "{bad} was accepted");
    }
}

#[test]
fn a_bad_url_is_named_without_its_password() {
    for bad in [
        "http://user:secret@host:1",
        "redis+sentinel://user:secret@host:1",
        "redis+cluster://user:secret@host:1/2",
    ] {
        let words = bad.parse::<RedisAddress>().expect_err(bad).to_string();
        assert!(
            words.contains("host:1") && !words.contains("secret"),
            "{words}"
        );
    }
    for bad in [
        "redis://host?password=secret",
        "redis://:se?cret@host:1",
        "redis://:x?secret@host:1",
        "redis://:x#secret@host:1",
        "redis://:x/secret@host:1",
        "redis+sentinel://:x/secret@host:1/main",
        "redis+cluster://:x/secret@host:1",
        "redis+cluster://:secret:secret@host:1/9",
        "redis+unix:///run/r.sock?pass=x&secret",
        "redis+unix:///run/r.sock?pass=secret&db=x",
        "redis+unix:///run/r.sock?pass=a@secret&name=x",
        "redis://:x@secret@host:1/x",
        "redis://h#secret",
        "secret@host",
        "http://host?x=secret@host",
    ] {
        let words = bad.parse::<RedisAddress>().expect_err(bad).to_string();
        assert!(!words.contains("secret"), "{bad}: {words}");
    }
    for bad in [
        "127.0.0.1:6379",
        "redis+cluster://a:x",
        "redis+sentinel:///main",
        "redis+magic://a",
    ] {
        assert!(bad.parse::<RedisAddress>().is_err(), "{bad} was accepted");
    }
}
