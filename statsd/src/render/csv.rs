//! The report as CSV (RFC 4180): one line a server, one for each farm's fallback and for what was removed.

use super::text::put;
use crate::report::{FarmReport, Report, ServerReport};

const HEADER: &str = "farm,server,domain,weight,enable,health,checked,last_check,since,reason,redirects,rate,share_intended,share_actual\r\n";

/// The report as CSV.
pub(crate) fn page(report: &Report) -> String {
    let mut out = String::with_capacity(
        200 * (1 + report
            .farms
            .iter()
            .map(|farm| farm.servers.len())
            .sum::<usize>()),
    );
    out.push_str(HEADER);
    for farm in &report.farms {
        farm.servers
            .iter()
            .for_each(|server| server_line(&mut out, farm, server));
        counted_line(&mut out, farm.name.as_str(), "@fallback", farm.fallbacks);
        for removed in &farm.removed {
            counted_line(
                &mut out,
                farm.name.as_str(),
                removed.name.as_str(),
                removed.redirects,
            );
        }
    }
    for removed in &report.removed_farms {
        counted_line(
            &mut out,
            removed.name.as_str(),
            "@removed",
            removed.redirects,
        );
    }
    out
}

fn server_line(out: &mut String, farm: &FarmReport, server: &ServerReport) {
    put(out, format_args!("{},{},", farm.name, server.name));
    cell(out, &server.domain);
    put(
        out,
        format_args!(
            ",{},{},{},{},",
            server.weight,
            server.enable.as_str(),
            server.health.as_str(),
            server.checked.as_str()
        ),
    );
    server.last_check.iter().for_each(|at| put(out, at));
    out.push(',');
    server.since.iter().for_each(|at| put(out, at));
    out.push(',');
    cell(out, &server.reason);
    put(
        out,
        format_args!(
            ",{},{:.3},{:.4},{:.4}\r\n",
            server.redirects, server.rate, server.share_intended, server.share_actual
        ),
    );
}

fn counted_line(out: &mut String, farm: &str, server: &str, redirects: u64) {
    put(
        out,
        format_args!("{farm},{server},,,,,,,,,{redirects},,,\r\n"),
    );
}

fn cell(out: &mut String, text: &str) {
    out.push('"');
    // A spreadsheet takes a cell that starts like this for a formula; the text comes from probed servers.
    if text.starts_with(['=', '+', '-', '@']) {
        out.push('\'');
    }
    text.chars()
        .filter(|character| !character.is_control())
        .for_each(|character| {
            if character == '"' {
                out.push('"');
            }
            out.push(character);
        });
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_hold_any_text() {
        let mut out = String::new();
        cell(&mut out, "=a \"b\",\r\nc");
        assert_eq!(out, "\"'=a \"\"b\"\",c\"");
        assert_eq!(HEADER.matches(',').count(), 13);
        let mut line = String::new();
        counted_line(&mut line, "img", "@fallback", 1);
        assert_eq!(line.matches(',').count(), 13);
    }
}
