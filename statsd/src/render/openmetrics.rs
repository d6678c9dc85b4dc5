//! The report as OpenMetrics 1.0 text, for Prometheus and its kin.

use super::text::put;
use crate::report::{Checked, FarmReport, Report, ServerReport};
use common::model::health::Caution;
use common::model::in_force::Standing;
use std::fmt::Display;

/// A redirector silent for longer does not count as at work, in milliseconds.
const SILENT_MS: u64 = 10_000;

/// The report as families of OpenMetrics. All samples of a family stand together, as the format demands.
pub(crate) fn families(report: &Report) -> String {
    let servers = report
        .farms
        .iter()
        .map(|farm| farm.servers.len())
        .sum::<usize>();
    let mut out = String::with_capacity(1000 + servers * 500);
    redirects(&mut out, report);
    counters(&mut out, report);
    each_server(
        &mut out,
        report,
        "rbalancer_server_up",
        "Whether the server counts as up (suspect ones do, and those not checked yet).",
        |server| u16::from(server.health != Standing::Down),
    );
    each_server(
        &mut out,
        report,
        "rbalancer_server_in_service",
        "Whether the server gets new redirects.",
        |server| u16::from(server.in_service),
    );
    each_server(
        &mut out,
        report,
        "rbalancer_server_never_checked",
        "Whether the server is to be probed and no probe has ever said anything about it.",
        |server| u16::from(server.checked == Checked::Never),
    );
    each_server(
        &mut out,
        report,
        "rbalancer_server_held",
        "Whether the server fails and is held in service because the prober suspects itself.",
        |server| u16::from(server.caution == Some(Caution::Held)),
    );
    each_server(
        &mut out,
        report,
        "rbalancer_server_weight",
        "The server's weight in force.",
        |server| server.weight.0,
    );
    gauge(
        &mut out,
        "rbalancer_generation",
        "Generation of the table in force, 0 for none.",
        report.generation,
    );
    let at_work = report
        .replicas
        .iter()
        .filter(|replica| !replica.announcement.left && replica.silent_ms <= SILENT_MS)
        .count();
    gauge(
        &mut out,
        "rbalancer_replicas",
        "Redirectors heard of within ten seconds.",
        at_work,
    );
    gauge(
        &mut out,
        "rbalancer_alarm",
        "Whether something is wrong with the figures; the stats page says what.",
        u8::from(report.alarm.is_some()),
    );
    gauge(
        &mut out,
        "rbalancer_report_timestamp_seconds",
        "When the figures were read.",
        report.at as f64 / 1000.0,
    );
    out
}

fn redirects(out: &mut String, report: &Report) {
    family(
        out,
        "rbalancer_redirects",
        "counter",
        "Redirects to a server, removed ones included.",
    );
    for farm in &report.farms {
        let servers = farm
            .servers
            .iter()
            .map(|server| (&server.name, server.redirects));
        for (server, total) in servers.chain(
            farm.removed
                .iter()
                .map(|removed| (&removed.name, removed.redirects)),
        ) {
            sample(
                out,
                "rbalancer_redirects_total",
                &[("farm", farm.name.as_str()), ("server", server.as_str())],
                total,
            );
        }
    }
}

fn counters(out: &mut String, report: &Report) {
    family(
        out,
        "rbalancer_fallbacks",
        "counter",
        "Redirects to a farm's fallback.",
    );
    for farm in &report.farms {
        sample(
            out,
            "rbalancer_fallbacks_total",
            &[("farm", farm.name.as_str())],
            farm.fallbacks,
        );
    }
    family(
        out,
        "rbalancer_removed_farm_redirects",
        "counter",
        "Redirects of farms no longer in the table.",
    );
    for removed in &report.removed_farms {
        sample(
            out,
            "rbalancer_removed_farm_redirects_total",
            &[("farm", removed.name.as_str())],
            removed.redirects,
        );
    }
    family(
        out,
        "rbalancer_refused",
        "counter",
        "Requests refused, by status.",
    );
    for (status, total) in &report.refused {
        sample(
            out,
            "rbalancer_refused_total",
            &[("status", &status.to_string())],
            total,
        );
    }
}

fn each_server(
    out: &mut String,
    report: &Report,
    name: &str,
    help: &str,
    value: impl Fn(&ServerReport) -> u16,
) {
    family(out, name, "gauge", help);
    let servers = |farm: &'_ FarmReport, out: &mut String| {
        for server in &farm.servers {
            sample(
                out,
                name,
                &[
                    ("farm", farm.name.as_str()),
                    ("server", server.name.as_str()),
                ],
                value(server),
            );
        }
    };
    report.farms.iter().for_each(|farm| servers(farm, out));
}

fn gauge(out: &mut String, name: &str, help: &str, value: impl Display) {
    family(out, name, "gauge", help);
    sample(out, name, &[], value);
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    put(
        out,
        format_args!("# TYPE {name} {kind}\n# HELP {name} {help}\n"),
    );
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) {
    out.push_str(name);
    for (index, (label, text)) in labels.iter().enumerate() {
        put(
            out,
            format_args!("{}{label}=\"", if index == 0 { '{' } else { ',' }),
        );
        escape(out, text);
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
    put(out, format_args!(" {value}\n"));
}

/// A label's value (OpenMetrics 1.0, "escaped-string").
fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn label_values_are_escaped() {
        let mut out = String::new();
        sample(&mut out, "x", &[("a", "b\\\"\n")], 1);
        assert_eq!(out, "x{a=\"b\\\\\\\"\\n\"} 1\n");
    }

    #[test]
    fn every_sample_stands_under_its_family() {
        let text = families(&example());
        assert!(
            text.contains("# TYPE rbalancer_redirects counter\n"),
            "{text}"
        );
        assert!(
            text.contains("\nrbalancer_redirects_total{farm=\"img\",server=\"srv1\"} 600\n"),
            "{text}"
        );
        assert!(
            text.contains("\nrbalancer_refused_total{status=\"403\"} 7\n"),
            "{text}"
        );
        assert!(
            text.contains("\nrbalancer_server_never_checked{farm=\"img\",server=\"srv1\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("\nrbalancer_server_never_checked{farm=\"img\",server=\"srv2\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains("\nrbalancer_server_held{farm=\"img\",server=\"srv2\"} 0\n"),
            "{text}"
        );
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap_or_default();
            }
            assert!(
                line.starts_with('#') || line.starts_with(family),
                "{line} under {family}"
            );
        }
    }
}
