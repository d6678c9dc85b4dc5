//! The store's contract, the same suite on both stores: in this process and on a real redis-server.

use common::model::check::CheckKey;
use common::model::farm::{Farms, Intent, ServerId, Weight};
use common::model::followed_totals::FollowedTotals;
use common::model::generation;
use common::model::health::{Checked, Finding, State, Views};
use common::model::overrides::{Force, Override};
use common::model::tally::CountKey;
use common::store::{
    Announcement, Answer, Event, ExpectedGenerations, HealthReport, Memory, Publication, Published,
    Redis, RefusedHost, Reported, Store, StoreError,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tests::redis::RedisServer;

/// Runs each contract on every kind of store.
macro_rules! contracts {
    ($($contract:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $contract() {
                super::$contract(super::Store::Memory(super::Memory::default())).await;
            })*
        }
        mod redis_dedicated {
            $(#[tokio::test]
            async fn $contract() {
                let server = super::RedisServer::forgetful();
                super::$contract(super::Store::Redis(super::Redis::dedicated(&server.settings()))).await;
            })*
        }
        mod redis_pooled {
            $(#[tokio::test]
            async fn $contract() {
                let server = super::RedisServer::forgetful();
                super::$contract(super::Store::Redis(super::Redis::pooled(&server.settings()))).await;
            })*
        }
    };
}

contracts! {
    an_empty_store_holds_nothing
    a_publication_compares_and_sets
    of_racing_publications_one_wins
    a_publication_replaced_meanwhile_is_no_lost_race
    the_last_tables_are_listed_and_read
    what_was_set_by_hand_is_dropped_with_the_publication_that_says_so
    a_table_of_any_size_reads_back_whole
    overrides_are_set_counted_and_cleared
    an_override_keeps_what_was_set_before
    an_override_is_set_where_what_it_was_judged_by_is_in_force
    an_override_before_the_first_table_is_counted_too
    health_is_told_once_and_whole_to_newcomers
    a_prober_finds_its_own_view_again
    an_idle_report_is_read_and_shows_nobody_at_work
    totals_are_absolute_and_sum_up
    thousands_of_totals_are_flushed_and_read
    who_follows_the_totals_comes_to_hold_them_all
    a_finding_that_is_only_newer_is_read_by_its_check
    a_redirector_is_seen_as_it_last_spoke
    events_come_newest_first
}

fn farms(servers: usize) -> Farms {
    let server = |n: usize| json!({"name": format!("srv{n}"), "target": format!("http://img{n}.test"), "weight": 1, "enable": "on"});
    let servers: Vec<_> = (0..servers).map(server).collect();
    serde_json::from_value(json!([{"name": "img", "domains": ["img.test"], "servers": servers}]))
        .expect("valid farms")
}

fn publication(expected: u64, nonce: &str, farms: Farms) -> Publication {
    let cluster = "rbalancer".parse().expect("valid");
    let by = format!("{nonce}@host");
    Publication {
        expected,
        cluster,
        farms,
        by,
        why: "because".into(),
        nonce: nonce.into(),
        forced: false,
        reset: false,
    }
}

async fn publish(store: &Store, expected: u64, nonce: &str) -> Published {
    store
        .operator()
        .publish(&publication(expected, nonce, farms(2)))
        .await
        .expect("the store answers")
}

fn now(published: &Published) -> u64 {
    match published {
        Published::Now(generation) => *generation,
        Published::Replaced { .. } | Published::Lost { .. } => unreachable!("{published:?}"),
    }
}

fn id(text: &str) -> ServerId {
    text.parse().expect("a server's identity")
}

fn key(text: &str) -> CountKey {
    text.parse().expect("something counted")
}

fn check(name: &str) -> CheckKey {
    CheckKey(name.into())
}

fn event(what: &str) -> Event {
    Event {
        at: 7,
        by: "me".into(),
        what: what.into(),
        why: "why: \"é\"".into(),
    }
}

fn finding(state: State, why: &str) -> Finding {
    Finding {
        state,
        checked: Checked::Ok,
        since: 5,
        why: why.into(),
        last_check: 6,
    }
}

async fn an_empty_store_holds_nothing(store: Store) {
    let reader = store.reader();
    assert_eq!(reader.stamp().await, Ok(None));
    assert!(reader.overrides().await.expect("an answer").is_empty());
    assert_eq!(
        reader.health(&BTreeMap::new()).await.expect("an answer"),
        Default::default()
    );
    assert!(reader.replicas().await.expect("an answer").is_empty());
    assert!(reader.totals().await.expect("an answer").sum().is_empty());
    assert!(reader.events(10).await.expect("an answer").is_empty());
    assert_eq!(
        store.prober().own_view("p").await.expect("an answer"),
        Default::default()
    );
}

async fn a_publication_compares_and_sets(store: Store) {
    let first = now(&publish(&store, 0, "one").await);
    assert_eq!(
        publish(&store, 0, "late").await,
        Published::Lost {
            generation: first,
            by: "one@host".into()
        }
    );
    assert_eq!(
        publish(&store, first + 1, "wrong").await,
        Published::Lost {
            generation: first,
            by: "one@host".into()
        }
    );
    // A reply that was lost: the same publication again is told that it is in force.
    assert_eq!(publish(&store, 0, "one").await, Published::Now(first));
    let second = now(&publish(&store, first, "two").await);
    assert!(second > first, "{second} after {first}");
    let stamp = store
        .reader()
        .stamp()
        .await
        .expect("an answer")
        .expect("a table");
    assert_eq!(
        (
            stamp.table,
            stamp.nonce.as_str(),
            stamp.by.as_str(),
            stamp.why.as_str()
        ),
        (second, "two", "two@host", "because")
    );
    assert_eq!(stamp.cluster.as_str(), "rbalancer");
}

async fn of_racing_publications_one_wins(store: Store) {
    let base = now(&publish(&store, 0, "base").await);
    let racer = |n: usize| {
        let store = store.clone();
        tokio::spawn(async move { publish(&store, base, &format!("racer{n}")).await })
    };
    let racers: Vec<_> = (0..8).map(racer).collect();
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for racer in racers {
        match racer.await.expect("no panic") {
            Published::Now(generation) => won.push(generation),
            Published::Replaced { generation, .. } | Published::Lost { generation, .. } => {
                lost.push(generation);
            }
        }
    }
    assert_eq!((won.len(), lost.len()), (1, 7));
    assert!(
        lost.iter().all(|generation| *generation == won[0]),
        "{won:?} {lost:?}"
    );
}

async fn a_publication_replaced_meanwhile_is_no_lost_race(store: Store) {
    let mine = now(&publish(&store, 0, "mine").await);
    let theirs = now(&publish(&store, mine, "theirs").await);
    // The reply to `mine` was lost, and it is asked for again after `theirs`.
    let replaced = Published::Replaced {
        mine,
        generation: theirs,
        by: "theirs@host".into(),
    };
    assert_eq!(publish(&store, 0, "mine").await, replaced);
    assert_eq!(
        publish(&store, mine, "other").await,
        Published::Lost {
            generation: theirs,
            by: "theirs@host".into()
        }
    );
    assert_eq!(store.reader().history().await.expect("an answer").len(), 2);
}

async fn the_last_tables_are_listed_and_read(store: Store) {
    let reader = store.reader();
    // In one process nobody goes back: the one before is there for who has just heard of it.
    let kept = if matches!(store, Store::Memory(_)) {
        2
    } else {
        20
    };
    let oldest_kept = 25 - kept;
    let began = reader.time().await.expect("an answer");
    let (mut generation, mut published) = (0, Vec::new());
    for n in 0..25 {
        let publication = Publication {
            forced: n == 24,
            ..publication(generation, &format!("n{n}"), farms(n))
        };
        generation = now(&store
            .operator()
            .publish(&publication)
            .await
            .expect("an answer"));
        published.push(generation);
    }
    let history = reader.history().await.expect("an answer");
    let listed: Vec<u64> = history.iter().map(|edition| edition.stamp.table).collect();
    assert_eq!(
        listed,
        published[oldest_kept..]
            .iter()
            .rev()
            .copied()
            .collect::<Vec<_>>()
    );
    let (latest, oldest) = (&history[0], &history[kept - 1]);
    assert_eq!(
        (
            latest.stamp.by.as_str(),
            latest.stamp.why.as_str(),
            latest.stamp.forced
        ),
        ("n24@host", "because", true)
    );
    assert_eq!(
        (
            latest.stamp.farms,
            latest.servers,
            oldest.servers,
            oldest.stamp.forced
        ),
        (Some(1), 24, oldest_kept as u64, false)
    );
    let ended = reader.time().await.expect("an answer");
    assert!(
        history
            .iter()
            .all(|edition| (began..=ended).contains(&edition.at)),
        "{began} {history:?} {ended}"
    );
    // Each is there to be gone back to; the one before them is gone.
    assert_eq!(
        reader
            .table(oldest.stamp.clone())
            .await
            .expect("an answer")
            .expect("undamaged")
            .farms,
        farms(oldest_kept)
    );
    let gone = generation::Stamp {
        table: published[oldest_kept - 1],
        ..oldest.stamp.clone()
    };
    assert!(reader.table(gone).await.expect("an answer").is_err());
    let stamp = reader.stamp().await.expect("an answer").expect("a table");
    assert_eq!(
        generation::Stamp {
            overrides: 0,
            ..stamp
        },
        generation::Stamp {
            overrides: 0,
            ..latest.stamp.clone()
        }
    );
}

async fn what_was_set_by_hand_is_dropped_with_the_publication_that_says_so(store: Store) {
    let first = now(&publish(&store, 0, "one").await);
    let off = Override {
        enable: Some(Intent::Off),
        ..Override::default()
    };
    store
        .operator()
        .set_override(&id("img/srv1"), Some(&off), &event("off"), None)
        .await
        .expect("an answer");
    let before = store
        .reader()
        .stamp()
        .await
        .expect("an answer")
        .expect("a table")
        .overrides;
    // One that comes too late drops nothing.
    let late = Publication {
        reset: true,
        ..publication(0, "late", farms(2))
    };
    assert!(matches!(
        store.operator().publish(&late).await,
        Ok(Published::Lost { .. })
    ));
    assert_eq!(
        store.reader().overrides().await.expect("an answer").len(),
        1
    );
    let reset = Publication {
        reset: true,
        ..publication(first, "two", farms(2))
    };
    now(&store.operator().publish(&reset).await.expect("an answer"));
    assert!(
        store
            .reader()
            .overrides()
            .await
            .expect("an answer")
            .is_empty()
    );
    let after = store
        .reader()
        .stamp()
        .await
        .expect("an answer")
        .expect("a table")
        .overrides;
    assert!(after > before, "{after} after {before}");
}

async fn a_table_of_any_size_reads_back_whole(store: Store) {
    let mut generation = 0;
    // Around and far beyond one slice of 64 KiB, and small again after large.
    for servers in [0, 1, 1000, 5000, 2] {
        let table = farms(servers);
        let published = store
            .operator()
            .publish(&publication(
                generation,
                &format!("n{servers}"),
                table.clone(),
            ))
            .await;
        generation = now(&published.expect("an answer"));
        let stamp = store
            .reader()
            .stamp()
            .await
            .expect("an answer")
            .expect("a table");
        let json = serde_json::to_vec(&table).expect("JSON");
        assert!(
            servers < 1000 || json.len() > 64 * 1024,
            "{} bytes",
            json.len()
        );
        assert_eq!(
            store
                .reader()
                .table(stamp)
                .await
                .expect("an answer")
                .expect("undamaged")
                .farms,
            table
        );
    }
}

async fn overrides_are_set_counted_and_cleared(store: Store) {
    publish(&store, 0, "one").await;
    let (reader, operator) = (store.reader(), store.operator());
    let counted = async || {
        reader
            .stamp()
            .await
            .expect("an answer")
            .expect("a table")
            .overrides
    };
    let before = counted().await;
    let drain = Override {
        enable: Some(Intent::Drain),
        by: "me".into(),
        until: Some(99),
        ..Override::default()
    };
    operator
        .set_override(&id("img/srv1"), Some(&drain), &event("drained"), None)
        .await
        .expect("an answer");
    let set = counted().await;
    assert!(set > before, "{set} after {before}");
    assert_eq!(
        reader.overrides().await.expect("an answer"),
        [(id("img/srv1"), drain)].into()
    );
    // A table published meanwhile leaves what was set by hand.
    let generation = reader
        .stamp()
        .await
        .expect("an answer")
        .expect("a table")
        .table;
    publish(&store, generation, "two").await;
    assert_eq!(
        (
            counted().await,
            reader.overrides().await.expect("an answer").len()
        ),
        (set, 1)
    );
    operator
        .set_override(&id("img/srv1"), None, &event("cleared"), None)
        .await
        .expect("an answer");
    assert!(counted().await > set && reader.overrides().await.expect("an answer").is_empty());
    assert_eq!(
        reader.events(1).await.expect("an answer")[0],
        event("cleared")
    );
}

async fn an_override_keeps_what_was_set_before(store: Store) {
    let set = async |value: &Override| {
        store
            .operator()
            .set_override(&id("img/srv1"), Some(value), &event("set"), None)
            .await
            .expect("an answer");
        store.reader().overrides().await.expect("an answer")[&id("img/srv1")].clone()
    };
    let drain = set(&Override {
        enable: Some(Intent::Drain),
        by: "ann".into(),
        why: "disk \"é\" / 1".into(),
        ..Override::default()
    })
    .await;
    assert_eq!(
        (drain.enable, drain.why.as_str()),
        (Some(Intent::Drain), "disk \"é\" / 1")
    );
    let heavy = set(&Override {
        weight: Some(Weight(65535)),
        by: "bob".into(),
        ..Override::default()
    })
    .await;
    assert_eq!(
        (heavy.enable, heavy.weight, heavy.by.as_str()),
        (Some(Intent::Drain), Some(Weight(65535)), "bob")
    );
    // An end is that of the force it came with: it stays with it, and goes with it.
    let until = Some(1_790_000_000_123);
    let forced = set(&Override {
        force: Some(Force::Up),
        until,
        ..Override::default()
    })
    .await;
    assert_eq!(
        (forced.enable, forced.force, forced.until),
        (Some(Intent::Drain), Some(Force::Up), until)
    );
    let on = set(&Override {
        enable: Some(Intent::On),
        ..Override::default()
    })
    .await;
    assert_eq!(
        (on.enable, on.weight, on.until),
        (Some(Intent::On), Some(Weight(65535)), until)
    );
    assert_eq!(
        set(&Override {
            force: Some(Force::Down),
            ..Override::default()
        })
        .await
        .until,
        None
    );
}

async fn an_override_is_set_where_what_it_was_judged_by_is_in_force(store: Store) {
    let table = now(&publish(&store, 0, "one").await);
    let set = async |judged| {
        let off = Override {
            enable: Some(Intent::Off),
            ..Override::default()
        };
        store
            .operator()
            .set_override(&id("img/srv1"), Some(&off), &event("off"), Some(judged))
            .await
            .expect("an answer")
    };
    let judged = ExpectedGenerations {
        table,
        overrides: 0,
    };
    assert!(
        !set(ExpectedGenerations {
            table: table - 1,
            ..judged
        })
        .await
            && !set(ExpectedGenerations {
                overrides: 1,
                ..judged
            })
            .await
    );
    assert!(
        store
            .reader()
            .overrides()
            .await
            .expect("an answer")
            .is_empty()
    );
    assert!(set(judged).await && !set(judged).await);
    assert_eq!(
        store.reader().overrides().await.expect("an answer").len(),
        1
    );
}

async fn an_override_before_the_first_table_is_counted_too(store: Store) {
    let off = Override {
        enable: Some(Intent::Off),
        ..Override::default()
    };
    store
        .operator()
        .set_override(&id("img/srv1"), Some(&off), &event("off"), None)
        .await
        .expect("an answer");
    assert_eq!(store.reader().stamp().await, Ok(None));
    publish(&store, 0, "one").await;
    let stamp = store
        .reader()
        .stamp()
        .await
        .expect("an answer")
        .expect("a table");
    assert!(stamp.overrides > 0, "{stamp:?}");
    assert_eq!(
        store.reader().overrides().await.expect("an answer").len(),
        1
    );
}

async fn health_is_told_once_and_whole_to_newcomers(store: Store) {
    let (prober, reader, mut views) = (store.prober(), store.reader(), Views::default());
    let many: Vec<_> = (0..2500)
        .map(|n| (check(&format!("c{n}")), finding(State::Up, "HTTP 200")))
        .collect();
    let first = HealthReport {
        id: "p".into(),
        sequence: 1,
        changed: many.clone(),
        ..HealthReport::default()
    };
    assert_eq!(
        prober.report(&first).await,
        Ok(Reported {
            before: None,
            held: 2500
        })
    );
    let changes = reader.health(&views.read_to()).await.expect("an answer");
    assert_eq!(
        (changes.sequences["p"], changes.changed["p"].1.len()),
        (1, 2500)
    );
    views.take(changes, Instant::now());
    // Only what changed is told from then on; a touched finding moves the sequence alone.
    let down = (check("c7"), finding(State::Down, "connection refused"));
    let touched = vec![(check("c8"), finding(State::Up, "HTTP 204"))];
    let second = HealthReport {
        id: "p".into(),
        sequence: 2,
        changed: vec![down.clone()],
        touched,
        ..HealthReport::default()
    };
    assert_eq!(
        prober.report(&second).await,
        Ok(Reported {
            before: Some(1),
            held: 2500
        })
    );
    let changes = reader.health(&views.read_to()).await.expect("an answer");
    assert_eq!(changes.changed["p"], (2, [down].into()));
    views.take(changes, Instant::now());
    let third = HealthReport {
        id: "p".into(),
        sequence: 3,
        removed: vec![check("c9")],
        ..HealthReport::default()
    };
    assert_eq!(
        prober.report(&third).await,
        Ok(Reported {
            before: Some(2),
            held: 2499
        })
    );
    let changes = reader.health(&views.read_to()).await.expect("an answer");
    assert_eq!(
        (changes.sequences["p"], changes.changed.get("p")),
        (3, None)
    );
    // Another prober's view and a newcomer's reading: everything, as it is now.
    let other = HealthReport {
        id: "q".into(),
        sequence: 9,
        changed: many[..1].to_vec(),
        ..HealthReport::default()
    };
    prober.report(&other).await.expect("an answer");
    let all = reader.health(&BTreeMap::new()).await.expect("an answer");
    assert_eq!(
        (
            all.changed["p"].1.len(),
            all.changed["p"].0,
            all.changed["q"].1.len()
        ),
        (2499, 2, 1)
    );
    assert_eq!(
        (
            all.changed["p"].1[&check("c7")].state,
            all.changed["p"].1[&check("c8")].why.as_str()
        ),
        (State::Down, "HTTP 204")
    );
}

async fn a_prober_finds_its_own_view_again(store: Store) {
    let changed = vec![
        (check("a"), finding(State::Down, "timed out after 1s")),
        (check("b"), finding(State::Up, "HTTP 200")),
    ];
    let report = HealthReport {
        id: "p".into(),
        sequence: 41,
        changed: changed.clone(),
        ..HealthReport::default()
    };
    store.prober().report(&report).await.expect("an answer");
    let idle = HealthReport {
        id: "p".into(),
        sequence: 42,
        ..HealthReport::default()
    };
    assert_eq!(
        store.prober().report(&idle).await,
        Ok(Reported {
            before: Some(41),
            held: 2
        })
    );
    let own = store.prober().own_view("p").await.expect("an answer");
    assert_eq!(
        (own.sequence, own.findings),
        (42, changed.into_iter().collect())
    );
    assert_eq!(
        store.prober().own_view("other").await.expect("an answer"),
        Default::default()
    );
}

async fn an_idle_report_is_read_and_shows_nobody_at_work(store: Store) {
    let (prober, reader) = (store.prober(), store.reader());
    let mut views = Views::default();
    for (sequence, idle, shown) in [
        (1, true, 1),
        (2, false, 2),
        (3, true, 2),
        (4, true, 2),
        (5, false, 5),
    ] {
        let why = format!("reason {sequence}");
        let changed = vec![(check("a"), finding(State::Up, &why))];
        prober
            .report(&HealthReport {
                id: "p".into(),
                sequence,
                idle,
                changed,
                ..HealthReport::default()
            })
            .await
            .expect("an answer");
        let changes = reader.health(&views.read_to()).await.expect("an answer");
        assert_eq!(
            (
                changes.sequences["p"],
                changes.changed["p"].1[&check("a")].why.as_str()
            ),
            (shown, why.as_str())
        );
        views.take(changes, Instant::now());
        assert_eq!(
            prober.own_view("p").await.expect("an answer").sequence,
            sequence
        );
    }
}

async fn totals_are_absolute_and_sum_up(store: Store) {
    let replica = store.replica();
    for replica_id in ["r1", "r2"] {
        replica
            .announce(&announcement(replica_id))
            .await
            .expect("an answer");
    }
    let first = [
        (key("img/srv1"), 10),
        (key("img/@fallback"), 2),
        (key("@refused/403"), 1),
    ];
    replica.flush("r1", &first).await.expect("an answer");
    // Again, and an older one that arrives late: neither adds, neither takes away.
    replica.flush("r1", &first).await.expect("an answer");
    replica
        .flush("r1", &[(key("img/srv1"), 4)])
        .await
        .expect("an answer");
    replica
        .flush("r2", &[(key("img/srv1"), 5), (key("img/srv2"), 1 << 52)])
        .await
        .expect("an answer");
    replica
        .flush("r2", &[] as &[(CountKey, u64)])
        .await
        .expect("an answer");
    let totals = store.reader().totals().await.expect("an answer");
    assert_eq!(
        (
            totals.live["r1"].get(&key("img/srv1")),
            totals.live["r2"].get(&key("img/srv1"))
        ),
        (10, 5)
    );
    let sum = totals.sum();
    let expected = [
        ("img/srv1", 15),
        ("img/srv2", 1 << 52),
        ("img/@fallback", 2),
        ("@refused/403", 1),
    ];
    expected
        .iter()
        .for_each(|(counted, total)| assert_eq!(sum.get(&key(counted)), *total, "{counted}"));
}

async fn thousands_of_totals_are_flushed_and_read(store: Store) {
    store
        .replica()
        .announce(&announcement("r1"))
        .await
        .expect("an answer");
    let totals: Vec<_> = (1..=3500)
        .map(|n| (key(&format!("farm{}/srv{n}", n % 7)), n))
        .collect();
    store
        .replica()
        .flush("r1", &totals)
        .await
        .expect("an answer");
    let sum = store.reader().totals().await.expect("an answer").sum();
    assert_eq!(
        (
            sum.iter().count(),
            sum.iter().map(|(_, total)| total).sum::<u64>()
        ),
        (3500, 3500 * 3501 / 2)
    );
}

async fn who_follows_the_totals_comes_to_hold_them_all(store: Store) {
    // More than is read at one time.
    let counts = async |round: u64| {
        for replica in 0..30 {
            let totals: Vec<_> = (0..900)
                .map(|n| (key(&format!("farm{}/srv{n}", n % 7)), round * (n + replica)))
                .collect();
            store
                .replica()
                .flush(&format!("r{replica}"), &totals)
                .await
                .expect("an answer");
            store
                .replica()
                .announce(&announcement(&format!("r{replica}")))
                .await
                .expect("an answer");
        }
    };
    let (reader, mut counted) = (store.reader(), FollowedTotals::default());
    let whole = async || {
        reader
            .totals()
            .await
            .expect("an answer")
            .sum()
            .iter()
            .map(|(_, total)| total)
            .sum::<u64>()
    };
    counts(1).await;
    reader.follow(&mut counted).await.expect("an answer");
    // The first reading is whole, however much it is.
    assert_eq!(
        (counted.keys().len(), counted.sums().iter().sum::<u64>()),
        (900, whole().await)
    );
    let before = counted.rounds();
    counts(2).await;
    let mut readings = 0;
    while counted.rounds() < before + 2 {
        reader.follow(&mut counted).await.expect("an answer");
        readings += 1;
        assert!(
            readings < 10,
            "after {readings} readings {} rounds were made",
            counted.rounds() - before
        );
    }
    assert_eq!(counted.sums().iter().sum::<u64>(), whole().await);
}

async fn a_finding_that_is_only_newer_is_read_by_its_check(store: Store) {
    let (prober, reader) = (store.prober(), store.reader());
    let many: Vec<_> = (0..2500)
        .map(|n| (check(&format!("c{n}")), finding(State::Up, "HTTP 200")))
        .collect();
    let first = HealthReport {
        id: "p".into(),
        sequence: 1,
        changed: many.clone(),
        ..HealthReport::default()
    };
    prober.report(&first).await.expect("an answer");
    let newer = Finding {
        last_check: 99,
        ..finding(State::Up, "HTTP 200")
    };
    let touched = vec![(check("c2400"), newer.clone())];
    prober
        .report(&HealthReport {
            id: "p".into(),
            sequence: 2,
            touched,
            ..HealthReport::default()
        })
        .await
        .expect("an answer");
    let asked: Vec<_> = many
        .iter()
        .map(|(check, _)| check.clone())
        .chain([check("unknown")])
        .collect();
    let found = reader.findings("p", &asked).await.expect("an answer");
    assert_eq!(
        (
            found.len(),
            &found[&check("c2400")],
            found[&check("c0")].last_check
        ),
        (2500, &newer, 6)
    );
    assert!(
        reader
            .findings("another", &asked)
            .await
            .expect("an answer")
            .is_empty()
    );
}

fn announcement(replica: &str) -> Announcement {
    Announcement {
        id: replica.into(),
        host: "host".into(),
        address: "127.0.0.1:9998".into(),
        version: "0.1.0".into(),
        generation: 1_790_000_000_000,
        overrides: 3,
        started: 4,
        alarm: "run `rbalancer apply`".into(),
        by_file: String::new(),
        certificate_expires: 1_900_000_000_000,
        refused_hosts: vec![RefusedHost {
            host: "\u{1f}é\"x".into(),
            reason: "unknown-host".into(),
            count: 3,
        }],
        left: false,
    }
}

async fn a_redirector_is_seen_as_it_last_spoke(store: Store) {
    let said = announcement("r1");
    store.replica().announce(&said).await.expect("an answer");
    let seen = store.reader().replicas().await.expect("an answer");
    assert_eq!((seen.len(), &seen[0].announcement), (1, &said));
    assert!(seen[0].silent_ms < 10_000, "{}", seen[0].silent_ms);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(store.reader().replicas().await.expect("an answer")[0].silent_ms >= 25);
    let left = Announcement {
        left: true,
        alarm: String::new(),
        generation: 0,
        ..said
    };
    store.replica().announce(&left).await.expect("an answer");
    let seen = store.reader().replicas().await.expect("an answer");
    assert_eq!((seen.len(), &seen[0].announcement), (1, &left));
}

async fn events_come_newest_first(store: Store) {
    let report = HealthReport {
        id: "p".into(),
        sequence: 1,
        events: vec![event("a"), event("b"), event("c")],
        ..HealthReport::default()
    };
    store.prober().report(&report).await.expect("an answer");
    let said: Vec<String> = store
        .reader()
        .events(2)
        .await
        .expect("an answer")
        .into_iter()
        .map(|event| event.what)
        .collect();
    assert_eq!(said, ["c", "b"]);
    assert_eq!(
        store.reader().events(9).await.expect("an answer")[2],
        event("a")
    );
    publish(&store, 0, "one").await;
    assert!(
        store.reader().events(1).await.expect("an answer")[0]
            .what
            .ends_with(" published")
    );
}

#[tokio::test]
async fn events_told_again_are_written_once() {
    let server = RedisServer::forgetful();
    let store = Store::Redis(Redis::pooled(&server.settings()));
    let tell = async |run: &str, first_event, what: &[&str]| {
        let events = what.iter().map(|what| event(what)).collect();
        let report = HealthReport {
            id: "p".into(),
            sequence: 1,
            run: run.into(),
            first_event,
            events,
            ..HealthReport::default()
        };
        store.prober().report(&report).await.expect("an answer");
    };
    tell("one", 0, &["a", "b"]).await;
    // Again with more, as after a lost reply; then a late one; then another run, which counts from the beginning.
    tell("one", 0, &["a", "b", "c"]).await;
    tell("one", 1, &["b"]).await;
    tell("one", 3, &["d"]).await;
    tell("two", 0, &["e"]).await;
    let said: Vec<String> = store
        .reader()
        .events(9)
        .await
        .expect("an answer")
        .into_iter()
        .map(|event| event.what)
        .collect();
    assert_eq!(said, ["e", "d", "c", "b", "a"]);
    let report = HealthReport {
        id: "p".into(),
        sequence: 2,
        changed: vec![(check("a"), finding(State::Up, ""))],
        ..HealthReport::default()
    };
    assert_eq!(
        store
            .prober()
            .report(&report)
            .await
            .expect("an answer")
            .held,
        1,
        "what was written is no finding"
    );
    assert_eq!(
        store
            .prober()
            .own_view("p")
            .await
            .expect("an answer")
            .findings
            .len(),
        1
    );
}

#[tokio::test]
async fn a_lost_race_leaves_nothing_behind_in_redis() {
    let server = RedisServer::forgetful();
    let store = Store::Redis(Redis::pooled(&server.settings()));
    let first = now(&publish(&store, 0, "one").await);
    let held = server.keys();
    assert!(matches!(
        publish(&store, 0, "late").await,
        Published::Lost { .. }
    ));
    assert_eq!(publish(&store, 0, "one").await, Published::Now(first));
    assert_eq!(server.keys(), held);
}

#[tokio::test]
async fn redis_is_asked_in_its_own_words() {
    let server = RedisServer::forgetful();
    let operator = Store::Redis(Redis::pooled(&server.settings())).operator();
    assert_eq!(
        operator.ask(&["PING"]).await,
        Ok(Answer::Text("PONG".into()))
    );
    assert!(matches!(
        operator.ask(&["NO-SUCH", "command"]).await,
        Err(StoreError::Refused { .. })
    ));
    operator.try_writes().await.expect("everything is allowed");
    assert_eq!((server.keys(), operator.copies().await), (0, Ok(None)));
    assert!(
        Store::Memory(Memory::default())
            .operator()
            .ask(&["PING"])
            .await
            .is_err()
    );
}
