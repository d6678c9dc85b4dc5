//! The forms in which Prometheus and its kin take metrics, and which of them is asked for: OpenMetrics 1.0 for who asks
//! for it, else the text format 0.0.4 that everybody reads. Metrics are written once, as OpenMetrics.

use crate::net::web::{Ask, Page, StatusCode, header, page};
use std::fmt::Write;

/// A form of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// The media type of OpenMetrics, without its parameters.
const OPENMETRICS: &str = "application/openmetrics-text";

impl Exposition {
    /// The form that is asked for: OpenMetrics where it is named and nothing is liked better than it (RFC 9110 section
    /// 12.5.1).
    pub fn asked(ask: &Ask) -> Self {
        let (mut openmetrics, mut text) = (0, (0, 0));
        for (range, quality) in ranges(&ask.accept) {
            // How exactly the range names the text format, which counts before its quality.
            let exactness = match range {
                _ if range.eq_ignore_ascii_case(OPENMETRICS) => {
                    openmetrics = quality.max(openmetrics);
                    continue;
                }
                _ if range.eq_ignore_ascii_case("text/plain") => 3,
                _ if range.eq_ignore_ascii_case("text/*") => 2,
                "*/*" => 1,
                _ => continue,
            };
            text = text.max((exactness, quality));
        }
        if openmetrics > 0 && openmetrics >= text.1 {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What stands behind the last family.
    pub fn end(self) -> &'static str {
        match self {
            Self::Text => "",
            Self::OpenMetrics => "# EOF\n",
        }
    }

    /// `families`, written as OpenMetrics, in this form; without an end.
    pub fn render(self, families: &str) -> String {
        match self {
            Self::Text => text(families),
            Self::OpenMetrics => families.to_owned(),
        }
    }

    /// A page of `body`, which is in this form already.
    pub fn page(self, body: impl Into<crate::net::web::Bytes>) -> Page {
        let mut page = page(StatusCode::OK, self.media_type(), body);
        page.headers_mut()
            .insert(header::VARY, header::HeaderValue::from_static("Accept"));
        page
    }

    /// The page with all `families`, written as OpenMetrics.
    pub fn whole(self, families: &str) -> Page {
        self.page(self.render(families) + self.end())
    }
}

/// The media ranges of an Accept field and their quality in thousandths. One that is not well formed is passed over, and
/// so is a version of a format that is not written here.
fn ranges(accept: &str) -> impl Iterator<Item = (&str, u16)> {
    accept.split(',').filter_map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let (range, mut quality) = (parts.next()?, 1000);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = thousandths(value)?,
                // 0.0.1 is the draft of 1.0.0.
                "version" if !matches!(value, "1.0.0" | "0.0.1" | "0.0.4") => return None,
                _ => {}
            }
        }
        Some((range, quality))
    })
}

/// A quality: from 0 to 1, with up to three digits behind the point (RFC 9110 section 12.4.2).
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

/// The text format of families: a counter is called as its samples are, there are no units, and help has plain quotes.
fn text(families: &str) -> String {
    let mut out = String::with_capacity(families.len());
    let mut named = String::new();
    for line in families.lines() {
        let mut words = line.splitn(4, ' ');
        let written = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                named = format!("{name}{suffix}");
                writeln!(out, "# TYPE {named} {kind}")
            }
            (Some("#"), Some("HELP"), Some(_), help) => writeln!(
                out,
                "# HELP {named} {}",
                help.unwrap_or_default().replace("\\\"", "\"")
            ),
            (Some("#"), ..) => Ok(()),
            _ => writeln!(out, "{line}"),
        };
        // A String takes everything.
        debug_assert!(written.is_ok());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::web::Method;

    fn asked(accept: &str) -> Exposition {
        Exposition::asked(&Ask {
            method: Method::GET,
            path: "/metrics".into(),
            query: String::new(),
            accept: accept.into(),
        })
    }

    #[test]
    fn openmetrics_is_for_who_asks_for_it() {
        for accept in [
            "application/openmetrics-text",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "Application/OpenMetrics-Text;version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            // Prometheus 2.42.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            // Prometheus 3.
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "text/plain;q=0.5, application/openmetrics-text;q=0.5",
            "text/plain;q=0, application/openmetrics-text;q=0.001",
            "text/plain;q=0.1, */*;q=1, application/openmetrics-text;q=0.2",
        ] {
            assert_eq!(asked(accept), Exposition::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "application/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/plain",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.000, text/plain",
            "application/openmetrics-text;q=0.4, text/plain;q=0.5",
            "application/openmetrics-text;q=0.4, */*;q=0.5",
            "application/openmetrics-text;q=0.4, text/*;q=0.5, */*;q=0.1",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=x",
            "application/openmetrics-text;q=0.1234",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text-x",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        ] {
            assert_eq!(asked(accept), Exposition::Text, "{accept}");
        }
    }

    #[test]
    fn the_text_format_calls_a_counter_as_its_samples_and_knows_no_units_and_no_end() {
        let families = "# TYPE a counter\n# HELP a \\\"What\\\" it counts, with \\\\.\na_total{x=\"# TYPE\"} 3\n\
             # TYPE b_seconds gauge\n# UNIT b_seconds seconds\n# HELP b_seconds When.\nb_seconds 1.5\n\
             # TYPE c unknown\nc 1\n# TYPE d info\n# HELP d Which.\nd_info{version=\"1\"} 1\n";
        assert_eq!(
            Exposition::Text.render(families),
            "# TYPE a_total counter\n# HELP a_total \"What\" it counts, with \\\\.\na_total{x=\"# TYPE\"} 3\n\
             # TYPE b_seconds gauge\n# HELP b_seconds When.\nb_seconds 1.5\n\
             # TYPE c untyped\nc 1\n# TYPE d_info gauge\n# HELP d_info Which.\nd_info{version=\"1\"} 1\n"
        );
        let page = Exposition::OpenMetrics.whole(families);
        assert!(
            page.body().starts_with(families.as_bytes()) && page.body().ends_with(b"\n# EOF\n")
        );
        assert_eq!(
            (
                &page.headers()["vary"],
                Exposition::Text.whole("a 1\n").body().as_ref()
            ),
            (&"Accept".parse().expect("a value"), &b"a 1\n"[..])
        );
    }
}
