//! The one way of a table into force: guarded, agreed to, published. For `apply` and `rollback` alike.

use crate::change::current::Current;
use crate::change::diff::{by_hand, describe};
use crate::change::guard::{self, Picture};
use crate::change::publish::{operator, publish};
use anyhow::anyhow;
use common::model::farm::{Farms, Name};
use common::process::exit::Failure;
use common::process::random_id;
use common::store::{Publication, Store};
use std::collections::HashMap;

/// What the operator adds to a publication.
#[derive(Debug, Clone, Default)]
pub struct PublishOptions {
    /// Whether it is meant although it takes service away.
    pub force: bool,
    /// Whether what was set by hand is dropped.
    pub reset: bool,
    /// Why.
    pub why: String,
}

/// Puts `farms` in force in the place of what is `current`, if `agreed` says yes to the changes; the lines to print.
///
/// # Errors
/// When Redis does not answer, another publication came first, service would be taken away without insistence, or the
/// answer was no.
pub async fn put_in_force(
    store: &Store,
    current: &Current,
    (cluster, farms): (Name, Farms),
    options: &PublishOptions,
    why: String,
    agreed: impl FnOnce(&str) -> anyhow::Result<bool>,
) -> Result<String, Failure> {
    let (held, none) = (current.farms(), HashMap::new());
    let before = Picture {
        farms: &held,
        overrides: &current.overrides,
    };
    let after = Picture {
        farms: &farms,
        overrides: if options.reset {
            &none
        } else {
            &current.overrides
        },
    };
    guard::check(before, after, &current.health, options.force)?;
    let changes = describe(&held, &farms, &current.overrides, options.reset);
    if !agreed(&(current.trouble() + &changes))? {
        return Err(anyhow!("declined: nothing was changed").into());
    }
    let by_hand = by_hand(&farms, &current.overrides, options.reset);
    let publication = Publication {
        expected: current.stamp.as_ref().map_or(0, |stamp| stamp.table),
        cluster,
        farms,
        by: operator(),
        why,
        nonce: random_id(),
        forced: options.force,
        reset: options.reset,
    };
    Ok(publish(store, &publication).await? + &by_hand)
}
