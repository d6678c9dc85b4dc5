//! `rbalancer up`: every role in one process, state in memory.

pub mod demo;
pub mod origin;

use crate::change::current::Present;
use crate::change::diff;
use crate::change::guard::{self, Picture};
use crate::conf::Conf;
use anyhow::Context;
use common::config::global::Problems;
use common::files::{self, FileWork};
use common::model::farm::{Farms, Name};
use common::net::listen::{Listeners, Passed};
use common::net::socket::Sharing;
use common::net::web::Router;
use common::openmetrics::Exposition;
use common::process::{Failure, Reload, Shutdown, durable, log_errors, random_id, unhurried};
use common::store::{Memory, Publication, Published, Snapshot, Store};
use redirector::tls::{Tls, TlsSettings};
use redirector::{ProcessMetrics, Redirector};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the state file is written.
const SAVE: Duration = Duration::from_secs(10);

/// The sockets of `up`, bound.
pub struct Sockets {
    /// For clients, and for the stats pages.
    pub clients: Vec<Listeners>,
    /// For clients over TLS.
    pub secure: Option<(Vec<Listeners>, Tls)>,
    /// For monitoring.
    pub admin: Option<TcpListener>,
}

/// Reads the certificates, then binds what `conf` says.
///
/// # Errors
/// When a certificate is no good or an address cannot be bound.
pub fn bind(conf: &Conf) -> Result<Sockets, Failure> {
    let tls = conf
        .redirector
        .tls
        .as_ref()
        .map(TlsSettings::load)
        .transpose()?;
    let mut passed = Passed::take()?;
    let clients = passed.or_bind(
        &conf.redirector.listen,
        conf.redirector.threads,
        Sharing::Exclusive,
    )?;
    let secure = TlsSettings::bind(
        conf.redirector.tls.as_ref().zip(tls),
        &mut passed,
        conf.redirector.threads,
        Sharing::Exclusive,
    )?;
    let admin = conf
        .admin
        .map(common::process::admin::Admin::bind)
        .transpose()?
        .flatten();
    Ok(Sockets {
        clients,
        secure,
        admin,
    })
}

/// Runs all roles until `shutdown`. `reread` reads the configuration again when `reload` asks for it.
///
/// # Errors
/// When a role cannot go on.
pub async fn run(
    conf: Conf,
    sockets: Sockets,
    reread: impl Fn() -> Result<Conf, Problems> + Clone + Send + Sync + 'static,
    reload: Reload,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let Sockets {
        clients,
        secure,
        admin,
    } = sockets;
    let state_file = conf.redirector.state_file.clone();
    let memory = Memory::default();
    let late = restore(&memory, state_file.as_deref()).await;
    let store = Store::Memory(memory.clone());
    publish(&store, conf.cluster.clone(), conf.farms, "start").await?;
    conf.warnings
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));

    let healthd = healthd::Settings {
        id: "up".into(),
        cluster: conf.cluster.clone(),
        alone: true,
        witnesses: Vec::new(),
    };
    let stats_uri = conf
        .redirector
        .stats_uri
        .clone()
        .unwrap_or_else(|| "/stats".into());
    let statsd = statsd::Settings {
        cluster: conf.cluster.clone(),
        stats_uri,
        bind: conf.redirector.listen.first(),
    };
    let router = statsd::start(store.reader(), statsd, shutdown.clone());
    let mut roles = tokio::task::JoinSet::new();
    roles.spawn(healthd::run(
        store.reader(),
        store.prober(),
        None,
        healthd,
        None,
        shutdown.clone(),
    ));
    let pages = conf
        .redirector
        .stats_uri
        .as_ref()
        .map(|_| redirector::Pages {
            router: router.clone(),
            runtime: tokio::runtime::Handle::current(),
            allowed: conf.redirector.stats_allow.clone().into(),
        });
    // Totals and health are kept here; the redirector has no need of a file of its own.
    let settings = redirector::Settings {
        state_file: None,
        ..conf.redirector.clone()
    };
    let sockets = redirector::Sockets {
        clients,
        secure,
        admin: None,
    };
    let access = redirector::StoreAccess {
        reader: store.reader(),
        writer: store.replica(),
    };
    let redirector = Redirector::start(
        sockets,
        access,
        settings,
        pages,
        reload.clone(),
        shutdown.clone(),
    )
    .await?;
    if let Some(admin) = admin {
        let listener = tokio::net::TcpListener::from_std(admin).context("admin listener")?;
        let router = with(redirector.metrics(), router);
        tokio::spawn(common::net::web::serve(listener, router));
    }
    let serving = redirector.run();

    roles.spawn(keep(memory.clone(), state_file.clone(), late));
    roles.spawn(follow(store, conf.process, reread, reload));
    let mut serving = std::pin::pin!(serving);
    let outcome = loop {
        tokio::select! {
            outcome = &mut serving => break outcome,
            // healthd ends as soon as the drain begins; clients are served to its end.
            Some(ended) = roles.join_next() => if let Err(error) = ended.map_err(anyhow::Error::from).flatten() {
                break Err(error.context("background work ended"));
            }
        }
    };
    roles.shutdown().await;
    // Totals are in the file whole, or it is as it was.
    if let Some(path) = state_file
        && let Err(error) = save(&path, &memory).await
    {
        tracing::warn!("{error:#}; what was counted last is lost");
    }
    outcome
}

/// The pages of statsd, with what the redirector of this process tells of it among its metrics.
fn with(own: ProcessMetrics, router: Router) -> Router {
    Arc::new(move |ask| {
        let metrics = (ask.path == "/metrics").then(|| Exposition::asked(&ask));
        let (page, own) = (router.as_ref()(ask), own.clone());
        Box::pin(async move {
            let page = page.await;
            let Some(form) = metrics else { return page };
            page.map(|body| {
                let text = String::from_utf8_lossy(&body);
                let families = text.strip_suffix(form.end()).unwrap_or(&text);
                format!("{families}{}{}", form.render(&own.families()), form.end()).into()
            })
        })
    })
}

/// What reading a state file gives.
type Kept = anyhow::Result<Option<Snapshot>>;

/// Has `memory` go on where `state_file` was written. A file that hangs is taken when it answers: the work of reading it
/// is given back, and until it has ended nothing may be written over what is there.
async fn restore(memory: &Memory, state_file: Option<&Path>) -> Option<FileWork<Kept>> {
    // Nobody has begun with it before.
    let mut reading = files::start("state_file", state_file?, durable::read::<Snapshot>).ok()?;
    match reading.within(files::PATIENCE).await {
        Ok(kept) => {
            adopt(memory, kept);
            None
        }
        Err(hangs) => {
            tracing::warn!(
                "{hangs}; starting with empty totals, those of the file are added when it answers"
            );
            Some(reading)
        }
    }
}

fn adopt(memory: &Memory, kept: Kept) {
    match kept {
        Ok(kept) => memory.adopt(kept.unwrap_or_default()),
        Err(error) => tracing::warn!("{error:#}; starting with empty totals"),
    }
}

async fn save(path: &Path, memory: &Memory) -> anyhow::Result<()> {
    let snapshot = memory.snapshot();
    files::within("state_file", path, move |path| {
        durable::write(path, &snapshot)
    })
    .await
    .map_err(anyhow::Error::from)
    .flatten()
}

/// Puts a table in force.
async fn publish(store: &Store, cluster: Name, farms: Farms, why: &str) -> anyhow::Result<()> {
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

/// Writes the state down again and again, for ever.
async fn keep(
    memory: Memory,
    state_file: Option<PathBuf>,
    late: Option<FileWork<Kept>>,
) -> anyhow::Result<()> {
    let Some(path) = state_file else {
        return std::future::pending().await;
    };
    if let Some(mut reading) = late {
        loop {
            if let Ok(kept) = reading.within(SAVE).await {
                break adopt(&memory, kept);
            }
        }
    }
    let (mut saving, mut failing) = (tokio::time::interval(SAVE), false);
    saving.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        saving.tick().await;
        match save(&path, &memory).await {
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!("{error:#}; totals and health are in memory only");
            }
            Ok(()) if std::mem::replace(&mut failing, false) => {
                tracing::info!("state file {}: written again", path.display());
            }
            _ => {}
        }
    }
}

/// Reads the file again whenever that is asked for, for ever.
async fn follow(
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
    let present = Present::read(&store.reader()).await?;
    let held = present.farms();
    let changes = diff::changes(&held, &conf.farms);
    if present.holds(&conf.farms).is_some() {
        tracing::info!("reload: no farm and no server changes");
        return Ok(());
    }
    let (before, after) = (&present.overrides, &present.overrides);
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
    let reasons = guard::reasons(pictures[0], pictures[1], &present.health);
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
