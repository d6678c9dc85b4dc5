//! The report as one self-contained page. Works without scripts; with them it renews itself in place.

use super::text::{escape, number, percent, put, rate, span};
use crate::report::{Checked, FarmReport, Report, ServerReport};
use common::model::farm::Intent;
use common::model::health::Caution;
use common::model::in_force::Standing;
use common::store::{Event, RefusedHost, Replica};
use common::time::{UnixMs, http_date};

/// What the page may load and do: itself, nothing else.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'";

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A redirector silent for longer is shown as silent, in milliseconds.
const SILENT_MS: u64 = 10_000;

/// A certificate that ends sooner should have been renewed.
const RENEW_MS: u64 = 14 * 86_400_000;

/// The report as a page, with ages as of `now`.
pub(crate) fn page(report: &Report, now: UnixMs) -> String {
    let servers = report
        .farms
        .iter()
        .map(|farm| farm.servers.len())
        .sum::<usize>();
    let mut out = String::with_capacity(16_000 + servers * 900);
    out.push_str("<!DOCTYPE html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>");
    escape(&mut out, report.cluster.as_str());
    out.push_str(
        " – rbalancer</title><noscript><meta http-equiv=refresh content=5></noscript><style>",
    );
    out.push_str(STYLE);
    out.push_str("</style><body><main>");
    head(&mut out, report);
    report
        .farms
        .iter()
        .for_each(|farm| farm_table(&mut out, farm, now));
    removed_farms(&mut out, report);
    refused(&mut out, report);
    replicas(&mut out, &report.replicas, now);
    events(&mut out, &report.events, now);
    out.push_str("</main><p class=stale role=alert>This page cannot reach statsd: the figures stand still.</p><script>");
    out.push_str(SCRIPT);
    out.push_str("</script>");
    out
}

fn head(out: &mut String, report: &Report) {
    out.push_str("<header><h1>");
    escape(out, report.cluster.as_str());
    out.push_str("</h1><p>rbalancer · generation <b>");
    put(out, report.generation);
    out.push_str("</b> · ");
    put(out, http_date(report.at));
    out.push_str("</p></header>");
    if let Some(alarm) = &report.alarm {
        out.push_str("<p class=alarm role=alert><b>Alarm:</b> ");
        escape(out, alarm);
        out.push_str("</p>");
    }
}

fn farm_table(out: &mut String, farm: &FarmReport, now: UnixMs) {
    out.push_str("<section><h2>");
    escape(out, farm.name.as_str());
    out.push_str(" <small>");
    for (index, domain) in farm.domains.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        escape(out, domain);
    }
    put(
        out,
        format_args!(
            " · {} · {} of {} in service",
            farm.balance.as_str(),
            farm.in_service,
            farm.servers.len()
        ),
    );
    if farm.ever_checked < farm.probed {
        put(
            out,
            format_args!(" · {} of {} ever checked", farm.ever_checked, farm.probed),
        );
    }
    out.push_str("</small></h2>");
    if farm.in_service == 0 {
        out.push_str("<p class=alarm role=alert><b>No server of this farm is in service.</b></p>");
    }
    out.push_str(
        "<div class=wide><table><thead><tr><th>Server<th>Health<th>Enable<th class=n>Weight<th class=n>Redirects<th class=n>Per second\
         <th>Share: intended, actual<th>Since<th>Reason<th>Last check<th>Target<tbody>",
    );
    farm.servers
        .iter()
        .for_each(|server| server_row(out, server, now));
    out.push_str("<tfoot>");
    for removed in &farm.removed {
        counted_row(
            out,
            removed.name.as_str(),
            "no longer in the table",
            removed.redirects,
        );
    }
    counted_row(
        out,
        "fallback",
        "sent on while no server was live",
        farm.fallbacks,
    );
    out.push_str("<tr class=total><th colspan=4>Farm total<td class=n>");
    number(out, farm.redirects);
    out.push_str("<td class=n>");
    rate(out, farm.rate);
    out.push_str("<td colspan=5></table></div></section>");
}

/// What is looked for first comes first: on a narrow screen the rest is a scroll away.
fn server_row(out: &mut String, server: &ServerReport, now: UnixMs) {
    put(out, format_args!("<tr class={}><th>", row_class(server)));
    escape(out, server.name.as_str());
    out.push_str("<td class=h>");
    out.push_str(health_words(server));
    put(
        out,
        format_args!("<td class=e-{0}>{0}", server.enable.as_str()),
    );
    if let Some(by_hand) = &server.by_hand {
        out.push_str(" <abbr title=\"");
        escape(out, by_hand);
        out.push_str("\">by hand</abbr>");
    }
    out.push_str("<td class=n>");
    number(out, server.weight.0.into());
    out.push_str("<td class=n>");
    number(out, server.redirects);
    out.push_str("<td class=n>");
    rate(out, server.rate);
    share_cell(out, server);
    age_cell(out, server.since, now, "");
    out.push_str("<td class=why>");
    escape(out, &server.reason);
    match server.checked {
        Checked::Off => out.push_str("<td>not checked"),
        Checked::Never => out.push_str("<td>never"),
        Checked::Ok => age_cell(out, server.last_check, now, " ago, ok"),
        Checked::Failing => age_cell(out, server.last_check, now, " ago, failing"),
    }
    out.push_str("<td class=to>");
    escape(out, &server.domain);
}

fn share_cell(out: &mut String, server: &ServerReport) {
    let shares = [server.share_intended, server.share_actual];
    out.push_str("<td class=share>");
    for share in shares {
        out.push_str("<i style=\"width:");
        percent(out, share.clamp(0.0, 1.0));
        out.push_str("\"></i>");
    }
    for share in shares {
        out.push_str("<span>");
        percent(out, share);
        out.push_str("</span>");
    }
}

fn counted_row(out: &mut String, name: &str, what: &str, redirects: u64) {
    out.push_str("<tr><th>");
    escape(out, name);
    put(out, format_args!("<td colspan=3>{what}<td class=n>"));
    number(out, redirects);
    out.push_str("<td><td colspan=5>");
}

fn row_class(server: &ServerReport) -> &'static str {
    match (server.enable, server.health) {
        (Intent::Off, _) => "off",
        (_, Standing::Down) => "down",
        (Intent::Drain, _) => "drain",
        (_, Standing::Suspect) => "suspect",
        (_, Standing::Up) if server.caution.is_some() => "caution",
        (_, Standing::Up) if server.checked == Checked::Never => "never",
        (_, Standing::Up) => "up",
    }
}

fn health_words(server: &ServerReport) -> &'static str {
    match server.caution.filter(|_| server.health == Standing::Up) {
        Some(Caution::Held) => return "▲ held: the prober suspects itself",
        Some(Caution::NeverChecked) if server.waits => return "▲ never checked, not used",
        Some(Caution::NeverChecked) => return "▲ never checked",
        Some(Caution::NoLongerChecked) => return "▲ no longer checked",
        None => {}
    }
    match (server.health, server.checked) {
        (Standing::Down, _) => "✕ down",
        (Standing::Suspect, _) => "▲ suspect, still used",
        (Standing::Up, Checked::Off) if server.enable == Intent::Off => "– not checked",
        (Standing::Up, Checked::Off) => "● up, not checked",
        (Standing::Up, Checked::Never) if server.waits => "○ waits for a check",
        (Standing::Up, Checked::Never) => "○ up, not checked yet",
        (Standing::Up, _) => "● up",
    }
}

fn age_cell(out: &mut String, at: Option<UnixMs>, now: UnixMs, after: &str) {
    out.push_str("<td>");
    if let Some(at) = at {
        span(out, now.saturating_sub(at));
        out.push_str(after);
    }
}

fn removed_farms(out: &mut String, report: &Report) {
    if report.removed_farms.is_empty() {
        return;
    }
    out.push_str("<section><h2>Farms no longer in the table</h2><table><thead><tr><th>Farm<th class=n>Redirects<tbody>");
    for removed in &report.removed_farms {
        out.push_str("<tr><th>");
        escape(out, removed.name.as_str());
        out.push_str("<td class=n>");
        number(out, removed.redirects);
    }
    out.push_str("</table></section>");
}

fn refused(out: &mut String, report: &Report) {
    out.push_str("<section><h2>Refused</h2>");
    if report.refused.is_empty() {
        out.push_str("<p>No request was refused.</p></section>");
        return;
    }
    out.push_str("<table><thead><tr><th>Status<th class=n>Requests<tbody>");
    for (status, total) in &report.refused {
        put(out, format_args!("<tr><th>{status}<td class=n>"));
        number(out, *total);
    }
    out.push_str("</table>");
    if !report.refused_hosts.is_empty() {
        out.push_str(
            "<table><thead><tr><th>Refused most in the last hour<th>Why<th class=n>Requests<tbody>",
        );
    }
    for RefusedHost {
        host,
        reason,
        count,
    } in &report.refused_hosts
    {
        out.push_str("<tr><th>");
        escape(out, host);
        out.push_str("<td>");
        escape(out, reason);
        out.push_str("<td class=n>");
        number(out, *count);
    }
    out.push_str(if report.refused_hosts.is_empty() {
        "</section>"
    } else {
        "</table></section>"
    });
}

fn replicas(out: &mut String, replicas: &[Replica], now: UnixMs) {
    out.push_str("<section><h2>Redirectors</h2>");
    if replicas.is_empty() {
        out.push_str("<p>None was heard of.</p></section>");
        return;
    }
    out.push_str(
        "<div class=wide><table><thead><tr><th>Host<th>Address<th>Id<th>Version<th class=n>Generation<th>Started<th>Heard of<th>State<tbody>",
    );
    for Replica {
        announcement: said,
        silent_ms,
    } in replicas
    {
        let (class, state) = match (said.left, *silent_ms) {
            (true, _) => ("off", "has left"),
            (_, silent) if silent > SILENT_MS => ("down", "✕ silent"),
            _ if said.alarm.is_empty() => ("up", "● at work"),
            _ => ("suspect", "▲ "),
        };
        put(out, format_args!("<tr class={class}><th>"));
        escape(out, &said.host);
        out.push_str("<td>");
        escape(out, &said.address);
        out.push_str("<td>");
        escape(out, said.id.get(..8).unwrap_or(&said.id));
        out.push_str("<td>");
        escape(out, &said.version);
        put(out, format_args!("<td class=n>{}", said.generation));
        age_cell(out, Some(said.started), now, " ago");
        out.push_str("<td>");
        span(out, *silent_ms);
        put(out, format_args!(" ago<td class=h>{state}"));
        escape(out, &said.alarm);
        if !said.by_file.is_empty() {
            out.push_str("<br>by its own file: ");
            escape(out, &said.by_file);
        }
        certificate(out, said.certificate_expires, now);
    }
    out.push_str("</table></div></section>");
}

/// When a redirector's first certificate ends, if it serves TLS.
fn certificate(out: &mut String, expires: UnixMs, now: UnixMs) {
    match expires.checked_sub(now) {
        _ if expires == 0 => {}
        None => out.push_str("<br><b>✕ its certificate has expired</b>"),
        Some(left) => {
            let urgent = if left < RENEW_MS { "▲ renew: " } else { "" };
            put(
                out,
                format_args!(
                    "<br><span title=\"{}\">{urgent}certificate ends in ",
                    http_date(expires)
                ),
            );
            span(out, left);
            out.push_str("</span>");
        }
    }
}

fn events(out: &mut String, events: &[Event], now: UnixMs) {
    out.push_str("<section><h2>Recent events</h2>");
    if events.is_empty() {
        out.push_str("<p>Nothing happened yet.</p></section>");
        return;
    }
    out.push_str(
        "<div class=wide><table class=events><thead><tr><th>When<th>What<th>Why<th>Who<tbody>",
    );
    for event in events {
        put(
            out,
            format_args!("<tr><td title=\"{}\">", http_date(event.at)),
        );
        span(out, now.saturating_sub(event.at));
        out.push_str(" ago<th>");
        escape(out, &event.what);
        out.push_str("<td class=why>");
        escape(out, &event.why);
        out.push_str("<td>");
        escape(out, &event.by);
    }
    out.push_str("</table></div></section>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn words_from_the_store_never_become_markup() {
        let mut report = example();
        report.alarm = Some("<img src=x>".into());
        report.farms[0].servers[0].reason = "</td><script>".into();
        report.farms[0].servers[0].by_hand = Some("\" onload=\"x".into());
        report.refused_hosts = vec![RefusedHost {
            host: "<img src=y>".into(),
            reason: "unknown-host".into(),
            count: 3,
        }];
        let html = page(&report, report.at);
        assert!(html.contains("&lt;img src=y&gt;"), "{html}");
        assert!(
            html.contains("&lt;img src=x&gt;") && html.contains("&lt;b&gt;refused"),
            "{html}"
        );
        assert!(
            !html.contains("<img") && !html.contains("<b>refused") && !html.contains("\" onload"),
            "{html}"
        );
        assert_eq!(html.matches("<script>").count(), 1);
    }

    #[test]
    fn what_is_up_without_a_good_probe_is_amber_and_counted() {
        let mut report = example();
        let farm = &mut report.farms[0];
        (farm.ever_checked, farm.probed) = (0, 2);
        for (caution, words) in [
            (Caution::Held, "▲ held: the prober suspects itself"),
            (Caution::NeverChecked, "▲ never checked"),
            (Caution::NoLongerChecked, "▲ no longer checked"),
        ] {
            report.farms[0].servers[0].caution = Some(caution);
            let html = page(&report, report.at);
            assert!(
                html.contains(&format!("<tr class=caution><th>srv1<td class=h>{words}<td")),
                "{html}"
            );
            assert!(html.contains(" · 0 of 2 ever checked</small>"), "{html}");
        }
        assert!(
            STYLE.contains(".caution{background:var(--warnbg)}") && STYLE.contains(".caution .h,")
        );
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let html = page(&example(), 0);
        for outside in ["src=", "href=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(
            html.contains("✕ down")
                && html.contains("no longer in the table")
                && html.contains("img.org, pic.org")
        );
    }
}
