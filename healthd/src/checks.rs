//! Which checks are to be made: the table and the overrides in force, followed in the store.

use common::model::check::{Check, CheckKey};
use common::model::farm::{Name, ServerId};
use common::model::in_force::{JudgedBy, Wanted};
use common::model::overrides::Force;
use common::store::{Follower, Following, News, Reader};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// From one poll to the next.
const POLL: Duration = Duration::from_secs(1);

/// A server a check speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckedServer {
    /// Which.
    pub id: ServerId,
    /// Whether what the check finds decides about it: it is on, has weight and is not forced up or down.
    pub serves: bool,
}

/// What there is to watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checks {
    /// Every check to make, with the servers it speaks for.
    pub made: BTreeMap<CheckKey, (Check, Vec<CheckedServer>)>,
    /// How many servers of each farm take clients whatever any check finds: nobody checks them, or they are forced up.
    pub always_in: BTreeMap<Name, usize>,
}

/// Follows the store for ever, and tells of new sets of checks. What cannot be read changes nothing.
pub(crate) async fn follow(reader: Reader, cluster: Name, checks: watch::Sender<Checks>) {
    let mut hints = reader.hints();
    let mut follower = Follower::new(reader, Following::Cluster(cluster));
    let mut said = String::new();
    loop {
        let problem = match poll(&mut follower).await {
            Ok(Some(new)) => {
                checks.send_replace(new);
                String::new()
            }
            Ok(None) => String::new(),
            Err(problem) => problem,
        };
        if problem != said {
            if problem.is_empty() {
                tracing::info!("the table can be read again");
            } else {
                tracing::warn!("{problem}");
            }
            said = problem;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = hints.next() => {}
        }
    }
}

/// The checks, if there are other ones than before.
///
/// # Errors
/// Says why the table cannot be read, or what is wrong with it; overrides whose time is over are let go of all the same.
async fn poll(follower: &mut Follower) -> Result<Option<Checks>, String> {
    let news = follower.take_table().await;
    let mut turned = follower.end_overrides(Instant::now());
    let changed = match &news {
        Ok(news) => news.table || news.overrides || !turned.is_empty(),
        Err(_) => !turned.is_empty(),
    };
    turned.extend(news.iter().flat_map(|news| news.turned.clone()));
    turned.iter().for_each(|words| tracing::info!("{words}"));
    match news {
        Err(error) if !changed => return Err(error.to_string()),
        Ok(News {
            alarm: Some(alarm), ..
        }) if !changed => return Err(alarm.to_string()),
        // What has ended counts at once; the trouble is said at the next look.
        _ => {}
    }
    Ok(changed.then(|| made(follower)))
}

/// The checks to make.
fn made(follower: &Follower) -> Checks {
    let mut checks = Checks::default();
    for (id, server) in follower
        .table()
        .into_iter()
        .flat_map(|table| table.farms.servers())
    {
        let wanted = Wanted::new(server, follower.overrides().get(&id));
        let is_up_anyhow = matches!(
            wanted.judged_by(),
            JudgedBy::Hand(Force::Up) | JudgedBy::Nobody
        );
        if wanted.takes_clients() && is_up_anyhow {
            *checks.always_in.entry(id.farm.clone()).or_default() += 1;
        }
        if let Some(check) = wanted.check() {
            let serves = wanted.takes_clients() && wanted.force.is_none();
            let made = checks.made.entry(check.key());
            let (_, servers) = made.or_insert_with(|| (check.clone(), Vec::new()));
            servers.push(CheckedServer { id, serves });
        }
    }
    checks
}

#[cfg(test)]
mod tests;
