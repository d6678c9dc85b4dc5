//! Which checks are to be made: the table and the overrides in force, followed in the store.

use common::model::check::{Check, CheckKey};
use common::model::farm::{Intent, Name, ServerId};
use common::model::generation::{self, Step, Table};
use common::model::overrides::{Force, Override, turned};
use common::store::{Reader, StoreError};
use common::time::UnixMs;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// From one poll to the next.
const POLL: Duration = Duration::from_secs(1);

/// A server a check speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Which.
    pub id: ServerId,
    /// Whether what the check finds decides about it: it is on, has weight and is not forced up or down.
    pub serves: bool,
}

/// What there is to watch.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    /// Every check to make, with the servers it speaks for.
    pub made: BTreeMap<CheckKey, (Check, Vec<Seat>)>,
    /// How many servers of each farm take clients whatever any check finds: nobody checks them, or they are forced up.
    pub unquestioned: BTreeMap<Name, usize>,
}

/// Follows the store for ever, and tells of new sets of checks. What cannot be read changes nothing.
pub async fn follow(reader: Reader, cluster: Name, checks: watch::Sender<Checks>) {
    let mut hints = reader.hints();
    let mut held = Held::default();
    let mut told = String::new();
    loop {
        let problem = match held.poll(&reader, &cluster).await {
            Ok(Some(new)) => {
                checks.send_replace(new);
                String::new()
            }
            Ok(None) => String::new(),
            Err(problem) => problem,
        };
        if problem != told {
            if problem.is_empty() {
                tracing::info!("the table can be read again");
            } else {
                tracing::warn!("{problem}");
            }
            told = problem;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = hints.next() => {}
        }
    }
}

#[derive(Default)]
struct Held {
    table: Option<Table>,
    overrides: HashMap<ServerId, Override>,
    overrides_generation: u64,
    /// The store's time when the overrides were read; none where none of them ends.
    read_at: Option<(UnixMs, Instant)>,
}

impl Held {
    async fn poll(&mut self, reader: &Reader, cluster: &Name) -> Result<Option<Checks>, String> {
        let words = |error: StoreError| error.to_string();
        let Some(offered) = reader.stamp().await.map_err(words)? else {
            return Ok(None);
        };
        let mut changed = false;
        match generation::step(
            cluster,
            self.table.as_ref().map(|table| &table.stamp),
            Some(&offered),
        ) {
            Step::Keep => {}
            Step::Alarm(alarm) => return Err(alarm.to_string()),
            Step::Fetch => {
                let table = reader
                    .table(offered.clone())
                    .await
                    .map_err(words)?
                    .map_err(|alarm| alarm.to_string())?;
                tracing::debug!(generation = table.stamp.table, "new table");
                self.table = Some(table);
                changed = true;
            }
        }
        if offered.overrides != self.overrides_generation {
            let overrides = reader.overrides().await.map_err(words)?;
            // Ends are in the store's time, and carried on by our own monotonic clock.
            let ends = overrides.values().any(|set| set.until.is_some());
            let time = if ends {
                Some(reader.time().await.map_err(words)?)
            } else {
                None
            };
            self.read_at = time.map(|time| (time, Instant::now()));
            turned(&self.overrides, &overrides)
                .iter()
                .for_each(|words| tracing::info!("{words}"));
            self.overrides = overrides;
            self.overrides_generation = offered.overrides;
            changed = true;
        }
        changed |= self.end_overrides(Instant::now());
        Ok(changed.then(|| self.checks()))
    }

    /// Lets go of what was set by hand for a time that is over; whether there was any.
    fn end_overrides(&mut self, now: Instant) -> bool {
        let Some((read, at)) = self.read_at else {
            return false;
        };
        let time = read + now.saturating_duration_since(at).as_millis() as u64;
        let over = self
            .overrides
            .values()
            .any(|set| set.until.is_some_and(|until| until <= time));
        if over {
            let held = self.overrides.clone();
            self.overrides
                .values_mut()
                .for_each(|set| *set = set.at(time));
            turned(&held, &self.overrides)
                .iter()
                .for_each(|words| tracing::info!("{words}"));
        }
        over
    }

    fn checks(&self) -> Checks {
        let mut checks = Checks::default();
        for (id, server) in self.table.iter().flat_map(|table| table.farms.servers()) {
            let hand = self.overrides.get(&id);
            let enable = hand.and_then(|hand| hand.enable).unwrap_or(server.enable);
            let weight = hand.and_then(|hand| hand.weight).unwrap_or(server.weight);
            let takes_clients = enable == Intent::On && weight.0 > 0;
            let force = hand.and_then(|hand| hand.force);
            if takes_clients
                && (force == Some(Force::Up) || (force.is_none() && server.check.is_none()))
            {
                *checks.unquestioned.entry(id.farm.clone()).or_default() += 1;
            }
            if let Some(check) = server.check.as_ref().filter(|_| enable != Intent::Off) {
                let serves = takes_clients && force.is_none();
                checks
                    .made
                    .entry(check.key())
                    .or_insert_with(|| (check.clone(), Vec::new()))
                    .1
                    .push(Seat { id, serves });
            }
        }
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::store::{Event, Memory, Operator, Publication, Store};

    async fn set(operator: &Operator, server: &str, json: serde_json::Value) {
        let (id, value): (_, Override) = (
            server.parse().expect("an id"),
            serde_json::from_value(json).expect("an override"),
        );
        let event = Event {
            at: 1,
            by: "me".into(),
            what: "set".into(),
            why: String::new(),
        };
        operator
            .set_override(&id, Some(&value), &event, None)
            .await
            .expect("memory");
    }

    /// Servers whose check decides, and those that nothing decides about.
    fn shares(checks: &Checks) -> (Vec<String>, usize) {
        let seats = checks
            .made
            .values()
            .flat_map(|(_, seats)| seats)
            .filter(|seat| seat.serves);
        (
            seats.map(|seat| seat.id.server.to_string()).collect(),
            checks.unquestioned.values().sum(),
        )
    }

    #[tokio::test]
    async fn a_check_decides_about_servers_that_take_clients_and_are_not_forced() {
        let store = Store::Memory(Memory::default());
        let (reader, operator, cluster) = (
            store.reader(),
            store.operator(),
            "c".parse::<Name>().expect("a name"),
        );
        let check = |name: &str| {
            serde_json::json!({"scheme": "http", "host": name, "port": 80, "method": "HEAD", "uri": "/", "expect": "200-399",
                "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1200, "rise": 2, "fall": 3})
        };
        let server = |name: &str| {
            let check = if name == "e" {
                serde_json::Value::Null
            } else {
                check(name)
            };
            serde_json::json!({"name": name, "target": format!("http://{name}"), "weight": 1, "enable": "on", "check": check})
        };
        let servers: Vec<_> = ["a", "b", "c", "d", "e"].map(server).into();
        let farms = serde_json::from_value(
            serde_json::json!([{"name": "img", "domains": ["img.test"], "servers": servers}]),
        )
        .expect("farms");
        let (by, why, nonce) = ("me".to_owned(), String::new(), "n".to_owned());
        let publication = Publication {
            expected: 0,
            cluster: cluster.clone(),
            farms,
            by,
            why,
            nonce,
            forced: false,
            reset: false,
        };
        operator.publish(&publication).await.expect("memory");
        let mut held = Held::default();
        let checks = held
            .poll(&reader, &cluster)
            .await
            .expect("memory")
            .expect("a table");
        assert_eq!(
            shares(&checks),
            (["a", "b", "c", "d"].map(str::to_owned).into(), 1)
        );
        let until = reader.time().await.expect("memory") + 60_000;
        set(
            &operator,
            "img/a",
            serde_json::json!({"force": "down", "until": until}),
        )
        .await;
        set(&operator, "img/b", serde_json::json!({"force": "up"})).await;
        set(&operator, "img/c", serde_json::json!({"enable": "drain"})).await;
        let checks = held
            .poll(&reader, &cluster)
            .await
            .expect("memory")
            .expect("something new");
        assert_eq!(shares(&checks), (vec!["d".to_owned()], 2));
        assert_eq!(
            checks.made.len(),
            4,
            "those forced or draining are watched all the same"
        );
        assert!(
            !held.end_overrides(Instant::now())
                && held.end_overrides(Instant::now() + Duration::from_secs(61))
        );
        assert_eq!(
            shares(&held.checks()),
            (["a", "d"].map(str::to_owned).into(), 2)
        );
    }
}
