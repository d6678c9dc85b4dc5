//! The report: what is wanted, seen and counted, brought together for readers. Pure.
//! No store, no clock and no form of output may enter here.

pub mod rates;
mod server;
pub mod table_index;

use crate::report::rates::Counts;
use crate::report::table_index::{ServerFacts, TableIndex};
use common::model::check::Check;
use common::model::farm::{Balance, Farm, Intent, Name, ServerId, Weight};
use common::model::generation::Table;
use common::model::health::{Caution, Health, State};
use common::model::in_force::{self, Standing};
use common::model::overrides::Override;
use common::model::tally::CountKey;
use common::store::{Event, RefusedHost, Replica};
use common::time::UnixMs;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// What a report is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The cluster reported on.
    pub cluster: &'a Name,
    /// When the figures were read.
    pub at: UnixMs,
    /// The table in force, if one was read.
    pub table: Option<(&'a Table, &'a TableIndex)>,
    /// What is set by hand; it beats the table.
    pub overrides: &'a HashMap<ServerId, Override>,
    /// What probers see, merged.
    pub health: &'a Health,
    /// What is counted in the whole cluster.
    pub counts: &'a Counts,
    /// The redirectors heard of.
    pub replicas: Vec<Replica>,
    /// The latest events, newest first.
    pub events: Vec<Event>,
    /// What is wrong, in words.
    pub alarm: Option<String>,
}

/// Everything the pages show.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The cluster's name.
    pub cluster: Name,
    /// The generation of the table in force; 0 before one was read.
    pub generation: u64,
    /// When the figures were read.
    pub at: UnixMs,
    /// What is wrong with them, if anything.
    pub alarm: Option<String>,
    /// The farms, in the table's order.
    pub farms: Vec<FarmReport>,
    /// Farms that were counted but are no longer in the table.
    pub removed_farms: Vec<Removed>,
    /// Refusals by status.
    pub refused: BTreeMap<u16, u64>,
    /// The hosts refused most in the last hour by the redirectors at work, the first of them most often.
    pub refused_hosts: Vec<RefusedHost>,
    /// The redirectors.
    pub replicas: Vec<Replica>,
    /// The latest events, newest first.
    pub events: Vec<Event>,
}

/// Hosts that are shown.
const REFUSED_HOSTS: usize = 10;

/// A redirector that was silent for longer tells nothing of the last hour, in milliseconds.
const REFUSED_MS: u64 = 3_600_000;

/// What the redirectors say, summed by host and reason.
fn most_refused(replicas: &[Replica]) -> Vec<RefusedHost> {
    let mut all = BTreeMap::new();
    for told in replicas
        .iter()
        .filter(|replica| replica.silent_ms < REFUSED_MS)
        .flat_map(|replica| &replica.announcement.refused_hosts)
    {
        *all.entry((&told.host, &told.reason)).or_insert(0u64) += told.count;
    }
    let hosts = all.into_iter().map(|((host, reason), count)| RefusedHost {
        host: host.clone(),
        reason: reason.clone(),
        count,
    });
    let mut hosts: Vec<RefusedHost> = hosts.collect();
    hosts.sort_by_key(|host| std::cmp::Reverse(host.count));
    hosts.truncate(REFUSED_HOSTS);
    hosts
}

/// One farm.
#[derive(Debug, Clone, Serialize)]
pub struct FarmReport {
    /// Its name.
    pub name: Name,
    /// The host it is shown under.
    pub domain: String,
    /// Every host it answers for.
    pub domains: Vec<String>,
    /// How it chooses.
    pub balance: Balance,
    /// Clients sent on per second, lately.
    pub rate: f64,
    /// All clients ever sent on: to servers, to removed servers, to the fallback.
    pub redirects: u64,
    /// Of these, to the fallback.
    pub fallbacks: u64,
    /// How many servers get new redirects.
    pub in_service: usize,
    /// How many servers are probed.
    pub probed: usize,
    /// Of how many of these a probe has ever said anything.
    pub ever_checked: usize,
    /// Its servers, in the table's order.
    pub servers: Vec<ServerReport>,
    /// Servers that were counted but are no longer in the table.
    pub removed: Vec<Removed>,
}

/// One server.
#[derive(Debug, Clone, Serialize)]
pub struct ServerReport {
    /// Its name.
    pub name: Name,
    /// Its target as written.
    pub domain: Arc<str>,
    /// Its weight in force.
    pub weight: Weight,
    /// What the operator wants of it.
    pub enable: Intent,
    /// Its health in force.
    pub health: Standing,
    /// What is to be known of it besides its health; none if nothing.
    pub caution: Option<Caution>,
    /// Whether it gets new redirects.
    pub in_service: bool,
    /// Whether it gets none only because nobody has checked it yet.
    #[serde(skip)]
    pub waits: bool,
    /// How its latest probes went.
    pub checked: Checked,
    /// When the latest probe ended, by the prober's clock.
    pub last_check: Option<UnixMs>,
    /// Why its health is what it is.
    pub reason: String,
    /// When its health began, by the prober's clock.
    pub since: Option<UnixMs>,
    /// Who set something by hand, and why; none if nobody did.
    pub by_hand: Option<String>,
    /// Redirects to it, ever.
    pub redirects: u64,
    /// Redirects per second, lately.
    pub rate: f64,
    /// The part of its farm's clients it should get, 0 to 1.
    pub share_intended: f64,
    /// The part it gets: lately, or ever where nothing moved lately.
    pub share_actual: f64,
}

/// A server or farm that is counted but no longer in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Its name.
    pub name: Name,
    /// Its clients, ever.
    pub redirects: u64,
}

/// How the latest probes of a server went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// The latest succeeded.
    Ok,
    /// The latest failed.
    Failing,
    /// None was conclusive so far.
    Never,
    /// Nobody probes it.
    Off,
}

impl Checked {
    /// The value as the report spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Never => "never",
            Self::Off => "off",
        }
    }
}

impl Report {
    /// Brings the inputs together.
    pub fn new(inputs: Inputs<'_>) -> Self {
        let mut counted = CountedFarm::of_all(inputs.counts);
        let farms = inputs
            .table
            .into_iter()
            .flat_map(|(table, index)| index.farms(table));
        let farms = farms
            .map(|(farm, facts)| {
                let counted = counted.remove(&farm.name).unwrap_or_default();
                farm_report(&inputs, farm, facts, counted)
            })
            .collect();
        let removed = counted.into_iter().map(|(name, counted)| Removed {
            name: name.clone(),
            redirects: counted.redirects,
        });
        let mut removed_farms: Vec<Removed> = removed.collect();
        removed_farms.sort_by(|left, right| left.name.cmp(&right.name));
        let refused = inputs.counts.iter().filter_map(|(key, count)| match key {
            CountKey::Refused(status) => Some((*status, count.total)),
            _ => None,
        });
        Self {
            cluster: inputs.cluster.clone(),
            generation: inputs.table.map_or(0, |(table, _)| table.stamp.table),
            at: inputs.at,
            removed_farms,
            refused: refused.collect(),
            farms,
            alarm: inputs.alarm,
            refused_hosts: most_refused(&inputs.replicas),
            replicas: inputs.replicas,
            events: inputs.events,
        }
    }
}

/// What is counted of one farm, whatever the table says of it.
#[derive(Default)]
struct CountedFarm<'a> {
    redirects: u64,
    rate: f64,
    servers: Vec<(&'a Name, u64)>,
}

impl<'a> CountedFarm<'a> {
    fn of_all(counts: &'a Counts) -> HashMap<&'a Name, Self> {
        let mut farms: HashMap<&Name, Self> = HashMap::new();
        for (key, count) in counts.iter() {
            let Some(name) = key.farm() else { continue };
            let farm = farms.entry(name).or_default();
            farm.redirects += count.total;
            farm.rate += count.rate;
            if let CountKey::Server(id) = key {
                farm.servers.push((&id.server, count.total));
            }
        }
        farms
    }
}

fn farm_report(
    inputs: &Inputs<'_>,
    farm: &Farm,
    facts: &[ServerFacts],
    mut counted: CountedFarm<'_>,
) -> FarmReport {
    let state = |index: usize, _: &Check| {
        let check = facts.get(index).and_then(|facts| facts.check.as_ref());
        check.map_or(State::Abstain, |check| inputs.health.state(check))
    };
    // As a redirector chooses.
    let in_force = in_force::servers(farm, inputs.overrides, state, inputs.health.is_fresh());
    let report = |(server, facts)| server::report(inputs, farm, server, facts);
    let mut servers: Vec<ServerReport> = in_force.iter().zip(facts).map(report).collect();
    let in_service = |server: &&ServerReport| server.in_service;
    let weights: u64 = servers
        .iter()
        .filter(in_service)
        .map(|server| u64::from(server.weight.0))
        .sum();
    for server in &mut servers {
        if server.in_service {
            server.share_intended = f64::from(server.weight.0) / weights as f64;
        }
        server.share_actual = match (counted.rate, counted.redirects) {
            (rate, _) if rate > 0.0 => server.rate / rate,
            (_, 0) => 0.0,
            (_, redirects) => server.redirects as f64 / redirects as f64,
        };
    }
    let listed: HashSet<&Name> = farm.servers.iter().map(|server| &server.name).collect();
    counted.servers.retain(|(name, _)| !listed.contains(name));
    counted.servers.sort();
    FarmReport {
        name: farm.name.clone(),
        domain: farm
            .domains
            .first()
            .map(ToString::to_string)
            .unwrap_or_default(),
        domains: farm.domains.iter().map(ToString::to_string).collect(),
        balance: farm.balance,
        rate: counted.rate,
        redirects: counted.redirects,
        fallbacks: inputs
            .counts
            .of(&CountKey::Fallback(farm.name.clone()))
            .total,
        in_service: servers.iter().filter(in_service).count(),
        probed: servers
            .iter()
            .filter(|server| server.checked != Checked::Off)
            .count(),
        ever_checked: servers
            .iter()
            .filter(|server| !matches!(server.checked, Checked::Off | Checked::Never))
            .count(),
        removed: counted
            .servers
            .into_iter()
            .map(|(name, redirects)| Removed {
                name: name.clone(),
                redirects,
            })
            .collect(),
        servers,
    }
}

#[cfg(test)]
pub(crate) mod tests;
