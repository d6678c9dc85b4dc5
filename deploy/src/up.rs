//! `rbalancer up`: every role in one process, state in memory.
//! No rule of a role may enter here: it only puts them together.

pub mod demo;
pub mod origin;
mod reread;
mod state_file;

use crate::conf::Conf;
use crate::up::reread::{follow, publish};
use crate::up::state_file::{keep, restore, save};
use anyhow::Context;
use common::config::global::Problems;
use common::net::listen::{InheritedSockets, Listeners};
use common::net::socket::Sharing;
use common::net::web::Router;
use common::openmetrics::Exposition;
use common::process::exit::Failure;
use common::process::signals::{Reload, Shutdown};
use common::store::{Memory, Store};
use redirector::{ProcessMetrics, Redirector, Tls, TlsSettings};
use std::net::TcpListener;
use std::sync::Arc;

/// The sockets of `up`, bound.
pub struct UpSockets {
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
pub fn bind(conf: &Conf) -> Result<UpSockets, Failure> {
    let tls = conf
        .redirector
        .tls
        .as_ref()
        .map(TlsSettings::load)
        .transpose()?;
    let mut passed = InheritedSockets::take()?;
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
    Ok(UpSockets {
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
    sockets: UpSockets,
    reread: impl Fn() -> Result<Conf, Problems> + Clone + Send + Sync + 'static,
    reload: Reload,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
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
    let redirector = serve(
        &conf.redirector,
        sockets,
        &store,
        router,
        &reload,
        &shutdown,
    )
    .await?;
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

/// Starts the redirector, and the admin pages of the whole process.
async fn serve(
    settings: &redirector::Settings,
    sockets: UpSockets,
    store: &Store,
    router: Router,
    reload: &Reload,
    shutdown: &Shutdown,
) -> anyhow::Result<Redirector> {
    let pages = settings.stats_uri.as_ref().map(|_| redirector::Pages {
        router: router.clone(),
        runtime: tokio::runtime::Handle::current(),
        allowed: settings.stats_allow.clone().into(),
    });
    let access = redirector::StoreAccess {
        reader: store.reader(),
        writer: store.replica(),
    };
    // Totals and health are kept here; the redirector has no need of a file of its own.
    let settings = redirector::Settings {
        state_file: None,
        ..settings.clone()
    };
    let own = redirector::Sockets {
        clients: sockets.clients,
        secure: sockets.secure,
        admin: None,
    };
    let (reload, shutdown) = (reload.clone(), shutdown.clone());
    let redirector = Redirector::start(own, access, settings, pages, reload, shutdown).await?;
    if let Some(admin) = sockets.admin {
        let listener = tokio::net::TcpListener::from_std(admin).context("admin listener")?;
        let router = with(redirector.metrics(), router);
        tokio::spawn(common::net::web::serve(listener, router));
    }
    Ok(redirector)
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
