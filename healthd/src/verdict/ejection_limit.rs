//! The ejection limit: soft evidence, which may be the prober's own trouble, takes out only a part of a farm. Pure: time comes
//! in as an argument.

use crate::checks::CheckedServer;
use crate::verdict::judge::Judge;
use common::model::check::Check;
use common::model::farm::Name;
use common::model::health::State;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A suspicion is believed when some other address kept answering for this long.
pub(crate) const BELIEVED: Duration = Duration::from_secs(30);

/// One check as those see it who rule over all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckState<'a> {
    /// What is probed.
    pub check: &'a Check,
    /// The servers it speaks for.
    pub servers: &'a [CheckedServer],
    /// What is known of it.
    pub judge: &'a Judge,
    /// The address its name stands for, as far as it is known.
    pub address: Option<IpAddr>,
}

/// The machine at the other end of a check's probes, as far as one can be told from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Machine<'a> {
    /// This very one, which the servers are on too: no network lies between.
    Here,
    /// This one, which goes between (`check_addr` on loopback for a server elsewhere): what it says may be its own doing.
    GoBetween,
    /// One with an address.
    At(IpAddr),
    /// One whose address is not known yet.
    Called(&'a str),
}

impl<'a> CheckState<'a> {
    /// The host that is connected to.
    pub(crate) fn host(&self) -> &'a str {
        self.check
            .addr
            .as_ref()
            .map_or(&self.check.host, |addr| &addr.host)
            .as_str()
    }

    /// Host and port: what an operator would call one server. Checks that ask one port for several paths are one
    /// target, two ports of one host are two.
    pub(crate) fn target(&self) -> (&'a str, u16) {
        (
            self.host(),
            self.check
                .addr
                .as_ref()
                .and_then(|addr| addr.port)
                .unwrap_or(self.check.port),
        )
    }

    /// The machine that is connected to. Names of one address are one machine.
    pub(crate) fn machine(&self) -> Machine<'a> {
        let literal = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let address = literal(self.host()).or(self.address);
        let is_here = |host: &str| {
            host == "localhost" || literal(host).is_some_and(|address| address.is_loopback())
        };
        match address {
            Some(address) if address.is_loopback() => {
                let own = self.check.addr.is_none() || is_here(self.check.host.as_str());
                if own {
                    Machine::Here
                } else {
                    Machine::GoBetween
                }
            }
            Some(address) => Machine::At(address),
            None => Machine::Called(self.host()),
        }
    }

    fn is_down(&self) -> bool {
        self.judge.finding().state == State::Down
    }

    /// How many servers of `farm` it decides about.
    fn serving(&self, farm: &Name) -> usize {
        self.servers
            .iter()
            .filter(|seat| seat.serves && seat.id.farm == *farm)
            .count()
    }
}

/// Why soft evidence may not take out `fallen` now; none if it may. A check may speak for several servers of several
/// farms: every one of them must be able to do without.
/// `always_in` are the servers of each farm that take clients whatever is found.
pub(crate) fn held<'a>(
    all: &(impl Iterator<Item = CheckState<'a>> + Clone),
    always_in: &BTreeMap<Name, usize>,
    fallen: &CheckState<'_>,
    now: Instant,
) -> Option<String> {
    if is_believed(all.clone(), fallen, now) {
        return None;
    }
    let farms: BTreeSet<&Name> = fallen
        .servers
        .iter()
        .filter(|seat| seat.serves)
        .map(|seat| &seat.id.farm)
        .collect();
    farms.into_iter().find_map(|farm| {
        held_by(
            farm,
            all.clone(),
            always_in.get(farm).copied().unwrap_or(0),
            fallen.serving(farm),
        )
    })
}

/// How many servers of `farm` take clients unless they are down, and how many are.
pub(crate) fn enabled_and_down<'a>(
    farm: &Name,
    all: impl Iterator<Item = CheckState<'a>>,
    always_in: usize,
) -> (usize, usize) {
    let (mut enabled, mut down) = (always_in, 0);
    for seen in all {
        let serving = seen.serving(farm);
        enabled += serving;
        down += if seen.is_down() { serving } else { 0 };
    }
    (enabled, down)
}

/// Why `farm` cannot do without `more` of its servers.
fn held_by<'a>(
    farm: &Name,
    all: impl Iterator<Item = CheckState<'a>>,
    always_in: usize,
    more: usize,
) -> Option<String> {
    let (enabled, out) = enabled_and_down(farm, all, always_in);
    if out + more >= enabled {
        return Some(format!("the last of farm {farm}"));
    }
    (out + more > (enabled / 2).max(1)).then(|| format!("half of farm {farm} is out already"))
}

/// Whether the suspicion is old, and some target on another address has answered all the while: then the prober is
/// fine and the server is not.
fn is_believed<'a>(
    mut all: impl Iterator<Item = CheckState<'a>>,
    fallen: &CheckState<'_>,
    now: Instant,
) -> bool {
    let old = |since: Option<Instant>| {
        since.is_some_and(|since| now.saturating_duration_since(since) >= BELIEVED)
    };
    old(fallen.judge.trail().suspect_since)
        && all.any(|seen| {
            seen.host() != fallen.host()
                && !seen.judge.trail().quiet
                && old(seen.judge.trail().good_since)
        })
}

#[cfg(test)]
mod tests;
