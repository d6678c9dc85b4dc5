//! `rbalancer export`: the table in force as a file that `check` accepts and that means the same. What is set by
//! hand is folded in; what a file cannot say stands in comments. The writing is pure, and read back before it is shown.

pub(crate) mod checks;

use crate::change::current::Current;
use crate::conf::{Flags, parse};
use anyhow::anyhow;
use checks::ExportedChecks;
use common::config::ini::Document;
use common::model::farm::{Farm, Farms, Name, OnAllDown, Server, ServerId};
use common::model::generation::Stamp;
use common::model::overrides::Override;
use common::store::{Redis, RedisSettings, Store};
use common::time::utc;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

/// The table in force as a file.
///
/// # Errors
/// When Redis does not answer, there is no table, or it holds what no file can say.
pub async fn export(redis: &RedisSettings) -> anyhow::Result<String> {
    let reader = Store::Redis(Redis::pooled(redis)).reader();
    let current = Current::read(&reader).await?;
    let table = current.table()?;
    let (farms, left_out) = fold(&table.farms, &current.overrides);
    let mut text = head(&table.stamp, current.now, &left_out);
    text.push_str(&file(&farms, &table.stamp.cluster));
    let (document, problems) = Document::parse("export", &text);
    match parse(&document, problems, Flags::default()) {
        Ok(conf) if conf.farms == farms && conf.cluster == table.stamp.cluster => Ok(text),
        Ok(_) => Err(anyhow!(
            "generation {} cannot be written as a file that means the same: see `rbalancer show`",
            table.stamp.table
        )),
        Err(problems) => Err(anyhow!(
            "generation {} cannot be written as a good file: {problems}",
            table.stamp.table
        )),
    }
}

fn head(stamp: &Stamp, now: u64, left_out: &[String]) -> String {
    let plain = |text: &str| text.replace(char::is_control, " ");
    let (by, why) = (plain(&stamp.by), plain(&stamp.why));
    let mut text = format!(
        "# Generation {}, published by {by} ({why}), as of {} UTC.\n",
        stamp.table,
        utc(now)
    );
    text.push_str("# What is set by hand is in it, as far as a file can say it.\n");
    left_out
        .iter()
        .for_each(|line| text.push_str(&format!("# Set by hand and not in this file: {line}\n")));
    text.push_str("# The settings of processes are not in it: add yours to [global].\n\n");
    text
}

/// The table with what is set by hand in it, and what could not be folded in. Servers of one name are one section
/// of the file: they are set alike or not at all.
pub fn fold(farms: &Farms, overrides: &HashMap<ServerId, Override>) -> (Farms, Vec<String>) {
    let none = Override::default();
    let hand =
        |farm: &Farm, server: &Server| overrides.get(&farm.id(server)).unwrap_or(&none).clone();
    let wanted = |farm: &Farm, server: &Server| {
        let hand = hand(farm, server);
        (
            hand.enable.unwrap_or(server.enable),
            hand.weight.unwrap_or(server.weight),
        )
    };
    let mut sections: BTreeMap<Name, HashSet<_>> = BTreeMap::new();
    for farm in farms.iter() {
        for server in &farm.servers {
            let (enable, weight) = wanted(farm, server);
            sections
                .entry(server.name.clone())
                .or_default()
                .insert((enable.as_str(), weight));
        }
    }
    let (mut folded, mut left_out) = (farms.iter().cloned().collect::<Vec<_>>(), Vec::new());
    for farm in &mut folded {
        let name = farm.clone();
        for server in &mut farm.servers {
            let (id, hand) = (name.id(server), hand(&name, server));
            let alike = sections
                .get(&server.name)
                .is_none_or(|values| values.len() == 1);
            if alike {
                (server.enable, server.weight) = wanted(&name, server);
            }
            let rest = if alike {
                Override {
                    force: hand.force,
                    ..Override::default()
                }
            } else {
                hand
            };
            left_out.extend(rest.words().map(|words| format!("{id} {words}")));
        }
    }
    // Names and hosts are as they were: the rules of a table still hold.
    (
        Farms::try_from(folded).unwrap_or_else(|_| farms.clone()),
        left_out,
    )
}

/// A table as a file.
pub fn file(farms: &Farms, cluster: &Name) -> String {
    let names = |names: Vec<&str>| names.join(", ");
    let checks = ExportedChecks::of(farms);
    let mut out = format!("[global]\ncluster = {cluster}\n");
    checks
        .of_all()
        .for_each(|(key, value)| line(&mut out, key, value));
    let _ = write!(
        out,
        "\n[farms]\nlist = {}\n",
        names(farms.iter().map(|farm| farm.name.as_str()).collect())
    );
    let mut written = HashSet::new();
    for farm in farms.iter() {
        let domains = names(
            farm.domains
                .iter()
                .map(common::model::host::Host::as_str)
                .collect(),
        );
        let servers = names(
            farm.servers
                .iter()
                .map(|server| server.name.as_str())
                .collect(),
        );
        let _ = write!(
            out,
            "\n[{}]\ndomain = {domains}\nlist = {servers}\n",
            farm.name
        );
        farm_keys(farm)
            .into_iter()
            .for_each(|(key, value)| line(&mut out, key, &value));
        checks
            .of_farm(&farm.name)
            .for_each(|(key, value)| line(&mut out, key, value));
        for server in farm
            .servers
            .iter()
            .filter(|server| written.insert(server.name.clone()))
        {
            let _ = write!(out, "\n[{}]\ndomain = {}\n", server.name, server.target);
            let _ = write!(
                out,
                "weight = {}\nenable = {}\n",
                server.weight,
                server.enable.as_str()
            );
            checks
                .of_server(&server.name)
                .for_each(|(key, value)| line(&mut out, key, value));
        }
    }
    out
}

/// The keys of a farm that differ from their defaults.
fn farm_keys(farm: &Farm) -> Vec<(&'static str, String)> {
    let default = |text: &str, value: String| (value != text).then_some(value);
    let keys = [
        (
            "balance",
            default("random", farm.balance.as_str().to_owned()),
        ),
        (
            "redirect_code",
            default("302", u16::from(farm.redirect_code).to_string()),
        ),
        (
            "cache_control",
            default("no-store", farm.cache_control.as_str().to_owned()),
        ),
        (
            "on_all_down",
            (farm.on_all_down == OnAllDown::Any).then(|| "any".to_owned()),
        ),
        ("fallback", farm.fallback.as_ref().map(ToString::to_string)),
        ("keepalive", (!farm.keepalive).then(|| "off".to_owned())),
    ];
    keys.into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

/// One key, quoted where a comment or a quote would be read out of it.
fn line(out: &mut String, key: &str, value: &str) {
    let quote = match (
        value.contains(['#', ';', '\'', '"', '\\']),
        value.contains('"'),
    ) {
        (false, _) => "",
        (true, false) => "\"",
        (true, true) => "'",
    };
    let _ = writeln!(out, "{key} = {quote}{value}{quote}");
}

#[cfg(test)]
mod tests;
