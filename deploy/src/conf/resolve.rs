//! `rbalancer check --resolve`: whether the names of a configuration have addresses, as this host sees it.

use crate::conf::Conf;
use common::model::target::Target;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Look-ups at once.
const AT_ONCE: usize = 32;

/// How long one may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Looks up every name that clients are sent to or probes go to; says how many there are.
///
/// # Errors
/// All names that do not resolve, each with the places that need it. The file is good all the same: another host, or
/// this one tomorrow, may resolve them.
pub async fn resolve(conf: &Conf) -> anyhow::Result<String> {
    let names = names(conf);
    let (count, room) = (names.len(), Arc::new(Semaphore::new(AT_ONCE)));
    let mut looking = JoinSet::new();
    for (name, places) in names {
        let room = room.clone();
        looking.spawn(async move {
            let _place = room.acquire().await;
            let why = look_up(&name).await.err()?;
            Some(format!(
                "{}: `{name}` does not resolve: {why}",
                places.join(", ")
            ))
        });
    }
    let mut failed: Vec<String> = looking.join_all().await.into_iter().flatten().collect();
    failed.sort();
    let remedy = "mend the names or this host's resolver: such a server stays in service unchecked while no mate is known to work";
    anyhow::ensure!(
        failed.is_empty(),
        "{}\n{} of {count} names do not resolve: {remedy}",
        failed.join("\n"),
        failed.len()
    );
    Ok(if count == 1 {
        "1 name resolves\n".into()
    } else {
        format!("{count} names resolve\n")
    })
}

/// Every name, with the places that need it.
fn names(conf: &Conf) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |host: &str, place: String| {
        if host.trim_matches(['[', ']']).parse::<IpAddr>().is_err() {
            names.entry(host.to_owned()).or_default().push(place);
        }
    };
    for (id, server) in conf.farms.servers() {
        add(server.target.host().as_str(), id.to_string());
        if let Some(addr) = server.check.as_ref().and_then(|check| check.addr.as_ref()) {
            add(addr.host.as_str(), format!("check_addr of {id}"));
        }
    }
    for farm in conf.farms.iter() {
        let host = |target: &Target| target.host().to_string();
        farm.fallback
            .iter()
            .for_each(|target| add(&host(target), format!("fallback of {}", farm.name)));
    }
    names
}

async fn look_up(name: &str) -> Result<(), String> {
    match tokio::time::timeout(LIMIT, tokio::net::lookup_host((name, 0))).await {
        Err(_) => Err(format!(
            "the resolver does not answer within {} s",
            LIMIT.as_secs()
        )),
        Ok(Err(error)) => {
            let text = error.to_string();
            Err(text
                .strip_prefix("failed to lookup address information: ")
                .unwrap_or(&text)
                .to_owned())
        }
        Ok(Ok(mut addresses)) => addresses
            .next()
            .map(|_| ())
            .ok_or_else(|| "no address".into()),
    }
}
