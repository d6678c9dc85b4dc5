//! One pass over the raw bytes of a request's head: what is asked, or why it is refused. Never allocates.
//!
//! Strict where request smuggling lives (RFC 9112 sections 2.2, 3, 5 and 6): CRLF only, one valid Host, no obs-fold,
//! no white space before a colon, no two framings, no target but origin-form and an absolute-form that names the Host.

use common::target::is_target_byte;
use memchr::memchr;

/// The longest head, from the first byte of the request line to the empty line.
pub const MAX_HEAD: usize = 16 * 1024;

/// The most header fields.
pub const MAX_FIELDS: usize = 64;

/// The longest request target.
pub const MAX_TARGET: usize = 8 * 1024;

/// A request refused by status. Its body is a short text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 400: not a request this server can trust.
    BadRequest,
    /// 403: a host of no farm.
    UnknownHost,
    /// 405: neither GET nor HEAD.
    Method,
    /// 414: target over [`MAX_TARGET`].
    TargetTooLong,
    /// 431: head over [`MAX_HEAD`], or more than [`MAX_FIELDS`] fields.
    HeadTooLarge,
    /// 503: no live server.
    NoServer,
    /// 503: live servers, but none that takes https.
    NoSecureServer,
    /// 503: no table yet.
    NoTable,
    /// 505: not HTTP/1.0 or 1.1.
    Version,
}

/// The methods that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// Any other.
    Other,
}

/// A complete, valid head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// What is to be done.
    pub method: Method,
    /// Path and query, starting with `/`, byte for byte as they came.
    pub target: &'a [u8],
    /// The Host field as it came; empty where HTTP/1.0 sent none.
    pub host: &'a [u8],
    /// Whether it came as HTTP/1.1.
    pub http11: bool,
    /// Whether the client lets the connection stay open.
    pub keep_alive: bool,
    /// Whether a body follows.
    pub body: bool,
    /// If-None-Match, if sent.
    pub if_none_match: Option<&'a [u8]>,
    /// If-Modified-Since, if sent.
    pub if_modified_since: Option<&'a [u8]>,
}

/// What the bytes so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// More bytes are needed.
    Partial,
    /// A head, and how many bytes it took.
    Complete(Head<'a>, usize),
    /// No request to answer with anything but this.
    Refused(Refusal),
}

/// Parses the head at the beginning of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    match parse_head(bytes) {
        Ok(Some((head, length))) => Parsed::Complete(head, length),
        Ok(None) if bytes.len() >= MAX_HEAD => Parsed::Refused(too_long(bytes)),
        Ok(None) => Parsed::Partial,
        Err(refusal) => Parsed::Refused(refusal),
    }
}

/// A head that never ends: is it the request line or the fields?
fn too_long(bytes: &[u8]) -> Refusal {
    if memchr(b'\n', bytes).is_some_and(|end| end < MAX_HEAD) { Refusal::HeadTooLarge } else { Refusal::TargetTooLong }
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

fn parse_head(bytes: &[u8]) -> Result<Option<(Head<'_>, usize)>, Refusal> {
    // RFC 9112 section 2.2: one empty line before a request line is ignored.
    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let first = bytes.get(start).copied().unwrap_or(b'G');
    // What cannot begin a method (a TLS hello, say) is refused before more of it comes.
    let half_an_empty_line = bytes == b"\r";
    if !is_token_byte(first) && !half_an_empty_line {
        return Err(Refusal::BadRequest);
    }
    let Some((line, mut at)) = next_line(bytes, start)? else {
        return if bytes.len() - start > MAX_TARGET + 64 { Err(Refusal::TargetTooLong) } else { Ok(None) };
    };
    let (method, target, http11) = request_line(line)?;
    let mut fields = Fields::default();
    for count in 0.. {
        let Some((line, next)) = next_line(bytes, at)? else { return Ok(None) };
        at = next;
        if line.is_empty() {
            break;
        }
        if count == MAX_FIELDS {
            return Err(Refusal::HeadTooLarge);
        }
        field(line, &mut fields)?;
    }
    if at - start > MAX_HEAD {
        return Err(Refusal::HeadTooLarge);
    }
    finish(method, target, http11, &fields).map(|head| Some((head, at)))
}

/// The line that starts at `from` without its CRLF, and where the next one starts; a bare LF is refused.
fn next_line(bytes: &[u8], from: usize) -> Result<Option<(&[u8], usize)>, Refusal> {
    let Some(length) = memchr(b'\n', &bytes[from..]) else { return Ok(None) };
    let line = &bytes[from..from + length];
    let line = line.strip_suffix(b"\r").ok_or(Refusal::BadRequest)?;
    Ok(Some((line, from + length + 1)))
}

fn request_line(line: &[u8]) -> Result<(Method, &[u8], bool), Refusal> {
    let method_end = memchr(b' ', line).ok_or(Refusal::BadRequest)?;
    let (method, rest) = (&line[..method_end], &line[method_end + 1..]);
    let target_end = memchr(b' ', rest).ok_or(Refusal::BadRequest)?;
    let (target, version) = (&rest[..target_end], &rest[target_end + 1..]);
    if !method.iter().all(|&byte| is_token_byte(byte)) || target.is_empty() {
        return Err(Refusal::BadRequest);
    }
    let http11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Refusal::Version);
        }
        _ => return Err(Refusal::BadRequest),
    };
    if target.len() > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    // A fragment never belongs in a request (RFC 9112 section 3.2).
    if !target.iter().all(|&byte| is_target_byte(byte) && byte != b'#') {
        return Err(Refusal::BadRequest);
    }
    let method = match method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        _ => Method::Other,
    };
    Ok((method, target, http11))
}

fn field<'a>(line: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Refusal> {
    let colon = memchr(b':', line).ok_or(Refusal::BadRequest)?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    // An empty name, a space before the colon and a folded line all fail here.
    if name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) {
        return Err(Refusal::BadRequest);
    }
    if !value.iter().all(|&byte| byte == b'\t' || is_target_byte(byte) || byte == b' ') {
        return Err(Refusal::BadRequest);
    }
    // By length first: most fields of a browser's request are none of these.
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => once(&mut fields.host, value),
        10 if name.eq_ignore_ascii_case(b"connection") => {
            for option in value.split(|&byte| byte == b',').map(trim) {
                fields.close |= option.eq_ignore_ascii_case(b"close");
                fields.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
            Ok(())
        }
        13 if name.eq_ignore_ascii_case(b"if-none-match") => once(&mut fields.if_none_match, value),
        14 if name.eq_ignore_ascii_case(b"content-length") => once(&mut fields.length, value),
        17 if name.eq_ignore_ascii_case(b"if-modified-since") => once(&mut fields.if_modified_since, value),
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
            if fields.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::BadRequest);
            }
            fields.chunked = true;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn once<'a>(held: &mut Option<&'a [u8]>, value: &'a [u8]) -> Result<(), Refusal> {
    if held.replace(value).is_some() { Err(Refusal::BadRequest) } else { Ok(()) }
}

fn finish<'a>(method: Method, target: &'a [u8], http11: bool, fields: &Fields<'a>) -> Result<Head<'a>, Refusal> {
    let body = match (fields.length, fields.chunked) {
        (None, false) => false,
        // Two framings, or chunks where HTTP/1.0 knows none (RFC 9112 section 6.1): smuggling.
        (Some(_), true) => return Err(Refusal::BadRequest),
        (None, true) => http11.then_some(true).ok_or(Refusal::BadRequest)?,
        (Some(length), false) => {
            let digits = !length.is_empty() && length.len() <= 19 && length.iter().all(u8::is_ascii_digit);
            if !digits {
                return Err(Refusal::BadRequest);
            }
            length.iter().any(|&digit| digit != b'0')
        }
    };
    let host = match fields.host {
        Some(host) => host,
        None if http11 => return Err(Refusal::BadRequest),
        None => b"",
    };
    // Other methods are refused by name whatever form their target has: `OPTIONS *`, `CONNECT host:port`.
    let target = if method == Method::Other { b"/" } else { origin_form(target, host)? };
    Ok(Head {
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

/// The path and query of a target; an absolute-form one must name the Host (RFC 9112 section 3.2.2).
fn origin_form<'a>(target: &'a [u8], host: &[u8]) -> Result<&'a [u8], Refusal> {
    if target[0] == b'/' {
        return Ok(target);
    }
    let after =
        |scheme: &[u8]| target.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(|_| &target[scheme.len()..]);
    let rest = after(b"http://").or_else(|| after(b"https://")).ok_or(Refusal::BadRequest)?;
    let end = rest.iter().position(|&byte| byte == b'/' || byte == b'?').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || !authority.eq_ignore_ascii_case(host) {
        return Err(Refusal::BadRequest);
    }
    match path.first() {
        None => Ok(b"/"),
        Some(b'/') => Ok(path),
        Some(_) => Err(Refusal::BadRequest),
    }
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] =
            matches!(byte as u8, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
                || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
