//! One pass over the raw bytes of a request's head: what is asked, or why it is refused. Never allocates.
//!
//! Strict where request smuggling lives (RFC 9112 sections 2.2, 3, 5 and 6): CRLF only, one valid Host, no obs-fold,
//! no white space before a colon, no two framings, no target but origin-form and an absolute-form that names the Host.
//! Lenient where nobody can read a request in two ways: empty lines before it, a minor version above 1.

use crate::answer::refusal::{Fault, Refusal};
use crate::answer::request::{MAX_HEAD, MAX_TARGET, Method, Request};
use crate::protocol::http1::scan;
use common::model::target::Scheme;
use memchr::memchr;

/// Empty lines before a request line that are ignored (RFC 9112 section 2.2: at least one).
const EMPTY_LINES: usize = 8;

/// What the bytes so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// More bytes are needed.
    Partial,
    /// A head, and how many bytes it took.
    Complete(Request<'a>, usize),
    /// No request to answer with anything but this.
    Refused(Refusal),
}

/// Parses the head at the beginning of `bytes`, which may have as many as `max_fields` fields.
#[inline]
pub fn parse(bytes: &[u8], max_fields: usize) -> Parsed<'_> {
    let before = empty_lines(bytes);
    let bytes = &bytes[before..];
    match parse_head(bytes, max_fields) {
        Ok((head, length)) => Parsed::Complete(head, before + length),
        // Half a line's end: of another empty line, or of nothing.
        Err(_) if bytes == b"\r" && before < 2 * EMPTY_LINES => Parsed::Partial,
        Err(Unparsed::Partial) if bytes.len() >= MAX_HEAD => Parsed::Refused(too_long(bytes)),
        Err(Unparsed::Partial) => Parsed::Partial,
        Err(Unparsed::Refused(refusal)) => Parsed::Refused(refusal),
    }
}

/// How many bytes of empty lines come first.
#[inline]
fn empty_lines(bytes: &[u8]) -> usize {
    let mut length = 0;
    while length < 2 * EMPTY_LINES && bytes[length..].starts_with(b"\r\n") {
        length += 2;
    }
    length
}

/// A head that never ends: is it the request line or the fields?
fn too_long(bytes: &[u8]) -> Refusal {
    if memchr(b'\n', bytes).is_some_and(|end| end < MAX_HEAD) {
        Refusal::HeadTooLarge
    } else {
        Refusal::TargetTooLong
    }
}

/// Why there is no head.
enum Unparsed {
    Partial,
    Refused(Refusal),
}

impl From<Fault> for Unparsed {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault.into())
    }
}

impl From<Refusal> for Unparsed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The bytes, and how far they are read.
struct HeadReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> HeadReader<'a> {
    /// A token that is not empty (RFC 9110 section 5.6.2), and `end` behind it.
    #[inline]
    fn token(&mut self, end: u8) -> Result<&'a [u8], Unparsed> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|&byte| !TOKEN[byte as usize])
            .ok_or(Unparsed::Partial)?;
        self.at += length + 1;
        if rest[length] == end && length > 0 {
            return Ok(&rest[..length]);
        }
        Err(if end == b':' {
            Fault::Field
        } else {
            Fault::RequestLine
        }
        .into())
    }

    /// Takes the line's end; a bare CR or LF is refused (RFC 9112 section 2.2).
    #[inline]
    fn line_end(&mut self) -> Result<(), Unparsed> {
        match &self.bytes[self.at..] {
            [b'\r', b'\n', ..] => {
                self.at += 2;
                Ok(())
            }
            [] | [b'\r'] => Err(Unparsed::Partial),
            [b'\r' | b'\n', ..] => Err(Fault::LineEnd.into()),
            _ => Err(Fault::ControlByte.into()),
        }
    }

    /// What is left of the line, and its end.
    #[inline]
    fn rest(&mut self) -> Result<&'a [u8], Unparsed> {
        let from = self.at;
        self.at += scan::control(&self.bytes[from..]);
        let rest = &self.bytes[from..self.at];
        self.line_end().map(|()| rest)
    }

    /// Whether `bytes` come next; they are taken then.
    #[inline]
    fn takes(&mut self, bytes: &[u8]) -> bool {
        let next = self.bytes[self.at..].starts_with(bytes);
        self.at += if next { bytes.len() } else { 0 };
        next
    }
}

/// The fields that decide something, as they are gathered.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    if_none_match: Option<&'a [u8]>,
    if_modified_since: Option<&'a [u8]>,
}

fn parse_head(bytes: &[u8], max_fields: usize) -> Result<(Request<'_>, usize), Unparsed> {
    let mut reader = HeadReader { bytes, at: 0 };
    let (method, target, http11) = request_line(&mut reader).map_err(|stop| match stop {
        Unparsed::Partial if bytes.len() > MAX_TARGET + 64 => Refusal::TargetTooLong.into(),
        stop => stop,
    })?;
    let mut fields = Fields::default();
    let mut count = 0;
    while bytes.get(reader.at) != Some(&b'\r') {
        if count == max_fields && reader.at < bytes.len() {
            return Err(Refusal::HeadTooLarge.into());
        }
        // An empty name, a space before the colon and a folded line are no token.
        let name = reader.token(b':')?;
        let value = trim(reader.rest()?);
        field(name, value, &mut fields)?;
        count += 1;
    }
    reader.line_end()?;
    if reader.at > MAX_HEAD {
        return Err(Refusal::HeadTooLarge.into());
    }
    Ok((finish(method, target, http11, &fields)?, reader.at))
}

#[inline]
fn request_line<'a>(reader: &mut HeadReader<'a>) -> Result<(Method, &'a [u8], bool), Unparsed> {
    let method = match reader.token(b' ')? {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        _ => Method::Other,
    };
    let from = reader.at;
    reader.at += scan::target_end(&reader.bytes[from..]);
    let target = &reader.bytes[from..reader.at];
    match reader.bytes.get(reader.at) {
        Some(b' ') if !target.is_empty() => reader.at += 1,
        Some(_) => return Err(Fault::Target.into()),
        None => return Err(Unparsed::Partial),
    }
    let http11 = reader.takes(b"HTTP/1.1\r\n") || is_later(reader)?;
    if target.len() > MAX_TARGET {
        Err(Refusal::TargetTooLong.into())
    } else {
        Ok((method, target, http11))
    }
}

/// Whether a version that is not written as 1.1 is to be read so: it is of one digit each (RFC 9112 section 2.3), and
/// what is not HTTP/1 is refused.
fn is_later(reader: &mut HeadReader<'_>) -> Result<bool, Unparsed> {
    match reader.rest()? {
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => Ok(true),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Refusal::Version.into())
        }
        _ => Err(Fault::RequestLine.into()),
    }
}

#[inline]
fn field<'a>(name: &[u8], value: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Refusal> {
    // By length first: most fields of a browser's request are none of these.
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => once(&mut fields.host, value, Fault::TwoHosts),
        10 if name.eq_ignore_ascii_case(b"connection") => {
            for option in value.split(|&byte| byte == b',').map(trim) {
                fields.close |= option.eq_ignore_ascii_case(b"close");
                fields.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
            Ok(())
        }
        13 if name.eq_ignore_ascii_case(b"if-none-match") => {
            // A list may come in several fields, though nobody sends it so: then nothing is known to match.
            fields.if_none_match = Some(if fields.if_none_match.is_some() {
                b""
            } else {
                value
            });
            Ok(())
        }
        14 if name.eq_ignore_ascii_case(b"content-length") => {
            once(&mut fields.length, value, Fault::Framing)
        }
        17 if name.eq_ignore_ascii_case(b"if-modified-since") => {
            once(&mut fields.if_modified_since, value, Fault::Field)
        }
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
            if fields.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Framing.into());
            }
            fields.chunked = true;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn once<'a>(held: &mut Option<&'a [u8]>, value: &'a [u8], twice: Fault) -> Result<(), Refusal> {
    if held.replace(value).is_some() {
        Err(twice.into())
    } else {
        Ok(())
    }
}

fn finish<'a>(
    method: Method,
    target: &'a [u8],
    http11: bool,
    fields: &Fields<'a>,
) -> Result<Request<'a>, Refusal> {
    let body = match (fields.length, fields.chunked) {
        (None, false) => false,
        // Two framings, or chunks where HTTP/1.0 knows none (RFC 9112 section 6.1): smuggling.
        (Some(_), true) => return Err(Fault::Framing.into()),
        (None, true) => http11.then_some(true).ok_or(Fault::Framing)?,
        (Some(length), false) => {
            let digits =
                !length.is_empty() && length.len() <= 19 && length.iter().all(u8::is_ascii_digit);
            if !digits {
                return Err(Fault::Framing.into());
            }
            length.iter().any(|&digit| digit != b'0')
        }
    };
    if http11 && fields.host.is_none() {
        return Err(Fault::NoHost.into());
    }
    // Other methods are refused by name whatever form their target has: `OPTIONS *`, `CONNECT host:port`.
    let (host, target) = match method {
        Method::Other => (fields.host.unwrap_or_default(), b"/".as_slice()),
        _ => host_and_origin_form(target, fields.host)?,
    };
    Ok(Request {
        method,
        target,
        host,
        http11,
        keep_alive: !fields.close && (http11 || fields.keep_alive),
        body,
        if_none_match: fields.if_none_match,
        if_modified_since: fields.if_modified_since,
    })
}

/// The host, and the path and query of a target: an absolute-form one must name the Host, and is the host where
/// HTTP/1.0 sent no such field (RFC 9112 sections 3.2.2 and 3.3).
#[inline]
fn host_and_origin_form<'a>(
    target: &'a [u8],
    host: Option<&'a [u8]>,
) -> Result<(&'a [u8], &'a [u8]), Refusal> {
    if target[0] == b'/' {
        return Ok((host.unwrap_or_default(), target));
    }
    absolute_form(target, host)
}

fn absolute_form<'a>(
    target: &'a [u8],
    host: Option<&'a [u8]>,
) -> Result<(&'a [u8], &'a [u8]), Refusal> {
    let after = |scheme: &[u8]| {
        target
            .get(..scheme.len())
            .filter(|start| start.eq_ignore_ascii_case(scheme))
            .map(|_| &target[scheme.len()..])
    };
    let http = after(b"http://").map(|rest| (rest, Scheme::Http));
    let (rest, scheme) = http
        .or_else(|| Some((after(b"https://")?, Scheme::Https)))
        .ok_or(Fault::Target)?;
    let end = rest
        .iter()
        .position(|&byte| byte == b'/' || byte == b'?')
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = host.unwrap_or(authority);
    if authority.is_empty() {
        return Err(Fault::Target.into());
    }
    if !is_same_authority(authority, host, scheme) {
        return Err(Fault::OtherHost.into());
    }
    Ok((host, if path.is_empty() { b"/" } else { path }))
}

/// Whether two authorities are one: the port that is meant where none is written may be written.
pub(crate) fn is_same_authority(one: &[u8], other: &[u8], scheme: Scheme) -> bool {
    let port: &[u8] = match scheme {
        Scheme::Http => b":80",
        Scheme::Https => b":443",
    };
    let [one, other] =
        [one, other].map(|authority| authority.strip_suffix(port).unwrap_or(authority));
    one.eq_ignore_ascii_case(other)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The bytes of a token (RFC 9110 section 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(
            byte as u8,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        ) || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
