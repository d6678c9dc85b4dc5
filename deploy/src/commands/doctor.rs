//! `rbalancer doctor`: what is wrong or risky, in words, with the remedy. Here everything is asked; the judging is
//! pure and lies in the files below.

pub(crate) mod cluster;
pub(crate) mod finding;
pub(crate) mod redis;
pub(crate) mod rights;

use crate::change::current::{Current, patience};
use common::model::health::ViewChanges;
use common::store::{Answer, Operator, Redis, RedisSettings, Replica, Store, StoreError};
use finding::{Level, Line};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// How many calls the latency is the median of.
const CALLS: usize = 5;

/// Everything found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis(pub Vec<Line>);

impl Diagnosis {
    /// The findings, one line each.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for Line {
            level,
            what,
            remedy,
        } in &self.0
        {
            let remedy = if remedy.is_empty() {
                String::new()
            } else {
                format!(": {remedy}")
            };
            let _ = writeln!(out, "{:<8}{what}{remedy}", level.as_str());
        }
        out
    }

    /// Whether all is well enough.
    ///
    /// # Errors
    /// When anything is wrong; a risk is not.
    pub fn verdict(&self) -> anyhow::Result<()> {
        match self
            .0
            .iter()
            .filter(|line| line.level == Level::Wrong)
            .count()
        {
            0 => Ok(()),
            wrong => anyhow::bail!("{wrong} of {} findings are wrong", self.0.len()),
        }
    }
}

/// Looks at everything. It takes a few seconds: whether a prober is at work shows in what moves.
pub async fn doctor(redis: &RedisSettings) -> Diagnosis {
    let store = Store::Redis(Redis::pooled(redis));
    let operator = store.operator();
    let mut lines = Vec::new();
    match latency(&operator).await {
        Ok(median) => lines.push(redis::latency(&redis.address, median)),
        Err(error) => {
            let remedy =
                "start it, or correct --redis; redirectors go on with what they have in memory";
            return Diagnosis(vec![Line::wrong(error.to_string(), remedy)]);
        }
    }
    lines.extend(ask_server(&operator).await);
    lines.push(rights::own(operator.try_writes().await));
    lines.extend(ask_rights(&operator, &redis.prefix).await);
    match ask_cluster(&store).await {
        Ok(found) => lines.extend(found),
        Err(error) => lines.push(Line::wrong(
            format!("the cluster's state cannot be read: {error}"),
            "see the lines above",
        )),
    }
    Diagnosis(lines)
}

async fn latency(operator: &Operator) -> Result<Duration, StoreError> {
    let mut took = Vec::with_capacity(CALLS);
    // The first one also dials.
    operator
        .ask(&["PING"])
        .await
        .or_else(refused_is_an_answer)?;
    for _ in 0..CALLS {
        let began = Instant::now();
        operator
            .ask(&["PING"])
            .await
            .or_else(refused_is_an_answer)?;
        took.push(began.elapsed());
    }
    took.sort();
    Ok(took[CALLS / 2])
}

fn refused_is_an_answer(error: StoreError) -> Result<Answer, StoreError> {
    if matches!(error, StoreError::Refused { .. }) {
        Ok(Answer::Nil)
    } else {
        Err(error)
    }
}

async fn ask_server(operator: &Operator) -> Vec<Line> {
    let Ok(Answer::Text(info)) = operator.ask(&["INFO"]).await else {
        return vec![Line::unknown(
            "the server's version, memory, persistence and replicas",
        )];
    };
    let mut settings = BTreeMap::new();
    for name in [
        "save",
        "min-replicas-to-write",
        "stop-writes-on-bgsave-error",
    ] {
        if let Ok(Answer::List(pair)) = operator.ask(&["CONFIG", "GET", name]).await
            && let [_, Answer::Text(value)] = pair.as_slice()
        {
            settings.insert(name, value.clone());
        }
    }
    redis::judge(&redis::Info::parse(&info, settings))
}

async fn ask_rights(operator: &Operator, prefix: &str) -> Vec<Line> {
    let mut tried = Vec::new();
    for (role, forbidden) in rights::forbidden(prefix) {
        let mut answers = Vec::new();
        for command in &forbidden {
            let call: Vec<&str> = ["ACL", "DRYRUN", role]
                .into_iter()
                .chain(command.iter().map(String::as_str))
                .collect();
            answers.push((command.join(" "), operator.ask(&call).await));
        }
        tried.push((role, answers));
    }
    let mut lines = rights::roles(&tried);
    lines.push(rights::default_user(&operator.ask(&["ACL", "LIST"]).await));
    lines
}

async fn ask_cluster(store: &Store) -> Result<Vec<Line>, StoreError> {
    let reader = store.reader();
    let before: ViewChanges = reader.health(&BTreeMap::new()).await?;
    let patience = patience(&Current::read(&reader).await?.farms());
    tokio::time::sleep(patience).await;
    let after = reader.health(&BTreeMap::new()).await?;
    let replicas: Vec<Replica> = reader.replicas().await?;
    let current = Current::read(&reader).await?;
    Ok(cluster::judge(&cluster::Seen {
        current: &current,
        before: &before,
        after: &after,
        replicas: &replicas,
    }))
}
