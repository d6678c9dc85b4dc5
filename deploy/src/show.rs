//! `rbalancer show`: what is in force, from the store.

use common::health::{State, Views};
use common::store::{Redis, RedisSettings, Store};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// The table in force with health and totals, as text.
///
/// # Errors
/// When Redis does not answer, or holds a damaged table.
pub async fn show(redis: &RedisSettings) -> anyhow::Result<String> {
    let reader = Store::Redis(Redis::pooled(redis)).reader();
    let Some(stamp) = reader.stamp().await? else {
        return Ok("no table: run `rbalancer apply rbalancer.conf`\n".into());
    };
    let table = reader.table(stamp).await??;
    let overrides = reader.overrides().await?;
    let mut views = Views::default();
    let now = Instant::now();
    views.take(reader.health(&BTreeMap::new()).await?, now);
    let health = views.merge(now, Duration::from_secs(5));
    let totals = reader.totals().await?.sum();
    let stamp = &table.stamp;
    let mut out = format!("cluster {}  generation {}  by {}  ({})\n", stamp.cluster, stamp.table, stamp.by, stamp.why);
    for farm in table.farms.iter() {
        let domains: Vec<&str> = farm.domains.iter().map(common::host::Host::as_str).collect();
        let _ = writeln!(out, "\n{}  {}  {}", farm.name, domains.join(", "), farm.balance.as_str());
        for server in &farm.servers {
            let id = farm.id(server);
            let hand = overrides.get(&id);
            let enable = hand.and_then(|hand| hand.enable).unwrap_or(server.enable).as_str();
            let weight = hand.and_then(|hand| hand.weight).unwrap_or(server.weight);
            let finding = server.check.as_ref().and_then(|check| health.of(&check.key()));
            let state = match finding.map(|finding| finding.state) {
                Some(State::Up) => "up",
                Some(State::Down) => "down",
                Some(State::Suspect) => "suspect",
                Some(State::Abstain) | None => "unknown",
            };
            let by_hand = if hand.is_some() { "  set by hand" } else { "" };
            let redirects = totals.get(&common::tally::CountKey::Server(id));
            let why = finding.map(|finding| finding.why.as_str()).unwrap_or_default();
            let _ = writeln!(
                out,
                "  {:<16} {:<40} weight {weight:<6} {enable:<6} {state:<8} {redirects:>12}  {why}{by_hand}",
                server.name.as_str(),
                server.target.to_string()
            );
        }
    }
    Ok(out)
}
