//! `Routes`: the immutable table that answers are made from: farms × overrides × health, swapped whole.

use crate::counters::Counters;
use crate::destination::Destination;
use crate::head::Refusal;
use crate::pick::Pick;
use common::farm::{Balance, Farm, Farms, Force, Intent, Name, OnAllDown, Override, Server, ServerId};
use common::health::{Health, State};
use common::host::Host;
use common::tally::CountKey;
use common::target::{Scheme, Target};
use foldhash::fast::FixedState;
use rand::Rng;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Everything an answer needs to know of the farms.
#[derive(Debug, Default)]
pub struct Routes {
    farms: Vec<Arc<FarmRoute>>,
    /// Hashed without a secret: what is in it was configured, and clients cannot add to it.
    hosts: Arc<HashMap<Host, u32, FixedState>>,
    /// Whether there is a table at all; without one every request is answered 503.
    pub ready: bool,
}

/// Where round-robin goes on: among all servers, and among those that take https.
type Positions<'a> = [&'a Arc<AtomicU32>; 2];

/// One farm, ready to answer.
#[derive(Debug)]
pub struct FarmRoute {
    name: Name,
    /// Status line and fixed fields of a normal redirect, up to the value of Location.
    head: Arc<[u8]>,
    /// The same where the redirect is a last resort: never cached.
    last_resort: Arc<[u8]>,
    /// Whether a connection may stay open.
    pub keepalive: bool,
    choice: Choice,
    position: Arc<AtomicU32>,
    /// The choice among what takes https, only where that is not everything.
    secure: Option<Choice>,
    secure_position: Arc<AtomicU32>,
}

#[derive(Debug)]
enum Choice {
    /// Live servers.
    Live(Pick, Box<[Destination]>),
    /// No server is live: all that are enabled.
    Any(Pick, Box<[Destination]>),
    /// No server is live: elsewhere.
    Fallback(Destination),
    /// No server is live.
    Nobody,
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
        let positions: HashMap<&Name, Positions<'_>> =
            previous.farms.iter().map(|farm| (&farm.name, [&farm.position, &farm.secure_position])).collect();
        let (mut hosts, mut heads) = (HashMap::default(), Heads::default());
        let route = |(index, farm): (usize, &Farm)| {
            // A random start, so that many processes do not begin with the same server.
            let new = [Arc::new(AtomicU32::new(rng.next_u32())), Arc::new(AtomicU32::new(rng.next_u32()))];
            let positions = positions.get(&farm.name).copied().unwrap_or_else(|| new.each_ref());
            hosts.extend(farm.domains.iter().map(|host| (host.clone(), index as u32)));
            Arc::new(FarmRoute::build(farm, overrides, health, counters, positions, &mut heads))
        };
        let farms = farms.iter().enumerate().map(route).collect();
        Self { farms, hosts: Arc::new(hosts), ready: true }
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
        let mut routes = Self { farms: self.farms.clone(), hosts: self.hosts.clone(), ready: self.ready };
        for &index in changed {
            if let Some((route, farm)) = routes.farms.get_mut(index as usize).zip(farms.get(index as usize)) {
                let mut heads = Heads(HashSet::from([route.head.clone(), route.last_resort.clone()]));
                let positions = [&route.position, &route.secure_position];
                *route = Arc::new(FarmRoute::build(farm, overrides, health, counters, positions, &mut heads));
            }
        }
        routes
    }

    /// The farm of a normalised host.
    #[inline]
    pub fn farm(&self, host: &[u8]) -> Option<&FarmRoute> {
        self.hosts.get(host).map(|&index| &*self.farms[index as usize])
    }
}

impl FarmRoute {
    fn build(
        farm: &Farm,
        overrides: &HashMap<ServerId, Override>,
        health: &Health,
        counters: &Counters,
        positions: Positions<'_>,
        heads: &mut Heads,
    ) -> Self {
        let [position, secure_position] = positions.map(Clone::clone);
        let all = candidates(farm, overrides, health);
        let choice = choose(farm, &all, farm.fallback.as_ref(), health, counters, &position);
        let takes_https = |target: &Target| target.scheme() != Some(Scheme::Http);
        let secure: Vec<_> = all.iter().filter(|candidate| takes_https(&candidate.server.target)).copied().collect();
        let fallback = farm.fallback.as_ref().filter(|target| takes_https(target));
        let differs = secure.len() < all.len() || fallback != farm.fallback.as_ref();
        Self {
            secure: differs.then(|| choose(farm, &secure, fallback, health, counters, &secure_position)),
            secure_position,
            name: farm.name.clone(),
            head: heads.of(farm, farm.cache_control.as_str()),
            last_resort: heads.of(farm, "no-store"),
            keepalive: farm.keepalive,
            choice,
            position,
        }
    }

    /// The head of the answer and the destination for one request, `secure`: among what takes https.
    ///
    /// # Errors
    /// When no server is live.
    #[inline]
    pub fn pick(&self, secure: bool, rng: &mut impl Rng) -> Result<(&[u8], &Destination), Refusal> {
        let (choice, nobody) = match &self.secure {
            Some(choice) if secure => (choice, Refusal::NoSecureServer),
            _ => (&self.choice, Refusal::NoServer),
        };
        match choice {
            Choice::Live(pick, servers) => Ok((&self.head, &servers[pick.next(rng)])),
            Choice::Any(pick, servers) => Ok((&self.last_resort, &servers[pick.next(rng)])),
            Choice::Fallback(destination) => Ok((&self.last_resort, destination)),
            Choice::Nobody => Err(nobody),
        }
    }
}

/// Heads of answers. Most farms have the same one, which stays in the processor's cache then.
#[derive(Default)]
struct Heads(HashSet<Arc<[u8]>>);

impl Heads {
    fn of(&mut self, farm: &Farm, cache_control: &str) -> Arc<[u8]> {
        let status = farm.redirect_code.status_line();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nCache-Control: {cache_control}\r\nLocation: ");
        if let Some(held) = self.0.get(head.as_bytes()) {
            return held.clone();
        }
        let head: Arc<[u8]> = head.into_bytes().into();
        self.0.insert(head.clone());
        head
    }
}

fn choose(
    farm: &Farm,
    candidates: &[Candidate<'_>],
    fallback: Option<&Target>,
    health: &Health,
    counters: &Counters,
    position: &Arc<AtomicU32>,
) -> Choice {
    let live = live(candidates, health.is_fresh());
    let destination = |candidate: &&Candidate<'_>| {
        let slot = counters.slot(&CountKey::Server(farm.id(candidate.server)));
        Destination::new(&candidate.server.target, slot)
    };
    let servers = |chosen: &[&Candidate<'_>]| {
        let weights: Vec<u16> = chosen.iter().map(|candidate| candidate.weight).collect();
        let pick = match farm.balance {
            Balance::Random => Pick::random(&weights),
            Balance::RoundRobin => Pick::round_robin(&weights, position.clone()),
        };
        (pick, chosen.iter().map(destination).collect())
    };
    if !live.is_empty() {
        let (pick, servers) = servers(&live);
        return Choice::Live(pick, servers);
    }
    if farm.on_all_down == OnAllDown::Any && !candidates.is_empty() {
        let (pick, servers) = servers(&candidates.iter().collect::<Vec<_>>());
        return Choice::Any(pick, servers);
    }
    match fallback {
        Some(target) => Choice::Fallback(Destination::new(target, counters.slot(&CountKey::Fallback(farm.name.clone())))),
        None => Choice::Nobody,
    }
}

/// An enabled server with weight.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    server: &'a Server,
    weight: u16,
    state: State,
}

fn candidates<'a>(farm: &'a Farm, overrides: &HashMap<ServerId, Override>, health: &Health) -> Vec<Candidate<'a>> {
    let by_hand = |server| if overrides.is_empty() { None } else { overrides.get(&farm.id(server)) };
    let candidate = |server: &'a Server| {
        let hand = by_hand(server);
        let enable = hand.and_then(|hand| hand.enable).unwrap_or(server.enable);
        let weight = hand.and_then(|hand| hand.weight).unwrap_or(server.weight).0;
        let state = match (hand.and_then(|hand| hand.force), &server.check) {
            (Some(Force::Up), _) | (None, None) => State::Up,
            (Some(Force::Down), _) => State::Down,
            (None, Some(check)) => health.state(&check.key()),
        };
        (enable == Intent::On && weight > 0).then_some(Candidate { server, weight, state })
    };
    farm.servers.iter().filter_map(candidate).collect()
}

/// The candidates in service. One nobody has probed yet waits while a mate is known to be up; with no mate up, or
/// no prober at work, it is in.
fn live<'a, 'b>(candidates: &'b [Candidate<'a>], watched: bool) -> Vec<&'b Candidate<'a>> {
    let mate_up = watched && candidates.iter().any(|candidate| candidate.state == State::Up);
    let in_service = |candidate: &&Candidate<'_>| match candidate.state {
        State::Up | State::Suspect => true,
        State::Abstain => !mate_up,
        State::Down => false,
    };
    candidates.iter().filter(in_service).collect()
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
