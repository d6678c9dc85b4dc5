//! What must be insisted on, and what need not.

use super::*;
use crate::conf::{Flags, parse};
use common::config::ini::Document;
use common::model::farm::{Intent, Weight};
use common::model::health::{Checked, Finding, State, ViewChanges, Views};
use common::model::overrides::Force;
use std::time::{Duration, Instant};

/// Farms written as `img: a b | stc: c`; a name with `!` is switched off.
fn farms(text: &str) -> Farms {
    if text.is_empty() {
        return Farms::default();
    }
    let farms: Vec<(&str, Vec<&str>)> = text
        .split('|')
        .filter_map(|farm| farm.split_once(':'))
        .map(|(farm, servers)| (farm.trim(), servers.split_whitespace().collect()))
        .collect();
    let names: Vec<&str> = farms.iter().map(|(farm, _)| *farm).collect();
    let mut conf = format!("[farms]\nlist = {}\n", names.join(","));
    for (farm, servers) in &farms {
        let list: Vec<&str> = servers
            .iter()
            .map(|server| server.trim_end_matches('!'))
            .collect();
        conf += &format!("[{farm}]\ndomain = {farm}.org\nlist = {}\n", list.join(","));
        for server in servers {
            let (name, enable) = (
                server.trim_end_matches('!'),
                if server.ends_with('!') { "off" } else { "on" },
            );
            conf += &format!("[{name}]\ndomain = http://{name}.org\nenable = {enable}\n");
        }
    }
    let (document, problems) = Document::parse("f", &conf);
    parse(&document, problems, Flags::default())
        .expect("good")
        .farms
}

fn health(farms: &Farms, down: &[&str]) -> Health {
    let finding = |state| Finding {
        state,
        checked: Checked::Ok,
        since: 1,
        why: String::new(),
        last_check: 1,
    };
    let state = |id: &ServerId| {
        if down.contains(&id.to_string().as_str()) {
            State::Down
        } else {
            State::Up
        }
    };
    let findings = farms
        .servers()
        .filter_map(|(id, server)| Some((server.check.as_ref()?.key(), finding(state(&id)))))
        .collect();
    let (mut views, now) = (Views::default(), Instant::now());
    views.take(
        ViewChanges {
            sequences: [("h".into(), 1)].into(),
            changed: [("h".into(), (1, findings))].into(),
        },
        now,
    );
    views.merge(now, Duration::from_secs(5))
}

fn set(id: &str, value: Override) -> HashMap<ServerId, Override> {
    HashMap::from([(id.parse().expect("an identity"), value)])
}

fn of_table(before: &str, after: &str, down: &[&str]) -> Vec<String> {
    let (before, after, none) = (farms(before), farms(after), HashMap::new());
    let picture = |farms| Picture {
        farms,
        overrides: &none,
    };
    reasons(picture(&before), picture(&after), &health(&before, down))
}

fn of_hand(table: &str, id: &str, value: Override, down: &[&str]) -> Vec<String> {
    let (table, none) = (farms(table), HashMap::new());
    let after = set(id, value);
    reasons(
        Picture {
            farms: &table,
            overrides: &none,
        },
        Picture {
            farms: &table,
            overrides: &after,
        },
        &health(&table, down),
    )
}

#[test]
fn ordinary_changes_need_no_insistence() {
    assert_eq!(
        of_table("img: a b c d", "img: a b c d e | stc: f", &[]),
        Vec::<String>::new()
    );
    // Half is not more than half; the first table takes nothing away.
    assert_eq!(
        of_table("img: a b c d", "img: a b", &[]),
        Vec::<String>::new()
    );
    assert_eq!(of_table("", "img: a", &[]), Vec::<String>::new());
}

#[test]
fn every_reason_is_told_at_once() {
    let reasons = of_table(
        "img: a b c | stc: d | vid: e f",
        "img: a x y | vid: e! f!",
        &[],
    );
    let expected = [
        "2 of 3 servers of farm img would be gone: img/b, img/c",
        "farm stc would be gone: requests for stc.org would be refused",
        "farm vid would have no live server: its clients would get a 503",
    ];
    assert_eq!(reasons, expected);
    let reasons = of_table("img: a b c d e f g | stc: h", "stc: h", &[]);
    assert_eq!(
        reasons[1],
        "7 of 8 servers in all would be gone: img/a, img/b, img/c, img/d, img/e and 2 more"
    );
}

#[test]
fn the_last_live_server_is_kept() {
    let drain = Override {
        enable: Some(Intent::Drain),
        ..Override::default()
    };
    assert!(of_hand("img: a b", "img/a", drain.clone(), &[]).is_empty());
    let values = [
        drain,
        Override {
            enable: Some(Intent::Off),
            ..Override::default()
        },
        Override {
            weight: Some(Weight(0)),
            ..Override::default()
        },
        Override {
            force: Some(Force::Down),
            ..Override::default()
        },
    ];
    for value in values {
        assert_eq!(of_hand("img: a b", "img/a", value, &["img/b"]).len(), 1);
    }
    assert!(
        of_hand(
            "img: a b",
            "img/a",
            Override {
                weight: Some(Weight(9)),
                ..Override::default()
            },
            &["img/b"]
        )
        .is_empty()
    );
    // What has none already cannot lose it.
    assert!(
        of_hand(
            "img: a",
            "img/a",
            Override {
                enable: Some(Intent::Off),
                ..Override::default()
            },
            &["img/a"]
        )
        .is_empty()
    );
}

#[test]
fn force_is_the_remedy() {
    let (before, after, none) = (farms("img: a | stc: b"), farms("img: a"), HashMap::new());
    let picture = |farms| Picture {
        farms,
        overrides: &none,
    };
    let refused = |force| check(picture(&before), picture(&after), &Health::default(), force);
    assert!(refused(false).is_err_and(|error| error.to_string().contains("--force")));
    assert!(refused(true).is_ok());
}
