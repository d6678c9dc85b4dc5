//! Farms ready to answer, close together in memory: of a table of thousands next to nothing is in the processor's caches
//! when a request comes, and what it needs is two lines of its farm and one of the server, seldom two.

use crate::counters::{Counters, Slot};
use crate::routes::balance::{AliasSlot, Pick};
use crate::routes::destination::Destination;
use common::model::farm::{Balance, Farm, Name, OnAllDown, RedirectCode, ServerId};
use common::model::health::Health;
use common::model::host::Host;
use common::model::in_force::{self, InForce};
use common::model::overrides::Override;
use common::model::tally::CountKey;
use common::model::target::{Scheme, Target};
use common::process::huge_pages;
use rand::Rng;
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Farms made at one time.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    farms: Vec<FarmHot>,
    servers: Vec<AliasSlot<Destination>>,
}

/// One farm, ready to answer.
#[derive(Debug, Clone, Copy)]
pub struct FarmRoute<'a> {
    front: &'a FarmHot,
    arena: &'a Arena,
}

/// What a farm is, but for its servers.
#[derive(Debug)]
#[repr(align(128))]
struct FarmHot {
    /// The first of the hosts it answers to.
    host: SmallVec<[u8; 40]>,
    choice: Choice,
    /// The choice among what takes https, only where that is not everything.
    secure: Option<Box<Choice>>,
    keepalive: bool,
    back: Box<FarmCold>,
}

/// What most requests do not need.
#[derive(Debug)]
struct FarmCold {
    name: Name,
    /// Its other hosts.
    aliases: Box<[Host]>,
    positions: Positions,
    service: Service,
}

/// How many servers of a farm are in service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Service {
    /// Those that are live.
    pub(crate) live: usize,
    /// Those that are on and have weight.
    pub(crate) enabled: usize,
}

/// Where round-robin goes on: among all servers, and among those that take https.
pub(crate) type Positions = [Arc<AtomicU32>; 2];

/// Some servers, how one of them is chosen, and what is said with it.
#[derive(Debug)]
struct Choice {
    /// Status and fixed fields of a redirect.
    head: Arc<ResponseHead>,
    pick: Pick,
    /// Their places in the arena.
    servers: Range<u32>,
    /// What counts the first of them, where the counters of the others follow in their order: a counter is on its way
    /// from memory then before the server is there.
    slots: Option<Slot>,
}

/// What routes are made from, beside the farms.
pub(crate) struct RouteInputs<'a> {
    pub(crate) overrides: &'a HashMap<ServerId, Override>,
    pub(crate) health: &'a Health,
    pub(crate) counters: &'a Counters,
}

impl Arena {
    /// An arena with room for farms with so many servers in all.
    pub(crate) fn with_capacity(farms: usize, servers: usize) -> Self {
        Self {
            farms: Vec::with_capacity(farms),
            servers: Vec::with_capacity(servers),
        }
    }

    /// Makes the route of `farm`; its place.
    pub(crate) fn add(
        &mut self,
        farm: &Farm,
        inputs: &RouteInputs<'_>,
        positions: Positions,
        heads: &mut ResponseHeads,
    ) -> u32 {
        let mut all = in_force::by_health(farm, inputs.overrides, inputs.health);
        all.retain(InForce::takes_clients);
        let takes_https = |target: &Target| target.scheme() != Some(Scheme::Http);
        let takes = |server: &&InForce<'_>| takes_https(&server.wanted.server.target);
        let mut secure: Vec<_> = all.iter().filter(takes).copied().collect();
        in_force::decide(&mut secure, inputs.health.is_fresh());
        let fallback = farm.fallback.as_ref().filter(|target| takes_https(target));
        let differs = secure.len() < all.len() || fallback != farm.fallback.as_ref();
        let choice = self.choose(
            farm,
            &all,
            farm.fallback.as_ref(),
            inputs,
            &positions[0],
            heads,
        );
        let secure = differs
            .then(|| Box::new(self.choose(farm, &secure, fallback, inputs, &positions[1], heads)));
        let (first, aliases) = farm
            .domains
            .split_first()
            .map_or(("", &[][..]), |(first, aliases)| (first.as_str(), aliases));
        let service = Service {
            live: all.iter().filter(|server| server.is_in_service()).count(),
            enabled: all.len(),
        };
        let back = Box::new(FarmCold {
            name: farm.name.clone(),
            aliases: aliases.into(),
            positions,
            service,
        });
        self.farms.push(FarmHot {
            host: first.as_bytes().into(),
            choice,
            secure,
            keepalive: farm.keepalive,
            back,
        });
        (self.farms.len() - 1) as u32
    }

    /// The choice among the live ones of `candidates`; where there is none, what the farm says of that: all of them,
    /// the fallback, or nobody. A last resort is never cached.
    fn choose(
        &mut self,
        farm: &Farm,
        candidates: &[InForce<'_>],
        fallback: Option<&Target>,
        inputs: &RouteInputs<'_>,
        position: &Arc<AtomicU32>,
        heads: &mut ResponseHeads,
    ) -> Choice {
        let slot = |key| inputs.counters.slot(&key);
        let live: Vec<_> = candidates
            .iter()
            .filter(|server| server.is_in_service())
            .collect();
        let (chosen, cache_control) = match live.is_empty() {
            false => (live, farm.cache_control.as_str()),
            true if farm.on_all_down == OnAllDown::Any => (candidates.iter().collect(), "no-store"),
            true => (Vec::new(), "no-store"),
        };
        let destination = |candidate: &&InForce<'_>| {
            let server = candidate.wanted.server;
            (
                candidate.wanted.weight.0,
                Destination::new(&server.target, slot(CountKey::Server(farm.id(server)))),
            )
        };
        let mut servers: Vec<_> = chosen.iter().map(destination).collect();
        if let (true, Some(target)) = (servers.is_empty(), fallback) {
            servers.push((
                1,
                Destination::new(target, slot(CountKey::Fallback(farm.name.clone()))),
            ));
        }
        let slots = in_order(servers.iter().map(|(_, destination)| destination.slot));
        let (pick, columns) = match farm.balance {
            Balance::Random => Pick::random(servers),
            Balance::RoundRobin => Pick::round_robin(servers, position.clone()),
        };
        let start = self.servers.len() as u32;
        self.servers.extend(columns);
        Choice {
            head: heads.of(farm, cache_control),
            pick,
            servers: start..self.servers.len() as u32,
            slots,
        }
    }

    /// Has a large arena lie in huge pages: a farm that is seldom asked for is found in fewer steps then.
    pub(crate) fn collapse(&self) {
        let addresses = [addresses(&self.farms), addresses(&self.servers)];
        if addresses.iter().map(Range::len).sum::<usize>() >= huge_pages::HUGE {
            addresses
                .into_iter()
                .filter(|addresses| !addresses.is_empty())
                .for_each(huge_pages::collapse);
        }
    }

    /// The farm at a place.
    #[inline]
    pub(crate) fn farm(&self, place: u32) -> FarmRoute<'_> {
        FarmRoute {
            front: &self.farms[place as usize],
            arena: self,
        }
    }
}

impl<'a> FarmRoute<'a> {
    /// Its name.
    pub(crate) fn name(self) -> &'a Name {
        &self.front.back.name
    }

    /// How many of its servers are in service.
    pub(crate) fn service(self) -> Service {
        self.front.back.service
    }

    /// Where round-robin goes on.
    pub(crate) fn positions(self) -> &'a Positions {
        &self.front.back.positions
    }

    /// The host with this number among those it answers to; empty where there is none.
    #[inline]
    pub(crate) fn host(self, number: u32) -> &'a [u8] {
        match number.checked_sub(1) {
            None => &self.front.host,
            Some(alias) => self
                .front
                .back
                .aliases
                .get(alias as usize)
                .map_or(b"", |alias| alias.as_str().as_bytes()),
        }
    }

    /// Whether a connection may stay open.
    #[inline]
    pub fn keepalive(self) -> bool {
        self.front.keepalive
    }

    /// Where one request leads, `secure`: among what takes https.
    ///
    /// # Errors
    /// When no server is live.
    #[inline]
    pub fn pick(self, secure: bool, rng: &mut impl Rng) -> Result<Picked<'a>, Nobody> {
        let (choice, nobody) = match &self.front.secure {
            Some(choice) if secure => (&**choice, Nobody::Secure),
            _ => (&self.front.choice, Nobody::AtAll),
        };
        let servers =
            &self.arena.servers[choice.servers.start as usize..choice.servers.end as usize];
        let index = choice.pick.next(servers, rng).ok_or(nobody)?;
        let destination = &servers[index].server;
        let slot = choice
            .slots
            .map_or(destination.slot, |first| first.plus(index as u32));
        Ok(Picked {
            head: &choice.head,
            destination,
            slot,
        })
    }
}

/// Where a request leads.
#[derive(Debug, Clone, Copy)]
pub struct Picked<'a> {
    /// Status and fixed fields of the answer.
    pub head: &'a ResponseHead,
    /// The server.
    pub destination: &'a Destination,
    /// What counts it.
    pub slot: Slot,
}

/// The first of `slots`, if the others follow it one by one.
fn in_order(slots: impl Iterator<Item = Slot> + Clone) -> Option<Slot> {
    let first = slots.clone().next()?;
    slots
        .zip(0..)
        .all(|(slot, index)| slot == first.plus(index))
        .then_some(first)
}

fn addresses<T>(of: &[T]) -> Range<usize> {
    let Range { start, end } = of.as_ptr_range();
    start.addr()..end.addr()
}

/// Status and fixed fields of a redirect.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ResponseHead {
    /// The status.
    pub code: RedirectCode,
    /// The value of Cache-Control.
    pub cache_control: Box<str>,
    /// Both for HTTP/1, up to the value of Location.
    pub http1: SmallVec<[u8; 96]>,
}

impl ResponseHead {
    /// What [`Answer::fields`](crate::answer::Answer::fields) has of a redirect, ready for HTTP/1.
    pub(crate) fn new(code: RedirectCode, cache_control: &str) -> Self {
        let status = code.status_line();
        let http1 = format!(
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nCache-Control: {cache_control}\r\nLocation: "
        );
        Self {
            code,
            cache_control: cache_control.into(),
            http1: SmallVec::from_slice(http1.as_bytes()),
        }
    }
}

/// Heads of answers. Most farms have the same one, which stays in the processor's cache then.
#[derive(Debug, Default, Clone)]
pub(crate) struct ResponseHeads(HashSet<Arc<ResponseHead>>);

impl ResponseHeads {
    fn of(&mut self, farm: &Farm, cache_control: &str) -> Arc<ResponseHead> {
        let head = Arc::new(ResponseHead::new(farm.redirect_code, cache_control));
        if let Some(held) = self.0.get(&head) {
            return held.clone();
        }
        self.0.insert(head.clone());
        head
    }
}

/// Why no server is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nobody {
    /// None is live.
    AtAll,
    /// Some are, but none that takes https.
    Secure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farm_is_two_cache_lines_but_for_its_servers() {
        assert_eq!(size_of::<FarmHot>(), 128);
    }
}
