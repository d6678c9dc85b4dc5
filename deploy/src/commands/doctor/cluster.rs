//! The cluster: its table, its redirectors, its probers, what is set by hand. Pure.

use super::finding::Line;
use crate::change::current::Current;
use crate::change::publish::LIVE_MS;
use common::model::check::CheckKey;
use common::model::farm::{Server, ServerId};
use common::model::health::{Checked, Finding, State, ViewChanges};
use common::model::in_force::Wanted;
use common::store::Replica;
use common::time::{span, utc};
use common::words::count;

/// Names in one line; more are counted.
const NAMES: usize = 5;

/// What was seen. Two looks at the probers, a while apart.
pub(super) struct Seen<'a> {
    pub(super) current: &'a Current,
    pub(super) before: &'a ViewChanges,
    pub(super) after: &'a ViewChanges,
    pub(super) replicas: &'a [Replica],
}

/// Everything.
pub(super) fn judge(seen: &Seen<'_>) -> Vec<Line> {
    let mut lines = vec![table(seen)];
    lines.extend(redirectors(seen));
    lines.extend(probers(seen));
    lines.extend(by_hand(seen));
    lines
}

fn table(seen: &Seen<'_>) -> Line {
    match &seen.current.table {
        None => Line::wrong(
            "no table is in force",
            "run `rbalancer apply rbalancer.conf`",
        ),
        Some(Err(alarm)) => Line::wrong(alarm.to_string(), ""),
        Some(Ok(table)) => {
            let (farms, servers) = (table.farms.len(), table.farms.servers().count());
            let stamp = &table.stamp;
            Line::ok(format!(
                "generation {} of cluster {}: {}, {}, checksum right",
                stamp.table,
                stamp.cluster,
                count(farms, "farm"),
                count(servers, "server")
            ))
        }
    }
}

fn redirectors(seen: &Seen<'_>) -> Vec<Line> {
    let (mut lines, mut well) = (Vec::new(), 0);
    let here: Vec<_> = seen
        .replicas
        .iter()
        .filter(|replica| !replica.announcement.left)
        .collect();
    let (generation, overrides) = seen
        .current
        .stamp
        .as_ref()
        .map_or((0, 0), |stamp| (stamp.table, stamp.overrides));
    for Replica {
        announcement: said,
        silent_ms,
    } in &here
    {
        let name = format!("redirector {} on {}", said.address, said.host);
        if *silent_ms >= LIVE_MS {
            let what = format!("{name} has been silent for {}", span(*silent_ms));
            lines.push(Line::risk(what, "start it, or take its address out of DNS"));
        } else if !said.alarm.is_empty() {
            lines.push(Line::wrong(format!("{name}: {}", said.alarm), ""));
        } else if said.generation < generation || said.overrides < overrides {
            let what = format!(
                "{name} still uses generation {} and what was set by hand up to {}",
                said.generation, said.overrides
            );
            lines.push(Line::wrong(what, "look into its log"));
        } else {
            well += 1;
        }
    }
    match (here.len(), well) {
        (0, _) => lines.push(Line::risk(
            "no redirector has announced itself",
            "start rbalancer-redirector",
        )),
        (all, well) => {
            let what = format!("{well} of {all} redirectors are at work with what is in force");
            lines.push(if well == 0 {
                Line::wrong(what, "start rbalancer-redirector")
            } else {
                Line::ok(what)
            });
        }
    }
    lines
}

/// The servers that are probed, with their checks.
fn probed(seen: &Seen<'_>) -> Vec<(ServerId, CheckKey)> {
    let farms = seen.current.farms();
    let check = |(id, server): (ServerId, &Server)| {
        let wanted = Wanted::new(server, seen.current.overrides.get(&id));
        let key = wanted.check()?.key();
        Some((id, key))
    };
    farms.servers().filter_map(check).collect()
}

/// What one prober has found about a check.
fn finding<'a>(seen: &'a Seen<'_>, prober: &str, check: &CheckKey) -> Option<&'a Finding> {
    let (_, findings) = seen.after.changed.get(prober)?;
    findings.get(check)
}

fn probers(seen: &Seen<'_>) -> Vec<Line> {
    let probed = probed(seen);
    if probed.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let doubts =
        |id: &str, check: &CheckKey| finding(seen, id, check).is_some_and(Finding::is_doubted);
    for id in seen.after.sequences.keys() {
        if probed.iter().any(|(_, check)| doubts(id, check)) {
            let what = format!(
                "healthd {id} suspects itself: all it probes fails at once, and is held in service"
            );
            lines.push(Line::risk(what, "look at its network"));
        }
    }
    let moved = |id: &&String| seen.before.sequences.get(*id) != seen.after.sequences.get(*id);
    let (fresh, silent): (Vec<_>, Vec<_>) = seen.after.sequences.keys().partition(moved);
    if fresh.is_empty() {
        let what = "no healthd is at work: the last known health stays, and a server that dies goes on getting clients";
        let remedy = "start rbalancer-healthd, or look at its network";
        lines.push(Line::wrong(what, remedy));
        return lines;
    }
    for id in silent {
        let what = format!("healthd {id} has found nothing while it was watched");
        lines.push(Line::risk(what, "start it, or look at its network"));
    }
    lines.extend(fresh.iter().filter_map(|id| strangers(seen, id, &probed)));
    let mut never = Vec::new();
    for (server, check) in &probed {
        let found: Vec<(&String, &Finding)> = fresh
            .iter()
            .filter_map(|id| Some((*id, finding(seen, id, check)?)))
            .collect();
        if !found
            .iter()
            .any(|(_, finding)| finding.checked != Checked::Never)
        {
            never.push(server.clone());
        }
        lines.extend(disagreement(server, &found));
    }
    if !never.is_empty() {
        let what = format!("never checked: {}", names(&never));
        let remedy = "can healthd resolve its name, and was it just added?";
        lines.push(Line::risk(what, remedy));
    }
    lines.push(Line::ok(format!(
        "{} healthd at work, {} servers probed",
        fresh.len(),
        probed.len() - never.len()
    )));
    lines
}

/// The servers that a prober at work knows nothing of.
fn strangers(seen: &Seen<'_>, prober: &str, probed: &[(ServerId, CheckKey)]) -> Option<Line> {
    let is_strange = |(_, check): &&(ServerId, CheckKey)| finding(seen, prober, check).is_none();
    let strange = probed
        .iter()
        .filter(is_strange)
        .map(|(server, _)| server.clone());
    let strange: Vec<ServerId> = strange.collect();
    let what = format!("healthd {prober} does not know of {}", names(&strange));
    let remedy = "look into its log: does it take the table in force?";
    (!strange.is_empty()).then(|| Line::risk(what, remedy))
}

fn disagreement(server: &ServerId, found: &[(&String, &Finding)]) -> Option<Line> {
    let of = |state| found.iter().find(|(_, finding)| finding.state == state);
    let ((up, _), (down, finding)) = (of(State::Up)?, of(State::Down)?);
    let what = format!(
        "{server} is up for healthd {up} and down for healthd {down} ({}): it is used",
        finding.why
    );
    Some(Line::risk(what, "look at the network between them"))
}

fn by_hand(seen: &Seen<'_>) -> Vec<Line> {
    let mut set: Vec<_> = seen.current.set.iter().collect();
    set.sort_by_key(|(id, _)| (*id).clone());
    let farms = seen.current.farms();
    let mut lines = Vec::new();
    for (id, hand) in set {
        if let Some(until) = hand.until.filter(|until| *until <= seen.current.now) {
            let what = format!(
                "the force on {id} ended at {} UTC and is still noted",
                utc(until)
            );
            lines.push(Line::risk(what, "drop it with `rbalancer clear`"));
        }
        if seen.current.table.is_some() && !farms.servers().any(|(known, _)| known == *id) {
            lines.push(Line::risk(
                format!("{id} is set by hand and in no farm"),
                "drop it with `rbalancer clear`",
            ));
        }
    }
    lines
}

fn names(ids: &[ServerId]) -> String {
    let more = if ids.len() > NAMES {
        format!(" and {} more", ids.len() - NAMES)
    } else {
        String::new()
    };
    ids.iter()
        .take(NAMES)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
        + &more
}

#[cfg(test)]
mod tests;
