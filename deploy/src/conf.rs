//! rbalancer.conf: a document → a table and settings, or every problem at once with its line.
//! No store and no socket may enter here.

pub mod resolve;
pub mod values;

use common::config::global::{Global, Problems, did_you_mean, read_document};
use common::config::keys::{self, Place};

use common::config::values::{positive_duration, switch};

use common::config::ini::{Document, Entry, Problem, Section};
use common::model::check::{Check, CheckUri, Method, StatusSet};
use common::model::farm::{Farm, Farms, Name, Server};
use common::model::target::{Scheme, Target};
use common::net::listen::{ListenAddress, ListenAddresses};
use common::process::admin::Admin;
use common::words::list;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// A configuration file, read whole.
#[derive(Debug)]
pub struct Conf {
    /// The cluster its table is for.
    pub cluster: Name,
    /// The table.
    pub farms: Farms,
    /// The redirector's settings, as `[global]` has them.
    pub redirector: redirector::Settings,
    /// The Redis that `[global]` names, if any.
    pub redis: Option<common::store::RedisSettings>,
    /// The admin listener that `[global]` names, or the default one.
    pub admin: Option<Admin>,
    /// What `[global]` sets of the process, as written: it is taken once, at the start.
    pub process: BTreeMap<String, String>,
    /// Whether a reload may take service away, which otherwise has to be insisted on.
    pub reload_force: bool,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
}

/// What the command line sets over the file.
#[derive(Debug, Default)]
pub struct Flags {
    /// `--listen`
    pub listen: Option<ListenAddresses>,
    /// `--redis`
    pub redis: Option<common::store::RedisAddress>,
    /// Whether a file with `[global]` alone will do, as for a host of a cluster.
    pub host_only: bool,
}

/// Reads and checks a file.
///
/// # Errors
/// Every problem at once.
pub fn load(path: &Path, flags: Flags) -> Result<Conf, Problems> {
    let (document, problems) = read_document(path)?;
    parse(&document, problems, flags)
}

/// Checks a document.
///
/// # Errors
/// Every problem at once, those found while reading the text included.
pub fn parse(document: &Document, problems: Vec<Problem>, flags: Flags) -> Result<Conf, Problems> {
    let mut global = Global::new(document, problems, common::config::environment::setting);
    let redirector = redirector::Settings::take(&mut global, flags.listen);
    let redis = global.redis(flags.redis);
    let admin = Admin::of_redirector(&mut global);
    let reload_force = global.get("reload_force", switch).unwrap_or(false);
    // What is only for other daemons that read this file has to be good too.
    let _ = (
        Admin::of_healthd(&mut global),
        global.get("stats_bind", str::parse::<ListenAddress>),
    );
    let mut reading = ConfReader {
        document,
        problems: Vec::new(),
        redirector: &redirector,
        host_only: flags.host_only,
        claimed: HashMap::new(),
    };
    let farms = reading.farms();
    let mut warnings = reading.unlisted();
    warnings.extend(reading.bare_times());
    warnings.extend(reading.ports_of_farms());
    let mut problems = reading.problems;
    if let Err(Problems(others)) = global.finish(()) {
        problems.extend(others);
    }
    let none_needed = farms.is_empty() && problems.is_empty();
    let farms = Farms::try_from(farms).unwrap_or_else(|error| {
        if none_needed {
            return Farms::default();
        }
        // Each of its rules has been checked with a line before: this is for what they leave over.
        if problems.is_empty() {
            problems.push(Problem {
                file: document.file.clone(),
                line: None,
                message: error.to_string(),
            });
        }
        Farms::default()
    });
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let process = document.section("global").map(process).unwrap_or_default();
    Ok(Conf {
        cluster: redirector.cluster.clone(),
        farms,
        redirector,
        redis,
        admin,
        process,
        reload_force,
        warnings,
    })
}

fn process(global: &Section) -> BTreeMap<String, String> {
    let set = global
        .entries
        .iter()
        .filter(|entry| keys::of_process().any(|key| key == entry.key));
    set.map(|entry| (entry.key.clone(), entry.value.clone()))
        .collect()
}

/// The reading of the farms of one document.
struct ConfReader<'a> {
    document: &'a Document,
    problems: Vec<Problem>,
    redirector: &'a redirector::Settings,
    /// Whether a file without farms will do.
    host_only: bool,
    /// What each section is, and so which keys it may have.
    claimed: HashMap<&'a str, SectionKind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SectionKind {
    Farm,
    Server,
}

impl SectionKind {
    fn place(self) -> Place {
        match self {
            Self::Farm => Place::Farm,
            Self::Server => Place::Server,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Farm => "farm",
            Self::Server => "server",
        }
    }
}

impl<'a> ConfReader<'a> {
    fn problem(&mut self, line: Option<usize>, message: String) {
        let problem = Problem {
            file: self.document.file.clone(),
            line,
            message,
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn farms(&mut self) -> Vec<Farm> {
        if let Some(global) = self.document.section("global") {
            self.check_values(global);
        }
        let Some(farms) = self.document.section("farms") else {
            if self.is_of_a_host() {
                return Vec::new();
            }
            self.problem(
                None,
                "has no section [farms]: add one with list = FARM, …".into(),
            );
            return Vec::new();
        };
        self.check_keys(farms, Place::Farms, "[farms]");
        let names = self.list(farms, "farm");
        let listed: Vec<_> = names
            .into_iter()
            .filter_map(|(name, line)| Some((name, self.claim(name, line, SectionKind::Farm)?)))
            .collect();
        let mut hosts = HashMap::new();
        let farms = listed
            .into_iter()
            .filter_map(|(name, section)| self.farm(name, section, &mut hosts))
            .collect();
        self.check_loops(&farms);
        self.check_downgrades(&farms);
        farms
    }

    /// Whether the file says only how the daemons of a host of a cluster work: their farms come from Redis.
    fn is_of_a_host(&self) -> bool {
        self.host_only
            && matches!(self.document.sections.as_slice(), [only] if only.name == "global" && only.get("redis").is_some())
    }

    /// The names in a section's `list`, each once, with the line.
    fn list(&mut self, section: &'a Section, what: &str) -> Vec<(&'a str, usize)> {
        let Some(entry) = section.get("list") else {
            self.problem(
                Some(section.line),
                format!(
                    "[{}] has no list: add list = {}, …",
                    section.name,
                    what.to_uppercase()
                ),
            );
            return Vec::new();
        };
        let (mut seen, mut names) = (HashSet::new(), Vec::new());
        let items = list(&entry.value);
        if items.is_empty() {
            self.problem(
                Some(entry.line),
                format!(
                    "list of [{}] is empty: name at least one {what}",
                    section.name
                ),
            );
        }
        for item in items {
            let words: Vec<&str> = item.split_whitespace().collect();
            if words.len() > 1 {
                let message = format!(
                    "list of [{}]: `{item}` is no name: separate names by commas: {}",
                    section.name,
                    words.join(", ")
                );
                self.problem(Some(entry.line), message);
            }
            // What is wrong with each of them is said all the same.
            for name in words {
                if let Err(error) = name.parse::<Name>() {
                    self.problem(
                        Some(entry.line),
                        format!("list of [{}]: {error}", section.name),
                    );
                } else if !seen.insert(name) {
                    self.problem(
                        Some(entry.line),
                        format!(
                            "list of [{}] names {what} `{name}` twice: remove one",
                            section.name
                        ),
                    );
                } else {
                    names.push((name, entry.line));
                }
            }
        }
        names
    }

    /// The section a list names, checked to be of one kind.
    fn claim(&mut self, name: &'a str, line: usize, kind: SectionKind) -> Option<&'a Section> {
        let document = self.document;
        if matches!(name, "global" | "farms") {
            self.problem(
                Some(line),
                format!(
                    "`{name}` cannot be the name of a {}: that section has a meaning of its own",
                    kind.name()
                ),
            );
            return None;
        }
        let Some(section) = document.section(name) else {
            let sections: Vec<&str> = document
                .sections
                .iter()
                .map(|section| section.name.as_str())
                .filter(|name| !matches!(*name, "global" | "farms"))
                .collect();
            self.problem(
                Some(line),
                format!(
                    "{} `{name}` is listed but has no section [{name}]{}",
                    kind.name(),
                    did_you_mean(name, &sections)
                ),
            );
            return None;
        };
        match self.claimed.insert(name, kind) {
            None => {
                self.check_keys(
                    section,
                    kind.place(),
                    format_args!("{} [{name}]", kind.name()),
                );
                self.check_values(section);
            }
            Some(other) if other != kind => {
                self.problem(Some(section.line), format!("[{name}] is listed as a farm and as a server: give one of them another name"));
                return None;
            }
            Some(_) => {}
        }
        Some(section)
    }

    fn check_keys(&mut self, section: &Section, place: Place, name: impl fmt::Display) {
        let unknown = |entry: &&Entry| keys::find(&entry.key, place).is_none();
        for Entry { key, line, .. } in section.entries.iter().filter(unknown) {
            let hint = did_you_mean(key, &keys::names(place));
            self.problem(Some(*line), format!("unknown key `{key}` in {name}{hint}"));
        }
    }

    fn check_values(&mut self, section: &Section) {
        for Entry { key, value, line } in &section.entries {
            if let Err(error) = values::check(key, value) {
                self.problem(Some(*line), format!("{key}: {error}"));
            }
        }
    }

    fn farm(
        &mut self,
        name: &'a str,
        section: &'a Section,
        hosts: &mut HashMap<common::model::host::Host, &'a str>,
    ) -> Option<Farm> {
        let global = self.document.section("global");
        let layers = Layers([Some(section), global, None]);
        let domains = self.required(section, "domain", "the host clients ask for", values::hosts);
        let line = section.get("domain").map(|entry| entry.line);
        for host in domains.iter().flatten() {
            let Some(other) = hosts.insert(host.clone(), name) else {
                continue;
            };
            self.problem(
                line,
                match other == name {
                    true => format!("domain {host} is given twice: remove one"),
                    false => format!(
                        "domain {host} belongs to farm [{other}] already: a host has one farm"
                    ),
                },
            );
        }
        let names = self.list(section, "server");
        let servers = names.into_iter().filter_map(|(server, line)| {
            let found = self.claim(server, line, SectionKind::Server)?;
            self.server(server, found, section)
        });
        let servers: Vec<Server> = servers.collect();
        Some(Farm {
            name: name.parse().ok()?,
            domains: domains?,
            balance: layers.get("balance", values::balance).unwrap_or_default(),
            redirect_code: layers
                .get("redirect_code", values::redirect_code)
                .unwrap_or_default(),
            cache_control: layers
                .get("cache_control", values::cache_control)
                .unwrap_or_default(),
            on_all_down: layers
                .get("on_all_down", values::on_all_down)
                .unwrap_or_default(),
            fallback: layers.get("fallback", values::target),
            keepalive: layers.get("keepalive", switch).unwrap_or(true),
            servers,
        })
    }

    fn server(&mut self, name: &str, section: &'a Section, farm: &'a Section) -> Option<Server> {
        let target = self.required(section, "domain", "where the server is", values::target)?;
        let layers = Layers([Some(section), Some(farm), self.document.section("global")]);
        let probed = layers.get("check", switch).unwrap_or(true);
        let check = if probed {
            Some(self.check(&target, &layers, section)?)
        } else {
            None
        };
        Some(Server {
            name: name.parse().ok()?,
            weight: layers.own("weight", values::weight).unwrap_or_default(),
            enable: layers.own("enable", values::enable).unwrap_or_default(),
            target,
            check,
        })
    }

    fn check(&mut self, target: &Target, layers: &Layers<'_>, section: &Section) -> Option<Check> {
        let scheme = target
            .scheme()
            .or_else(|| layers.get("check_scheme", values::scheme))
            .unwrap_or(Scheme::Http);
        let chosen = layers.get("check_uri", values::uri);
        let expect = if chosen.is_some() {
            StatusSet::below_400()
        } else {
            StatusSet::below_500()
        };
        let path = chosen.map_or_else(|| "/".to_owned(), |uri: CheckUri| uri.to_string());
        let Ok(uri) = format!("{}{path}", target.base()).parse() else {
            self.problem(
                Some(section.line),
                format!(
                    "server [{}]: its base path and check_uri make no path to ask for",
                    section.name
                ),
            );
            return None;
        };
        let time = |key, default| {
            layers
                .get(key, positive_duration)
                .unwrap_or(Duration::from_millis(default))
        };
        let inter = time("inter", 1000);
        Some(Check {
            scheme,
            host: target.host().clone(),
            port: target.port().unwrap_or(scheme.default_port()),
            addr: layers.get("check_addr", values::addr),
            method: layers
                .get("check_method", values::method)
                .unwrap_or(Method::Head),
            uri,
            expect: layers.get("check_expect", values::expect).unwrap_or(expect),
            tls_verify: layers.get("check_tls_verify", switch).unwrap_or(true),
            inter,
            fastinter: time("fastinter", 300).min(inter),
            downinter: time("downinter", 2000),
            timeout: time("timeout_check", 1200),
            rise: layers.get("rise", values::count).unwrap_or(2),
            fall: layers.get("fall", values::count).unwrap_or(3),
        })
    }

    fn required<T>(
        &mut self,
        section: &Section,
        key: &str,
        meaning: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Some(entry) = section.get(key) else {
            self.problem(
                Some(section.line),
                format!("[{}] has no {key}: add {key} = {meaning}", section.name),
            );
            return None;
        };
        parse(&entry.value)
            .map_err(|error| self.problem(Some(entry.line), format!("{key}: {error}")))
            .ok()
    }

    /// A server, or a fallback, that is a farm's own host on the port we listen on: clients would go round in circles.
    fn check_loops(&mut self, farms: &Vec<Farm>) {
        let own: HashSet<_> = farms.iter().flat_map(|farm| &farm.domains).collect();
        for farm in farms {
            let servers = farm
                .servers
                .iter()
                .map(|server| (server.name.as_str(), "domain", &server.target));
            let fallback = farm
                .fallback
                .iter()
                .map(|target| (farm.name.as_str(), "fallback", target));
            let acme = self
                .redirector
                .acme_url
                .iter()
                .map(|target| ("global", "acme_url", target));
            let stats = self
                .redirector
                .stats_url
                .iter()
                .map(|target| ("global", "stats_url", target));
            for (section, key, target) in servers.chain(fallback).chain(acme).chain(stats) {
                if own.contains(target.host()) && self.is_ours(target) {
                    let found = self
                        .document
                        .section(section)
                        .or(self.document.section("global"));
                    let line = found
                        .and_then(|section| section.get(key))
                        .map(|entry| entry.line);
                    self.problem(line, format!("{key}: {target} is a farm's own domain on the port we listen on: a redirect loop"));
                }
            }
        }
    }

    /// Whether `target` leads to a port we listen on.
    fn is_ours(&self, target: &Target) -> bool {
        let tls = self.redirector.tls.as_ref().map(|tls| &tls.listen);
        let is_ours = |scheme: Scheme, port: u16| {
            let listen = if scheme == Scheme::Http {
                Some(&self.redirector.listen)
            } else {
                tls
            };
            listen.is_some_and(|listen| listen.iter().any(|address| address.port == port))
        };
        [Scheme::Http, Scheme::Https]
            .into_iter()
            .filter(|scheme| target.scheme().is_none_or(|own| own == *scheme))
            .any(|scheme| is_ours(scheme, target.port().unwrap_or(scheme.default_port())))
    }

    /// Farms that could answer no request over TLS.
    fn check_downgrades(&mut self, farms: &[Farm]) {
        if self.redirector.tls.is_none() || self.redirector.allow_downgrade {
            return;
        }
        let takes_https = |target: &Target| target.scheme() != Some(Scheme::Http);
        for farm in farms {
            if !farm
                .servers
                .iter()
                .map(|server| &server.target)
                .chain(&farm.fallback)
                .any(takes_https)
            {
                let line = self
                    .document
                    .section(farm.name.as_str())
                    .map(|section| section.line);
                self.problem(
                    line,
                    format!(
                        "farm [{}] has no server for clients over TLS: write domains without a scheme or with https://, or set allow_downgrade = on",
                        farm.name
                    ),
                );
            }
        }
    }

    /// Times without a unit: what means milliseconds here means seconds elsewhere.
    fn bare_times(&self) -> Vec<String> {
        let is_bare = |entry: &&Entry| {
            TIMES.contains(&entry.key.as_str())
                && !entry.value.is_empty()
                && entry.value.bytes().all(|byte| byte.is_ascii_digit())
        };
        let sections = self.document.sections.iter().filter(|section| {
            section.name == "global" || self.claimed.contains_key(section.name.as_str())
        });
        let file = &self.document.file;
        sections
            .flat_map(|section| section.entries.iter().filter(is_bare))
            .map(|Entry { key, value, line }| {
                format!("{file}:{line}: {key} = {value} is {value} milliseconds: write {value}ms, or {value}s if seconds are meant")
            })
            .collect()
    }

    /// Ports behind a farm's hosts, which say nothing: a farm answers on every port that is listened on.
    fn ports_of_farms(&self) -> Vec<String> {
        let farms = self
            .claimed
            .iter()
            .filter(|(_, kind)| **kind == SectionKind::Farm)
            .filter_map(|(name, _)| self.document.section(name));
        let mut warnings: Vec<String> = farms
            .filter_map(|section| section.get("domain"))
            .flat_map(|entry| list(&entry.value).into_iter().map(move |host| (entry.line, host)))
            .filter_map(|(line, host)| Some((line, host, values::target(host).ok()?.port()?)))
            .map(|(line, host, port)| {
                format!(
                    "{}:{line}: domain: port {port} of {host} says nothing: a farm answers on every port listened on",
                    self.document.file
                )
            })
            .collect();
        warnings.sort();
        warnings
    }

    /// Sections nothing lists: a server taken out of its list, or a slip.
    fn unlisted(&self) -> Vec<String> {
        let known =
            |name: &str| matches!(name, "global" | "farms") || self.claimed.contains_key(name);
        let others = self
            .document
            .sections
            .iter()
            .filter(|section| !known(&section.name));
        others
            .map(|section| {
                format!(
                    "{}:{}: nothing lists section [{}]: it is not used",
                    self.document.file, section.line, section.name
                )
            })
            .collect()
    }
}

/// Keys that are times.
const TIMES: [&str; 8] = [
    "inter",
    "fastinter",
    "downinter",
    "timeout_check",
    "client_timeout",
    "keepalive_timeout",
    "grace",
    "state_max_age",
];

/// The sections a key may stand in, the first one wins. Values have been checked: an unusable one is reported already.
struct Layers<'a>([Option<&'a Section>; 3]);

impl Layers<'_> {
    fn get<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let entry = self
            .0
            .iter()
            .flatten()
            .find_map(|section| section.get(key))?;
        parse(&entry.value).ok()
    }

    fn own<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let entry = self.0[0]?.get(key)?;
        parse(&entry.value).ok()
    }
}

#[cfg(test)]
mod tests;
