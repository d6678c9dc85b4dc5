//! `Routes`: the immutable table that answers are made from: farms × overrides × health, swapped whole.
//! No request and no store may enter here.

pub mod balance;
pub mod destination;
pub mod farm;

use crate::counters::Counters;
use crate::routes::farm::{Arena, FarmRoute, Positions, ResponseHeads, RouteInputs, Service};
use common::model::farm::{Farm, Farms, Name, ServerId};
use common::model::health::Health;
use common::model::host::Host;
use common::model::overrides::Override;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use rand::Rng;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Everything an answer needs to know of the farms.
#[derive(Debug, Default)]
pub struct Routes {
    hosts: HashTable<HostEntry>,
    heads: ResponseHeads,
    /// Whether there is a table at all; without one every request is answered 503.
    pub ready: bool,
}

/// A host and where it leads. The host itself lies with the farm, which is looked at anyway.
#[derive(Debug, Clone)]
struct HostEntry {
    arena: Arc<Arena>,
    farm: u32,
    /// The host's place among the farm's own.
    number: u32,
}

impl HostEntry {
    #[inline]
    fn farm(&self) -> FarmRoute<'_> {
        self.arena.farm(self.farm)
    }

    #[inline]
    fn host(&self) -> &[u8] {
        self.farm().host(self.number)
    }
}

/// Hashes a host without a secret: what is looked among was configured, and clients cannot add to it.
#[inline]
fn hash(host: &[u8]) -> u64 {
    FixedState::default().hash_one(host)
}

impl Routes {
    /// Makes the routes of `farms`; round-robin positions go on where `previous` was.
    pub fn build(
        farms: &Farms,
        overrides: &HashMap<ServerId, Override>,
        health: &Health,
        counters: &Counters,
        previous: &Self,
        rng: &mut impl Rng,
    ) -> Self {
        let inputs = RouteInputs {
            overrides,
            health,
            counters,
        };
        let old = previous.hosts.iter().map(HostEntry::farm);
        let positions: HashMap<&Name, &Positions> =
            old.map(|farm| (farm.name(), farm.positions())).collect();
        let mut arena = Arena::with_capacity(farms.len(), farms.server_count());
        let mut heads = ResponseHeads::default();
        for farm in farms.iter() {
            // A random start, so that many processes do not begin with the same server.
            let new = || {
                [
                    Arc::new(AtomicU32::new(rng.next_u32())),
                    Arc::new(AtomicU32::new(rng.next_u32())),
                ]
            };
            let positions = positions
                .get(&farm.name)
                .map_or_else(new, |positions| (*positions).clone());
            arena.add(farm, &inputs, positions, &mut heads);
        }
        arena.collapse();
        let hosts = HashTable::with_capacity(farms.iter().map(|farm| farm.domains.len()).sum());
        let mut routes = Self {
            hosts,
            heads,
            ready: true,
        };
        routes.point_hosts(farms.iter().zip(0..), &Arc::new(arena));
        routes
    }

    /// The same table with the farms at `changed` made anew: a turn of one server costs its farm, not the table.
    pub fn rebuild(
        &self,
        farms: &Farms,
        changed: &BTreeSet<u32>,
        overrides: &HashMap<ServerId, Override>,
        health: &Health,
        counters: &Counters,
    ) -> Self {
        let inputs = RouteInputs {
            overrides,
            health,
            counters,
        };
        let mut routes = Self {
            hosts: self.hosts.clone(),
            heads: self.heads.clone(),
            ready: self.ready,
        };
        let mut arena = Arena::default();
        let mut made = Vec::new();
        for farm in changed
            .iter()
            .filter_map(|&index| farms.get(index as usize))
        {
            if let Some(route) = farm.domains.first().and_then(|host| self.farm(bytes(host))) {
                made.push((
                    farm,
                    arena.add(farm, &inputs, route.positions().clone(), &mut routes.heads),
                ));
            }
        }
        routes.point_hosts(made.into_iter(), &Arc::new(arena));
        routes
    }

    /// Has every host of these farms lead to their places in `arena`.
    fn point_hosts<'a>(
        &mut self,
        farms: impl Iterator<Item = (&'a Farm, u32)>,
        arena: &Arc<Arena>,
    ) {
        let hosts = farms.flat_map(|(farm, place)| {
            farm.domains
                .iter()
                .zip(0..)
                .map(move |(host, number)| (bytes(host), place, number))
        });
        for (host, farm, number) in hosts {
            let entry = HostEntry {
                arena: arena.clone(),
                farm,
                number,
            };
            match self
                .hosts
                .find_mut(hash(host), |entry| entry.host() == host)
            {
                Some(held) => *held = entry,
                None => drop(
                    self.hosts
                        .insert_unique(hash(host), entry, |entry| hash(entry.host())),
                ),
            }
        }
    }

    /// How many servers of `farm` are in service; none where it is not in these routes.
    pub(crate) fn in_service(&self, farm: &Farm) -> Option<Service> {
        Some(self.farm(bytes(farm.domains.first()?))?.service())
    }

    /// The farm of a normalised host.
    #[inline]
    pub fn farm(&self, host: &[u8]) -> Option<FarmRoute<'_>> {
        self.hosts
            .find(hash(host), |entry| entry.host() == host)
            .map(HostEntry::farm)
    }
}

fn bytes(host: &Host) -> &[u8] {
    host.as_str().as_bytes()
}

#[cfg(test)]
mod tests;
