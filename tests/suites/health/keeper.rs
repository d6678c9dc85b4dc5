//! Totals of redirectors that are gone, on a real redis-server: folded exactly, and told again to a store that lost
//! them.

use common::model::tally::CountKey;
use common::store::{Announcement, Folded, Keeper, Redis, Store};
use healthd::keeper::totals::TotalsKeeper as Keeping;
use std::time::Instant;
use tests::START;
use tests::redis::RedisServer;

fn store(server: &RedisServer) -> (Store, Keeper) {
    let store = Store::Redis(Redis::dedicated(&server.settings()));
    let keeper = store.keeper().expect("a store on Redis has a keeper");
    (store, keeper)
}

fn announcement(id: &str, left: bool) -> Announcement {
    let json = serde_json::json!({"id": id, "host": "h", "address": "a", "version": "v", "generation": 1, "overrides": 0,
        "started": 0, "left": left});
    serde_json::from_value(json).expect("an announcement")
}

fn key(text: &str) -> CountKey {
    text.parse().expect("a counted key")
}

async fn counts(store: &Store, id: &str, left: bool, totals: &[(&str, u64)]) {
    store
        .replica()
        .announce(&announcement(id, left))
        .await
        .expect("an answer");
    let totals: Vec<_> = totals
        .iter()
        .map(|(name, total)| (key(name), *total))
        .collect();
    store.replica().flush(id, &totals).await.expect("an answer");
}

async fn total(store: &Store, of: &str) -> u64 {
    store
        .reader()
        .totals()
        .await
        .expect("an answer")
        .sum()
        .get(&key(of))
}

async fn spoke(keeper: &Keeper, id: &str) -> u64 {
    keeper.spoke(&[id.to_owned()]).await.expect("an answer")[0].expect("it is listed")
}

#[tokio::test]
async fn a_fold_moves_totals_once_however_often_it_is_asked_for() {
    let server = RedisServer::forgetful();
    let (store, keeper) = store(&server);
    counts(
        &store,
        "gone",
        true,
        &[("img/a", 1 << 52), ("img/b", 3), ("@refused/403", 2)],
    )
    .await;
    counts(&store, "live", false, &[("img/a", 5)]).await;
    let (before, remains) = (
        total(&store, "img/b").await,
        keeper.remains("gone").await.expect("an answer"),
    );
    let spoke = spoke(&keeper, "gone").await;
    assert_eq!(
        keeper.fold("gone", &remains, spoke, 0).await,
        Ok(Folded::Whole)
    );
    // Again, as after a lost answer, and by a second keeper that saw the same.
    assert_eq!(
        keeper.fold("gone", &remains, spoke, 0).await,
        Ok(Folded::SpokeAgain)
    );
    assert_eq!(
        (total(&store, "img/a").await, total(&store, "img/b").await),
        ((1 << 52) + 5, before)
    );
    assert_eq!(store.reader().replicas().await.expect("an answer").len(), 1);
    // A write that was under way when it left counts nothing twice.
    counts(&store, "gone", true, &[("img/b", 3)]).await;
    assert_eq!(total(&store, "img/b").await, 3);
}

#[tokio::test]
async fn one_that_comes_back_after_it_was_folded_counts_on() {
    let server = RedisServer::forgetful();
    let (store, keeper) = store(&server);
    counts(&store, "r", false, &[("img/a", 100), ("img/b", 7)]).await;
    let remains = keeper.remains("r").await.expect("an answer");
    let (silent, folds) = (spoke(&keeper, "r").await, 0);
    assert_eq!(
        keeper.fold("r", &remains, silent, folds).await,
        Ok(Folded::Whole)
    );
    // Within one millisecond it would not be seen to have spoken again.
    while store.reader().time().await.expect("an answer") <= silent {}
    counts(&store, "r", false, &[("img/a", 150)]).await;
    assert_eq!(
        (total(&store, "img/a").await, total(&store, "img/b").await),
        (150, 7)
    );
    // A keeper that has not noticed does no harm.
    assert_eq!(
        keeper.fold("r", &remains, silent, folds).await,
        Ok(Folded::SpokeAgain)
    );
    assert_eq!(total(&store, "img/a").await, 150);
    // It leaves for good, and is folded a second time.
    counts(&store, "r", true, &[("img/a", 160)]).await;
    let remains = keeper.remains("r").await.expect("an answer");
    assert_eq!(
        keeper
            .fold("r", &remains, spoke(&keeper, "r").await, 1)
            .await,
        Ok(Folded::Whole)
    );
    assert_eq!(
        (total(&store, "img/a").await, total(&store, "img/b").await),
        (160, 7)
    );
}

#[tokio::test]
async fn totals_read_while_two_keepers_fold_are_right() {
    let server = RedisServer::forgetful();
    let (store, keeper) = store(&server);
    let names: Vec<String> = (0..2500).map(|n| format!("img/s{n}")).collect();
    let totals: Vec<(&str, u64)> = names
        .iter()
        .zip(1..)
        .map(|(name, total)| (name.as_str(), total))
        .collect();
    counts(&store, "gone", true, &totals).await;
    let sum = async || {
        store
            .reader()
            .totals()
            .await
            .expect("an answer")
            .sum()
            .iter()
            .map(|(_, total)| total)
            .sum::<u64>()
    };
    let (expected, remains) = (
        sum().await,
        keeper.remains("gone").await.expect("an answer"),
    );
    let spoke = spoke(&keeper, "gone").await;
    let fold = || {
        let (keeper, remains) = (keeper.clone(), remains.clone());
        tokio::spawn(async move { keeper.fold("gone", &remains, spoke, 0).await })
    };
    let folding = [fold(), fold()];
    let (reader, mut counted) = (
        store.reader(),
        common::model::followed_totals::FollowedTotals::default(),
    );
    while !folding.iter().all(tokio::task::JoinHandle::is_finished) {
        assert_eq!(sum().await, expected);
        reader.follow(&mut counted).await.expect("an answer");
        assert_eq!(counted.sums().iter().sum::<u64>(), expected);
    }
    assert_eq!(sum().await, expected);
    reader.follow(&mut counted).await.expect("an answer");
    assert_eq!(counted.sums().iter().sum::<u64>(), expected);
    assert!(
        store
            .reader()
            .replicas()
            .await
            .expect("an answer")
            .is_empty()
    );
}

#[tokio::test]
async fn a_store_that_lost_everything_is_told_what_gone_redirectors_counted() {
    let server = RedisServer::forgetful();
    let (store, handle) = store(&server);
    counts(&store, "left", true, &[("img/a", 40)]).await;
    counts(&store, "silent", false, &[("img/a", 2)]).await;
    let mut keeper = Keeping::new(store.reader(), handle.clone());
    let started = Instant::now();
    while handle.base().await.expect("an answer").folds == 0 || !keeper.remembers("silent") {
        keeper.round().await.expect("an answer");
        assert!(started.elapsed() < START, "not folded, or not remembered");
        tokio::time::sleep(tests::LOOK).await;
    }
    assert_eq!(total(&store, "img/a").await, 42);
    // Twice: what was told is still remembered. The base alone, then everything.
    for keys in ["{rbalancer}:count:base", "{rbalancer}:replicas"] {
        assert_eq!(server.number(&format!("DEL {keys}")), 1);
        keeper.round().await.expect("an answer");
        assert_eq!(total(&store, "img/a").await, 42, "without {keys}");
    }
    for _ in 0..2 {
        assert!(server.flush() > 0);
        assert_eq!(total(&store, "img/a").await, 0);
        keeper.round().await.expect("an answer");
        assert_eq!(total(&store, "img/a").await, 42);
    }
}

/// Lets `keeper` go round until something holds; a store that has just come back may refuse the first call.
async fn rounds(keeper: &mut Keeping, mut until: impl AsyncFnMut(&Keeping) -> bool) {
    let started = Instant::now();
    loop {
        if keeper.round().await.is_ok() && until(keeper).await {
            return;
        }
        assert!(started.elapsed() < START, "the keeper does not come to it");
        tokio::time::sleep(tests::LOOK).await;
    }
}

#[tokio::test]
async fn a_store_that_comes_back_as_it_was_before_a_fold_counts_nothing_twice() {
    let mut server = RedisServer::forgetful();
    let (store, handle) = store(&server);
    counts(&store, "left", true, &[("img/a", 40)]).await;
    counts(&store, "silent", false, &[("img/b", 2)]).await;
    server.order("SAVE");
    counts(&store, "silent", false, &[("img/b", 5)]).await;
    let [mut one, mut two] = [(); 2].map(|()| Keeping::new(store.reader(), handle.clone()));
    rounds(&mut one, async |one| {
        one.remembers("silent") && handle.base().await.expect("an answer").folds == 1
    })
    .await;
    // The second one never saw on the list what the first one folded.
    two.round().await.expect("an answer");
    for keeper in [&mut two, &mut one] {
        assert_eq!(
            (total(&store, "img/a").await, total(&store, "img/b").await),
            (40, 5)
        );
        server.stop();
        server.start();
        rounds(keeper, async |_| true).await;
        assert_eq!(total(&store, "img/a").await, 40);
        assert_eq!(
            total(&store, "img/b").await,
            5,
            "a silent one has gone back with the store"
        );
    }
}

#[tokio::test]
async fn what_was_folded_of_one_that_counts_on_is_told_before_the_base() {
    let server = RedisServer::forgetful();
    let (store, handle) = store(&server);
    counts(&store, "r", false, &[("img/a", 100)]).await;
    let remains = handle.remains("r").await.expect("an answer");
    assert_eq!(
        handle
            .fold("r", &remains, spoke(&handle, "r").await, 0)
            .await,
        Ok(Folded::Whole)
    );
    counts(&store, "r", false, &[("img/a", 150)]).await;
    // Two keepers, neither of which made the fold.
    let mut keepers = [(); 2].map(|()| Keeping::new(store.reader(), handle.clone()));
    for keeper in &mut keepers {
        keeper.round().await.expect("an answer");
    }
    for _ in 0..2 {
        assert!(server.flush() > 0);
        counts(&store, "r", false, &[("img/a", 150)]).await;
        for keeper in &mut keepers {
            keeper.round().await.expect("an answer");
            assert_eq!(total(&store, "img/a").await, 150);
        }
    }
    // What alone is lost of it is told again too.
    assert_eq!(server.number("DEL {rbalancer}:folded:r"), 1);
    keepers[0].round().await.expect("an answer");
    assert_eq!(total(&store, "img/a").await, 150);
}

#[tokio::test]
async fn a_base_read_during_folds_holds_all_of_those_it_counts() {
    let server = RedisServer::forgetful();
    let (store, keeper) = store(&server);
    let names: Vec<String> = (0..5000).map(|n| format!("img/s{n}")).collect();
    let ones: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    counts(&store, "gone", true, &ones).await;
    let (remains, spoke) = (
        keeper.remains("gone").await.expect("an answer"),
        spoke(&keeper, "gone").await,
    );
    let folding = tokio::spawn({
        let keeper = keeper.clone();
        async move { keeper.fold("gone", &remains, spoke, 0).await }
    });
    while !folding.is_finished() {
        let base = keeper.base().await.expect("an answer");
        assert_eq!(
            base.totals.values().sum::<u64>(),
            500 * base.folds,
            "each fold here moves 500 totals of one"
        );
    }
    assert_eq!(folding.await.expect("no panic"), Ok(Folded::Whole));
}

#[tokio::test]
async fn a_prober_is_forgotten_only_while_it_stands_still() {
    let server = RedisServer::forgetful();
    let (store, keeper) = store(&server);
    let finding = serde_json::from_value(
        serde_json::json!({"state": "up", "checked": "ok", "since": 1, "why": "", "last_check": 1}),
    );
    let changed = vec![(
        common::model::check::CheckKey("c".into()),
        finding.expect("a finding"),
    )];
    for (id, sequence) in [("old", 7), ("new", 8)] {
        let report = common::store::HealthReport {
            id: id.into(),
            sequence,
            changed: changed.clone(),
            ..Default::default()
        };
        store.prober().report(&report).await.expect("an answer");
    }
    assert_eq!(keeper.forget_prober("old", 6).await, Ok(false));
    assert_eq!(
        keeper.probers().await,
        Ok([("new".to_owned(), 8), ("old".to_owned(), 7)].into())
    );
    assert_eq!(keeper.forget_prober("old", 7).await, Ok(true));
    assert_eq!(keeper.probers().await, Ok([("new".to_owned(), 8)].into()));
    assert_eq!(store.prober().own_view("old").await, Ok(Default::default()));
    assert_eq!(server.keys(), 3, "the other one's view stays");
}
