//! One server in the report: what the table, the operator's hand and the probers say of it, the stronger first.

use super::{Checked, Inputs, ServerReport, Standing};
use crate::known::ServerFacts;
use common::farm::{Farm, Intent, Server};
use common::health::{self, Finding, State};
use common::overrides::{Force, Override};
use common::tally::CountKey;

/// The server without its shares, which depend on its mates.
pub(super) fn report(inputs: &Inputs<'_>, farm: &Farm, server: &Server, facts: &ServerFacts) -> ServerReport {
    let id = farm.id(server);
    let by_hand = inputs.overrides.get(&id);
    let enable = by_hand.and_then(|by_hand| by_hand.enable).unwrap_or(server.enable);
    // A server that is off is not probed: what an earlier probe found says nothing about it any more.
    let check = facts.check.as_ref().filter(|_| enable != Intent::Off);
    let finding = check.and_then(|check| inputs.health.of(check));
    let force = by_hand.and_then(|by_hand| by_hand.force);
    let count = inputs.counts.of(&CountKey::Server(id));
    ServerReport {
        name: server.name.clone(),
        domain: facts.domain.clone(),
        weight: by_hand.and_then(|by_hand| by_hand.weight).unwrap_or(server.weight),
        enable,
        health: standing(force, finding),
        checked: check.map_or(Checked::Off, |_| checked(finding)),
        last_check: finding.map(|finding| finding.last_check).filter(|at| *at > 0),
        reason: reason(force, finding),
        since: finding.filter(|_| force.is_none()).map(|finding| finding.since).filter(|at| *at > 0),
        by_hand: by_hand.map(hand),
        redirects: count.total,
        rate: count.rate,
        share_intended: 0.0,
        share_actual: 0.0,
    }
}

fn standing(force: Option<Force>, finding: Option<&Finding>) -> Standing {
    match (force, finding.map(|finding| finding.state)) {
        (Some(Force::Up), _) => Standing::Up,
        (Some(Force::Down), _) | (None, Some(State::Down)) => Standing::Down,
        (None, Some(State::Suspect)) => Standing::Suspect,
        (None, Some(State::Up | State::Abstain) | None) => Standing::Up,
    }
}

fn checked(finding: Option<&Finding>) -> Checked {
    match finding.map(|finding| finding.checked) {
        // A lapsed one: the latest conclusive probe succeeded; its age is shown beside it.
        Some(health::Checked::Ok | health::Checked::Lapsed) => Checked::Ok,
        Some(health::Checked::Failing) => Checked::Failing,
        Some(health::Checked::Never) | None => Checked::Never,
    }
}

fn reason(force: Option<Force>, finding: Option<&Finding>) -> String {
    let seen = finding.map(|finding| finding.why.as_str()).unwrap_or_default();
    let forced = match force {
        Some(Force::Up) => "forced up",
        Some(Force::Down) => "forced down",
        None => return seen.to_owned(),
    };
    if seen.is_empty() { forced.to_owned() } else { format!("{forced}; probes say: {seen}") }
}

fn hand(by_hand: &Override) -> String {
    let set = [
        by_hand.enable.map(|enable| format!("enable {}", enable.as_str())),
        by_hand.weight.map(|weight| format!("weight {weight}")),
        by_hand.force.map(|force| if force == Force::Up { "force up".to_owned() } else { "force down".to_owned() }),
    ];
    let mut text = set.into_iter().flatten().collect::<Vec<_>>().join(", ");
    if !by_hand.by.is_empty() {
        text.push_str(" by ");
        text.push_str(&by_hand.by);
    }
    if !by_hand.why.is_empty() {
        text.push_str(": ");
        text.push_str(&by_hand.why);
    }
    text
}
