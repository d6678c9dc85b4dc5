//! `rbalancer enable`, `disable`, `drain`, `weight`, `force`, `clear`: one server, set by hand over the file.

use crate::change::current::Current;
use crate::change::guard::{self, Picture};
use crate::change::publish::{operator, taken};
use anyhow::anyhow;
use common::config::global::did_you_mean;
use common::model::farm::{Farms, Intent, ServerId, Weight};
use common::model::overrides::{Force, Override};
use common::process::exit::Failure;
use common::store::{Event, ExpectedGenerations, Redis, RedisSettings, Store, StoreError};
use common::time::{UnixMs, unix_ms, utc};
use std::time::{Duration, Instant};

/// What is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// What is wanted of it.
    Enable(Intent),
    /// Its share.
    Weight(Weight),
    /// Its health, for good or for a while.
    Force(Force, Option<Duration>),
    /// Nothing any more: the file and the probes decide.
    Clear,
}

impl Setting {
    /// Whether the farm may be left with less.
    fn may_take_away(self) -> bool {
        match self {
            Self::Enable(enable) => enable != Intent::On,
            Self::Weight(weight) => weight.0 == 0,
            Self::Force(force, _) => force == Force::Down,
            Self::Clear => true,
        }
    }
}

/// How long a change is judged anew because others come first.
const PATIENCE: Duration = Duration::from_secs(20);

/// Known servers listed where none is near: more are a wall of text.
const LISTED: usize = 20;

/// Sets something for one server; the lines to print.
///
/// # Errors
/// When the server is unknown, Redis does not answer, or a farm would be left without a live server.
pub async fn set(
    redis: &RedisSettings,
    id: &ServerId,
    setting: Setting,
    why: &str,
    force: bool,
) -> Result<String, Failure> {
    let store = Store::Redis(Redis::pooled(redis));
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(lines) = try_to_set(&store, id, setting, why, force).await? {
            return Ok(lines);
        }
        // Commands that were judged together do not write together again: their numbers differ.
        tokio::time::sleep(Duration::from_millis(
            10 + u64::from(std::process::id() % 190),
        ))
        .await;
    }
    Err(anyhow!("others keep changing what is in force, and nothing was changed: try again").into())
}

/// The lines to print; none if what is in force has changed since it was judged by.
async fn try_to_set(
    store: &Store,
    id: &ServerId,
    setting: Setting,
    why: &str,
    force: bool,
) -> Result<Option<String>, Failure> {
    let current = Current::read(&store.reader())
        .await
        .map_err(anyhow::Error::from)?;
    let held = current.set.get(id);
    let farms = &current.table()?.farms;
    // What is set for a server that is gone can be cleared.
    if held.is_none() || setting != Setting::Clear {
        known(farms, id)?;
    }
    if setting == Setting::Clear && held.is_none() {
        return Ok(Some(format!("nothing is set by hand for {id}\n")));
    }
    let value = value(setting, why, current.now);
    let mut after = current.overrides.clone();
    match &value {
        Some(value) => drop(
            after.insert(
                id.clone(),
                value
                    .over(&held.cloned().unwrap_or_default())
                    .at(current.now),
            ),
        ),
        None => drop(after.remove(id)),
    }
    let before = Picture {
        farms,
        overrides: &current.overrides,
    };
    guard::check(
        before,
        Picture {
            farms,
            overrides: &after,
        },
        &current.health,
        force,
    )?;
    let words = value.as_ref().and_then(Override::words);
    let event = Event {
        at: unix_ms(),
        by: operator(),
        what: words.map_or_else(
            || format!("{id} cleared"),
            |words| format!("{id} set to {words}"),
        ),
        why: why.to_owned(),
    };
    let stamp = current.stamp.as_ref();
    let stamp = stamp.filter(|_| !force && setting.may_take_away());
    let judged = stamp.map(|stamp| ExpectedGenerations {
        table: stamp.table,
        overrides: stamp.overrides,
    });
    if !write(store, id, value.as_ref(), &event, judged).await? {
        return Ok(None);
    }
    let until = value.and_then(|value| value.until);
    let now = now_set(id, after.get(id), current.overrides.get(id), until);
    let spread = spread(store).await;
    let spread = spread.unwrap_or_else(|error| format!("who uses it is unknown: {error}\n"));
    Ok(Some(format!("{}; {now}\n{spread}", event.what)))
}

/// What is set now, and was before.
fn now_set(
    id: &ServerId,
    after: Option<&Override>,
    before: Option<&Override>,
    until: Option<UnixMs>,
) -> String {
    let all = after.and_then(Override::words).map_or_else(
        || "as the file has it".to_owned(),
        |words| format!("by hand: {words}; `rbalancer clear {id}` gives the word back to the file"),
    );
    let before = before.and_then(|held| {
        let words = held.words()?;
        Some(format!(" (before by hand: {words} by {})", held.by))
    });
    let until = until.map(|until| format!(", forced until {} UTC", utc(until)));
    let (until, before) = (until.unwrap_or_default(), before.unwrap_or_default());
    format!("now {all}{until}{before}")
}

fn value(setting: Setting, why: &str, now: u64) -> Option<Override> {
    let set = Override {
        by: operator(),
        why: why.to_owned(),
        ..Override::default()
    };
    Some(match setting {
        Setting::Clear => return None,
        Setting::Enable(enable) => Override {
            enable: Some(enable),
            ..set
        },
        Setting::Weight(weight) => Override {
            weight: Some(weight),
            ..set
        },
        Setting::Force(force, time) => {
            let until = time.map(|time| {
                now.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
            });
            Override {
                force: Some(force),
                until,
                ..set
            }
        }
    })
}

fn known(farms: &Farms, id: &ServerId) -> anyhow::Result<()> {
    let ids: Vec<String> = farms.servers().map(|(id, _)| id.to_string()).collect();
    let name = id.to_string();
    if ids.contains(&name) {
        return Ok(());
    }
    let hint = did_you_mean(&name, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let wall = ids.len() > LISTED && hint.starts_with("; known are");
    Err(anyhow!(
        "no server {id} in the table in force{}",
        if wall {
            "; `rbalancer show` lists them"
        } else {
            &hint
        }
    ))
}

/// Setting the same twice does no harm: a lost reply is asked for again. False if what is in force is not what was judged
/// by, as after a try that was carried out though its reply was lost.
async fn write(
    store: &Store,
    id: &ServerId,
    value: Option<&Override>,
    event: &Event,
    judged: Option<ExpectedGenerations>,
) -> anyhow::Result<bool> {
    let unknown =
        |error: StoreError| anyhow!("{error}; whether it was set is unknown, run `rbalancer show`");
    match store
        .operator()
        .set_override(id, value, event, judged)
        .await
    {
        Ok(set) => Ok(set),
        Err(StoreError::TimedOut(_) | StoreError::Unreachable { .. }) => store
            .operator()
            .set_override(id, value, event, judged)
            .await
            .map_err(unknown),
        Err(error) => Err(anyhow!("{error}; nothing was changed")),
    }
}

async fn spread(store: &Store) -> Result<String, StoreError> {
    let reader = store.reader();
    let overrides = reader.stamp().await?.map_or(0, |stamp| stamp.overrides);
    taken(&reader, |said| said.overrides >= overrides).await
}
