//! What is picked in every state of servers, and what a swap keeps.

use super::*;
use crate::routes::farm::Picked;
use common::model::check::Check;
use common::model::farm::Intent;
use common::model::health::{Checked, Finding, State, ViewChanges, Views};
use common::model::overrides::Force;
use common::model::target::Scheme;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::time::{Duration, Instant};

fn check(server: usize) -> Check {
    let json = serde_json::json!({"scheme": "http", "host": format!("s{server}.org"), "port": 80, "method": "HEAD", "uri": "/",
        "expect": "200-499", "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1200, "rise": 2, "fall": 3});
    serde_json::from_value(json).expect("valid check")
}

fn farms(servers: &[(u16, Intent)], farm: &serde_json::Value) -> Farms {
    let servers: Vec<_> = servers
        .iter()
        .enumerate()
        .map(|(n, (weight, enable))| {
            serde_json::json!({"name": format!("s{n}"), "target": format!("http://s{n}.org"), "weight": weight, "enable": enable, "check": check(n)})
        })
        .collect();
    let mut whole =
        serde_json::json!([{"name": "img", "domains": ["img.org"], "servers": servers}]);
    for (key, value) in farm.as_object().expect("an object") {
        whole[0][key] = value.clone();
    }
    serde_json::from_value(whole).expect("valid farms")
}

fn health(states: &[State]) -> Health {
    let finding = |state| Finding {
        state,
        checked: Checked::Ok,
        since: 1,
        why: String::new(),
        last_check: 1,
    };
    let findings = states
        .iter()
        .enumerate()
        .map(|(n, &state)| (check(n).key(), finding(state)))
        .collect();
    let mut views = Views::default();
    let now = Instant::now();
    views.take(
        ViewChanges {
            sequences: [("h".into(), 1)].into(),
            changed: [("h".into(), (1, findings))].into(),
        },
        now,
    );
    views.merge(now, Duration::from_secs(5))
}

fn build(farms: &Farms, overrides: &HashMap<ServerId, Override>, health: &Health) -> Routes {
    Routes::build(
        farms,
        overrides,
        health,
        &Counters::new(1),
        &Routes::default(),
        &mut SmallRng::seed_from_u64(1),
    )
}

fn reached(routes: &Routes) -> BTreeSet<String> {
    let mut rng = SmallRng::seed_from_u64(2);
    let farm = routes.farm(b"img.org").expect("the farm");
    let text = |picked: Picked<'_>| {
        String::from_utf8_lossy(&picked.destination.origin(Scheme::Http).concat()).into_owned()
    };
    (0..500)
        .filter_map(|_| farm.pick(false, &mut rng).ok().map(text))
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names
        .iter()
        .map(|name| format!("http://{name}.org"))
        .collect()
}

const ON: (u16, Intent) = (1, Intent::On);

#[test]
fn one_nobody_has_probed_waits_for_a_mate_that_is_up_only() {
    let two = farms(&[ON, ON], &serde_json::json!({}));
    let none = HashMap::new();
    assert_eq!(
        reached(&build(&two, &none, &Health::default())),
        set(&["s0", "s1"])
    );
    assert_eq!(
        reached(&build(&two, &none, &health(&[State::Up, State::Abstain]))),
        set(&["s0"])
    );
    assert_eq!(
        reached(&build(&two, &none, &health(&[State::Down, State::Abstain]))),
        set(&["s1"])
    );
    assert_eq!(
        reached(&build(&two, &none, &health(&[State::Suspect, State::Up]))),
        set(&["s0", "s1"])
    );
}

#[test]
fn with_nobody_live_the_farm_says_what_happens() {
    let (none, down) = (HashMap::new(), health(&[State::Down, State::Down]));
    assert!(
        reached(&build(
            &farms(&[ON, ON], &serde_json::json!({})),
            &none,
            &down
        ))
        .is_empty()
    );
    let any = farms(
        &[ON, (1, Intent::Off)],
        &serde_json::json!({"on_all_down": "any"}),
    );
    assert_eq!(reached(&build(&any, &none, &down)), set(&["s0"]));
    let fallback = farms(
        &[ON, ON],
        &serde_json::json!({"fallback": "http://spare.org"}),
    );
    assert_eq!(reached(&build(&fallback, &none, &down)), set(&["spare"]));
}

#[test]
fn a_farm_answers_to_each_of_its_names() {
    let farm = |name: &str, domains: &[&str]| serde_json::json!({"name": name, "domains": domains, "servers": []});
    let long = format!("{}.example.org", "a".repeat(60));
    let farms = serde_json::json!([
        farm("a", &["a.org", "www.a.org", &long]),
        farm("b", &["b.org", "www.b.org"])
    ]);
    let farms = serde_json::from_value(farms).expect("valid farms");
    let routes = build(&farms, &HashMap::new(), &Health::default());
    let name = |host: &str| {
        routes
            .farm(host.as_bytes())
            .map(|farm| farm.name().to_string())
    };
    for (host, farm) in [
        ("a.org", "a"),
        ("www.a.org", "a"),
        (&*long, "a"),
        ("b.org", "b"),
        ("www.b.org", "b"),
    ] {
        assert_eq!(name(host).as_deref(), Some(farm), "{host}");
    }
    assert_eq!([name("c.org"), name(""), name("a.or")], [None, None, None]);
}

#[test]
fn each_server_is_counted_by_its_own_counter() {
    let (counters, none, mut rng) = (Counters::new(1), HashMap::new(), SmallRng::seed_from_u64(1));
    let build = |servers: &[_], previous: &Routes| {
        let farms = farms(servers, &serde_json::json!({}));
        Routes::build(
            &farms,
            &none,
            &Health::default(),
            &counters,
            previous,
            &mut SmallRng::seed_from_u64(1),
        )
    };
    let (off, mut routes) = ((1, Intent::Off), Routes::default());
    // Counters in the order of the servers, and then no more.
    for servers in [[off, ON, ON], [ON, ON, ON]] {
        routes = build(&servers, &routes);
        let farm = routes.farm(b"img.org").expect("the farm");
        let picked: Vec<_> = (0..100)
            .filter_map(|_| farm.pick(false, &mut rng).ok())
            .collect();
        assert!(
            picked
                .iter()
                .all(|picked| picked.slot == picked.destination.slot),
            "{picked:?}"
        );
        assert_eq!(picked.len(), 100);
    }
}

#[test]
fn what_is_set_by_hand_beats_file_and_probes() {
    let two = farms(&[ON, ON], &serde_json::json!({}));
    let by_hand =
        |value: Override| HashMap::from([("img/s0".parse::<ServerId>().expect("valid"), value)]);
    let drained = by_hand(Override {
        enable: Some(Intent::Drain),
        ..Override::default()
    });
    assert_eq!(
        reached(&build(&two, &drained, &Health::default())),
        set(&["s1"])
    );
    let forced = by_hand(Override {
        force: Some(Force::Up),
        ..Override::default()
    });
    assert_eq!(
        reached(&build(&two, &forced, &health(&[State::Down, State::Up]))),
        set(&["s0", "s1"])
    );
}

#[test]
fn a_farm_made_anew_is_as_if_all_were() {
    let two = farms(&[ON, ON], &serde_json::json!({}));
    let (counters, none) = (Counters::new(1), HashMap::new());
    let first = Routes::build(
        &two,
        &none,
        &Health::default(),
        &counters,
        &Routes::default(),
        &mut SmallRng::seed_from_u64(1),
    );
    let down = health(&[State::Down, State::Up]);
    assert_eq!(
        reached(&first.rebuild(&two, &BTreeSet::from([0, 7]), &none, &down, &counters)),
        set(&["s1"])
    );
    assert_eq!(
        reached(&first.rebuild(&two, &BTreeSet::new(), &none, &down, &counters)),
        set(&["s0", "s1"])
    );
}

#[test]
fn round_robin_goes_on_across_a_swap() {
    let two = farms(&[ON, ON], &serde_json::json!({"balance": "roundrobin"}));
    let (counters, mut rng) = (Counters::new(1), SmallRng::seed_from_u64(3));
    let make = |previous: &Routes| {
        Routes::build(
            &two,
            &HashMap::new(),
            &Health::default(),
            &counters,
            previous,
            &mut SmallRng::seed_from_u64(4),
        )
    };
    let first = make(&Routes::default());
    let next = |routes: &Routes, rng: &mut SmallRng| {
        routes
            .farm(b"img.org")
            .and_then(|farm| farm.pick(false, rng).ok())
            .map(|picked| picked.destination.origin(Scheme::Http).concat())
            .expect("live")
    };
    let before = next(&first, &mut rng);
    let second = make(&first);
    assert_ne!(next(&second, &mut rng), before);
}

#[test]
fn https_reaches_what_takes_it_by_weight() {
    let server = |name: &str, target: &str, weight: u16| serde_json::json!({"name": name, "target": target, "weight": weight, "enable": "on"});
    let servers = [
        server("a", "http://a.org", 9),
        server("b", "b.org", 2),
        server("c", "https://c.org", 1),
    ];
    let farms = serde_json::json!([{"name": "img", "domains": ["img.org"], "servers": servers, "balance": "roundrobin"}]);
    let farms: Farms = serde_json::from_value(farms).expect("valid farms");
    let routes = build(&farms, &HashMap::new(), &Health::default());
    let farm = routes.farm(b"img.org").expect("the farm");
    let mut rng = SmallRng::seed_from_u64(5);
    let mut asked = |secure| -> Vec<String> {
        let text = |picked: Picked<'_>| {
            String::from_utf8_lossy(&picked.destination.origin(Scheme::Https).concat()).into_owned()
        };
        (0..12)
            .filter_map(|_| farm.pick(secure, &mut rng).ok().map(text))
            .collect()
    };
    let count = |all: &[String], name: &str| all.iter().filter(|held| *held == name).count();
    let secure = asked(true);
    assert_eq!(
        (
            count(&secure, "https://b.org"),
            count(&secure, "https://c.org"),
            secure.len()
        ),
        (8, 4, 12)
    );
    let all = asked(false);
    assert_eq!(
        (
            count(&all, "http://a.org"),
            count(&all, "https://b.org"),
            count(&all, "https://c.org")
        ),
        (9, 2, 1)
    );
}

fn any_state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Up),
        Just(State::Down),
        Just(State::Suspect),
        Just(State::Abstain)
    ]
}

fn any_intent() -> impl Strategy<Value = Intent> {
    prop_oneof![Just(Intent::On), Just(Intent::Drain), Just(Intent::Off)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_dead_off_drained_or_weightless_server_is_never_picked(
        servers in proptest::collection::vec((0u16..3, any_intent(), any_state()), 1..6), balance in "(random|roundrobin)"
    ) {
        let table: Vec<_> = servers.iter().map(|(weight, enable, _)| (*weight, *enable)).collect();
        let states: Vec<_> = servers.iter().map(|(_, _, state)| *state).collect();
        let routes = build(&farms(&table, &serde_json::json!({"balance": balance})), &HashMap::new(), &health(&states));
        for name in reached(&routes) {
            let index: usize = name.trim_start_matches("http://s").trim_end_matches(".org").parse().expect("index");
            let (weight, enable, state) = servers[index];
            prop_assert!(weight > 0 && enable == Intent::On && state != State::Down, "{} was reached", name);
        }
    }
}
