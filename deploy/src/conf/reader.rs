//! Farms and servers of a document, section by section, with every problem and its line.

use crate::conf::values;
use common::config::global::did_you_mean;
use common::config::ini::{Document, Entry, Problem, Section};
use common::config::keys::{self, Place};
use common::config::values::{positive_duration, switch};
use common::model::check::{Check, CheckUri, Method, StatusSet};
use common::model::farm::{Farm, Name, Server};
use common::model::target::{Scheme, Target};
use common::words::list;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

/// The reading of the farms of one document.
pub(super) struct ConfReader<'a> {
    pub(super) document: &'a Document,
    pub(super) problems: Vec<Problem>,
    pub(super) redirector: &'a redirector::Settings,
    /// Whether a file without farms will do.
    pub(super) host_only: bool,
    /// What each section is, and so which keys it may have.
    pub(super) claimed: HashMap<&'a str, SectionKind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SectionKind {
    Farm,
    Server,
}

impl SectionKind {
    pub(super) fn place(self) -> Place {
        match self {
            Self::Farm => Place::Farm,
            Self::Server => Place::Server,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Farm => "farm",
            Self::Server => "server",
        }
    }
}

impl<'a> ConfReader<'a> {
    pub(super) fn problem(&mut self, line: Option<usize>, message: String) {
        let problem = Problem {
            file: self.document.file.clone(),
            line,
            message,
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn farms(&mut self) -> Vec<Farm> {
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
    pub(super) fn is_of_a_host(&self) -> bool {
        self.host_only
            && matches!(self.document.sections.as_slice(), [only] if only.name == "global" && only.get("redis").is_some())
    }

    /// The names in a section's `list`, each once, with the line.
    pub(super) fn list(&mut self, section: &'a Section, what: &str) -> Vec<(&'a str, usize)> {
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
    pub(super) fn claim(
        &mut self,
        name: &'a str,
        line: usize,
        kind: SectionKind,
    ) -> Option<&'a Section> {
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

    pub(super) fn check_keys(&mut self, section: &Section, place: Place, name: impl fmt::Display) {
        let unknown = |entry: &&Entry| keys::find(&entry.key, place).is_none();
        for Entry { key, line, .. } in section.entries.iter().filter(unknown) {
            let hint = did_you_mean(key, &keys::names(place));
            self.problem(Some(*line), format!("unknown key `{key}` in {name}{hint}"));
        }
    }

    pub(super) fn check_values(&mut self, section: &Section) {
        for Entry { key, value, line } in &section.entries {
            if let Err(error) = values::check(key, value) {
                self.problem(Some(*line), format!("{key}: {error}"));
            }
        }
    }

    pub(super) fn farm(
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

    pub(super) fn server(
        &mut self,
        name: &str,
        section: &'a Section,
        farm: &'a Section,
    ) -> Option<Server> {
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

    pub(super) fn check(
        &mut self,
        target: &Target,
        layers: &Layers<'_>,
        section: &Section,
    ) -> Option<Check> {
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

    pub(super) fn required<T>(
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
}

/// The sections a key may stand in, the first one wins. Values have been checked: an unusable one is reported already.
pub(super) struct Layers<'a>([Option<&'a Section>; 3]);

impl Layers<'_> {
    pub(super) fn get<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let entry = self
            .0
            .iter()
            .flatten()
            .find_map(|section| section.get(key))?;
        parse(&entry.value).ok()
    }

    pub(super) fn own<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let entry = self.0[0]?.get(key)?;
        parse(&entry.value).ok()
    }
}
