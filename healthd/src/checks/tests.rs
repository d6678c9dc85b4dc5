//! Tests of [`super`].

use super::*;
use common::model::overrides::Override;
use common::store::{Event, Memory, Operator, Publication, Store};

async fn set(operator: &Operator, server: &str, json: serde_json::Value) {
    let (id, value): (_, Override) = (
        server.parse().expect("an id"),
        serde_json::from_value(json).expect("an override"),
    );
    let event = Event {
        at: 1,
        by: "me".into(),
        what: "set".into(),
        why: String::new(),
    };
    operator
        .set_override(&id, Some(&value), &event, None)
        .await
        .expect("memory");
}

/// Servers whose check decides, and those that nothing decides about.
fn shares(checks: &Checks) -> (Vec<String>, usize) {
    let servers = checks
        .made
        .values()
        .flat_map(|(_, servers)| servers)
        .filter(|seat| seat.serves);
    (
        servers.map(|seat| seat.id.server.to_string()).collect(),
        checks.always_in.values().sum(),
    )
}

#[tokio::test]
async fn a_check_decides_about_servers_that_take_clients_and_are_not_forced() {
    let store = Store::Memory(Memory::default());
    let (reader, operator, cluster) = (
        store.reader(),
        store.operator(),
        "c".parse::<Name>().expect("a name"),
    );
    let check = |name: &str| {
        serde_json::json!({"scheme": "http", "host": name, "port": 80, "method": "HEAD", "uri": "/", "expect": "200-399",
            "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1200, "rise": 2, "fall": 3})
    };
    let server = |name: &str| {
        let check = if name == "e" {
            serde_json::Value::Null
        } else {
            check(name)
        };
        serde_json::json!({"name": name, "target": format!("http://{name}"), "weight": 1, "enable": "on", "check": check})
    };
    let servers: Vec<_> = ["a", "b", "c", "d", "e"].map(server).into();
    let farms = serde_json::from_value(
        serde_json::json!([{"name": "img", "domains": ["img.test"], "servers": servers}]),
    )
    .expect("farms");
    let (by, why, nonce) = ("me".to_owned(), String::new(), "n".to_owned());
    let publication = Publication {
        expected: 0,
        cluster: cluster.clone(),
        farms,
        by,
        why,
        nonce,
        forced: false,
        reset: false,
    };
    operator.publish(&publication).await.expect("memory");
    let mut follower = Follower::new(reader.clone(), Following::Cluster(cluster));
    let checks = poll(&mut follower).await.expect("memory").expect("a table");
    assert_eq!(
        shares(&checks),
        (["a", "b", "c", "d"].map(str::to_owned).into(), 1)
    );
    let until = reader.time().await.expect("memory") + 60_000;
    set(
        &operator,
        "img/a",
        serde_json::json!({"force": "down", "until": until}),
    )
    .await;
    set(&operator, "img/b", serde_json::json!({"force": "up"})).await;
    set(&operator, "img/c", serde_json::json!({"enable": "drain"})).await;
    let checks = poll(&mut follower)
        .await
        .expect("memory")
        .expect("something new");
    assert_eq!(shares(&checks), (vec!["d".to_owned()], 2));
    assert_eq!(
        checks.made.len(),
        4,
        "those forced or draining are watched all the same"
    );
    assert!(
        follower.end_overrides(Instant::now()).is_empty()
            && !follower
                .end_overrides(Instant::now() + Duration::from_secs(61))
                .is_empty()
    );
    assert_eq!(
        shares(&made(&follower)),
        (["a", "d"].map(str::to_owned).into(), 2)
    );
}
