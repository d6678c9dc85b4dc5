//! What one healthd tells monitoring of itself.

use crate::checks::Checks;
use crate::watch::schedule::Done;
use common::net::web::{Ask, Page, Router, StatusCode, text};
use common::openmetrics::Exposition;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// `/healthz`, `/readyz` and `/metrics`.
pub(crate) fn router(done: Arc<Done>, checks: watch::Receiver<Checks>) -> Router {
    Arc::new(move |ask| {
        let answer = answer(&ask, &done, !checks.borrow().made.is_empty());
        Box::pin(std::future::ready(answer))
    })
}

fn answer(ask: &Ask, done: &Done, ready: bool) -> Page {
    match ask.path.as_str() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if ready => text(StatusCode::OK, common::files::ready()),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "nothing to watch yet\n"),
        "/metrics" => Exposition::asked(ask).whole(&render(done)),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics\n",
        ),
    }
}

/// As families of OpenMetrics.
fn render(done: &Done) -> String {
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "# TYPE rbalancer_healthd_probes counter\n\
         # HELP rbalancer_healthd_probes Probes made since the start, by outcome.\n\
         rbalancer_healthd_probes_total{{outcome=\"success\"}} {}\n\
         rbalancer_healthd_probes_total{{outcome=\"failure\"}} {}\n\
         rbalancer_healthd_probes_total{{outcome=\"inconclusive\"}} {}\n\
         # TYPE rbalancer_healthd_checks gauge\n\
         # HELP rbalancer_healthd_checks Checks being made.\n\
         rbalancer_healthd_checks {}\n\
         # TYPE rbalancer_healthd_never_checked gauge\n\
         # HELP rbalancer_healthd_never_checked Checks of which no probe has ever said anything, as when a name does not resolve.\n\
         rbalancer_healthd_never_checked {}\n\
         # TYPE rbalancer_healthd_held gauge\n\
         # HELP rbalancer_healthd_held Checks that fail and are held in service because the prober suspects itself.\n\
         rbalancer_healthd_held {}\n\
         # TYPE rbalancer_healthd_prober_suspect gauge\n\
         # HELP rbalancer_healthd_prober_suspect 1 while every target fails at once: the trouble is likely the prober's own.\n\
         rbalancer_healthd_prober_suspect {}\n",
        of(&done.succeeded),
        of(&done.failed),
        of(&done.inconclusive),
        of(&done.checks),
        of(&done.never),
        of(&done.held),
        u8::from(done.suspect.load(Ordering::Relaxed))
    )
}
