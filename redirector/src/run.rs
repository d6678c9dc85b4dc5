//! A redirector's life: what is set up in which order, and how it ends.

use crate::access_log::requests::RequestLog;
use crate::access_log::writer::{self, AccessLog, WriterHandle};
use crate::answer::own_paths::{StatsPages, UrlPrefix};
use crate::answer::pages::Pages;
use crate::answer::refusal::RefusalSlots;
use crate::answer::refused_hosts::Refused;
use crate::answer::sources::Sources;
use crate::answer::static_files::{self, Statics};
use crate::background::flush::Flusher;
use crate::background::refresh::{Refresher, StatusCell};
use crate::background::unwritten_counts::UnwrittenCounts;
use crate::background::{override_file, state_file};
use crate::client::TrustedProxies;
use crate::counters::Counters;
use crate::metrics::{self, ProcessMetrics};
use crate::protocol::context::{Clients, ThreadContext};
use crate::routes::Routes;
use crate::serve::address_limit::AddressLimit;
use crate::serve::connections::Deadlines;
use crate::serve::limits::{ConnectionBudget, ThreadLimits, maxconn};
use crate::serve::threads::{thread, wake_at_end};
use crate::serve::tls_tasks;
use crate::serve::worker::Worker;
use crate::settings::Settings;
use crate::tls::{Tls, reload};
use anyhow::Context;
use arc_swap::ArcSwap;
use common::files;
use common::model::tally::CountKey;
use common::net::listen::{self, Listeners};
use common::process::logging::ended;
use common::process::signals::{Reload, Shutdown, asked_to_end};
use common::process::{host_name, random_id};
use common::store::{Announcement, Reader, ReplicaWriter};
use common::time::unix_ms;
use common::words::count;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// How long serving waits for a first table.
const FIRST_POLL: Duration = Duration::from_millis(100);

/// The sockets of a redirector, bound.
pub struct Sockets {
    /// For clients, of each address one a thread.
    pub clients: Vec<Listeners>,
    /// For clients over TLS, of each address one a thread, and how.
    pub secure: Option<(Vec<Listeners>, Tls)>,
    /// For monitoring.
    pub admin: Option<std::net::TcpListener>,
}

/// What a redirector may do with the store.
pub struct StoreAccess {
    /// Reads the table, what is set by hand, and health.
    pub reader: Reader,
    /// Writes counts.
    pub writer: ReplicaWriter,
}

/// A redirector at work.
pub struct Redirector {
    metrics: ProcessMetrics,
    counters: Arc<Counters>,
    log: Option<(AccessLog, WriterHandle)>,
    background: JoinSet<()>,
    serving: Vec<oneshot::Receiver<io::Result<()>>>,
    /// Dropped when the last client was served.
    served: oneshot::Sender<()>,
    flusher: JoinHandle<()>,
    began: Instant,
    asked: JoinHandle<Instant>,
}

/// What serving and the work beside it share.
struct Shared {
    counters: Arc<Counters>,
    routes: Arc<ArcSwap<Routes>>,
    statics: Arc<ArcSwap<Statics>>,
    status: StatusCell,
    refused: Refused,
}

impl Shared {
    fn new(threads: usize, tls: bool) -> Self {
        Self {
            counters: Arc::new(Counters::new(if tls { 2 * threads } else { threads })),
            routes: Arc::default(),
            statics: Arc::default(),
            status: StatusCell::default(),
            refused: Refused::new(2 * threads),
        }
    }
}

impl Redirector {
    /// Starts serving clients; ends with `shutdown`.
    ///
    /// # Errors
    /// When the access log cannot be opened, or a thread cannot be set up.
    pub async fn start(
        sockets: Sockets,
        store: StoreAccess,
        settings: Settings,
        pages: Option<Pages>,
        reload: Reload,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let (began, asked) = (Instant::now(), asked_to_end(shutdown.clone()));
        let tls = sockets.secure.as_ref().map(|(_, tls)| tls.clone());
        let shared = Shared::new(settings.threads, tls.is_some());
        let mut background = JoinSet::new();
        background.spawn(files::watch());
        follow_table(&mut background, store.reader, &settings, &shared, &reload).await;
        follow_files(&mut background, &settings, &shared, tls.clone(), reload).await;
        let log = match settings.access_log.clone() {
            Some((destination, style)) => Some(AccessLog::open(destination, style).await?),
            None => None,
        };
        let log_state = log.as_ref().map(|(log, _)| log.state());
        background.spawn(writer::follow_usr1(log_state.clone()));
        let limit = settings.maxconn_per_address;
        let metrics = ProcessMetrics {
            tls: tls.clone(),
            log: log_state,
            address_limit: limit
                .map(|most| AddressLimit::new(most, settings.trusted_proxies.clone())),
        };
        if let Some(listener) = sockets.admin {
            let listener = tokio::net::TcpListener::from_std(listener).context("admin listener")?;
            let (status, counters) = (shared.status.clone(), shared.counters.clone());
            let router = metrics::router(status, counters, metrics.clone(), shutdown.clone());
            background.spawn(common::net::web::serve(listener, router));
        }
        let at = listen::words(&sockets.clients);
        let (served, all_served) = oneshot::channel::<()>();
        let flusher = flusher(store.writer, &settings, &shared, at, tls).await;
        let flusher = flusher.run(async { drop(all_served.await) }, shutdown.clone());
        let threads = Threads {
            settings: &settings,
            shared: &shared,
            pages,
            log: log.as_ref().map(|(log, _)| log),
            address_limit: metrics.address_limit.clone(),
        };
        Ok(Self {
            serving: threads.start(sockets.clients, sockets.secure, &shutdown)?,
            flusher: tokio::spawn(flusher),
            counters: shared.counters,
            metrics,
            log,
            background,
            served,
            began,
            asked,
        })
    }

    /// What it tells of its process, for whoever tells monitoring in its place.
    pub fn metrics(&self) -> ProcessMetrics {
        self.metrics.clone()
    }

    /// Serves until every client is done after the end was asked for, and writes the last counts.
    ///
    /// # Errors
    /// When a thread cannot go on, or a background task panics.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let workers = async {
            for end in self.serving {
                let end = end.await.context("a thread that serves clients panicked")?;
                end.context("a thread that serves clients cannot go on")?;
            }
            anyhow::Ok(())
        };
        let outcome = tokio::select! {
            outcome = workers => outcome,
            // Background work never ends by itself: a panic in it ends the process rather than leave it half alive.
            Some(ended) = self.background.join_next() => {
                Err(anyhow::anyhow!("background work ended: {:?}", ended.err()))
            }
        };
        drop(self.served);
        self.flusher.await.context("the flush of counts panicked")?;
        outcome?;
        if let Some((log, writer)) = self.log {
            drop(log);
            writer.end().await;
        }
        let totals = self.counters.totals();
        let servers = totals
            .iter()
            .filter(|(key, _)| matches!(key, CountKey::Server(_)));
        let redirects: u64 = servers.map(|(_, total)| total).sum();
        let redirects = usize::try_from(redirects).unwrap_or(usize::MAX);
        ended(
            self.began,
            self.asked.await.ok(),
            &count(redirects, "redirect"),
        );
        Ok(())
    }
}

/// Has the routes follow the store, and what this host's own file sets.
async fn follow_table(
    background: &mut JoinSet<()>,
    reader: Reader,
    settings: &Settings,
    shared: &Shared,
    reload: &Reload,
) {
    let (set_by_file, by_file) = watch::channel(settings.by_file.clone());
    let mut refresher = Refresher::new(
        reader,
        settings.cluster.clone(),
        shared.counters.clone(),
        shared.routes.clone(),
        shared.status.clone(),
        settings.state_file.clone(),
        by_file,
    );
    if let Some(path) = &settings.state_file {
        let (cluster, max_age) = (settings.cluster.clone(), settings.state_max_age);
        let read = move |path: &std::path::Path| state_file::read(path, &cluster, max_age);
        let read = files::within("state_file", path, read).await;
        match read.map_err(|hangs| hangs.to_string()).flatten() {
            Ok(Some(table)) => refresher.adopt(table),
            Ok(None) => {}
            Err(problem) => tracing::warn!("{problem}; starting without the last good table"),
        }
    }
    // Where the store answers at once, the first client is answered from its table; where not, nobody waits.
    let _ = tokio::time::timeout(FIRST_POLL, refresher.poll()).await;
    background.spawn(refresher.run());
    background.spawn(shared.refused.clone().summarise());
    if let Some(path) = settings.override_file.clone() {
        background.spawn(override_file::follow(path, set_by_file, reload.clone()));
    }
}

/// Has static files and certificates follow their files.
async fn follow_files(
    background: &mut JoinSet<()>,
    settings: &Settings,
    shared: &Shared,
    tls: Option<Tls>,
    reload: Reload,
) {
    if let Some(settings) = settings.statics.clone() {
        let statics = shared.statics.clone();
        let problems = static_files::take(&settings, &statics, &[]).await;
        background.spawn(static_files::follow(settings, statics, problems));
    }
    if let Some(tls) = tls {
        background.spawn(reload::follow(tls, reload));
    }
}

/// What writes the counts, and says that this redirector is there, listening at `address`.
async fn flusher(
    writer: ReplicaWriter,
    settings: &Settings,
    shared: &Shared,
    address: String,
    tls: Option<Tls>,
) -> Flusher {
    let announcement = Announcement {
        id: random_id(),
        host: host_name(),
        address,
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
    Flusher::new(
        writer,
        shared.counters.clone(),
        shared.status.clone(),
        announcement,
        tls,
        shared.refused.clone(),
        UnwrittenCounts::open(settings.state_file.as_deref()).await,
    )
}

/// What the threads that serve clients are made from.
struct Threads<'a> {
    settings: &'a Settings,
    shared: &'a Shared,
    pages: Option<Pages>,
    log: Option<&'a AccessLog>,
    address_limit: Option<Arc<AddressLimit>>,
}

impl Threads<'_> {
    fn start(
        self,
        clients: Vec<Listeners>,
        secure: Option<(Vec<Listeners>, Tls)>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Vec<oneshot::Receiver<io::Result<()>>>> {
        let threads = self.settings.threads;
        let (secure, tls) = secure.unzip();
        let addresses = announced(&clients, secure.as_deref());
        let refused = RefusalSlots::new(&self.shared.counters);
        let most = maxconn(self.settings.maxconn);
        let mut secure = secure.map(listen::by_thread).into_iter().flatten();
        let (mut serving, mut wakers) = (Vec::new(), Vec::new());
        for (index, own) in listen::by_thread(clients).into_iter().enumerate() {
            let [beside, room] = ConnectionBudget::of_two((most / threads).max(1));
            let (context, told) = (self.context(index, &refused), self.limits(room));
            let worker = Worker::new(own, context, told, shutdown.clone());
            let worker = worker.context("cannot wait for clients")?;
            wakers.push(worker.waker());
            serving.push(thread(format!("clients-{index}"), move || worker.run())?);
            if let (Some(own), Some(tls)) = (secure.next(), &tls) {
                let context = self.context(threads + index, &refused);
                let (told, config) = (self.limits(beside), tls.config.clone());
                let shutdown = shutdown.clone();
                let serve = move || tls_tasks::thread::run(own, config, context, told, shutdown);
                serving.push(thread(format!("tls-{index}"), serve)?);
            }
        }
        tokio::spawn(wake_at_end(wakers, shutdown.clone()));
        let (threads, connections) = (count(threads, "thread"), count(most, "connection"));
        tracing::info!("serving with {threads} and at most {connections}");
        addresses
            .iter()
            .for_each(|address| tracing::info!("{address}"));
        Ok(serving)
    }

    /// What the connections of the thread with this number share.
    fn context(&self, thread: usize, refused: &RefusalSlots) -> ThreadContext {
        let (settings, shared) = (self.settings, self.shared);
        let sources = Sources {
            stats: stats_pages(settings, self.pages.as_ref()),
            acme: settings.acme_url.as_ref().map(UrlPrefix::host),
            allow_downgrade: settings.allow_downgrade,
            max_fields: settings.max_fields,
            recent: shared.refused.of(thread),
            ..Sources::new(
                shared.routes.clone(),
                shared.statics.clone(),
                shared.counters.shard(thread),
                refused.clone(),
                SmallRng::from_rng(&mut rand::rng()),
            )
        };
        let log = self
            .log
            .map(|log| RequestLog::new(log.lines(), shared.counters.clone()));
        let is_needed = log.is_some() || !settings.trusted_proxies.is_empty();
        let proxies = TrustedProxies::new(&settings.trusted_proxies);
        let clients = is_needed.then(|| Box::new(Clients { proxies, log }));
        ThreadContext::new(sources, clients)
    }

    /// What a thread is told.
    fn limits(&self, room: ConnectionBudget) -> ThreadLimits {
        let settings = self.settings;
        ThreadLimits {
            deadlines: Deadlines {
                idle: settings.keepalive_timeout,
                head: settings.client_timeout,
            },
            room,
            address_limit: self.address_limit.clone(),
            grace: settings.grace,
            pages: self.pages.clone(),
        }
    }
}

/// The stats pages: made here, on the host `stats_url` names, or not known.
fn stats_pages(settings: &Settings, here: Option<&Pages>) -> Option<StatsPages> {
    let uri = settings.stats_uri.as_ref()?;
    match (here, &settings.stats_url) {
        (Some(pages), _) => Some(StatsPages::here(uri, pages.allowed.clone())),
        (None, Some(url)) => Some(StatsPages::elsewhere(uri, url)),
        (None, None) => None,
    }
}

/// Where clients are listened for, a line an address.
fn announced(clients: &[Listeners], secure: Option<&[Listeners]>) -> Vec<String> {
    let line = |listeners: &Listeners, how: &str| {
        let passed = if listeners.passed {
            "a socket that was passed: "
        } else {
            ""
        };
        format!("{passed}listening {how}on {}", listeners.address)
    };
    let plain = clients.iter().map(|listeners| line(listeners, ""));
    let secure = secure.into_iter().flatten();
    plain
        .chain(secure.map(|listeners| line(listeners, "for TLS ")))
        .collect()
}
