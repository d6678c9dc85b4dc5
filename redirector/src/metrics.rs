//! What one redirector tells monitoring of itself: its own counts and the state it answers from.

use crate::access_log::writer::LogState;
use crate::background::refresh::{Status, StatusCell};
use crate::counters::Counters;
use crate::serve::address_limit::AddressLimit;
use crate::tls::Tls;
use crate::tls::certificates::Expiry;
use common::files;
use common::model::tally::CountKey;
use common::net::web::{Ask, Page, Router, StatusCode, text};
use common::openmetrics::Exposition;
use common::process::signals::{Phase, Shutdown};
use std::fmt::Write;
use std::sync::{Arc, PoisonError};

/// What a redirector tells of its process beside its counts. Clones share everything.
#[derive(Clone, Default)]
pub struct ProcessMetrics {
    pub(crate) tls: Option<Tls>,
    pub(crate) log: Option<Arc<LogState>>,
    pub(crate) address_limit: Option<Arc<AddressLimit>>,
}

impl ProcessMetrics {
    /// As families of OpenMetrics.
    pub fn families(&self) -> String {
        let tls = self.tls.as_ref();
        let expiries = tls.map(|tls| render_expiries(&tls.chosen.now().expiries));
        let dropped = self.log.as_deref().map(dropped);
        let refused = self.address_limit.as_deref().map(refused);
        [expiries, dropped, refused].into_iter().flatten().collect()
    }
}

/// `/healthz`, `/readyz` and `/metrics`.
pub(crate) fn router(
    status: StatusCell,
    counters: Arc<Counters>,
    own: ProcessMetrics,
    shutdown: Shutdown,
) -> Router {
    Arc::new(move |ask| {
        let state = status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let answer = answer(&ask, &state, shutdown.phase(), &counters, || own.families());
        Box::pin(std::future::ready(answer))
    })
}

fn answer(
    ask: &Ask,
    state: &Status,
    phase: Phase,
    counters: &Counters,
    more: impl FnOnce() -> String,
) -> Page {
    match ask.path.as_str() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if phase != Phase::Running => text(StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
        "/readyz" if state.generation == 0 => {
            text(StatusCode::SERVICE_UNAVAILABLE, "no table yet\n")
        }
        "/readyz" => text(StatusCode::OK, files::ready()),
        "/metrics" => Exposition::asked(ask).whole(&render(state, &counters.totals(), &more())),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics\n",
        ),
    }
}

/// What the access log lost.
fn dropped(log: &LogState) -> String {
    let name = "rbalancer_access_log_dropped_lines";
    format!(
        "# TYPE {name} counter\n# HELP {name} Lines that the file or the queue to it could not take.\n{name}_total {}\n",
        log.dropped()
    )
}

/// What `maxconn_per_address` refused.
fn refused(limit: &AddressLimit) -> String {
    let name = "rbalancer_redirector_refused_connections";
    let help = "Connections closed because their address held as many as it may.";
    format!(
        "# TYPE {name} counter\n# HELP {name} {help}\n{name}_total {}\n",
        limit.refused()
    )
}

/// The certificates in use.
fn render_expiries(expiries: &[Expiry]) -> String {
    let escaped = |expiry: &Expiry| {
        expiry
            .file
            .display()
            .to_string()
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    let line = |expiry: &Expiry| {
        format!(
            "rbalancer_tls_certificate_expiry_seconds{{file=\"{}\"}} {}\n",
            escaped(expiry),
            expiry.at
        )
    };
    let lines: String = expiries.iter().map(line).collect();
    format!(
        "# TYPE rbalancer_tls_certificate_expiry_seconds gauge\n# UNIT rbalancer_tls_certificate_expiry_seconds seconds\n\
         # HELP rbalancer_tls_certificate_expiry_seconds When each certificate in use ends, in seconds since 1970.\n{lines}"
    )
}

/// As families of OpenMetrics.
fn render(state: &Status, totals: &[(CountKey, u64)], more: &str) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail. Farm and server names hold nothing that a label would have to escape.
    let mut family = |name: &str, kind: &str, help: &str, lines: String| {
        let _ = write!(
            out,
            "# TYPE rbalancer_redirector_{name} {kind}\n# HELP rbalancer_redirector_{name} {help}\n{lines}"
        );
    };
    let of = |wanted: fn(&CountKey) -> bool, line: fn(&CountKey) -> String| -> String {
        let chosen = totals.iter().filter(|(key, _)| wanted(key));
        chosen
            .map(|(key, total)| format!("rbalancer_redirector_{} {total}\n", line(key)))
            .collect()
    };
    family(
        "redirects",
        "counter",
        "Redirects to a server since the start.",
        of(|key| matches!(key, CountKey::Server(_)), labels),
    );
    family(
        "fallbacks",
        "counter",
        "Redirects to a farm's fallback since the start.",
        of(|key| matches!(key, CountKey::Fallback(_)), labels),
    );
    family(
        "refused",
        "counter",
        "Requests refused, by status.",
        of(|key| matches!(key, CountKey::Refused(_)), labels),
    );
    family(
        "generation",
        "gauge",
        "Generation of the table in use, 0 for none.",
        format!("rbalancer_redirector_generation {}\n", state.generation),
    );
    let alarm = u8::from(!state.alarm.is_empty());
    family(
        "alarm",
        "gauge",
        "Whether the state offered by the store cannot be used.",
        format!("rbalancer_redirector_alarm {alarm}\n"),
    );
    out + more
}

fn labels(key: &CountKey) -> String {
    match key {
        CountKey::Server(id) => format!(
            "redirects_total{{farm=\"{}\",server=\"{}\"}}",
            id.farm, id.server
        ),
        CountKey::Fallback(farm) => format!("fallbacks_total{{farm=\"{farm}\"}}"),
        CountKey::Refused(status) => format!("refused_total{{status=\"{status}\"}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_openmetrics() {
        let text = render(
            &Status {
                generation: 7,
                ..Status::default()
            },
            &[("img/a".parse().expect("valid"), 3)],
            "",
        );
        assert!(
            text.contains("rbalancer_redirector_redirects_total{farm=\"img\",server=\"a\"} 3\n"),
            "{text}"
        );
        assert!(
            text.contains("rbalancer_redirector_generation 7\n"),
            "{text}"
        );
    }
}
