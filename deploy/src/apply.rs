//! `rbalancer apply`: a file's table into the store, whole or not at all, and who took it.

use crate::conf::Conf;
use common::process::{Failure, host_name, random_id};
use common::store::{Publication, Published, Reader, Redis, RedisSettings, Store, StoreError};
use std::time::{Duration, Instant};

/// How long to wait for redirectors to take a table.
const TAKEN: Duration = Duration::from_secs(3);

/// A redirector silent for longer is not waited for.
const LIVE_MS: u64 = 5_000;

/// Puts the table of `conf` in force; the lines to print.
///
/// # Errors
/// When Redis does not answer, or another publication came first.
pub async fn apply(conf: &Conf, redis: &RedisSettings, file: &str) -> Result<String, Failure> {
    let store = Store::Redis(Redis::pooled(redis));
    let reader = store.reader();
    let unknown = |error: StoreError| anyhow::anyhow!("{error}; whether the table was taken is unknown, run `rbalancer show`");
    let held = reader.stamp().await.map_err(anyhow::Error::from)?;
    if let Some(other) = held.as_ref().filter(|held| held.cluster != conf.cluster) {
        let (theirs, ours) = (&other.cluster, &conf.cluster);
        return Err(anyhow::anyhow!(
            "this redis holds cluster `{theirs}`, the file is for `{ours}`: check --redis and `cluster` in [global]"
        )
        .into());
    }
    let publication = Publication {
        expected: held.map_or(0, |held| held.table),
        cluster: conf.cluster.clone(),
        farms: conf.farms.clone(),
        by: format!("{}@{}", std::env::var("USER").unwrap_or_else(|_| "unknown".into()), host_name()),
        why: format!("apply {file}"),
        nonce: random_id(),
    };
    // A lost reply is no lost race: the same publication is asked for again under the same nonce.
    let published = match store.operator().publish(&publication).await {
        Err(StoreError::TimedOut(_) | StoreError::Unreachable { .. }) => store.operator().publish(&publication).await.map_err(unknown)?,
        outcome => outcome.map_err(unknown)?,
    };
    match published {
        Published::Lost { generation, by } => Err(Failure::LostRace(format!(
            "generation {generation} by {by} came first: look at it with `rbalancer show`, then apply again"
        ))),
        Published::Now(generation) => {
            let servers = conf.farms.servers().count();
            let overrides = reader.overrides().await.map_err(anyhow::Error::from)?.len();
            let by_hand = if overrides == 0 { String::new() } else { format!("; {overrides} servers keep what was set by hand") };
            let taken = taken(&reader, generation).await?;
            Ok(format!("generation {generation} in force: {} farms, {servers} servers{by_hand}\n{taken}\n", conf.farms.len()))
        }
    }
}

/// How many of the live redirectors use `generation`, once all do or the wait is over.
async fn taken(reader: &Reader, generation: u64) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        let replicas = reader.replicas().await?;
        let live: Vec<_> = replicas.iter().filter(|replica| !replica.said.left && replica.silent_ms < LIVE_MS).collect();
        let using = live.iter().filter(|replica| replica.said.generation >= generation).count();
        if using == live.len() || began.elapsed() > TAKEN {
            return Ok(format!("{using} of {} live redirectors use it", live.len()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
