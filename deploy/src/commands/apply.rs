//! `rbalancer apply`: a file's table into the store, whole or not at all.

use crate::change::current::{Present, same_cluster};
use crate::change::diff::{by_hand, describe};
use crate::change::guard::{self, Picture};
use crate::change::publish::{Wish, in_force, is_agreed, operator, publish};
use crate::conf::Conf;
use anyhow::anyhow;
use common::process::{Failure, random_id};
use common::store::{Publication, Redis, RedisSettings, Store};
use std::collections::HashMap;

/// Puts the table of `conf` in force, if `agreed` says yes to the changes; the lines to print.
///
/// # Errors
/// When Redis does not answer, another publication came first, or service would be taken away without insistence.
pub async fn apply(
    conf: &Conf,
    redis: &RedisSettings,
    wish: &Wish,
    agreed: impl FnOnce(&str) -> anyhow::Result<bool>,
) -> Result<String, Failure> {
    let store = Store::Redis(Redis::pooled(redis));
    let present = Present::read(&store.reader())
        .await
        .map_err(anyhow::Error::from)?;
    same_cluster(&present, conf)?;
    if let Some(stamp) = present.holds(&conf.farms).filter(|_| !wish.reset)
        && is_agreed(&store.reader(), stamp)
            .await
            .map_err(anyhow::Error::from)?
    {
        // A table more in the history would push out one that can be gone back to.
        return Ok(
            in_force(&store, stamp.table, &conf.farms, "no change: ").await
                + &by_hand(&conf.farms, &present.overrides, false),
        );
    }
    let (held, none) = (present.farms(), HashMap::new());
    let kept = if wish.reset {
        &none
    } else {
        &present.overrides
    };
    let before = Picture {
        farms: &held,
        overrides: &present.overrides,
    };
    guard::check(
        before,
        Picture {
            farms: &conf.farms,
            overrides: kept,
        },
        &present.health,
        wish.force,
    )?;
    if !agreed(
        &(present.trouble() + &describe(&held, &conf.farms, &present.overrides, wish.reset)),
    )? {
        return Err(anyhow!("declined: nothing was changed").into());
    }
    let by_hand = by_hand(&conf.farms, &present.overrides, wish.reset);
    let publication = Publication {
        expected: present.stamp.map_or(0, |stamp| stamp.table),
        cluster: conf.cluster.clone(),
        farms: conf.farms.clone(),
        by: operator(),
        why: wish.why.clone(),
        nonce: random_id(),
        forced: wish.force,
        reset: wish.reset,
    };
    Ok(publish(&store, &publication).await? + &by_hand)
}
