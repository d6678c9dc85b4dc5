//! What an operator must insist on: changes that take service away from whole farms. Pure.
//!
//! A farm's removal, the loss of more than half of the servers of a farm or of all farms together (counted by name,
//! whatever comes in their place), and a farm that has a live server now and would have none. Live is what
//! redirectors would use: switched on, with weight, and not known to be down.

use anyhow::anyhow;
use common::model::farm::{Farm, Farms, OnAllDown, ServerId};
use common::model::health::Health;
use common::model::in_force::{self, InForce};
use common::model::overrides::Override;
use std::collections::{HashMap, HashSet};

/// A table with what is set by hand: as it is, or as it would be.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// The table.
    pub farms: &'a Farms,
    /// What is in force of what is set by hand.
    pub overrides: &'a HashMap<ServerId, Override>,
}

/// Refuses the step from `before` to `after` unless `force` is given: every reason at once, and the remedy.
///
/// # Errors
/// When there is a reason.
pub fn check(
    before: Picture<'_>,
    after: Picture<'_>,
    health: &Health,
    force: bool,
) -> anyhow::Result<()> {
    let reasons = reasons(before, after, health);
    if force || reasons.is_empty() {
        return Ok(());
    }
    Err(anyhow!(
        "refused:\n  {}\nnothing was changed: give --force if this is meant",
        reasons.join("\n  ")
    ))
}

/// Why the step from `before` to `after` needs insistence.
pub fn reasons(before: Picture<'_>, after: Picture<'_>, health: &Health) -> Vec<String> {
    let kept: HashMap<_, _> = after.farms.iter().map(|farm| (&farm.name, farm)).collect();
    let mut reasons = Vec::new();
    for farm in before.farms.iter() {
        match kept.get(&farm.name) {
            None => reasons.push(format!(
                "farm {} would be gone: requests for {} would be refused",
                farm.name, farm.domains[0]
            )),
            Some(new) => {
                reasons.extend(lost(
                    &format!("of farm {}", farm.name),
                    &ids(farm),
                    &ids(new),
                ));
                if is_live(farm, before.overrides, health) && !is_live(new, after.overrides, health)
                {
                    reasons.push(format!(
                        "farm {} would have no live server: {}",
                        farm.name,
                        consequence(new)
                    ));
                }
            }
        }
    }
    let all = |farms: &Farms| farms.servers().map(|(id, _)| id).collect::<Vec<_>>();
    if before.farms.len() > 1 {
        reasons.extend(lost("in all", &all(before.farms), &all(after.farms)));
    }
    reasons
}

fn ids(farm: &Farm) -> Vec<ServerId> {
    farm.servers.iter().map(|server| farm.id(server)).collect()
}

fn lost(of: &str, before: &[ServerId], after: &[ServerId]) -> Option<String> {
    let after: HashSet<_> = after.iter().collect();
    let gone: Vec<_> = before
        .iter()
        .filter(|id| !after.contains(id))
        .map(ToString::to_string)
        .collect();
    if 2 * gone.len() <= before.len() {
        return None;
    }
    let more = if gone.len() > 5 {
        format!(" and {} more", gone.len() - 5)
    } else {
        String::new()
    };
    Some(format!(
        "{} of {} servers {of} would be gone: {}{more}",
        gone.len(),
        before.len(),
        gone[..gone.len().min(5)].join(", ")
    ))
}

fn consequence(farm: &Farm) -> String {
    match (farm.on_all_down, &farm.fallback) {
        (OnAllDown::Any, _) => {
            "its clients would be sent to servers known to be down, or get a 503".into()
        }
        (OnAllDown::Error, Some(fallback)) => format!("its clients would be sent to {fallback}"),
        (OnAllDown::Error, None) => "its clients would get a 503".into(),
    }
}

/// Whether a redirector would send clients to any server of the farm. One nobody has probed counts: it is used
/// unless a mate is known to be up.
fn is_live(farm: &Farm, overrides: &HashMap<ServerId, Override>, health: &Health) -> bool {
    let servers = in_force::by_health(farm, overrides, health);
    servers.iter().any(InForce::is_in_service)
}

#[cfg(test)]
mod tests;
