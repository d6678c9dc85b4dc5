//! `Routes`: the immutable table that answers are made from: farms × overrides × health, swapped whole.

use crate::counters::{Counters, Slot};
use crate::head::Refusal;
use crate::pick::Pick;
use common::farm::{Balance, Farm, Farms, Force, Intent, Name, OnAllDown, Override, Server, ServerId};
use common::health::{Health, State};
use common::host::Host;
use common::tally::CountKey;
use common::target::{Scheme, Target};
use rand::Rng;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Everything an answer needs to know of the farms.
#[derive(Debug, Default)]
pub struct Routes {
    farms: Vec<Arc<FarmRoute>>,
    hosts: Arc<HashMap<Host, u32>>,
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
    head: Box<[u8]>,
    /// The same where the redirect is a last resort: never cached.
    last_resort: Box<[u8]>,
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

/// Where a redirect leads.
#[derive(Debug)]
pub struct Destination {
    http: Box<[u8]>,
    /// Only where it differs.
    https: Option<Box<[u8]>>,
    /// What counts it.
    pub slot: Slot,
}

impl Destination {
    fn new(target: &Target, slot: Slot) -> Self {
        let of = |scheme| target.origin(scheme).into_bytes().into_boxed_slice();
        let https = target.scheme().is_none().then(|| of(Scheme::Https));
        Self { http: of(Scheme::Http), https, slot }
    }

    /// What precedes the request's path in a Location.
    #[inline]
    pub fn origin(&self, request: Scheme) -> &[u8] {
        match (&self.https, request) {
            (Some(https), Scheme::Https) => https,
            _ => &self.http,
        }
    }
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
        let mut hosts = HashMap::new();
        let route = |(index, farm): (usize, &Farm)| {
            // A random start, so that many processes do not begin with the same server.
            let new = [Arc::new(AtomicU32::new(rng.next_u32())), Arc::new(AtomicU32::new(rng.next_u32()))];
            let positions = positions.get(&farm.name).copied().unwrap_or_else(|| new.each_ref());
            hosts.extend(farm.domains.iter().map(|host| (host.clone(), index as u32)));
            Arc::new(FarmRoute::build(farm, overrides, health, counters, positions))
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
                *route = Arc::new(FarmRoute::build(farm, overrides, health, counters, [&route.position, &route.secure_position]));
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
    fn build(farm: &Farm, overrides: &HashMap<ServerId, Override>, health: &Health, counters: &Counters, positions: Positions<'_>) -> Self {
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
            head: head_of(farm, farm.cache_control.as_str()),
            last_resort: head_of(farm, "no-store"),
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

fn head_of(farm: &Farm, cache_control: &str) -> Box<[u8]> {
    let status = farm.redirect_code.status_line();
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nCache-Control: {cache_control}\r\nLocation: ").into_bytes().into()
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
mod tests {
    use super::*;
    use common::check::Check;
    use common::health::{Checked, Finding, ViewChanges, Views};
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::time::{Duration, Instant};

    fn check(server: usize) -> Check {
        let json = serde_json::json!({"scheme": "http", "host": format!("s{server}.org"), "port": 80, "method": "HEAD", "uri": "/",
            "expect": "200-499", "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1200, "rise": 2, "fall": 3});
        serde_json::from_value(json).expect("valid check")
    }

    fn farms(servers: &[(u16, Intent)], farm: &serde_json::Value) -> Farms {
        let servers: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(n, (weight, enable))| {
                serde_json::json!({"name": format!("s{n}"), "target": format!("http://s{n}.org"), "weight": weight, "enable": enable, "check": check(n)})
            })
            .collect();
        let mut whole = serde_json::json!([{"name": "img", "domains": ["img.org"], "servers": servers}]);
        for (key, value) in farm.as_object().expect("an object") {
            whole[0][key] = value.clone();
        }
        serde_json::from_value(whole).expect("valid farms")
    }

    fn health(states: &[State]) -> Health {
        let finding = |state| Finding { state, checked: Checked::Ok, since: 1, why: String::new(), last_check: 1 };
        let findings = states.iter().enumerate().map(|(n, &state)| (check(n).key(), finding(state))).collect();
        let mut views = Views::default();
        let now = Instant::now();
        views.take(ViewChanges { sequences: [("h".into(), 1)].into(), changed: [("h".into(), (1, findings))].into() }, now);
        views.merge(now, Duration::from_secs(5))
    }

    fn build(farms: &Farms, overrides: &HashMap<ServerId, Override>, health: &Health) -> Routes {
        Routes::build(farms, overrides, health, &Counters::new(1), &Routes::default(), &mut SmallRng::seed_from_u64(1))
    }

    fn reached(routes: &Routes) -> BTreeSet<String> {
        let mut rng = SmallRng::seed_from_u64(2);
        let farm = routes.farm(b"img.org").expect("the farm");
        let text = |(_, to): (_, &Destination)| String::from_utf8_lossy(to.origin(Scheme::Http)).into_owned();
        (0..500).filter_map(|_| farm.pick(false, &mut rng).ok().map(text)).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| format!("http://{name}.org")).collect()
    }

    const ON: (u16, Intent) = (1, Intent::On);

    #[test]
    fn one_nobody_has_probed_waits_for_a_mate_that_is_up_only() {
        let two = farms(&[ON, ON], &serde_json::json!({}));
        let none = HashMap::new();
        assert_eq!(reached(&build(&two, &none, &Health::default())), set(&["s0", "s1"]));
        assert_eq!(reached(&build(&two, &none, &health(&[State::Up, State::Abstain]))), set(&["s0"]));
        assert_eq!(reached(&build(&two, &none, &health(&[State::Down, State::Abstain]))), set(&["s1"]));
        assert_eq!(reached(&build(&two, &none, &health(&[State::Suspect, State::Up]))), set(&["s0", "s1"]));
    }

    #[test]
    fn with_nobody_live_the_farm_says_what_happens() {
        let (none, down) = (HashMap::new(), health(&[State::Down, State::Down]));
        assert!(reached(&build(&farms(&[ON, ON], &serde_json::json!({})), &none, &down)).is_empty());
        let any = farms(&[ON, (1, Intent::Off)], &serde_json::json!({"on_all_down": "any"}));
        assert_eq!(reached(&build(&any, &none, &down)), set(&["s0"]));
        let fallback = farms(&[ON, ON], &serde_json::json!({"fallback": "http://spare.org"}));
        assert_eq!(reached(&build(&fallback, &none, &down)), set(&["spare"]));
    }

    #[test]
    fn what_is_set_by_hand_beats_file_and_probes() {
        let two = farms(&[ON, ON], &serde_json::json!({}));
        let by_hand = |value: Override| HashMap::from([("img/s0".parse::<ServerId>().expect("valid"), value)]);
        let drained = by_hand(Override { enable: Some(Intent::Drain), ..Override::default() });
        assert_eq!(reached(&build(&two, &drained, &Health::default())), set(&["s1"]));
        let forced = by_hand(Override { force: Some(Force::Up), ..Override::default() });
        assert_eq!(reached(&build(&two, &forced, &health(&[State::Down, State::Up]))), set(&["s0", "s1"]));
    }

    #[test]
    fn a_farm_made_anew_is_as_if_all_were() {
        let two = farms(&[ON, ON], &serde_json::json!({}));
        let (counters, none) = (Counters::new(1), HashMap::new());
        let first = Routes::build(&two, &none, &Health::default(), &counters, &Routes::default(), &mut SmallRng::seed_from_u64(1));
        let down = health(&[State::Down, State::Up]);
        assert_eq!(reached(&first.rebuild(&two, &BTreeSet::from([0, 7]), &none, &down, &counters)), set(&["s1"]));
        assert_eq!(reached(&first.rebuild(&two, &BTreeSet::new(), &none, &down, &counters)), set(&["s0", "s1"]));
    }

    #[test]
    fn round_robin_goes_on_across_a_swap() {
        let two = farms(&[ON, ON], &serde_json::json!({"balance": "roundrobin"}));
        let (counters, mut rng) = (Counters::new(1), SmallRng::seed_from_u64(3));
        let make = |previous: &Routes| {
            Routes::build(&two, &HashMap::new(), &Health::default(), &counters, previous, &mut SmallRng::seed_from_u64(4))
        };
        let first = make(&Routes::default());
        let next = |routes: &Routes, rng: &mut SmallRng| {
            routes
                .farm(b"img.org")
                .and_then(|farm| farm.pick(false, rng).ok())
                .map(|(_, to)| to.origin(Scheme::Http).to_vec())
                .expect("live")
        };
        let before = next(&first, &mut rng);
        let second = make(&first);
        assert_ne!(next(&second, &mut rng), before);
    }

    #[test]
    fn https_reaches_what_takes_it_by_weight() {
        let server =
            |name: &str, target: &str, weight: u16| serde_json::json!({"name": name, "target": target, "weight": weight, "enable": "on"});
        let servers = [server("a", "http://a.org", 9), server("b", "b.org", 2), server("c", "https://c.org", 1)];
        let farms = serde_json::json!([{"name": "img", "domains": ["img.org"], "servers": servers, "balance": "roundrobin"}]);
        let farms: Farms = serde_json::from_value(farms).expect("valid farms");
        let routes = build(&farms, &HashMap::new(), &Health::default());
        let farm = routes.farm(b"img.org").expect("the farm");
        let mut rng = SmallRng::seed_from_u64(5);
        let mut asked = |secure| -> Vec<String> {
            let text = |(_, to): (_, &Destination)| String::from_utf8_lossy(to.origin(Scheme::Https)).into_owned();
            (0..12).filter_map(|_| farm.pick(secure, &mut rng).ok().map(text)).collect()
        };
        let count = |all: &[String], name: &str| all.iter().filter(|held| *held == name).count();
        let secure = asked(true);
        assert_eq!((count(&secure, "https://b.org"), count(&secure, "https://c.org"), secure.len()), (8, 4, 12));
        let all = asked(false);
        assert_eq!((count(&all, "http://a.org"), count(&all, "https://b.org"), count(&all, "https://c.org")), (9, 2, 1));
    }

    fn any_state() -> impl Strategy<Value = State> {
        prop_oneof![Just(State::Up), Just(State::Down), Just(State::Suspect), Just(State::Abstain)]
    }

    fn any_intent() -> impl Strategy<Value = Intent> {
        prop_oneof![Just(Intent::On), Just(Intent::Drain), Just(Intent::Off)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_dead_off_drained_or_weightless_server_is_never_picked(
            servers in proptest::collection::vec((0u16..3, any_intent(), any_state()), 1..6), balance in "(random|roundrobin)"
        ) {
            let table: Vec<_> = servers.iter().map(|(weight, enable, _)| (*weight, *enable)).collect();
            let states: Vec<_> = servers.iter().map(|(_, _, state)| *state).collect();
            let routes = build(&farms(&table, &serde_json::json!({"balance": balance})), &HashMap::new(), &health(&states));
            for name in reached(&routes) {
                let index: usize = name.trim_start_matches("http://s").trim_end_matches(".org").parse().expect("index");
                let (weight, enable, state) = servers[index];
                prop_assert!(weight > 0 && enable == Intent::On && state != State::Down, "{} was reached", name);
            }
        }
    }
}
