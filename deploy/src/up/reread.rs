//! A reload: the configuration read again, what has changed said, and put in force where it takes no service away.

use crate::change::current::Current;
use crate::change::diff;
use crate::change::guard::{self, Picture};
use crate::conf::Conf;
use common::config::global::Problems;
use common::model::farm::{Farms, Name};
use common::process::logging::log_errors;
use common::process::signals::Reload;
use common::process::{random_id, unhurried};
use common::store::{Publication, Published, Store};
use std::collections::{BTreeMap, BTreeSet};

/// Puts a table in force.
pub(super) async fn publish(
    store: &Store,
    cluster: Name,
    farms: Farms,
    why: &str,
) -> anyhow::Result<()> {
    let expected = store.reader().stamp().await?.map_or(0, |stamp| stamp.table);
    let publication = Publication {
        expected,
        cluster,
        farms,
        by: "up".into(),
        why: why.to_owned(),
        nonce: random_id(),
        // The file is all there is: what it says is meant.
        forced: true,
        reset: false,
    };
    match store.operator().publish(&publication).await? {
        Published::Now(_) => Ok(()),
        Published::Replaced { generation, .. } | Published::Lost { generation, .. } => {
            anyhow::bail!("generation {generation} came first")
        }
    }
}

/// Reads the file again whenever that is asked for, for ever.
pub(super) async fn follow(
    store: Store,
    process: BTreeMap<String, String>,
    reread: impl Fn() -> Result<Conf, Problems> + Clone + Send + 'static,
    mut reload: Reload,
) -> anyhow::Result<()> {
    loop {
        reload.asked().await;
        match unhurried(reread.clone()).await {
            Some(Ok(conf)) => again(&store, &process, conf)
                .await
                .unwrap_or_else(|error| log_errors(&format!("reload: {error:#}"))),
            Some(Err(problems)) => {
                log_errors(&format!("reload: keeping everything as it is:\n{problems}"));
            }
            None => tracing::error!("reload: keeping everything as it is: the reading broke off"),
        }
    }
}

/// Puts the farms of a file that was read again in force, and says what that changes; a file that changes nothing makes no
/// table. What takes service away is refused as by `apply`, unless the file itself insists. `process` is what the process
/// was started with, and keeps.
async fn again(
    store: &Store,
    process: &BTreeMap<String, String>,
    conf: Conf,
) -> anyhow::Result<()> {
    conf.warnings
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));
    let later = differing(process, &conf.process);
    if !later.is_empty() {
        tracing::warn!(
            "reload: only farms are taken, what [global] says of {} is in force after a restart",
            later.join(", ")
        );
    }
    let current = Current::read(&store.reader()).await?;
    let held = current.farms();
    let changes = diff::changes(&held, &conf.farms);
    if current.holds(&conf.farms).is_some() {
        tracing::info!("reload: no farm and no server changes");
        return Ok(());
    }
    let (before, after) = (&current.overrides, &current.overrides);
    let pictures = [
        Picture {
            farms: &held,
            overrides: before,
        },
        Picture {
            farms: &conf.farms,
            overrides: after,
        },
    ];
    let reasons = guard::reasons(pictures[0], pictures[1], &current.health);
    if !reasons.is_empty() && !conf.reload_force {
        anyhow::bail!(
            "refused, keeping everything as it is:\n{}\nset reload_force = on in [global] if this is meant",
            reasons.join("\n")
        );
    }
    publish(store, conf.cluster, conf.farms, "reload").await?;
    changes
        .iter()
        .take(NAMED)
        .for_each(|change| tracing::info!("reload: {}", change.trim_start()));
    if changes.len() > NAMED {
        tracing::info!("reload: and {} more changes", changes.len() - NAMED);
    }
    Ok(())
}

/// Changes of a reload that are named one by one.
const NAMED: usize = 50;

/// The keys that are not the same in both.
fn differing<'a>(
    one: &'a BTreeMap<String, String>,
    other: &'a BTreeMap<String, String>,
) -> Vec<&'a str> {
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    keys.into_iter()
        .filter(|key| one.get(*key) != other.get(*key))
        .map(String::as_str)
        .collect()
}
