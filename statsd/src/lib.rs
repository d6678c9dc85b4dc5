//! statsd: reports on a whole cluster as a page, JSON, CSV and OpenMetrics. Reads the store, writes nothing.

mod live;
mod render;
#[doc(hidden)] // for tests
pub mod report;
mod settings;

pub use settings::Settings;

use anyhow::Context;
use common::net::listen::Listeners;
use common::net::web::{self, Ask, Page, Router, StatusCode, header};
use common::openmetrics::Exposition;
use common::process::signals::{Phase, Shutdown};
use common::store::Reader;
use common::time::unix_ms;
use live::latest::Latest;
use live::rendered::Rendered;
use live::sampler::Sampler;
use std::sync::Arc;
use tokio::task::{JoinHandle, JoinSet};

/// Starts reading the store and gives what answers for the pages. Needs a runtime; ends with `shutdown`.
pub fn start(reader: Reader, settings: Settings, shutdown: Shutdown) -> Router {
    begin(reader, settings, shutdown).0
}

/// Serves the pages on `listeners` until the process drains.
///
/// # Errors
/// When a socket cannot be used, or the reading of the store ended by a panic.
pub async fn run(
    listeners: Listeners,
    reader: Reader,
    settings: Settings,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let (router, mut sampler) = begin(reader, settings, shutdown.clone());
    let mut servers = JoinSet::new();
    servers.spawn(common::files::watch());
    for socket in listeners.sockets {
        let listener = tokio::net::TcpListener::from_std(socket).context("a listening socket")?;
        servers.spawn(web::serve(listener, router.clone()));
    }
    tracing::info!("listening on {}", listeners.address);
    tokio::select! {
        () = shutdown.reached(Phase::Draining) => Ok(()),
        // The sampler ends by itself only where the process drains.
        ended = &mut sampler => ended.context("reading the store"),
    }
}

fn begin(reader: Reader, settings: Settings, shutdown: Shutdown) -> (Router, JoinHandle<()>) {
    let Settings {
        cluster, stats_uri, ..
    } = settings;
    let viewers = Latest::new(Rendered::new(Sampler::nothing_yet(&cluster)));
    let sampler =
        tokio::spawn(Sampler::new(reader, cluster).run(viewers.clone(), shutdown.clone()));
    let stats_uri: Arc<str> = stats_uri.into();
    let router: Router = Arc::new(move |ask| {
        let (viewers, stats_uri, phase) = (viewers.clone(), stats_uri.clone(), shutdown.phase());
        Box::pin(async move {
            if &*ask.path == "/readyz" && phase != Phase::Running {
                return web::text(StatusCode::SERVICE_UNAVAILABLE, "ending\n");
            }
            // Who only asks whether this process is well is no viewer.
            let shown = if matches!(&*ask.path, "/healthz" | "/readyz") {
                viewers.latest()
            } else {
                viewers.look().await
            };
            answer(&ask, &stats_uri, &shown)
        })
    });
    (router, sampler)
}

/// The page that is asked for.
fn answer(ask: &Ask, stats_uri: &str, shown: &Rendered) -> Page {
    match (&*ask.path, ask.path.strip_prefix(stats_uri)) {
        ("/", _) | (_, Some("" | "/")) => html(shown),
        (_, Some(".json")) => json(shown),
        (_, Some(".csv")) => web::page(
            StatusCode::OK,
            "text/csv; charset=utf-8; header=present",
            shown.csv(),
        ),
        ("/metrics", _) => {
            let form = Exposition::asked(ask);
            form.page(shown.metrics(form))
        }
        ("/healthz", _) => web::text(StatusCode::OK, "ok\n"),
        ("/readyz", _) if shown.report().generation > 0 => {
            web::text(StatusCode::OK, common::files::ready())
        }
        ("/readyz", _) => web::text(StatusCode::SERVICE_UNAVAILABLE, "no table was read yet\n"),
        _ => web::text(
            StatusCode::NOT_FOUND,
            format!("not here; see {stats_uri}, {stats_uri}.json, {stats_uri}.csv, /metrics\n"),
        ),
    }
}

fn html(shown: &Rendered) -> Page {
    let mut page = web::page(
        StatusCode::OK,
        "text/html; charset=utf-8",
        shown.html(unix_ms()),
    );
    let policy = header::HeaderValue::from_static(render::html::CONTENT_SECURITY_POLICY);
    page.headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    page.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    page
}

fn json(shown: &Rendered) -> Page {
    match shown.json() {
        Ok(body) => web::page(StatusCode::OK, "application/json", body),
        Err(error) => web::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the report has no JSON form: {error}\n"),
        ),
    }
}
