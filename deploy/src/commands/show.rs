//! `rbalancer show`: what is in force, from the store, for people or for programs.

use crate::change::current::Present;
use crate::commands::format::Format;
use common::model::farm::{Farm, Intent, Server};
use common::model::generation::Table;
use common::model::health::{Caution, Checked, Finding, State};
use common::model::overrides::Force;
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
    let present = Present::read(&reader).await?;
    if present.table.is_none() {
        return Ok(match format {
            Format::Table => "no table: run `rbalancer apply rbalancer.conf`\n".into(),
            Format::Json => "null\n".into(),
        });
    }
    let (table, totals) = (present.table()?, reader.totals().await?.sum());
    let farms: Vec<_> = table
        .farms
        .iter()
        .map(|farm| (farm, rows(&present, farm, &totals)))
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
    state: &'static str,
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

fn rows(present: &Present, farm: &Farm, totals: &Tally) -> Vec<Row> {
    farm.servers
        .iter()
        .map(|server| row(present, farm, server, totals))
        .collect()
}

fn row(present: &Present, farm: &Farm, server: &Server, totals: &Tally) -> Row {
    let id = farm.id(server);
    let hand = present.overrides.get(&id);
    let finding = server
        .check
        .as_ref()
        .and_then(|check| present.health.of(&check.key()));
    let state = match (
        hand.and_then(|hand| hand.force),
        finding.map(|finding| finding.state),
    ) {
        (Some(Force::Up), _) | (None, Some(State::Up)) => "up",
        (Some(Force::Down), _) | (None, Some(State::Down)) => "down",
        (None, Some(State::Suspect)) => "suspect",
        (None, Some(State::Abstain) | None) => "unknown",
    };
    let by_hand = hand.and_then(|hand| {
        let until = hand
            .until
            .map(|until| format!(" until {} UTC", utc(until)))
            .unwrap_or_default();
        let why = if hand.why.is_empty() {
            String::new()
        } else {
            format!(": {}", hand.why)
        };
        Some(format!("{}{until} by {}{why}", hand.words()?, hand.by))
    });
    let enable = hand.and_then(|hand| hand.enable).unwrap_or(server.enable);
    let probed = server.check.is_some() && enable != Intent::Off;
    let caution = finding.map_or(Some(Caution::NeverChecked), Finding::caution);
    Row {
        caution: caution.filter(|_| probed && hand.is_none_or(|hand| hand.force.is_none())),
        probed,
        never: finding.is_none_or(|finding| finding.checked == Checked::Never),
        name: server.name.to_string(),
        domain: server.target.to_string(),
        weight: hand.and_then(|hand| hand.weight).unwrap_or(server.weight).0,
        enable: enable.as_str(),
        state,
        why: finding
            .map(|finding| finding.why.clone())
            .unwrap_or_default(),
        redirects: totals.get(&CountKey::Server(id)),
        by_hand,
    }
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
            "  {:<16} {:<40} {:>6} {:<6} {:<8} {:>12}  reason",
            "server", "domain", "weight", "enable", "health", "redirects"
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
            let state = row.caution.map_or(row.state, Caution::words);
            let by_hand = by_hand
                .as_ref()
                .map(|words| format!("  set by hand: {words}"))
                .unwrap_or_default();
            let _ = writeln!(
                out,
                "  {name:<16} {domain:<40} {weight:>6} {enable:<6} {state:<8} {redirects:>12}  {why}{by_hand}"
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
            state,
            caution,
            why,
            redirects,
            by_hand,
            ..
        } = row;
        json!({"name": name, "domain": domain, "weight": weight, "enable": enable, "health": state, "caution": caution, "reason": why,
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
