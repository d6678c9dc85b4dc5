//! What is allowed in a file but probably not meant, and loops and downgrades between its farms.

use crate::conf::reader::{ConfReader, SectionKind};
use crate::conf::values;
use common::config::ini::Entry;
use common::config::keys::{KEYS, Kind};
use common::model::farm::Farm;
use common::model::target::{Scheme, Target};
use common::words::list;
use std::collections::HashSet;

impl ConfReader<'_> {
    /// A server, or a fallback, that is a farm's own host on the port we listen on: clients would go round in circles.
    pub(super) fn check_loops(&mut self, farms: &Vec<Farm>) {
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
    pub(super) fn is_ours(&self, target: &Target) -> bool {
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
    pub(super) fn check_downgrades(&mut self, farms: &[Farm]) {
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
    pub(super) fn bare_times(&self) -> Vec<String> {
        let is_bare = |entry: &&Entry| {
            KEYS.iter()
                .any(|key| key.name == entry.key && key.kind == Kind::Time)
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
    pub(super) fn ports_of_farms(&self) -> Vec<String> {
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
    pub(super) fn unlisted(&self) -> Vec<String> {
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
