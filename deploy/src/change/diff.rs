//! What would change from one table to another, in words, and what is set by hand and stays. Pure.

use common::model::check::Check;
use common::model::farm::{Farm, Farms, OnAllDown, Server, ServerId};
use common::model::overrides::Override;
use common::words::count;
use std::collections::HashMap;
use std::fmt::Display;

/// The changes as lines, and what is set by hand and stays (or goes, with `reset`).
pub fn describe(
    held: &Farms,
    wanted: &Farms,
    overrides: &HashMap<ServerId, Override>,
    reset: bool,
) -> String {
    let changes = changes(held, wanted);
    let mut text = if changes.is_empty() {
        "no farm and no server changes\n".to_owned()
    } else {
        changes.join("\n") + "\n"
    };
    text.push_str(&by_hand(wanted, overrides, reset));
    text
}

/// What is set by hand and stays beside a table (or goes, with `reset`), and where it contradicts that table. Empty where
/// nothing is set.
pub fn by_hand(wanted: &Farms, overrides: &HashMap<ServerId, Override>, reset: bool) -> String {
    let mut set: Vec<String> = overrides
        .iter()
        .filter_map(|(id, value)| Some(format!("{id} {}", value.words()?)))
        .collect();
    if set.is_empty() {
        return String::new();
    }
    set.sort();
    let what = if reset {
        "dropped"
    } else {
        "set by hand and kept"
    };
    let mut text = format!("{what}: {}\n", set.join(", "));
    for (id, server) in wanted.servers().filter(|_| !reset) {
        if let Some(words) = overrides
            .get(&id)
            .and_then(|set| contradiction(set, server))
        {
            text.push_str(&format!(
                "{id} is {words}: `rbalancer clear {id}` gives the word back to the file\n"
            ));
        }
    }
    text
}

/// Where what is set by hand says something else than the file.
fn contradiction(set: &Override, server: &Server) -> Option<String> {
    let enable = set.enable.filter(|enable| *enable != server.enable);
    let enable = enable.map(|enable| {
        format!(
            "{} by hand, {} in the file",
            enable.as_str(),
            server.enable.as_str()
        )
    });
    let weight = set.weight.filter(|weight| *weight != server.weight);
    let weight =
        weight.map(|weight| format!("of weight {weight} by hand, {} in the file", server.weight));
    let both: Vec<String> = enable.into_iter().chain(weight).collect();
    (!both.is_empty()).then(|| both.join(" and "))
}

/// The changes from one table to another, one line each, farm by farm.
pub fn changes(held: &Farms, wanted: &Farms) -> Vec<String> {
    let of = |farms: &Farms| {
        farms
            .iter()
            .map(|farm| (farm.name.clone(), farm.clone()))
            .collect::<HashMap<_, _>>()
    };
    let (before, after) = (of(held), of(wanted));
    let mut lines = Vec::new();
    for farm in held.iter().filter(|farm| !after.contains_key(&farm.name)) {
        lines.push(whole_farm('-', farm));
    }
    for farm in wanted.iter() {
        match before.get(&farm.name) {
            None => lines.push(whole_farm('+', farm)),
            Some(held) => {
                farm_changes(held, farm, &mut lines);
                server_changes(held, farm, &mut lines);
            }
        }
    }
    lines
}

/// A farm that comes or goes, with all its hosts.
fn whole_farm(sign: char, farm: &Farm) -> String {
    let domains = farm
        .domains
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "{sign} farm {} ({domains}), {}",
        farm.name,
        count(farm.servers.len(), "server")
    )
}

fn farm_changes(held: &Farm, wanted: &Farm, lines: &mut Vec<String>) {
    let mut note = |what: &str, from: String, to: String| {
        if from != to {
            lines.push(format!("  farm {}: {what} {from} → {to}", wanted.name));
        }
    };
    let domains = |farm: &Farm| {
        farm.domains
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    note("domain", domains(held), domains(wanted));
    note(
        "balance",
        held.balance.as_str().into(),
        wanted.balance.as_str().into(),
    );
    note(
        "redirect_code",
        u16::from(held.redirect_code).to_string(),
        u16::from(wanted.redirect_code).to_string(),
    );
    note(
        "cache_control",
        held.cache_control.as_str().into(),
        wanted.cache_control.as_str().into(),
    );
    let on_all_down = |farm: &Farm| {
        if farm.on_all_down == OnAllDown::Any {
            "any"
        } else {
            "error"
        }
        .to_owned()
    };
    note("on_all_down", on_all_down(held), on_all_down(wanted));
    note(
        "fallback",
        or_none(held.fallback.as_ref()),
        or_none(wanted.fallback.as_ref()),
    );
    let keepalive = |farm: &Farm| if farm.keepalive { "on" } else { "off" }.to_owned();
    note("keepalive", keepalive(held), keepalive(wanted));
}

fn server_changes(held: &Farm, wanted: &Farm, lines: &mut Vec<String>) {
    let find = |farm: &Farm, server: &Server| {
        farm.servers
            .iter()
            .find(|other| other.name == server.name)
            .cloned()
    };
    for server in held
        .servers
        .iter()
        .filter(|server| find(wanted, server).is_none())
    {
        lines.push(format!("- server {} {}", held.id(server), server.target));
    }
    for server in &wanted.servers {
        let Some(old) = find(held, server) else {
            let enable = server.enable.as_str();
            lines.push(format!(
                "+ server {} {}, weight {}, {enable}",
                wanted.id(server),
                server.target,
                server.weight
            ));
            continue;
        };
        let mut note = |what: &str, from: String, to: String| {
            if from != to {
                lines.push(format!(
                    "  server {}: {what} {from} → {to}",
                    wanted.id(server)
                ));
            }
        };
        note("domain", old.target.to_string(), server.target.to_string());
        note("weight", old.weight.to_string(), server.weight.to_string());
        note(
            "enable",
            old.enable.as_str().into(),
            server.enable.as_str().into(),
        );
        note(
            "check",
            or_none(old.check.as_ref().map(Check::to_string)),
            or_none(server.check.as_ref().map(Check::to_string)),
        );
    }
}

fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{Flags, parse};
    use common::config::ini::Document;
    use common::model::farm::Intent;

    fn farms(text: &str) -> Farms {
        let (document, problems) = Document::parse("f", text);
        parse(&document, problems, Flags::default())
            .expect("good")
            .farms
    }

    const BEFORE: &str = "[farms]\nlist=img,old\n[img]\ndomain=img.org\nlist=a,b\n[a]\ndomain=http://a\n[b]\ndomain=http://b\n[old]\ndomain=old.org\nlist=a\n";
    const AFTER: &str = "[farms]\nlist=img,new\n[img]\ndomain=img.org,i.org\nbalance=roundrobin\nlist=a,c\n[a]\ndomain=http://a\nweight=5\nenable=off\n\
        check=off\n[c]\ndomain=http://c\n[new]\ndomain=new.org\nlist=c\n";

    #[test]
    fn changes_are_told_in_words() {
        let expected = "- farm old (old.org), 1 server
  farm img: domain img.org → img.org, i.org
  farm img: balance random → roundrobin
- server img/b http://b
  server img/a: weight 1 → 5
  server img/a: enable on → off
  server img/a: check HEAD http://a:80/ expect 200-499 every 1000/300/2000ms within 1200ms rise 2 fall 3 → none
+ server img/c http://c, weight 1, on
+ farm new (new.org), 1 server";
        assert_eq!(changes(&farms(BEFORE), &farms(AFTER)).join("\n"), expected);
        assert!(changes(&farms(AFTER), &farms(AFTER)).is_empty());
    }

    #[test]
    fn what_is_set_by_hand_is_named() {
        let drain = Override {
            enable: Some(Intent::Drain),
            ..Override::default()
        };
        let overrides = HashMap::from([("img/a".parse().expect("valid"), drain)]);
        let table = farms(BEFORE);
        let kept = "no farm and no server changes\nset by hand and kept: img/a drain\n\
            img/a is drain by hand, on in the file: `rbalancer clear img/a` gives the word back to the file\n";
        assert_eq!(describe(&table, &table, &overrides, false), kept);
        assert!(describe(&table, &table, &overrides, true).ends_with("dropped: img/a drain\n"));
    }
}
