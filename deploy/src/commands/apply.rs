//! `rbalancer apply`: a file's table into the store, whole or not at all.

use crate::change::current::{Current, same_cluster};
use crate::change::diff::by_hand;
use crate::change::publish::{in_force, is_agreed};
use crate::change::put_in_force::{PublishOptions, put_in_force};
use crate::conf::Conf;
use common::process::exit::Failure;
use common::store::{Redis, RedisSettings, Store};

/// Puts the table of `conf` in force, if `agreed` says yes to the changes; the lines to print.
///
/// # Errors
/// When Redis does not answer, another publication came first, or service would be taken away without insistence.
pub async fn apply(
    conf: &Conf,
    redis: &RedisSettings,
    options: &PublishOptions,
    agreed: impl FnOnce(&str) -> anyhow::Result<bool>,
) -> Result<String, Failure> {
    let store = Store::Redis(Redis::pooled(redis));
    let current = Current::read(&store.reader())
        .await
        .map_err(anyhow::Error::from)?;
    same_cluster(&current, conf)?;
    if let Some(stamp) = current.holds(&conf.farms).filter(|_| !options.reset)
        && is_agreed(&store.reader(), stamp)
            .await
            .map_err(anyhow::Error::from)?
    {
        // A table more in the history would push out one that can be gone back to.
        return Ok(
            in_force(&store, stamp.table, &conf.farms, "no change: ").await
                + &by_hand(&conf.farms, &current.overrides, false),
        );
    }
    let table = (conf.cluster.clone(), conf.farms.clone());
    put_in_force(
        &store,
        &current,
        table,
        options,
        options.why.clone(),
        agreed,
    )
    .await
}
