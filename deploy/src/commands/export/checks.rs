//! Where the keys of health checks are written: with the server, or with its farm where servers of one name, which
//! are one section, are probed differently in different farms; in `[global]` what all servers have alike.

use common::config::values::duration;
use common::model::check::{Check, Method, StatusSet};
use common::model::farm::{Farms, Name, Server};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

type Keys = BTreeMap<&'static str, String>;

const URI: &str = "check_uri";
const EXPECT: &str = "check_expect";

/// The keys by section.
pub(super) struct ExportedChecks {
    global: Keys,
    farms: BTreeMap<Name, Keys>,
    servers: BTreeMap<Name, Keys>,
}

impl ExportedChecks {
    pub(super) fn of(farms: &Farms) -> Self {
        let mut sharers: BTreeMap<Name, Vec<(Name, Keys)>> = BTreeMap::new();
        for farm in farms.iter() {
            for server in &farm.servers {
                sharers
                    .entry(server.name.clone())
                    .or_default()
                    .push((farm.name.clone(), keys(server)));
            }
        }
        let mut checks = Self {
            global: Keys::new(),
            farms: BTreeMap::new(),
            servers: BTreeMap::new(),
        };
        for (server, all) in &sharers {
            checks
                .servers
                .insert(server.clone(), checks_of_section(all, &mut checks.farms));
        }
        let unsaid = checks.drop_what_farms_leave_unsaid(&sharers);
        // What a farm says holds for all of its servers: those that differ must say so even where it is a default.
        for (server, all) in &sharers {
            let probed_in = all.iter().filter(|(_, keys)| is_probed(keys));
            let above: BTreeSet<&str> = probed_in
                .filter_map(|(farm, _)| checks.farms.get(farm))
                .flat_map(|keys| keys.keys().copied())
                .collect();
            let own = checks.servers.entry(server.clone()).or_default();
            let chose = |(farm, keys): &(Name, Keys)| {
                unsaid.contains(farm) && keys.get(EXPECT).is_some_and(|set| *set == after_choice())
            };
            let chosen = !own.contains_key(EXPECT) && all.iter().any(chose);
            let says = |key, value: &str| {
                above.contains(key) || !is_default(key, value) || (chosen && key == URI)
            };
            // The statuses expected by default depend on whether a path was chosen.
            let path = above.contains(URI) || own.get(URI).is_some_and(|path| says(URI, path));
            own.retain(|key, value| says(key, value) || (path && *key == EXPECT));
        }
        checks.say_once_what_all_have();
        checks
    }

    /// Moves to `[global]` what every probed server says alike and no farm says. A path that is said counts as chosen, and
    /// decides which statuses are expected: both stay where they are.
    fn say_once_what_all_have(&mut self) {
        let probed = |keys: &Keys| keys.get("check").is_none_or(|check| check != "off");
        let all: Vec<&Keys> = self.servers.values().filter(|keys| probed(keys)).collect();
        let [first, others @ ..] = all.as_slice() else {
            return;
        };
        if others.is_empty() {
            return;
        }
        let is_alike = |(key, value): &(&&'static str, &String)| {
            let in_farms = self.farms.values().any(|keys| keys.contains_key(*key));
            !in_farms
                && !matches!(**key, "check" | URI | EXPECT)
                && others.iter().all(|keys| keys.get(*key) == Some(value))
        };
        self.global = first
            .iter()
            .filter(is_alike)
            .map(|(key, value)| (*key, value.clone()))
            .collect();
        self.servers
            .values_mut()
            .for_each(|keys| keys.retain(|key, _| !self.global.contains_key(key)));
    }

    /// Takes out of the farms the path that is the default, since a path that is said is a chosen one, and the
    /// statuses of those farms whose servers differ though no server says any: they are defaults, one for servers
    /// with a path of their own and one for the others. Returns those farms.
    fn drop_what_farms_leave_unsaid(
        &mut self,
        sharers: &BTreeMap<Name, Vec<(Name, Keys)>>,
    ) -> BTreeSet<Name> {
        let mut unsaid = BTreeSet::new();
        for (_, all) in sharers
            .iter()
            .filter(|(server, _)| !self.servers[*server].contains_key(EXPECT))
        {
            for (farm, keys) in all.iter().filter(|(_, keys)| is_probed(keys)) {
                if self.farms.get(farm).and_then(|said| said.get(EXPECT)) != keys.get(EXPECT) {
                    unsaid.insert(farm.clone());
                }
            }
        }
        for (farm, keys) in &mut self.farms {
            keys.retain(|key, value| match *key {
                URI => !is_default(URI, value),
                EXPECT => !unsaid.contains(farm),
                _ => true,
            });
        }
        unsaid
    }

    pub(super) fn of_all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.global
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
    }

    pub(super) fn of_farm(&self, farm: &Name) -> impl Iterator<Item = (&'static str, &str)> {
        self.farms
            .get(farm)
            .into_iter()
            .flatten()
            .map(|(key, value)| (*key, value.as_str()))
    }

    pub(super) fn of_server(&self, server: &Name) -> impl Iterator<Item = (&'static str, &str)> {
        self.servers
            .get(server)
            .into_iter()
            .flatten()
            .map(|(key, value)| (*key, value.as_str()))
    }
}

/// The keys that all sharers of a section have alike; the others go to their farms.
fn checks_of_section(sharers: &[(Name, Keys)], farms: &mut BTreeMap<Name, Keys>) -> Keys {
    let all: BTreeSet<&'static str> = sharers
        .iter()
        .flat_map(|(_, keys)| keys.keys().copied())
        .collect();
    let mut own = Keys::new();
    for key in all {
        // Where a section is not probed at all, it does not matter how.
        let asked: Vec<&(Name, Keys)> = sharers
            .iter()
            .filter(|(_, keys)| key == "check" || is_probed(keys))
            .collect();
        if let Some(value) = alike(key, &asked) {
            own.insert(key, value);
            continue;
        }
        for (farm, keys) in asked {
            if let Some(value) = keys.get(key) {
                let held = farms
                    .entry(farm.clone())
                    .or_default()
                    .entry(key)
                    .or_insert_with(|| value.clone());
                // Of a farm's servers each cuts it to its own `inter`.
                if key == "fastinter" && ms(value) > ms(held) {
                    held.clone_from(value);
                }
            }
        }
    }
    own
}

/// The one value that all sharers have, or that becomes each one's: `fastinter` is cut to `inter` when it is read.
fn alike(key: &str, sharers: &[&(Name, Keys)]) -> Option<String> {
    let values: Vec<&String> = sharers
        .iter()
        .map(|(_, keys)| keys.get(key))
        .collect::<Option<_>>()?;
    let longest = *values
        .iter()
        .max_by_key(|value| if key == "fastinter" { ms(value) } else { 0 })?;
    let fits = |(value, (_, keys)): (&&String, &&(Name, Keys))| {
        *value == longest
            || (key == "fastinter"
                && keys
                    .get("inter")
                    .is_some_and(|inter| ms(value) == ms(inter).min(ms(longest))))
    };
    values
        .iter()
        .zip(sharers)
        .all(fits)
        .then(|| longest.clone())
}

/// Whether a server with these keys is probed at all.
fn is_probed(keys: &Keys) -> bool {
    keys.len() > 1
}

/// The statuses expected where a path was chosen and no statuses.
fn after_choice() -> String {
    StatusSet::below_400().to_string()
}

fn ms(time: &str) -> u128 {
    duration(time).unwrap_or_default().as_millis()
}

/// Every key of a server's check, defaults included; `check` alone where it has none.
fn keys(server: &Server) -> Keys {
    let Some(check) = &server.check else {
        return Keys::from([("check", "off".to_owned())]);
    };
    let method = if check.method == Method::Get {
        "GET"
    } else {
        "HEAD"
    };
    let on = |yes: bool| if yes { "on" } else { "off" }.to_owned();
    let mut keys = Keys::from([
        ("check", "on".to_owned()),
        ("check_method", method.to_owned()),
        ("check_uri", path(server, check)),
        ("check_expect", check.expect.to_string()),
        ("check_tls_verify", on(check.tls_verify)),
        ("inter", time(check.inter)),
        ("fastinter", time(check.fastinter)),
        ("downinter", time(check.downinter)),
        ("timeout_check", time(check.timeout)),
        ("rise", check.rise.to_string()),
        ("fall", check.fall.to_string()),
    ]);
    if server.target.scheme().is_none() {
        keys.insert("check_scheme", check.scheme.to_string());
    }
    if let Some(addr) = &check.addr {
        keys.insert("check_addr", addr.to_string());
    }
    keys
}

/// The path without the server's base, which the reading of a file puts before it.
fn path(server: &Server, check: &Check) -> String {
    let uri = check.uri.to_string();
    uri.strip_prefix(server.target.base())
        .unwrap_or(&uri)
        .to_owned()
}

fn time(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// Whether a key need not be written.
fn is_default(key: &str, value: &str) -> bool {
    const DEFAULTS: &[(&str, &str)] = &[
        ("check", "on"),
        ("check_method", "HEAD"),
        ("check_uri", "/"),
        ("check_scheme", "http"),
        ("check_expect", "200-499"),
        ("check_tls_verify", "on"),
        ("inter", "1s"),
        ("fastinter", "300ms"),
        ("downinter", "2s"),
        ("timeout_check", "1200ms"),
        ("rise", "2"),
        ("fall", "3"),
    ];
    DEFAULTS.contains(&(key, value))
}
