//! What a report makes of tables, overrides, findings and totals.

use super::*;
use crate::report::rates::Count;
use common::model::check::Check;
use common::model::farm::Farms;
use common::model::generation::{SCHEMA, Stamp, Table};
use common::model::health::{self, Finding, State, ViewChanges, Views};
use common::model::overrides::Force;
use std::time::{Duration, Instant};

fn check(host: &str) -> serde_json::Value {
    serde_json::json!({"scheme": "http", "host": host, "port": 80, "method": "HEAD", "uri": "/", "expect": "200-499",
        "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1200, "rise": 2, "fall": 3})
}

fn table() -> Table {
    let server = |name: &str, weight: u16, enable: &str| {
        let host = format!("{name}.org");
        serde_json::json!({"name": name, "target": host, "weight": weight, "enable": enable, "check": check(&host)})
    };
    let servers = [
        server("srv1", 3, "on"),
        server("srv2", 1, "on"),
        server("srv3", 5, "off"),
        server("srv4", 2, "drain"),
    ];
    let farms =
        serde_json::json!([{"name": "img", "domains": ["img.org", "pic.org"], "servers": servers}]);
    let farms: Farms = serde_json::from_value(farms).expect("valid table");
    let cluster: Name = "test".parse().expect("valid");
    let text = String::new;
    let stamp = Stamp {
        table: 42,
        overrides: 0,
        checksum: text(),
        cluster,
        schema: SCHEMA,
        min_reader: 1,
        nonce: text(),
        by: text(),
        why: text(),
        forced: false,
        farms: None,
    };
    Table { stamp, farms }
}

fn health(found: &[(&str, State)]) -> Health {
    let key = |host: &str| {
        serde_json::from_value::<Check>(check(&format!("{host}.org")))
            .expect("valid check")
            .key()
    };
    let finding = |state| Finding {
        state,
        checked: health::Checked::Failing,
        since: 1000,
        why: "connection refused".into(),
        last_check: 2000,
    };
    let findings = found
        .iter()
        .map(|(server, state)| (key(server), finding(*state)))
        .collect();
    let changes = ViewChanges {
        sequences: [("p".to_owned(), 1)].into(),
        changed: [("p".to_owned(), (1, findings))].into(),
    };
    let mut views = Views::default();
    views.take(changes, Instant::now());
    views.merge(Instant::now(), Duration::from_secs(5))
}

fn counts(counts: &[(&str, u64, f64)]) -> Counts {
    counts
        .iter()
        .map(|(key, total, rate)| {
            (
                key.parse().expect("valid key"),
                Count {
                    total: *total,
                    rate: *rate,
                },
            )
        })
        .collect()
}

fn report(overrides: &[(&str, Override)], health: &Health, counts: &Counts) -> Report {
    let overrides = overrides
        .iter()
        .map(|(id, value)| (id.parse().expect("valid id"), value.clone()))
        .collect();
    let table = table();
    let index = TableIndex::new(&table);
    let event = Event {
        at: 1_700_000_000_000,
        by: "healthd".into(),
        what: "img/srv2 is down".into(),
        why: "<b>refused</b>".into(),
    };
    Report::new(Inputs {
        cluster: &table.stamp.cluster,
        at: 1_700_000_100_000,
        table: Some((&table, &index)),
        overrides: &overrides,
        health,
        counts,
        replicas: Vec::new(),
        events: vec![event],
        alarm: None,
    })
}

/// A report with a bit of everything.
pub(crate) fn example() -> Report {
    let ever = [
        ("img/srv1", 600),
        ("img/srv2", 200),
        ("img/gone", 150),
        ("img/@fallback", 50),
        ("old/a", 9),
        ("@refused/403", 7),
    ];
    report(
        &[],
        &health(&[("srv2", State::Down)]),
        &counts(&ever.map(|(key, total)| (key, total, 0.0))),
    )
}

fn shares(report: &Report) -> Vec<f64> {
    report.farms[0]
        .servers
        .iter()
        .map(|server| server.share_intended)
        .collect()
}

#[test]
fn nothing_counted_vanishes() {
    let report = example();
    let farm = &report.farms[0];
    assert_eq!((farm.redirects, farm.fallbacks), (1000, 50));
    assert_eq!(
        farm.removed,
        [Removed {
            name: "gone".parse().expect("valid"),
            redirects: 150
        }]
    );
    assert_eq!(
        report.removed_farms,
        [Removed {
            name: "old".parse().expect("valid"),
            redirects: 9
        }]
    );
    assert_eq!(report.refused, [(403, 7)].into());
    assert_eq!(farm.servers[0].share_actual, 0.6);
}

#[test]
fn only_servers_in_service_have_an_intended_share() {
    let none = Counts::default();
    assert_eq!(
        shares(&report(&[], &health(&[]), &none)),
        [0.75, 0.25, 0.0, 0.0]
    );
    assert_eq!(
        shares(&report(&[], &health(&[("srv2", State::Down)]), &none)),
        [1.0, 0.0, 0.0, 0.0]
    );
    assert_eq!(
        shares(&report(&[], &health(&[("srv2", State::Suspect)]), &none)),
        [0.75, 0.25, 0.0, 0.0]
    );
    // One nobody has probed waits while a mate is known to be up, as the redirectors have it.
    let waiting = report(&[], &health(&[("srv1", State::Up)]), &none);
    assert_eq!(
        (shares(&waiting), waiting.farms[0].in_service),
        (vec![1.0, 0.0, 0.0, 0.0], 1)
    );
    assert!(waiting.farms[0].servers[1].waits && !waiting.farms[0].servers[3].waits);
    let all_down = health(&[("srv1", State::Down), ("srv2", State::Down)]);
    assert_eq!(shares(&report(&[], &all_down, &none)), [0.0; 4]);
}

#[test]
fn what_is_set_by_hand_beats_table_and_probes() {
    let drain = Override {
        enable: Some(Intent::Drain),
        by: "ann".into(),
        why: "disk".into(),
        ..Override::default()
    };
    let weight = Override {
        weight: Some(Weight(9)),
        force: Some(Force::Up),
        until: Some(1000),
        ..Override::default()
    };
    let down = health(&[("srv2", State::Down)]);
    let report = report(
        &[("img/srv1", drain), ("img/srv2", weight)],
        &down,
        &Counts::default(),
    );
    let (first, second) = (&report.farms[0].servers[0], &report.farms[0].servers[1]);
    assert_eq!(
        (first.enable, first.by_hand.as_deref()),
        (Intent::Drain, Some("enable drain by ann: disk"))
    );
    assert_eq!(
        (second.weight, second.health, second.checked),
        (Weight(9), Standing::Up, Checked::Failing)
    );
    assert_eq!(
        second.by_hand.as_deref(),
        Some("weight 9, force up until Thu, 01 Jan 1970 00:00:01 GMT")
    );
    assert_eq!(second.reason, "forced up; probes say: connection refused");
    assert_eq!(shares(&report), [0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn a_server_that_is_off_is_not_checked() {
    let report = report(
        &[],
        &health(&[("srv3", State::Down), ("srv4", State::Abstain)]),
        &Counts::default(),
    );
    let servers = &report.farms[0].servers;
    assert_eq!(
        (
            servers[2].checked,
            servers[2].last_check,
            servers[2].reason.as_str()
        ),
        (Checked::Off, None, "")
    );
    assert_eq!(
        (servers[3].health, servers[3].last_check),
        (Standing::Up, Some(2000))
    );
    assert_eq!(
        (servers[0].checked, servers[0].since),
        (Checked::Never, None)
    );
}

#[test]
fn a_server_no_probe_has_said_anything_about_is_told_apart() {
    let force = Override {
        force: Some(Force::Up),
        ..Override::default()
    };
    let report = report(
        &[("img/srv4", force)],
        &health(&[("srv2", State::Up)]),
        &Counts::default(),
    );
    let farm = &report.farms[0];
    let cautions: Vec<_> = farm.servers.iter().map(|server| server.caution).collect();
    // srv3 is off and srv4 forced up: what probes say decides about neither.
    assert_eq!(cautions, [Some(Caution::NeverChecked), None, None, None]);
    assert_eq!((farm.ever_checked, farm.probed), (1, 3));
    assert_eq!(farm.servers[0].reason, "no prober has told of it yet");
    let json = serde_json::to_value(&report).expect("JSON");
    let servers = &json["farms"][0]["servers"];
    assert_eq!(
        (&servers[0]["caution"], &servers[0]["health"]),
        (&"never_checked".into(), &"up".into())
    );
    assert_eq!(servers[1]["caution"], serde_json::Value::Null);
}

#[test]
fn the_recent_rate_decides_the_actual_share_while_there_is_one() {
    let report = report(
        &[],
        &health(&[]),
        &counts(&[("img/srv1", 610, 10.0), ("img/srv2", 30, 30.0)]),
    );
    let farm = &report.farms[0];
    assert_eq!(
        (
            farm.rate,
            farm.servers[0].share_actual,
            farm.servers[1].share_actual
        ),
        (40.0, 0.25, 0.75)
    );
}

#[test]
fn the_json_holds_what_other_programs_read() {
    let json = serde_json::to_value(example()).expect("JSON");
    assert_eq!(
        (&json["generation"], &json["refused"]["403"], &json["alarm"]),
        (&42.into(), &7.into(), &serde_json::Value::Null)
    );
    let server = &json["farms"][0]["servers"][1];
    assert_eq!(
        (&server["domain"], &server["enable"], &server["health"]),
        (&"srv2.org".into(), &"on".into(), &"down".into())
    );
    assert_eq!(
        (&server["checked"], &server["last_check"], &server["since"]),
        (&"failing".into(), &2000.into(), &1000.into())
    );
    assert_eq!(
        json["farms"][0]["domains"],
        serde_json::json!(["img.org", "pic.org"])
    );
}
