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
    // Writing into memory does not fail.
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
mod tests;
