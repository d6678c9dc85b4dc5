//! What a follower takes, and that nothing older is ever among it.

use super::*;
use crate::model::farm::Farms;
use crate::store::memory::Memory;
use crate::store::records::{Event, Publication};
use crate::store::verbs::{Operator, Store};

fn farms(server: &str) -> Farms {
    let servers = [
        serde_json::json!({"name": server, "target": format!("http://{server}"), "weight": 1, "enable": "on"}),
    ];
    let farms = serde_json::json!([{"name": "f", "domains": ["f.org"], "servers": servers}]);
    serde_json::from_value(farms).expect("farms")
}

async fn publish(store: &Store, farms: Farms) {
    let stamp = store.reader().stamp().await.expect("memory");
    let expected = stamp.map_or(0, |stamp| stamp.table);
    let publication = Publication {
        expected,
        cluster: "c".parse().expect("a name"),
        farms,
        by: "me".into(),
        why: String::new(),
        nonce: expected.to_string(),
        forced: false,
        reset: false,
    };
    store
        .operator()
        .publish(&publication)
        .await
        .expect("memory");
}

async fn set(operator: &Operator, json: serde_json::Value) {
    let value: Override = serde_json::from_value(json).expect("an override");
    let event = Event {
        at: 1,
        by: "me".into(),
        what: "set".into(),
        why: String::new(),
    };
    let id = "f/a".parse().expect("an id");
    operator
        .set_override(&id, Some(&value), &event, None)
        .await
        .expect("memory");
}

fn follower(store: &Store) -> Follower {
    let cluster = Following::Cluster("c".parse().expect("a name"));
    Follower::new(store.reader(), cluster)
}

#[tokio::test]
async fn what_is_new_is_taken_once_and_what_ends_is_let_go_of_without_the_store() {
    let store = Store::Memory(Memory::default());
    let operator = store.operator();
    let mut follower = follower(&store);
    assert_eq!(
        follower.take_table().await.expect("memory"),
        News::default()
    );
    publish(&store, farms("a")).await;
    let until = store.reader().time().await.expect("memory") + 60_000;
    set(
        &operator,
        serde_json::json!({"force": "down", "until": until}),
    )
    .await;
    let news = follower.take_table().await.expect("memory");
    assert!(news.table && news.overrides && news.alarm.is_none());
    assert_eq!(news.turned, ["f/a is set by hand: force down"]);
    let again = follower.take_table().await.expect("memory");
    assert!(!again.table && !again.overrides && again.turned.is_empty());
    assert!(follower.end_overrides(Instant::now()).is_empty());
    let later = Instant::now() + Duration::from_secs(61);
    assert_eq!(
        follower.end_overrides(later),
        ["f/a is no longer set by hand"]
    );
    assert!(follower.end_overrides(later).is_empty());
    assert_eq!(follower.set().len(), 1, "the store holds it still");
}

#[tokio::test]
async fn nothing_older_is_taken_neither_table_nor_overrides() {
    let (old, new) = (
        Store::Memory(Memory::default()),
        Store::Memory(Memory::default()),
    );
    for store in [&old, &new] {
        publish(store, farms("a")).await;
    }
    set(&new.operator(), serde_json::json!({"weight": 2})).await;
    let mut follower = follower(&new);
    follower.take_table().await.expect("memory");
    let held = follower.overrides().clone();
    // The store was put back to an older copy: the same table, less that is set by hand.
    follower.reader = old.reader();
    let news = follower.take_table().await.expect("memory");
    assert!(
        matches!(news.alarm, Some(Alarm::OlderOverrides { .. })),
        "{:?}",
        news.alarm
    );
    assert_eq!(follower.overrides(), &held);
    // And an older table.
    publish(&new, farms("b")).await;
    follower.reader = new.reader();
    assert!(follower.take_table().await.expect("memory").table);
    follower.reader = old.reader();
    let news = follower.take_table().await.expect("memory");
    assert!(
        matches!(news.alarm, Some(Alarm::Older { .. })),
        "{:?}",
        news.alarm
    );
    assert_eq!(follower.table().expect("a table").farms, farms("b"));
    assert_eq!(follower.overrides(), &held);
}

#[tokio::test]
async fn another_clusters_table_is_an_alarm_but_for_who_only_looks() {
    let store = Store::Memory(Memory::default());
    publish(&store, farms("a")).await;
    let other = Following::Cluster("other".parse().expect("a name"));
    let news = Follower::new(store.reader(), other)
        .take_table()
        .await
        .expect("memory");
    assert!(matches!(news.alarm, Some(Alarm::OtherCluster { .. })) && !news.table);
    let mut looking = Follower::new(store.reader(), Following::Anything);
    assert!(looking.take_table().await.expect("memory").table);
}
