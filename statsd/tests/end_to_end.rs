//! From the store to the pages, on the store in memory.

use common::model::farm::{Farms, Name};
use common::model::health::{Checked, Finding, State};
use common::model::tally::CountKey;
use common::net::web::{Ask, Method, Page, Router, StatusCode};
use common::process::signals::Stop;
use common::store::{Announcement, HealthReport, Memory, Publication, Published, Store};
use serde_json::{Value, json};
use statsd::Settings;
use std::time::{Duration, Instant};

fn farms() -> Farms {
    let server = |name: &str, weight: u16| {
        let host = format!("{name}.example");
        let check = json!({"scheme": "http", "host": host, "port": 80, "method": "HEAD", "uri": "/", "expect": "200-499",
            "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1200, "rise": 2, "fall": 3});
        json!({"name": name, "target": host, "weight": weight, "enable": "on", "check": check})
    };
    let servers = [server("srv1", 3), server("srv2", 1), server("srv3", 1)];
    serde_json::from_value(json!([{"name": "img", "domains": ["img.example"], "servers": servers}]))
        .expect("valid farms")
}

async fn publish(store: &Store) {
    let cluster: Name = "test".parse().expect("valid");
    let publication = Publication {
        expected: 0,
        cluster,
        farms: farms(),
        by: "ann".into(),
        why: "first".into(),
        nonce: "1".into(),
        forced: false,
        reset: false,
    };
    assert!(matches!(
        store.operator().publish(&publication).await,
        Ok(Published::Now(_))
    ));
}

async fn report_health(store: &Store) {
    let at = common::time::unix_ms() - 65_000;
    let farms = farms();
    let found = farms.servers().filter_map(|(id, server)| {
        let (state, checked, why) = match id.server.as_str() {
            "srv2" => (State::Down, Checked::Failing, "connection refused"),
            _ => (State::Up, Checked::Ok, "HTTP 200"),
        };
        let finding = Finding {
            state,
            checked,
            since: at,
            why: why.into(),
            last_check: at + 64_000,
        };
        server.check.as_ref().map(|check| (check.key(), finding))
    });
    let report = HealthReport {
        id: "prober".into(),
        sequence: 1,
        changed: found.collect(),
        ..HealthReport::default()
    };
    assert_eq!(
        store
            .prober()
            .report(&report)
            .await
            .map(|reported| reported.held),
        Ok(3)
    );
}

async fn count(store: &Store) {
    let totals = [
        ("img/srv1", 3_012_345),
        ("img/srv3", 1_000_000),
        ("img/gone", 5),
        ("img/@fallback", 2),
        ("@refused/403", 7),
    ];
    let totals: Vec<_> = totals
        .into_iter()
        .map(|(key, total)| (key.parse::<CountKey>().expect("valid key"), total))
        .collect();
    store
        .replica()
        .flush("r1", &totals)
        .await
        .expect("memory never fails");
    let said = Announcement {
        id: "0123456789abcdef".into(),
        host: "edge1".into(),
        address: "0.0.0.0:9998".into(),
        version: "0.1.0".into(),
        generation: 1,
        overrides: 0,
        started: common::time::unix_ms() - 7_000_000,
        alarm: String::new(),
        by_file: String::new(),
        certificate_expires: 0,
        refused_hosts: Vec::new(),
        left: false,
    };
    store
        .replica()
        .announce(&said)
        .await
        .expect("memory never fails");
}

async fn get(router: &Router, path: &str) -> Page {
    get_as(router, path, "").await
}

async fn get_as(router: &Router, path: &str, accept: &str) -> Page {
    router(Ask {
        method: Method::GET,
        path: path.into(),
        query: String::new(),
        accept: accept.into(),
    })
    .await
}

/// Asks for the JSON until it is as wanted; the last one.
async fn eventually(router: &Router, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let json: Value =
            serde_json::from_slice(get(router, "/stats.json").await.body()).expect("JSON");
        if wanted(&json) {
            return json;
        }
        assert!(Instant::now() < deadline, "still {json:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn settings() -> Settings {
    let bind = "127.0.0.1:0".parse().expect("valid");
    Settings {
        cluster: "test".parse().expect("valid"),
        stats_uri: "/stats".into(),
        bind,
    }
}

#[tokio::test]
async fn what_the_store_holds_is_on_every_page() {
    let store = Store::Memory(Memory::default());
    let (_stop, shutdown) = Stop::new();
    let router = statsd::start(store.reader(), settings(), shutdown);
    assert_eq!(
        get(&router, "/readyz").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(get(&router, "/healthz").await.status(), StatusCode::OK);
    publish(&store).await;
    report_health(&store).await;
    count(&store).await;
    let json = eventually(&router, |json| json["farms"][0]["redirects"] == 4_012_352).await;
    let farm = &json["farms"][0];
    assert_eq!(
        (
            &farm["fallbacks"],
            &farm["servers"][1]["health"],
            &json["alarm"]
        ),
        (&2.into(), &"down".into(), &Value::Null)
    );
    assert_eq!(
        (
            &farm["servers"][0]["share_intended"],
            &farm["removed"][0]["name"]
        ),
        (&0.75.into(), &"gone".into())
    );
    assert_eq!(
        (&json["refused"]["403"], &json["replicas"][0]["host"]),
        (&7.into(), &"edge1".into())
    );
    assert_eq!(get(&router, "/readyz").await.status(), StatusCode::OK);
    assert_eq!(
        get(&router, "/nothing").await.status(),
        StatusCode::NOT_FOUND
    );
    for (path, part) in [
        ("/stats", "3,012,345"),
        ("/", "img.example"),
        ("/stats.csv", "img,srv1,"),
        ("/metrics", "# TYPE rbalancer_redirects_total counter\n"),
    ] {
        let page = get(&router, path).await;
        let body = String::from_utf8_lossy(page.body());
        assert!(
            page.status() == StatusCode::OK && body.contains(part),
            "{path}: {body}"
        );
        if let (Ok(folder), "/stats") = (std::env::var("STATS_PAGE_TO"), path) {
            std::fs::write(
                std::path::Path::new(&folder).join("stats.html"),
                page.body(),
            )
            .expect("a folder to write to");
        }
    }
    let openmetrics = get_as(&router, "/metrics", "application/openmetrics-text").await;
    assert!(openmetrics.body().ends_with(b"# EOF\n"));
}

#[tokio::test]
async fn a_table_of_another_cluster_is_an_alarm_and_not_shown() {
    let store = Store::Memory(Memory::default());
    publish(&store).await;
    let (_stop, shutdown) = Stop::new();
    let router = statsd::start(
        store.reader(),
        Settings {
            cluster: "other".parse().expect("valid"),
            ..settings()
        },
        shutdown,
    );
    let json = eventually(&router, |json| {
        json["alarm"]
            .as_str()
            .is_some_and(|alarm| alarm.contains("cluster `test`"))
    })
    .await;
    assert_eq!(
        (&json["generation"], &json["farms"]),
        (&0.into(), &json!([]))
    );
}

#[tokio::test]
async fn a_prober_that_suspects_itself_is_an_alarm() {
    let store = Store::Memory(Memory::default());
    publish(&store).await;
    report_health(&store).await;
    let farms = farms();
    let key = farms
        .servers()
        .find_map(|(_, server)| server.check.as_ref())
        .expect("a check")
        .key();
    let why = format!(
        "timed out after 1.2s; held in service: {}",
        common::model::health::IN_DOUBT
    );
    let finding = Finding {
        state: State::Up,
        checked: Checked::Failing,
        since: 1,
        why,
        last_check: 1,
    };
    let report = HealthReport {
        id: "prober".into(),
        sequence: 2,
        changed: vec![(key, finding)],
        ..HealthReport::default()
    };
    store
        .prober()
        .report(&report)
        .await
        .expect("memory never fails");
    let (_stop, shutdown) = Stop::new();
    let router = statsd::start(store.reader(), settings(), shutdown);
    eventually(&router, |json| {
        json["alarm"]
            .as_str()
            .is_some_and(|alarm| alarm.contains("prober suspect: all that prober probes"))
    })
    .await;
}
