//! What is said of a cluster in trouble.

use super::*;
use crate::change::current::patience;
use crate::commands::doctor::finding::Level;
use crate::conf::{Flags, parse};
use common::config::ini::Document;
use common::model::farm::Farms;
use common::model::generation::{Alarm, SCHEMA, Stamp, Table};
use common::model::health::Health;
use common::model::overrides::{Force, Override};
use common::store::Announcement;
use std::collections::HashMap;
use std::time::Duration;

const CONF: &str = "[farms]\nlist = img\n[img]\ndomain = img.org\nlist = a, b\n[a]\ndomain = http://a.org\n[b]\ndomain = http://b.org\n";

fn current() -> Current {
    let (document, problems) = Document::parse("f", CONF);
    let farms = parse(&document, problems, Flags::default())
        .expect("good")
        .farms;
    let stamp = Stamp {
        table: 10,
        overrides: 3,
        checksum: String::new(),
        cluster: "c".parse().expect("a name"),
        schema: SCHEMA,
        min_reader: SCHEMA,
        nonce: String::new(),
        by: String::new(),
        why: String::new(),
        forced: false,
        farms: Some(1),
    };
    let table = Some(Ok(Table {
        stamp: stamp.clone(),
        farms,
    }));
    Current {
        table,
        stamp: Some(stamp),
        set: HashMap::new(),
        overrides: HashMap::new(),
        health: Health::default(),
        now: 1000,
    }
}

fn redirector(change: impl FnOnce(&mut Replica)) -> Replica {
    let said = Announcement {
        id: "r".into(),
        host: "h".into(),
        address: "10.0.0.1:80".into(),
        version: "1".into(),
        generation: 10,
        overrides: 3,
        started: 1,
        alarm: String::new(),
        by_file: String::new(),
        certificate_expires: 0,
        refused_hosts: Vec::new(),
        left: false,
    };
    let mut replica = Replica {
        announcement: said,
        silent_ms: 100,
    };
    change(&mut replica);
    replica
}

/// The view of probers: each with its sequence, and the states of a and b.
fn views(probers: &[(&str, u64, State, State)]) -> ViewChanges {
    let current = current();
    let mut changes = ViewChanges::default();
    for (id, sequence, a, b) in probers {
        let finding = |state: State| {
            let checked = if state == State::Abstain {
                Checked::Never
            } else {
                Checked::Ok
            };
            Finding {
                state,
                checked,
                since: 1,
                why: "refused".into(),
                last_check: 1,
            }
        };
        let farms = current.farms();
        let keys = farms
            .servers()
            .filter_map(|(_, server)| Some(server.check.as_ref()?.key()));
        let findings = keys
            .zip([*a, *b])
            .map(|(key, state)| (key, finding(state)))
            .collect();
        changes.sequences.insert((*id).to_owned(), *sequence);
        changes
            .changed
            .insert((*id).to_owned(), (*sequence, findings));
    }
    changes
}

fn judged(
    current: &Current,
    before: &ViewChanges,
    after: &ViewChanges,
    replicas: &[Replica],
) -> Vec<Line> {
    judge(&Seen {
        current,
        before,
        after,
        replicas,
    })
}

fn well() -> [ViewChanges; 2] {
    [1, 2].map(|sequence| views(&[("w", sequence, State::Up, State::Up)]))
}

fn has(lines: &[Line], level: Level, words: &str) {
    assert!(
        lines
            .iter()
            .any(|line| line.level == level && line.what.contains(words)),
        "no {level:?} with `{words}` in {lines:#?}"
    );
}

#[test]
fn a_cluster_at_work_is_well() {
    let [before, after] = well();
    let lines = judged(
        &current(),
        &before,
        &after,
        &[
            redirector(|_| {}),
            redirector(|replica| replica.announcement.left = true),
        ],
    );
    assert!(
        lines.iter().all(|line| line.level == Level::Ok),
        "{lines:#?}"
    );
    has(&lines, Level::Ok, "1 of 1 redirectors");
}

#[test]
fn redirectors_are_silent_behind_or_alarmed() {
    let [before, after] = well();
    let of = |change: fn(&mut Replica)| {
        judged(
            &current(),
            &before,
            &after,
            &[redirector(change), redirector(|_| {})],
        )
    };
    has(
        &of(|replica| replica.silent_ms = 90_000),
        Level::Risk,
        "silent for 90s",
    );
    has(
        &of(|replica| replica.announcement.alarm = "holds no table".into()),
        Level::Wrong,
        "holds no table",
    );
    has(
        &of(|replica| replica.announcement.generation = 9),
        Level::Wrong,
        "generation 9",
    );
    has(
        &of(|replica| replica.announcement.overrides = 2),
        Level::Wrong,
        "by hand up to 2",
    );
    has(
        &judged(&current(), &before, &after, &[]),
        Level::Risk,
        "no redirector has announced",
    );
    has(
        &judged(
            &current(),
            &before,
            &after,
            &[redirector(|replica| replica.silent_ms = 9000)],
        ),
        Level::Wrong,
        "0 of 1",
    );
}

#[test]
fn probers_are_gone_or_at_odds() {
    let here = [redirector(|_| {})];
    let one = views(&[("w", 1, State::Up, State::Up)]);
    has(
        &judged(&current(), &one, &one, &here),
        Level::Wrong,
        "no healthd is at work",
    );
    has(
        &judged(
            &current(),
            &ViewChanges::default(),
            &ViewChanges::default(),
            &here,
        ),
        Level::Wrong,
        "no healthd is at work",
    );
    let two = |sequence| {
        views(&[
            ("w", sequence, State::Up, State::Abstain),
            ("x", sequence, State::Down, State::Abstain),
        ])
    };
    let lines = judged(&current(), &two(1), &two(2), &here);
    has(
        &lines,
        Level::Risk,
        "img/a is up for healthd w and down for healthd x (refused)",
    );
    has(&lines, Level::Risk, "never checked: img/b");
    let after = views(&[
        ("w", 2, State::Up, State::Up),
        ("x", 1, State::Down, State::Up),
    ]);
    let lines = judged(&current(), &two(1), &after, &here);
    has(&lines, Level::Risk, "healthd x has found nothing");
    assert!(
        !lines.iter().any(|line| line.what.contains("down for")),
        "a silent view has no vote: {lines:#?}"
    );
}

#[test]
fn a_prober_that_suspects_itself_or_does_not_know_the_table_is_named() {
    let here = [redirector(|_| {})];
    let [before, mut after] = well();
    let key = |name: &str| {
        let id = name.parse().expect("an id");
        let farms = current().farms();
        farms
            .servers()
            .find(|(known, _)| *known == id)
            .and_then(|(_, server)| Some(server.check.as_ref()?.key()))
            .expect("it is checked")
    };
    let findings = |after: &mut ViewChanges| after.changed.remove("w").expect("its view").1;
    let mut doubted = findings(&mut after);
    if let Some(finding) = doubted.get_mut(&key("img/a")) {
        (finding.checked, finding.why) = (
            Checked::Failing,
            format!(
                "refused; held in service: {}",
                common::model::health::IN_DOUBT
            ),
        );
    }
    after.changed.insert("w".into(), (2, doubted.clone()));
    has(
        &judged(&current(), &before, &after, &here),
        Level::Risk,
        "healthd w suspects itself",
    );
    // While it is in doubt nothing of it moves.
    has(
        &judged(&current(), &after, &after, &here),
        Level::Risk,
        "healthd w suspects itself",
    );
    doubted.remove(&key("img/b"));
    after.changed.insert("w".into(), (2, doubted));
    has(
        &judged(&current(), &before, &after, &here),
        Level::Risk,
        "healthd w does not know of img/b",
    );
}

#[test]
fn tables_and_overrides_are_looked_at() {
    let [before, after] = well();
    let mut current = current();
    let hand = |until| Override {
        force: Some(Force::Up),
        until,
        ..Override::default()
    };
    current.set = HashMap::from([
        ("img/a".parse().expect("id"), hand(Some(999))),
        ("old/z".parse().expect("id"), hand(None)),
    ]);
    let lines = judged(&current, &before, &after, &[]);
    has(&lines, Level::Risk, "the force on img/a ended");
    has(&lines, Level::Risk, "old/z is set by hand and in no farm");
    current.table = Some(Err(Alarm::Checksum(10)));
    has(
        &judged(&current, &before, &after, &[]),
        Level::Wrong,
        "another checksum",
    );
    current.table = None;
    has(
        &judged(&current, &before, &after, &[]),
        Level::Wrong,
        "no table",
    );
}

#[test]
fn slow_probing_is_waited_for() {
    assert_eq!(patience(&current().farms()), Duration::from_secs(2));
    let slow: Farms = {
        let (document, problems) = Document::parse("f", &format!("[global]\ninter = 5s\n{CONF}"));
        parse(&document, problems, Flags::default())
            .expect("good")
            .farms
    };
    assert_eq!(patience(&slow), Duration::from_secs(10));
}
