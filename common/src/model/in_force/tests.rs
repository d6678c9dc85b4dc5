//! Every combination of what the file says, what was set by hand, what was seen, and whether anybody looks.

use super::*;
use proptest::prelude::*;

const INTENTS: [Intent; 3] = [Intent::On, Intent::Drain, Intent::Off];

const STATES: [State; 4] = [State::Up, State::Suspect, State::Abstain, State::Down];

fn farm(servers: &[(Intent, u16, bool)]) -> Farm {
    let server = |(index, (enable, weight, checked)): (usize, &(Intent, u16, bool))| {
        let check = checked.then(|| {
            serde_json::json!({"scheme": "http", "host": format!("s{index}"), "port": 80, "method": "HEAD", "uri": "/",
                "expect": "200-499", "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1200,
                "rise": 2, "fall": 3})
        });
        serde_json::json!({"name": format!("s{index}"), "target": format!("http://s{index}"), "weight": weight,
            "enable": enable.as_str(), "check": check})
    };
    let servers: Vec<_> = servers.iter().enumerate().map(server).collect();
    let farm = serde_json::json!({"name": "f", "domains": ["f.org"], "servers": servers});
    serde_json::from_value(farm).expect("a farm")
}

/// The rule in words, once more and in another way: by what is asked in which order.
fn expected(
    (enable, weight, checked): (Intent, u16, bool),
    by_hand: Option<&Override>,
    seen: State,
    mate_up: bool,
    fresh: bool,
) -> Option<Out> {
    let enable = by_hand.and_then(|set| set.enable).unwrap_or(enable);
    let weight = by_hand
        .and_then(|set| set.weight)
        .map_or(weight, |weight| weight.0);
    let force = by_hand.and_then(|set| set.force);
    if enable == Intent::Off {
        return Some(Out::Off);
    }
    if enable == Intent::Drain {
        return Some(Out::Drain);
    }
    if weight == 0 {
        return Some(Out::NoWeight);
    }
    if force == Some(Force::Down) {
        return Some(Out::ForcedDown);
    }
    if force == Some(Force::Up) || !checked || seen == State::Up || seen == State::Suspect {
        return None;
    }
    if seen == State::Down {
        return Some(Out::Down);
    }
    (fresh && mate_up).then_some(Out::Waits)
}

#[test]
fn every_combination_has_its_answer() {
    let id: ServerId = "f/s0".parse().expect("an id");
    let mut seen_answers = std::collections::BTreeSet::new();
    let forces = [None, Some(Force::Up), Some(Force::Down)];
    let enables = [
        None,
        Some(Intent::On),
        Some(Intent::Drain),
        Some(Intent::Off),
    ];
    let weights = [None, Some(Weight(0)), Some(Weight(7))];
    for (enable, weight, checked) in INTENTS
        .into_iter()
        .flat_map(|enable| [(enable, 0), (enable, 5)])
        .flat_map(|(enable, weight)| [(enable, weight, true), (enable, weight, false)])
    {
        for (by_enable, by_weight, force) in enables
            .into_iter()
            .flat_map(|enable| weights.map(|weight| (enable, weight)))
            .flat_map(|(enable, weight)| forces.map(|force| (enable, weight, force)))
        {
            for (seen, mate, fresh) in STATES
                .into_iter()
                .flat_map(|seen| STATES.map(|mate| (seen, mate)))
                .flat_map(|(seen, mate)| [(seen, mate, true), (seen, mate, false)])
            {
                let farm = farm(&[(enable, weight, checked), (Intent::On, 1, true)]);
                let set = Override {
                    enable: by_enable,
                    weight: by_weight,
                    force,
                    ..Override::default()
                };
                let overrides = HashMap::from([(id.clone(), set.clone())]);
                let state = |index, _: &Check| [seen, mate][index];
                let servers = servers(&farm, &overrides, state, fresh);
                let mate_up = mate == State::Up;
                let wanted = expected((enable, weight, checked), Some(&set), seen, mate_up, fresh);
                assert_eq!(
                    servers[0].out, wanted,
                    "{enable:?} {weight} {checked} {set:?} {seen:?} {mate:?} {fresh}"
                );
                seen_answers.insert(servers[0].out);
            }
        }
    }
    assert_eq!(seen_answers.len(), 7, "{seen_answers:?}");
}

#[test]
fn among_those_that_take_https_others_may_be_in_service() {
    let farm = farm(&[(Intent::On, 1, true), (Intent::On, 1, true)]);
    let state = |index, _: &Check| [State::Up, State::Abstain][index];
    let both = servers(&farm, &HashMap::new(), state, true);
    assert_eq!([both[0].out, both[1].out], [None, Some(Out::Waits)]);
    let mut alone = [both[1]];
    decide(&mut alone, true);
    assert!(alone[0].is_in_service());
}

proptest! {
    /// As long as any server that takes clients is not known to be down, somebody serves.
    #[test]
    fn a_farm_is_never_empty_for_what_nobody_knows(
        seen in prop::collection::vec(prop::sample::select(STATES.to_vec()), 1..6),
        fresh in any::<bool>(),
    ) {
        let farm = farm(&vec![(Intent::On, 1, true); seen.len()]);
        let in_force = servers(&farm, &HashMap::new(), |index, _| seen[index], fresh);
        let all_down = seen.iter().all(|state| *state == State::Down);
        prop_assert_eq!(in_force.iter().any(InForce::is_in_service), !all_down);
    }
}

#[test]
fn who_is_off_is_not_probed() {
    let server = |name: &str, enable: &str| {
        serde_json::json!({"name": name, "target": name, "weight": 1, "enable": enable, "check": {"scheme": "http", "host": name,
            "port": 80, "method": "HEAD", "uri": "/", "expect": "200-499", "tls_verify": true, "inter": 1000, "fastinter": 300,
            "downinter": 2000, "timeout": 1200, "rise": 2, "fall": 3}})
    };
    let farms = serde_json::json!([{"name": "f", "domains": ["f.org"], "servers": [server("a", "on"), server("b", "off"), server("c", "drain")]}]);
    let farms: Farms = serde_json::from_value(farms).expect("valid");
    let hosts = |overrides: &[(&str, Intent)]| -> String {
        let set = overrides.iter().map(|(id, enable)| {
            (
                id.parse().expect("valid"),
                Override {
                    enable: Some(*enable),
                    ..Override::default()
                },
            )
        });
        let overrides: HashMap<ServerId, Override> = set.collect();
        checks(&farms, &overrides)
            .map(|check| check.host.as_str())
            .collect()
    };
    assert_eq!(
        (
            hosts(&[]),
            hosts(&[("f/a", Intent::Off), ("f/b", Intent::On)])
        ),
        ("ac".into(), "bc".into())
    );
}
