//! Putting a table in force: once, known or unknown but never half, and who has it then.

use common::model::farm::Farms;
use common::model::generation::Stamp;
use common::process::exit::Failure;
use common::process::host_name;
use common::store::{
    Announcement, Publication, Published, Reader, Replica, Replication, Store, StoreError,
};
use common::words::count;
use std::time::{Duration, Instant};

/// How long to wait for redirectors to take a change.
const TAKEN: Duration = Duration::from_secs(3);

/// How long a store that falls silent in the middle of a publication is asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// A redirector silent for longer is not waited for.
pub const LIVE_MS: u64 = 5_000;

/// Puts a table in force; the lines to print.
///
/// # Errors
/// When another publication came first, when the store refuses, or when it is silent: then nobody knows.
pub async fn publish(store: &Store, publication: &Publication) -> Result<String, Failure> {
    match send(store, publication).await? {
        Published::Lost { generation, by } => Err(Failure::LostRace(format!(
            "generation {generation} by {by} came first and nothing was changed: look at it with `rbalancer show`, then try again"
        ))),
        Published::Replaced {
            mine,
            generation,
            by,
        } => Ok(format!(
            "generation {mine} was put in force, and generation {generation} by {by} has replaced it since: look at it with `rbalancer show`\n"
        )),
        Published::Now(generation) => Ok(in_force(store, generation, &publication.farms, "").await),
    }
}

/// The lines about a table in force, begun with `how` that came about.
pub async fn in_force(store: &Store, generation: u64, farms: &Farms, how: &str) -> String {
    let (farms, servers) = (
        count(farms.len(), "farm"),
        count(farms.servers().count(), "server"),
    );
    let mut text = format!("{how}generation {generation} in force: {farms}, {servers}\n");
    // It is in force, whatever can be said of it.
    match spread(store, generation).await {
        Ok(lines) => text.push_str(&lines),
        Err(error) => text.push_str(&format!("who uses it is unknown: {error}\n")),
    }
    text
}

/// A lost reply is no lost race: the same publication is asked for again under the same nonce.
async fn send(store: &Store, publication: &Publication) -> Result<Published, anyhow::Error> {
    let (began, mut was_silent) = (Instant::now(), false);
    loop {
        match store.operator().publish(publication).await {
            Ok(published) => return Ok(published),
            // What refuses now says nothing of a try before it that was not answered.
            Err(error) if !error.is_silence() && !was_silent => {
                anyhow::bail!("{error}; nothing was changed")
            }
            Err(error) if began.elapsed() > PATIENCE => {
                anyhow::bail!(
                    "{error}; whether the table was taken is unknown, run `rbalancer show`"
                )
            }
            // A store that refuses says so at once.
            Err(error) => {
                was_silent |= error.is_silence();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn spread(store: &Store, generation: u64) -> Result<String, StoreError> {
    let mut text = String::new();
    if let Some(Replication {
        acknowledged,
        connected,
    }) = store.operator().copies().await?
    {
        text.push_str(&format!(
            "{acknowledged} of {connected} Redis replicas have it\n"
        ));
    }
    let reader = store.reader();
    let (set, now) = (reader.overrides().await?, reader.time().await?);
    // What is over counts no more.
    let by_hand = set
        .values()
        .filter(|set| set.at(now).words().is_some())
        .count();
    if by_hand > 0 {
        let keep = if by_hand == 1 { "keeps" } else { "keep" };
        text.push_str(&format!(
            "{} {keep} what was set by hand\n",
            count(by_hand, "server")
        ));
    }
    text.push_str(&taken(&reader, |said| said.generation >= generation).await?);
    Ok(text)
}

/// Whether no live redirector refuses what `stamp` is of, because it holds something newer or found it damaged: another
/// publication is what helps it.
///
/// # Errors
/// When the store does not answer.
pub async fn is_agreed(reader: &Reader, stamp: &Stamp) -> Result<bool, StoreError> {
    let agrees = |said: &Announcement| {
        said.alarm.is_empty() && said.generation <= stamp.table && said.overrides <= stamp.overrides
    };
    Ok(reader
        .replicas()
        .await?
        .iter()
        .filter(|replica| is_live(replica))
        .all(|replica| agrees(&replica.announcement)))
}

fn is_live(replica: &Replica) -> bool {
    !replica.announcement.left && replica.silent_ms < LIVE_MS
}

/// How many of the live redirectors use a change, once all do or the wait is over.
///
/// # Errors
/// When the store does not answer.
pub async fn taken(
    reader: &Reader,
    uses: impl Fn(&Announcement) -> bool,
) -> Result<String, StoreError> {
    let began = Instant::now();
    loop {
        let replicas = reader.replicas().await?;
        let live: Vec<_> = replicas.iter().filter(|replica| is_live(replica)).collect();
        let using = live
            .iter()
            .filter(|replica| uses(&replica.announcement))
            .count();
        if using == live.len() || began.elapsed() > TAKEN {
            return Ok(format!(
                "{using} of {} live redirectors use it\n",
                live.len()
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Who gives the command, for the history.
pub fn operator() -> String {
    let told = ["USER", "LOGNAME"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.is_empty());
    // cron, systemd and containers tell no name.
    let uid = nix::unistd::Uid::current();
    let known = || {
        nix::unistd::User::from_uid(uid)
            .ok()
            .flatten()
            .map(|user| user.name)
    };
    let user = told.or_else(known).unwrap_or_else(|| format!("uid-{uid}"));
    format!("{user}@{}", host_name())
}
