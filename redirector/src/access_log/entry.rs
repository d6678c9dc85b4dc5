//! One request as a line of the access log: `combined` (as Apache and nginx write it) with host, farm, server, Location
//! and why it was refused behind it, or JSON. Pure. Nothing a client sends can end a line or a quoted field.

use common::time::UnixMs;
use serde::Serialize;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Text.
    #[default]
    Combined,
    /// One JSON object a line.
    Json,
}

/// How much of a client's address is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Address {
    /// All of it.
    #[default]
    Full,
    /// The network: 24 bits of IPv4, 48 of IPv6.
    Truncated,
    /// None of it.
    Off,
}

/// What is written of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// The form.
    pub form: Form,
    /// Whether query strings are left out.
    pub without_query: bool,
    /// How much of the address.
    pub address: Address,
}

/// One request and its answer.
#[derive(Debug, Clone, Copy)]
pub struct LogEntry<'a> {
    /// When it was answered.
    pub at: UnixMs,
    /// Who asked, if that is known.
    pub client: Option<IpAddr>,
    /// The method as sent.
    pub method: &'a [u8],
    /// Path and query as sent.
    pub target: &'a [u8],
    /// `HTTP/1.1` and the like.
    pub version: &'a str,
    /// The Host field as sent.
    pub host: &'a [u8],
    /// The status.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// The Referer field.
    pub referer: &'a [u8],
    /// The User-Agent field.
    pub agent: &'a [u8],
    /// The farm, if one was found.
    pub farm: &'a str,
    /// The server, if one was chosen.
    pub server: &'a str,
    /// Where the client was sent, if anywhere.
    pub location: &'a [u8],
    /// Why it was refused, if it was.
    pub reason: &'a str,
}

/// Appends `entry` as one line.
pub(crate) fn write(entry: &LogEntry<'_>, style: Style, out: &mut Vec<u8>) {
    let cut = |text| {
        if style.without_query {
            path(text)
        } else {
            text
        }
    };
    let entry = LogEntry {
        target: cut(entry.target),
        location: cut(entry.location),
        referer: cut(entry.referer),
        ..*entry
    };
    match style.form {
        Form::Combined => combined(&entry, style.address, out),
        Form::Json => json(&entry, style.address, out),
    }
    out.push(b'\n');
}

/// What stands before the query.
fn path(target: &[u8]) -> &[u8] {
    target.split(|&byte| byte == b'?').next().unwrap_or(target)
}

fn address(client: Option<IpAddr>, how: Address) -> Option<IpAddr> {
    match (how, client?.to_canonical()) {
        (Address::Full, client) => Some(client),
        (Address::Truncated, IpAddr::V4(client)) => {
            Some(IpAddr::V4((client.to_bits() & 0xffff_ff00).into()))
        }
        (Address::Truncated, IpAddr::V6(client)) => {
            Some(IpAddr::V6((client.to_bits() >> 80 << 80).into()))
        }
        (Address::Off, _) => None,
    }
}

fn combined(entry: &LogEntry<'_>, how: Address, out: &mut Vec<u8>) {
    match address(entry.client, how) {
        Some(client) => put(out, format_args!("{client}")),
        None => out.push(b'-'),
    }
    put(out, format_args!(" - - [{}] \"", clf_time(entry.at)));
    escaped(entry.method, out);
    out.push(b' ');
    escaped(entry.target, out);
    put(
        out,
        format_args!(" {}\" {} {} ", entry.version, entry.status, entry.bytes),
    );
    let (farm, server, reason) = (
        entry.farm.as_bytes(),
        entry.server.as_bytes(),
        entry.reason.as_bytes(),
    );
    for text in [
        entry.referer,
        entry.agent,
        entry.host,
        farm,
        server,
        entry.location,
        reason,
    ] {
        out.push(b'"');
        if text.is_empty() {
            out.push(b'-');
        } else {
            escaped(text, out);
        }
        out.extend_from_slice(b"\" ");
    }
    out.pop();
}

fn json(entry: &LogEntry<'_>, how: Address, out: &mut Vec<u8>) {
    put(out, format_args!("{{\"at\":{},", entry.at));
    if let Some(client) = address(entry.client, how) {
        put(out, format_args!("\"client\":\"{client}\","));
    }
    put(
        out,
        format_args!(
            "\"version\":\"{}\",\"status\":{},\"bytes\":{}",
            entry.version, entry.status, entry.bytes
        ),
    );
    let texts = [
        ("method", entry.method),
        ("target", entry.target),
        ("host", entry.host),
        ("referer", entry.referer),
        ("agent", entry.agent),
        ("farm", entry.farm.as_bytes()),
        ("server", entry.server.as_bytes()),
        ("location", entry.location),
        ("reason", entry.reason.as_bytes()),
    ];
    for (name, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
        put(out, format_args!(",\"{name}\":"));
        // A string cannot fail to be written into memory.
        let _ = String::from_utf8_lossy(text).serialize(
            &mut serde_json::Serializer::with_formatter(&mut *out, Visible),
        );
    }
    out.push(b'}');
}

/// JSON without DEL and the control characters beyond ASCII, which no terminal should see either.
struct Visible;

impl serde_json::ser::Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        let mut from = 0;
        for (at, control) in fragment
            .char_indices()
            .filter(|(_, char)| char.is_control())
        {
            out.write_all(&fragment.as_bytes()[from..at])?;
            write!(out, "\\u{:04x}", u32::from(control))?;
            from = at + control.len_utf8();
        }
        out.write_all(&fragment.as_bytes()[from..])
    }
}

/// Bytes that could end a field or a line, and those that no terminal should see, as `\xNN`.
fn escaped(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f..=0xff => put(out, format_args!("\\x{byte:02x}")),
            plain => out.push(plain),
        }
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // WriterHandle into memory does not fail.
    let _ = out.write_fmt(text);
}

/// `23/Nov/2026:22:10:05 +0000`.
fn clf_time(at: UnixMs) -> String {
    // `Mon, 23 Nov 2026 22:10:05 GMT`
    let text = httpdate::fmt_http_date(
        SystemTime::UNIX_EPOCH
            + Duration::from_millis(at).min(Duration::from_secs(253_402_300_799)),
    );
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    format!(
        "{}/{}/{}:{} +0000",
        part(5, 7),
        part(8, 11),
        part(12, 16),
        part(17, 25)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry<'a>(target: &'a [u8], agent: &'a [u8]) -> LogEntry<'a> {
        LogEntry {
            at: 1_795_473_005_250,
            client: "192.0.2.77".parse().ok(),
            method: b"GET",
            target,
            version: "HTTP/1.1",
            host: b"img.test",
            status: 302,
            bytes: 0,
            referer: b"",
            agent,
            farm: "img",
            server: "a",
            location: b"http://a.test/x?token=1",
            reason: "",
        }
    }

    fn line(target: &[u8], agent: &[u8], style: Style) -> String {
        let mut out = Vec::new();
        write(&entry(target, agent), style, &mut out);
        String::from_utf8(out).expect("a line is text")
    }

    #[test]
    fn a_line_is_what_log_readers_know_with_where_the_client_went() {
        let full = Style::default();
        assert_eq!(
            line(b"/x?token=1", b"curl/8", full),
            "192.0.2.77 - - [23/Nov/2026:22:30:05 +0000] \"GET /x?token=1 HTTP/1.1\" 302 0 \"-\" \"curl/8\" \"img.test\" \"img\" \"a\" \
             \"http://a.test/x?token=1\" \"-\"\n"
        );
        let discreet = Style {
            without_query: true,
            address: Address::Truncated,
            ..full
        };
        let text = line(b"/x?token=1", b"curl/8", discreet);
        assert!(
            text.starts_with("192.0.2.0 - - ") && !text.contains("token"),
            "{text}"
        );
        assert!(
            line(
                b"/",
                b"",
                Style {
                    address: Address::Off,
                    ..full
                }
            )
            .starts_with("- - - [")
        );
    }

    #[test]
    fn nothing_a_client_sends_ends_a_field_or_a_line() {
        let text = line(b"/\"x\\\n\x1b[2J\xff", b"a\" \"b\r\n", Style::default());
        assert!(
            text.contains("/\\x22x\\x5c\\x0a\\x1b[2J\\xff ")
                && text.contains("\"a\\x22 \\x22b\\x0d\\x0a\""),
            "{text}"
        );
    }

    #[test]
    fn json_holds_no_control_character() {
        let text = line(
            "/\u{7f}\u{9b}2J\u{e9}".as_bytes(),
            b"\x1b",
            Style {
                form: Form::Json,
                ..Style::default()
            },
        );
        assert!(
            text.contains("\"target\":\"/\\u007f\\u009b2J\u{e9}\"")
                && text.contains("\"agent\":\"\\u001b\""),
            "{text}"
        );
    }

    #[test]
    fn a_network_is_what_is_left_of_an_address() {
        let of = |text: &str| {
            address(text.parse().ok(), Address::Truncated)
                .expect("a network")
                .to_string()
        };
        assert_eq!(
            (
                of("2001:db8:1:2::3").as_str(),
                of("::ffff:192.0.2.7").as_str()
            ),
            ("2001:db8:1::", "192.0.2.0")
        );
    }

    proptest! {
        #[test]
        fn every_entry_is_one_line_and_json_reads_back(
            target in proptest::collection::vec(any::<u8>(), 0..40), agent in proptest::collection::vec(any::<u8>(), 0..40)
        ) {
            let text = line(&target, &agent, Style::default());
            prop_assert_eq!((text.matches('\n').count(), text.matches('"').count()), (1, 16));
            let text = line(&target, &agent, Style { form: Form::Json, ..Style::default() });
            prop_assert!(!text.trim_end().contains(char::is_control));
            let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(read["target"].as_str().unwrap_or_default(), &*String::from_utf8_lossy(&target));
            prop_assert_eq!(read["status"].as_u64(), Some(302));
        }
    }
}
