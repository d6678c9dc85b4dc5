//! Which of a farm's servers may be chosen: what the file says × what was set by hand × what the probers saw.

use common::model::farm::{Farm, Intent, Server, ServerId};
use common::model::health::{Health, State};
use common::model::overrides::{Force, Override};
use std::collections::HashMap;

/// An enabled server with weight.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) server: &'a Server,
    pub(crate) weight: u16,
    state: State,
}

pub(crate) fn candidates<'a>(
    farm: &'a Farm,
    overrides: &HashMap<ServerId, Override>,
    health: &Health,
) -> Vec<Candidate<'a>> {
    let by_hand = |server| {
        if overrides.is_empty() {
            None
        } else {
            overrides.get(&farm.id(server))
        }
    };
    let candidate = |server: &'a Server| {
        let hand = by_hand(server);
        let enable = hand.and_then(|hand| hand.enable).unwrap_or(server.enable);
        let weight = hand.and_then(|hand| hand.weight).unwrap_or(server.weight).0;
        let state = match (hand.and_then(|hand| hand.force), &server.check) {
            (Some(Force::Up), _) | (None, None) => State::Up,
            (Some(Force::Down), _) => State::Down,
            (None, Some(check)) => health.state(&check.key()),
        };
        (enable == Intent::On && weight > 0).then_some(Candidate {
            server,
            weight,
            state,
        })
    };
    farm.servers.iter().filter_map(candidate).collect()
}

/// The candidates in service, where probers are at work (`watched`) or not.
pub(crate) fn live<'a, 'b>(
    candidates: &'b [Candidate<'a>],
    watched: bool,
) -> Vec<&'b Candidate<'a>> {
    let mate_up = watched
        && candidates
            .iter()
            .any(|candidate| candidate.state == State::Up);
    candidates
        .iter()
        .filter(|candidate| candidate.state.serves(mate_up))
        .collect()
}
