//! `show`, the report of the pages and the redirector agree about every server, whatever is wanted, set and seen.

use super::*;
use common::model::check::CheckKey;
use common::model::farm::{Farms, Intent, ServerId, Weight};
use common::model::generation::{SCHEMA, Stamp};
use common::model::health::{Health, State, ViewChanges, Views};
use common::model::overrides::Force;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use redirector::counters::Counters;
use redirector::routes::Routes;
use statsd::report::table_index::TableIndex;
use statsd::report::{Inputs, Report};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// One server with all that decides about it.
#[derive(Debug, Clone)]
struct Case {
    enable: Intent,
    weight: u16,
    checked: bool,
    by_hand: Option<Override>,
    /// What the prober found; none: it has not told of it.
    seen: Option<State>,
}

fn intents() -> impl Strategy<Value = Intent> {
    prop::sample::select(vec![Intent::On, Intent::Drain, Intent::Off])
}

fn by_hand() -> impl Strategy<Value = Override> {
    let force = prop::sample::select(vec![Force::Up, Force::Down]);
    let weight = prop::sample::select(vec![Weight(0), Weight(3)]);
    (
        prop::option::of(intents()),
        prop::option::of(weight),
        prop::option::of(force),
    )
        .prop_map(|(enable, weight, force)| Override {
            enable,
            weight,
            force,
            ..Override::default()
        })
}

fn cases() -> impl Strategy<Value = Vec<Case>> {
    let states = [State::Up, State::Suspect, State::Abstain, State::Down];
    let seen = prop::option::of(prop::sample::select(states.to_vec()));
    let weight = prop::sample::select(vec![0u16, 1, 5]);
    let case = (
        intents(),
        weight,
        any::<bool>(),
        prop::option::of(by_hand()),
        seen,
    )
        .prop_map(|(enable, weight, checked, by_hand, seen)| Case {
            enable,
            weight,
            checked,
            by_hand,
            seen,
        });
    prop::collection::vec(case, 1..5)
}

fn table(cases: &[Case], any: bool) -> Table {
    let server = |(index, case): (usize, &Case)| {
        let check = case.checked.then(|| {
            serde_json::json!({"scheme": "http", "host": format!("s{index}"), "port": 80, "method": "HEAD", "uri": "/",
                "expect": "200-499", "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1200,
                "rise": 2, "fall": 3})
        });
        serde_json::json!({"name": format!("s{index}"), "target": format!("http://s{index}"), "weight": case.weight,
            "enable": case.enable.as_str(), "check": check})
    };
    let servers: Vec<_> = cases.iter().enumerate().map(server).collect();
    let farms = serde_json::json!([{"name": "f", "domains": ["f.org"], "servers": servers,
        "on_all_down": if any { "any" } else { "error" }}]);
    let farms: Farms = serde_json::from_value(farms).expect("farms");
    let stamp: Stamp = serde_json::from_value(
        serde_json::json!({"cluster": "c", "table": 1, "overrides": 1, "checksum": "",
        "schema": SCHEMA, "min_reader": SCHEMA, "by": "", "why": "", "at": 0, "nonce": ""}),
    )
    .expect("a stamp");
    Table { stamp, farms }
}

/// The view of one prober, at work or not.
fn health(table: &Table, cases: &[Case], fresh: bool) -> Health {
    let checks = table
        .farms
        .servers()
        .map(|(_, server)| server.check.as_ref());
    let findings: HashMap<CheckKey, Finding> = checks
        .zip(cases)
        .filter_map(|(check, case)| {
            let finding = Finding {
                state: case.seen?,
                checked: Checked::Ok,
                since: 1,
                why: String::new(),
                last_check: 1,
            };
            Some((check?.key(), finding))
        })
        .collect();
    let (mut views, began) = (Views::default(), Instant::now());
    for sequence in [1, 2] {
        let changes = ViewChanges {
            sequences: [("p".to_owned(), sequence)].into(),
            changed: [("p".to_owned(), (1, findings.clone()))].into(),
        };
        views.take(changes, began);
    }
    let later = if fresh {
        Duration::ZERO
    } else {
        Duration::from_secs(60)
    };
    views.merge(began + later, Duration::from_secs(5))
}

/// The servers that clients are sent to.
fn picked(
    table: &Table,
    overrides: &HashMap<ServerId, Override>,
    health: &Health,
) -> BTreeSet<String> {
    let (counters, mut rng) = (Counters::new(1), SmallRng::seed_from_u64(1));
    let none = Routes::default();
    let routes = Routes::build(&table.farms, overrides, health, &counters, &none, &mut rng);
    let farm = routes.farm(b"f.org").expect("the farm");
    let mut name = || {
        let picked = farm.pick(false, &mut rng).ok()?;
        let [_, host] = picked
            .destination
            .origin(common::model::target::Scheme::Http);
        Some(String::from_utf8_lossy(host).into_owned())
    };
    (0..300).filter_map(|_| name()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn show_the_pages_and_the_redirector_never_part(
        cases in cases(),
        fresh in any::<bool>(),
        any in any::<bool>(),
    ) {
        let table = table(&cases, any);
        let health = health(&table, &cases, fresh);
        let ids = table.farms.servers().map(|(id, _)| id);
        let overrides: HashMap<ServerId, Override> =
            ids.zip(&cases).filter_map(|(id, case)| Some((id, case.by_hand.clone()?))).collect();
        let index = TableIndex::new(&table);
        let report = Report::new(Inputs {
            cluster: &table.stamp.cluster,
            at: 1,
            table: Some((&table, &index)),
            overrides: &overrides,
            health: &health,
            counts: &Default::default(),
            replicas: Vec::new(),
            events: Vec::new(),
            alarm: None,
        });
        let picked = picked(&table, &overrides, &health);
        let current = Current {
            stamp: Some(table.stamp.clone()),
            table: Some(Ok(table)),
            set: overrides.clone(),
            overrides,
            health,
            now: 1,
        };
        let farm = current.table().expect("a table").farms.iter().next().expect("a farm");
        let shown = rows(&current, farm, &Tally::default());
        let reported = &report.farms[0].servers;
        for (shown, reported) in shown.iter().zip(reported) {
            prop_assert_eq!(&shown.name, reported.name.as_str());
            prop_assert_eq!(shown.health, reported.health.as_str());
            prop_assert_eq!(shown.in_service, reported.in_service);
            prop_assert_eq!((shown.weight, shown.enable), (reported.weight.0, reported.enable.as_str()));
            prop_assert_eq!(shown.caution, reported.caution);
        }
        let in_service: BTreeSet<String> =
            reported.iter().filter(|server| server.in_service).map(|server| server.name.to_string()).collect();
        if in_service.is_empty() {
            // Nobody is in service: all that take clients are tried, or none, as the farm says.
            let wanted = |server: &&statsd::report::ServerReport| server.enable == Intent::On && server.weight.0 > 0;
            let last_resort: BTreeSet<String> = reported.iter().filter(wanted).map(|server| server.name.to_string()).collect();
            prop_assert_eq!(picked, if any { last_resort } else { BTreeSet::new() });
        } else {
            prop_assert_eq!(picked, in_service);
        }
    }
}
