//! `rbalancer plan`: what `apply` would change, in words, and what it would refuse. The comparison is pure.

use crate::change::current::Current;
use crate::change::diff::describe;
use crate::change::guard::{Picture, reasons};
use crate::conf::Conf;
use common::store::{Redis, RedisSettings, Store};

/// What putting `conf` in force on `redis` would change.
///
/// # Errors
/// When Redis does not answer.
pub async fn plan(conf: &Conf, redis: &RedisSettings) -> anyhow::Result<String> {
    let current = Current::read(&Store::Redis(Redis::pooled(redis)).reader()).await?;
    crate::change::current::same_cluster(&current, conf)?;
    let held = current.farms();
    let mut text = current.trouble() + &describe(&held, &conf.farms, &current.overrides, false);
    let overrides = &current.overrides;
    let reasons = reasons(
        Picture {
            farms: &held,
            overrides,
        },
        Picture {
            farms: &conf.farms,
            overrides,
        },
        &current.health,
    );
    if !reasons.is_empty() {
        text.push_str(&format!(
            "apply would refuse this without --force:\n  {}\n",
            reasons.join("\n  ")
        ));
    }
    Ok(text)
}
