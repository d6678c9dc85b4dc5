//! Which servers of a farm are in service, with which weight, and why the others are not: what the file says × what was
//! set by hand × what the probers saw × whether they are at work. Whoever sends clients, shows, guards or probes asks
//! here.

use crate::model::check::Check;
use crate::model::farm::{Farm, Farms, Intent, Server, ServerId, Weight};
use crate::model::health::{Health, State};
use crate::model::overrides::{Force, Override};
use serde::Serialize;
use std::collections::HashMap;

/// What is wanted of a server: the file, and what was set by hand over it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted<'a> {
    /// The server.
    pub server: &'a Server,
    /// What the operator wants of it.
    pub enable: Intent,
    /// Its weight.
    pub weight: Weight,
    /// The health that was set by hand; none: probes decide.
    pub force: Option<Force>,
}

impl<'a> Wanted<'a> {
    /// The server with what is set `by_hand`, whose end is not past.
    pub fn new(server: &'a Server, by_hand: Option<&Override>) -> Self {
        Self {
            server,
            enable: by_hand.and_then(|set| set.enable).unwrap_or(server.enable),
            weight: by_hand.and_then(|set| set.weight).unwrap_or(server.weight),
            force: by_hand.and_then(|set| set.force),
        }
    }

    /// Whether it is to take clients if its health allows.
    pub fn takes_clients(&self) -> bool {
        self.enable == Intent::On && self.weight.0 > 0
    }

    /// The check that probers make of it: none of a server that is off.
    pub fn check(&self) -> Option<&'a Check> {
        self.server
            .check
            .as_ref()
            .filter(|_| self.enable != Intent::Off)
    }

    /// What decides about its health. What probers found of a server before it was switched off says nothing about it
    /// any more.
    pub fn judged_by(&self) -> JudgedBy<'a> {
        match (self.force, self.check()) {
            (Some(force), _) => JudgedBy::Hand(force),
            (None, None) => JudgedBy::Nobody,
            (None, Some(check)) => JudgedBy::Probes(check),
        }
    }
}

/// What decides about a server's health.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum JudgedBy<'a> {
    /// It was set by hand.
    Hand(Force),
    /// Nobody checks it: it counts as up.
    Nobody,
    /// What probers find by this check.
    Probes(&'a Check),
}

/// Why a server gets no clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Out {
    /// It is off.
    Off,
    /// It drains.
    Drain,
    /// It has no weight.
    NoWeight,
    /// It was set down by hand.
    ForcedDown,
    /// Its probes fail.
    Down,
    /// Nobody has probed it yet, and a mate is known to be up.
    Waits,
}

/// The health a server is treated by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Used. One that nobody knows anything of counts as up: what is to be known of it stands beside it.
    Up,
    /// Not used.
    Down,
    /// Fails in a way that may be the prober's own trouble: still used.
    Suspect,
}

impl Standing {
    /// The value as reports spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Suspect => "suspect",
        }
    }
}

/// A server as it is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InForce<'a> {
    /// What is wanted of it.
    pub wanted: Wanted<'a>,
    /// The state it is treated by: [`State::Abstain`] where nobody knows.
    pub state: State,
    /// Why it gets no clients; none: it is in service.
    pub out: Option<Out>,
}

impl InForce<'_> {
    /// Whether it gets clients.
    pub fn is_in_service(&self) -> bool {
        self.out.is_none()
    }

    /// Whether it gets clients if its health allows.
    pub fn takes_clients(&self) -> bool {
        self.wanted.takes_clients()
    }

    /// The health it is treated by.
    pub fn health(&self) -> Standing {
        match self.state {
            State::Down => Standing::Down,
            State::Suspect => Standing::Suspect,
            State::Up | State::Abstain => Standing::Up,
        }
    }
}

/// All servers of `farm` as they are now, in the order of the file. `state` tells what probers find by the
/// check of the server with this number, and `fresh` whether any of them is at work.
pub fn servers<'a>(
    farm: &'a Farm,
    overrides: &HashMap<ServerId, Override>,
    state: impl Fn(usize, &Check) -> State,
    fresh: bool,
) -> Vec<InForce<'a>> {
    let in_force = |(index, server): (usize, &'a Server)| {
        // Most farms have nothing that was set by hand: no name is put together for the look-up then.
        let by_hand = if overrides.is_empty() {
            None
        } else {
            overrides.get(&farm.id(server))
        };
        let wanted = Wanted::new(server, by_hand);
        let state = match wanted.judged_by() {
            JudgedBy::Hand(Force::Up) | JudgedBy::Nobody => State::Up,
            JudgedBy::Hand(Force::Down) => State::Down,
            JudgedBy::Probes(check) => state(index, check),
        };
        InForce {
            wanted,
            state,
            out: None,
        }
    };
    let mut servers: Vec<InForce<'a>> = farm.servers.iter().enumerate().map(in_force).collect();
    decide(&mut servers, fresh);
    servers
}

/// The same by the merged health of all checks.
pub fn by_health<'a>(
    farm: &'a Farm,
    overrides: &HashMap<ServerId, Override>,
    health: &Health,
) -> Vec<InForce<'a>> {
    let state = |_, check: &Check| health.state(&check.key());
    servers(farm, overrides, state, health.is_fresh())
}

/// Decides among these `servers` alone who is in service: those of a farm, or those of them that take https. One that
/// nobody has probed yet waits while a mate is known to be up; with no mate up, or no prober at work, it is in.
pub fn decide(servers: &mut [InForce<'_>], fresh: bool) {
    let is_up = |server: &InForce<'_>| server.takes_clients() && server.state == State::Up;
    let mate_up = fresh && servers.iter().any(is_up);
    for server in servers {
        server.out = match (server.wanted.enable, server.state) {
            (Intent::Off, _) => Some(Out::Off),
            (Intent::Drain, _) => Some(Out::Drain),
            (Intent::On, _) if server.wanted.weight.0 == 0 => Some(Out::NoWeight),
            (Intent::On, State::Down) if server.wanted.force.is_some() => Some(Out::ForcedDown),
            (Intent::On, State::Down) => Some(Out::Down),
            (Intent::On, State::Abstain) if mate_up => Some(Out::Waits),
            (Intent::On, State::Up | State::Suspect | State::Abstain) => None,
        };
    }
}

/// The checks that probers make, with the server each is of.
pub fn checks<'a>(
    farms: &'a Farms,
    overrides: &'a HashMap<ServerId, Override>,
) -> impl Iterator<Item = &'a Check> {
    farms.iter().flat_map(move |farm| {
        farm.servers.iter().filter_map(move |server| {
            let by_hand = if overrides.is_empty() {
                None
            } else {
                overrides.get(&farm.id(server))
            };
            Wanted::new(server, by_hand).check()
        })
    })
}

#[cfg(test)]
mod tests;
