//! `rbalancer show`: what is in force, from the store, for people or for programs.

use crate::change::current::Current;
use crate::commands::format::Format;
use common::model::farm::Farm;
use common::model::generation::Table;
use common::model::health::{Caution, Checked, Finding};
use common::model::in_force::{self, InForce};
use common::model::overrides::Override;
use common::model::tally::{CountKey, Tally};
use common::store::{Redis, RedisSettings, Store};
use common::time::utc;
use serde_json::{Value, json};
use std::fmt::Write;

/// The table in force with health, totals and what is set by hand.
///
/// # Errors
/// When Redis does not answer, or holds a damaged table.
pub async fn show(redis: &RedisSettings, format: Format) -> anyhow::Result<String> {
    let reader = Store::Redis(Redis::pooled(redis)).reader();
    let current = Current::read(&reader).await?;
    if current.table.is_none() {
        return Ok(match format {
            Format::Table => "no table: run `rbalancer apply rbalancer.conf`\n".into(),
            Format::Json => "null\n".into(),
        });
    }
    let (table, totals) = (current.table()?, reader.totals().await?.sum());
    let farms: Vec<_> = table
        .farms
        .iter()
        .map(|farm| (farm, rows(&current, farm, &totals)))
        .collect();
    Ok(match format {
        Format::Table => text(table, &farms),
        Format::Json => serde_json::to_string_pretty(&document(table, &farms))? + "\n",
    })
}

/// One server as it is now.
struct Row {
    name: String,
    domain: String,
    weight: u16,
    enable: &'static str,
    /// The health it is treated by.
    health: &'static str,
    /// Whether it gets clients.
    in_service: bool,
    /// What is to be known of it besides.
    caution: Option<Caution>,
    /// Whether it is probed.
    probed: bool,
    /// Whether no probe has ever said anything about it.
    never: bool,
    why: String,
    redirects: u64,
    /// What is set by hand, until when, by whom and why.
    by_hand: Option<String>,
}

fn rows(current: &Current, farm: &Farm, totals: &Tally) -> Vec<Row> {
    let servers = in_force::by_health(farm, &current.overrides, &current.health);
    let row = |server| row(current, farm, server, totals);
    servers.iter().map(row).collect()
}

fn row(current: &Current, farm: &Farm, server: &InForce<'_>, totals: &Tally) -> Row {
    let wanted = &server.wanted;
    let id = farm.id(wanted.server);
    let check = wanted.check();
    let finding = check.and_then(|check| current.health.of(&check.key()));
    let caution = finding.map_or(Some(Caution::NeverChecked), Finding::caution);
    Row {
        caution: caution.filter(|_| check.is_some() && wanted.force.is_none()),
        probed: check.is_some(),
        never: finding.is_none_or(|finding| finding.checked == Checked::Never),
        name: wanted.server.name.to_string(),
        domain: wanted.server.target.to_string(),
        weight: wanted.weight.0,
        enable: wanted.enable.as_str(),
        health: server.health().as_str(),
        in_service: server.is_in_service(),
        why: finding.map_or("", |finding| &finding.why).to_owned(),
        redirects: totals.get(&CountKey::Server(id.clone())),
        by_hand: current.overrides.get(&id).and_then(by_hand),
    }
}

/// What is set by hand, until when, by whom and why.
fn by_hand(set: &Override) -> Option<String> {
    let words = set.words()?;
    let until = set.until.map(|until| format!(" until {} UTC", utc(until)));
    let why = if set.why.is_empty() {
        String::new()
    } else {
        format!(": {}", set.why)
    };
    Some(format!(
        "{words}{} by {}{why}",
        until.unwrap_or_default(),
        set.by
    ))
}

/// Of how many servers a probe has ever said anything, and how many are probed.
fn ever_checked(rows: &[Row]) -> (usize, usize) {
    let probed = rows.iter().filter(|row| row.probed);
    (
        probed.clone().filter(|row| !row.never).count(),
        probed.count(),
    )
}

fn domains(farm: &Farm) -> Vec<&str> {
    farm.domains
        .iter()
        .map(common::model::host::Host::as_str)
        .collect()
}

fn text(table: &Table, farms: &[(&Farm, Vec<Row>)]) -> String {
    let stamp = &table.stamp;
    let mut out = format!(
        "cluster {}  generation {}  by {}  ({})\n",
        stamp.cluster, stamp.table, stamp.by, stamp.why
    );
    for (farm, rows) in farms {
        let _ = write!(
            out,
            "\n{}  {}  {}",
            farm.name,
            domains(farm).join(", "),
            farm.balance.as_str()
        );
        let (ever, probed) = ever_checked(rows);
        let _ = if ever < probed {
            writeln!(out, "  {ever} of {probed} ever checked")
        } else {
            writeln!(out)
        };
        let _ = writeln!(
            out,
            "  {:<16} {:<40} {:>6} {:<6} {:<7} {:<8} {:>12}  reason",
            "server", "domain", "weight", "enable", "service", "health", "redirects"
        );
        for row in rows {
            let Row {
                name,
                domain,
                weight,
                enable,
                why,
                redirects,
                by_hand,
                ..
            } = row;
            let health = row.caution.map_or(row.health, Caution::words);
            let service = if row.in_service { "in" } else { "out" };
            let by_hand = by_hand
                .as_ref()
                .map(|words| format!("  set by hand: {words}"))
                .unwrap_or_default();
            let _ = writeln!(
                out,
                "  {name:<16} {domain:<40} {weight:>6} {enable:<6} {service:<7} {health:<8} {redirects:>12}  {why}{by_hand}"
            );
        }
    }
    out
}

fn document(table: &Table, farms: &[(&Farm, Vec<Row>)]) -> Value {
    let stamp = &table.stamp;
    let server = |row: &Row| {
        let Row {
            name,
            domain,
            weight,
            enable,
            health,
            in_service,
            caution,
            why,
            redirects,
            by_hand,
            ..
        } = row;
        json!({"name": name, "domain": domain, "weight": weight, "enable": enable, "health": health, "in_service": in_service, "caution": caution, "reason": why,
            "redirects": redirects, "by_hand": by_hand})
    };
    let farm = |(farm, rows): &(&Farm, Vec<Row>)| {
        let servers: Vec<_> = rows.iter().map(server).collect();
        let (ever, probed) = ever_checked(rows);
        json!({"name": farm.name, "domains": domains(farm), "balance": farm.balance.as_str(), "probed": probed, "ever_checked": ever,
            "servers": servers})
    };
    let farms: Vec<_> = farms.iter().map(farm).collect();
    json!({"cluster": stamp.cluster, "generation": stamp.table, "overrides_generation": stamp.overrides, "checksum": stamp.checksum,
        "by": stamp.by, "why": stamp.why, "farms": farms})
}

#[cfg(test)]
mod tests;
