//! One server in the report: what the table, the operator's hand and the probers say of it, the stronger first.

use super::{Checked, Inputs, ServerReport};
use crate::report::table_index::ServerFacts;
use common::model::farm::Farm;
use common::model::health::{self, Caution, Finding};
use common::model::in_force::{InForce, Out};
use common::model::overrides::{Force, Override};
use common::model::tally::CountKey;
use common::time::http_date;

/// A server as it is in force; its share of the farm's clients is for the farm to tell.
pub(super) fn report(
    inputs: &Inputs<'_>,
    farm: &Farm,
    server: &InForce<'_>,
    facts: &ServerFacts,
) -> ServerReport {
    let wanted = &server.wanted;
    let id = farm.id(wanted.server);
    let by_hand = inputs.overrides.get(&id);
    // A server that is off is not probed: what an earlier probe found says nothing about it any more.
    let check = facts.check.as_ref().filter(|_| wanted.check().is_some());
    let finding = check.and_then(|check| inputs.health.of(check));
    let is_forced = wanted.force.is_some();
    let count = inputs.counts.of(&CountKey::Server(id));
    ServerReport {
        name: wanted.server.name.clone(),
        domain: facts.domain.clone(),
        weight: wanted.weight,
        enable: wanted.enable,
        health: server.health(),
        caution: check.filter(|_| !is_forced).and_then(|_| caution(finding)),
        in_service: server.is_in_service(),
        waits: server.out == Some(Out::Waits),
        checked: check.map_or(Checked::Off, |_| checked(finding)),
        last_check: finding
            .map(|finding| finding.last_check)
            .filter(|at| *at > 0),
        reason: reason(wanted.force, finding, check.is_some()),
        since: finding
            .filter(|_| !is_forced)
            .map(|finding| finding.since)
            .filter(|at| *at > 0),
        by_hand: by_hand.map(hand),
        redirects: count.total,
        rate: count.rate,
        share_intended: 0.0,
        share_actual: 0.0,
    }
}

/// One that no prober has told of was never checked either.
fn caution(finding: Option<&Finding>) -> Option<Caution> {
    finding.map_or(Some(Caution::NeverChecked), Finding::caution)
}

fn checked(finding: Option<&Finding>) -> Checked {
    match finding.map(|finding| finding.checked) {
        // A lapsed one: the latest conclusive probe succeeded; its age is shown beside it.
        Some(health::Checked::Ok | health::Checked::Lapsed) => Checked::Ok,
        Some(health::Checked::Failing) => Checked::Failing,
        Some(health::Checked::Never) | None => Checked::Never,
    }
}

fn reason(force: Option<Force>, finding: Option<&Finding>, probed: bool) -> String {
    let untold = if probed {
        "no prober has told of it yet"
    } else {
        ""
    };
    let seen = finding.map_or(untold, |finding| finding.why.as_str());
    let forced = match force {
        Some(Force::Up) => "forced up",
        Some(Force::Down) => "forced down",
        None => return seen.to_owned(),
    };
    if seen.is_empty() {
        forced.to_owned()
    } else {
        format!("{forced}; probes say: {seen}")
    }
}

fn hand(by_hand: &Override) -> String {
    let set = [
        by_hand
            .enable
            .map(|enable| format!("enable {}", enable.as_str())),
        by_hand.weight.map(|weight| format!("weight {weight}")),
        by_hand.force.map(|force| {
            if force == Force::Up {
                "force up".to_owned()
            } else {
                "force down".to_owned()
            }
        }),
    ];
    let mut text = set.into_iter().flatten().collect::<Vec<_>>().join(", ");
    if let Some(until) = by_hand.until {
        text.push_str(" until ");
        text.push_str(&http_date(until));
    }
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
