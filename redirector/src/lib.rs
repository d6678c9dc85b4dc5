//! The redirector: answers clients from a table in memory, and never waits for the store to do so.

pub mod access_log;
pub mod answer;
pub mod background;
pub mod client;
pub mod counters;
pub mod metrics;
pub mod protocol;
pub mod routes;
pub mod serve;
pub mod settings;
pub mod tls;

pub use answer::pages::Pages;
pub use settings::{DEFAULT_PORT, Settings};

use access_log::writer::Journal;
use answer::RefusalSlots;
use answer::own_paths::{Elsewhere, Stats};
use answer::refused_hosts::Refused;
use answer::static_files::{StaticSettings, Statics};
use anyhow::Context;
use arc_swap::ArcSwap;
use background::flush::Flusher;
use background::override_file::ByFile;
use background::refresh::{InUseCell, Refresher};
use background::unwritten_counts::CarriedFile;
use client::Guests;
use common::files;
use common::model::tally::CountKey;
use common::net::listen::{self, Listeners};
use common::process::thread_priority::Precedence;
use common::process::{
    Phase, Reload, Shutdown, asked_to_end, ended, host_name, log_errors, random_id,
};
use common::store::{Announcement, Reader, ReplicaWriter};
use common::time::unix_ms;
use common::words::count;
use counters::Counters;
use metrics::{Own, Parts};
use protocol::context::{Desk, Sources};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use routes::Routes;
use serve::address_limit::PerAddress;
use serve::connections::Deadlines;
use serve::limits::Room;
use serve::worker::Plain;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tls::Tls;
use tokio::sync::{oneshot, watch};

/// How often static files are looked at for changes.
const STATICS_POLL: Duration = Duration::from_secs(5);

/// How long serving waits for a first table.
const FIRST_POLL: Duration = Duration::from_millis(100);

/// Descriptors kept for the store, files and pages.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Connections there may be however few descriptors there are.
const LEAST_CONNECTIONS: usize = 16;

/// The sockets of a redirector, bound.
pub struct Doors {
    /// For clients, of each address one a thread.
    pub clients: Vec<Listeners>,
    /// For clients over TLS, of each address one a thread, and how.
    pub secure: Option<(Vec<Listeners>, Tls)>,
    /// For monitoring.
    pub admin: Option<std::net::TcpListener>,
    /// Told what of this process monitoring is told, for whoever does it in the redirector's place.
    pub own: Own,
}

/// Serves clients until `shutdown`: drains, writes the last counts, returns.
///
/// # Errors
/// When a thread or its runtime cannot be set up, or a background task panics.
pub async fn run(
    doors: Doors,
    reader: Reader,
    writer: ReplicaWriter,
    settings: Settings,
    pages: Option<Pages>,
    reload: Reload,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let (began, asked) = (Instant::now(), asked_to_end(shutdown.clone()));
    let Doors {
        clients: listeners,
        secure,
        admin,
        own,
    } = doors;
    let threads = settings.threads;
    let counters = Arc::new(Counters::new(if secure.is_some() {
        2 * threads
    } else {
        threads
    }));
    let (refused, lately) = (RefusalSlots::new(&counters), Refused::new(2 * threads));
    let routes: Arc<ArcSwap<Routes>> = Arc::default();
    let statics: Arc<ArcSwap<Statics>> = Arc::default();
    let in_use = InUseCell::default();

    let (set_by_file, by_file) = watch::channel(settings.by_file.clone());
    let mut refresher = Refresher::new(
        reader,
        settings.cluster.clone(),
        counters.clone(),
        routes.clone(),
        in_use.clone(),
        settings.state_file.clone(),
        by_file,
    );
    let mut background = tokio::task::JoinSet::new();
    background.spawn(files::watch());
    if let Some(path) = &settings.state_file {
        let (cluster, max_age) = (settings.cluster.clone(), settings.state_max_age);
        let read = files::within("state_file", path, move |path| {
            background::state_file::read(path, &cluster, max_age)
        })
        .await;
        match read.map_err(|hangs| hangs.to_string()).flatten() {
            Ok(Some(table)) => refresher.adopt(table),
            Ok(None) => {}
            Err(problem) => tracing::warn!("{problem}; starting without the last good table"),
        }
    }
    // Where the store answers at once, the first client is answered from its table; where not, nobody waits.
    let _ = tokio::time::timeout(FIRST_POLL, refresher.poll()).await;
    background.spawn(refresher.run());
    background.spawn(lately.clone().summarise());
    if let Some(path) = settings.override_file.clone() {
        background.spawn(follow_override_file(path, set_by_file, reload.clone()));
    }
    if let Some(settings) = settings.statics.clone() {
        let told = take_statics(&settings, &statics, &[]).await;
        background.spawn(follow_statics(settings, statics.clone(), told));
    }
    let (secure, tls) = secure.unzip();
    if let Some(tls) = tls.clone() {
        background.spawn(tls::reload::follow(tls, reload));
    }
    let (journal, writing) = match settings.access_log.clone() {
        Some((destination, style)) => Some(Journal::open(destination, style).await?),
        None => None,
    }
    .unzip();
    background.spawn(access_log::writer::follow_usr1(
        journal.as_ref().map(Journal::state),
    ));
    let per_address = settings
        .maxconn_per_address
        .map(|most| PerAddress::new(most, settings.trusted_proxies.clone()));
    own.begin(Parts {
        tls: tls.clone(),
        log: journal.as_ref().map(Journal::state),
        per_address: per_address.clone(),
    });
    if let Some(listener) = admin {
        let listener = tokio::net::TcpListener::from_std(listener).context("admin listener")?;
        let router = metrics::router(in_use.clone(), counters.clone(), own, shutdown.clone());
        background.spawn(common::net::web::serve(listener, router));
    }
    let said = Announcement {
        id: random_id(),
        host: host_name(),
        address: listen::words(&listeners),
        version: env!("CARGO_PKG_VERSION").into(),
        generation: 0,
        overrides: 0,
        started: unix_ms(),
        alarm: String::new(),
        by_file: String::new(),
        certificate_expires: 0,
        refused_hosts: Vec::new(),
        left: false,
    };
    let (served, all_served) = oneshot::channel::<()>();
    let carried = CarriedFile::open(settings.state_file.as_deref()).await;
    let flusher = Flusher::new(
        writer,
        counters.clone(),
        in_use,
        said,
        tls.clone(),
        lately.clone(),
        carried,
    );
    let flusher = tokio::spawn(flusher.run(async { drop(all_served.await) }, shutdown.clone()));

    let maxconn = maxconn(settings.maxconn);
    let desk = |shard: usize| {
        let rng = SmallRng::from_rng(&mut rand::rng());
        let sources = Sources {
            stats: stats(&settings, pages.is_some()),
            acme: settings.acme_url.as_ref().map(Elsewhere::host),
            allow_downgrade: settings.allow_downgrade,
            max_fields: settings.max_fields,
            recent: lately.of(shard),
            ..Sources::new(
                routes.clone(),
                statics.clone(),
                counters.shard(shard),
                refused.clone(),
                rng,
            )
        };
        Desk::new(
            sources,
            Guests::new(
                &settings.trusted_proxies,
                journal.as_ref().map(Journal::lines),
                &counters,
            )
            .map(Box::new),
        )
    };
    let told = |room: Room| serve::limits::Settings {
        deadlines: Deadlines {
            idle: settings.keepalive_timeout,
            head: settings.client_timeout,
        },
        room,
        per_address: per_address.clone(),
        grace: settings.grace,
        pages: pages.clone(),
    };
    let mut serving = Vec::new();
    let mut wakers = Vec::new();
    let place = |listeners: &Listeners| {
        (
            if listeners.passed {
                "a socket that was passed: "
            } else {
                ""
            },
            listeners.address,
        )
    };
    let addresses = |listeners: &[Listeners]| listeners.iter().map(place).collect::<Vec<_>>();
    let (plain_at, secure_at) = (
        addresses(&listeners),
        secure.as_deref().map(addresses).unwrap_or_default(),
    );
    let mut secure = secure.map(listen::by_thread).into_iter().flatten();
    for (index, own) in listen::by_thread(listeners).into_iter().enumerate() {
        let [beside, room] = Room::of_two((maxconn / threads).max(1));
        let plain = Plain::new(own, desk(index), told(room), shutdown.clone())
            .context("cannot wait for clients")?;
        wakers.push(plain.waker());
        serving.push(thread(format!("clients-{index}"), move || plain.run())?);
        if let (Some(own), Some(tls)) = (secure.next(), &tls) {
            let (desk, told, config, shutdown) = (
                desk(threads + index),
                told(beside),
                tls.config.clone(),
                shutdown.clone(),
            );
            serving.push(thread(format!("tls-{index}"), move || {
                serve::tls_tasks::thread::run(own, config, desk, told, shutdown)
            })?);
        }
    }
    tokio::spawn(tell(wakers, shutdown));
    tracing::info!(
        "serving with {} and at most {}",
        count(threads, "thread"),
        count(maxconn, "connection")
    );
    plain_at
        .iter()
        .for_each(|(passed, address)| tracing::info!("{passed}listening on {address}"));
    secure_at
        .iter()
        .for_each(|(passed, address)| tracing::info!("{passed}listening for TLS on {address}"));

    let workers = async {
        for end in serving {
            end.await
                .context("a thread that serves clients panicked")?
                .context("a thread that serves clients cannot go on")?;
        }
        anyhow::Ok(())
    };
    let outcome = tokio::select! {
        outcome = workers => outcome,
        // Background work never ends by itself: a panic in it ends the process rather than leave it half alive.
        Some(ended) = background.join_next() => Err(anyhow::anyhow!("background work ended: {:?}", ended.err())),
    };
    drop(served);
    flusher.await.context("the flush of counts panicked")?;
    drop(journal);
    if let (Some(writing), true) = (writing, outcome.is_ok()) {
        writing.end().await;
    }
    if outcome.is_ok() {
        let redirects: u64 = counters
            .totals()
            .iter()
            .filter(|(key, _)| matches!(key, CountKey::Server(_)))
            .map(|(_, total)| total)
            .sum();
        ended(
            began,
            asked.await.ok(),
            &count(usize::try_from(redirects).unwrap_or(usize::MAX), "redirect"),
        );
    }
    outcome
}

/// How many connections there may be: as many as wanted, as far as descriptors allow.
fn maxconn(wanted: Option<usize>) -> usize {
    let limit = common::net::socket::raise_file_limit();
    let possible = usize::try_from(limit.saturating_sub(RESERVED_DESCRIPTORS))
        .unwrap_or(usize::MAX)
        .max(LEAST_CONNECTIONS);
    if wanted.is_some_and(|wanted| wanted > possible) {
        tracing::warn!(
            "maxconn is more than the limit of {limit} open files allows: {possible} it is; raise the hard limit"
        );
    }
    wanted.map_or(possible, |wanted| wanted.min(possible))
}

/// Starts a thread that serves clients; what it returns.
fn thread(
    name: String,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> anyhow::Result<oneshot::Receiver<io::Result<()>>> {
    let (ended, end) = oneshot::channel();
    let serve = move || {
        Precedence::Serving.take();
        ended.send(work())
    };
    std::thread::Builder::new()
        .name(name)
        .spawn(serve)
        .context("cannot start a thread for clients")?;
    Ok(end)
}

/// Has threads that wait for their clients look at each new phase.
async fn tell(wakers: Vec<Arc<mio::Waker>>, mut shutdown: Shutdown) {
    for phase in [Phase::Draining, Phase::Stopping] {
        shutdown.reached(phase).await;
        // One that cannot be woken looks at its next tick.
        wakers.iter().for_each(|waker| drop(waker.wake()));
    }
}

/// Reads the override file again whenever that is asked for; a bad one changes nothing.
async fn follow_override_file(path: PathBuf, set: watch::Sender<ByFile>, mut reload: Reload) {
    loop {
        if !set.borrow().words().is_empty() {
            tracing::warn!("{} sets by hand: {}", path.display(), set.borrow().words());
        }
        reload.asked().await;
        let read = files::within("override_file", &path, ByFile::read).await;
        match read.map_err(|hangs| hangs.to_string()).flatten() {
            Ok(by_file) => {
                if by_file == ByFile::default() && *set.borrow() != by_file {
                    tracing::info!("{} sets nothing any more", path.display());
                }
                set.send_replace(by_file);
            }
            Err(problems) => log_errors(&format!("keeping what was set:\n{problems}")),
        }
    }
}

/// The stats pages: made here, on the host `stats_url` names, or not known.
fn stats(settings: &Settings, here: bool) -> Option<Stats> {
    let (uri, url) = (settings.stats_uri.as_ref()?, settings.stats_url.as_ref());
    (here || url.is_some()).then(|| Stats::new(uri, url.filter(|_| !here)))
}

/// Keeps the static files as they are on disk.
async fn follow_statics(
    settings: StaticSettings,
    statics: Arc<ArcSwap<Statics>>,
    mut told: Vec<String>,
) {
    loop {
        tokio::time::sleep(STATICS_POLL).await;
        told = take_statics(&settings, &statics, &told).await;
    }
}

/// Reads the static files; where their disk does not answer, those at hand go on being served. What is wrong with them.
async fn take_statics(
    settings: &StaticSettings,
    statics: &ArcSwap<Statics>,
    told: &[String],
) -> Vec<String> {
    let from = settings.clone();
    let read = files::within("static_dir", &settings.folder, move |_| {
        Statics::load(&from)
    })
    .await;
    // What hangs is named by those who watch.
    let Ok((loaded, problems)) = read else {
        return told.to_vec();
    };
    if problems != told {
        problems
            .iter()
            .for_each(|problem| tracing::warn!("{problem}"));
    }
    if loaded != **statics.load() {
        statics.store(Arc::new(loaded));
    }
    problems
}
