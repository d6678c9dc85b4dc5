//! `rbalancer plan`: what `apply` would change, in words, and what it would refuse. The comparison is pure.

use crate::change::current::Present;
use crate::change::diff::describe;
use crate::change::guard::{Picture, reasons};
use crate::conf::Conf;
use common::store::{Redis, RedisSettings, Store};

/// What putting `conf` in force on `redis` would change.
///
/// # Errors
/// When Redis does not answer.
pub async fn plan(conf: &Conf, redis: &RedisSettings) -> anyhow::Result<String> {
    let present = Present::read(&Store::Redis(Redis::pooled(redis)).reader()).await?;
    crate::change::current::same_cluster(&present, conf)?;
    let held = present.farms();
    let mut text = present.trouble() + &describe(&held, &conf.farms, &present.overrides, false);
    let overrides = &present.overrides;
    let reasons = reasons(
        Picture {
            farms: &held,
            overrides,
        },
        Picture {
            farms: &conf.farms,
            overrides,
        },
        &present.health,
    );
    if !reasons.is_empty() {
        text.push_str(&format!(
            "apply would refuse this without --force:\n  {}\n",
            reasons.join("\n  ")
        ));
    }
    Ok(text)
}
