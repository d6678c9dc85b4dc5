//! Answers as bytes of HTTP/1, and what becomes of the connection behind them.

use crate::answer::pages::PageAsk;
use crate::answer::refusal::Refusal;
use crate::answer::request::{Method, Request};
use crate::answer::static_files::StaticFile;
use crate::answer::{Answer, Redirect};
use common::net::web::Page;

/// The longest file that is copied into its answer, to leave in one segment with its head. Longer ones are sent from
/// where they are: whoever reads slowly holds none.
const SMALL: usize = 4096;

/// What becomes of the connection behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It stays open.
    Open,
    /// It closes: the client asked for it.
    Close,
    /// It closes though the client may be sending more: what comes is read and thrown away.
    Linger,
}

/// Appends `answer` to `out`; the body of a [`long_file`] is not among it. `date`: the Date field and its CRLF.
#[inline]
pub fn write(
    answer: &Answer<'_>,
    request: &Request<'_>,
    date: &[u8],
    draining: bool,
    out: &mut Vec<u8>,
) -> Ending {
    match answer {
        Answer::Redirect(redirect) => write_redirect(redirect, request, date, draining, out),
        _ => write_other(answer, request, date, draining, out),
    }
}

/// What nearly every request gets.
#[inline]
fn write_redirect(
    redirect: &Redirect<'_>,
    request: &Request<'_>,
    date: &[u8],
    draining: bool,
    out: &mut Vec<u8>,
) -> Ending {
    let [scheme, place] = redirect.origin;
    out.extend_from_slice(&redirect.head.http1);
    out.extend_from_slice(scheme);
    out.extend_from_slice(place);
    if redirect.target.first() == Some(&b'?') {
        out.extend_from_slice(redirect.slash());
    }
    out.extend_from_slice(redirect.target);
    out.extend_from_slice(b"\r\n");
    finish(request, redirect.keepalive && !draining, date, b"", out)
}

#[cold]
fn write_other(
    answer: &Answer<'_>,
    request: &Request<'_>,
    date: &[u8],
    draining: bool,
    out: &mut Vec<u8>,
) -> Ending {
    fields(answer, out);
    // Behind what is no request nothing can be told apart: that is to be read away as a body is.
    let is_bad = matches!(answer.refusal(), Some(Refusal::BadRequest(_)));
    let request = Request {
        body: request.body || is_bad,
        ..*request
    };
    let body = match long_file(answer, &request) {
        None if request.method != Method::Head => answer.body(),
        _ => b"",
    };
    finish(&request, !draining, date, body, out)
}

/// Appends the refusal of what is no request; nothing is known of what follows it.
pub fn write_refusal(answer: &Answer<'_>, date: &[u8], out: &mut Vec<u8>) {
    fields(answer, out);
    for part in [date, b"Connection: close\r\n\r\n", answer.body()] {
        out.extend_from_slice(part);
    }
}

/// The file whose body is sent behind the answer, from where it is.
#[inline]
pub fn long_file<'a>(answer: &Answer<'a>, request: &Request<'_>) -> Option<&'a StaticFile> {
    match answer {
        Answer::File(file) => {
            (file.body.len() > SMALL && request.method != Method::Head).then_some(file)
        }
        _ => None,
    }
}

/// The answer to `ask`; no page: making it failed.
pub fn page(page: Option<&Page>, ask: &PageAsk, date: &[u8]) -> Vec<u8> {
    let Some(page) = page else {
        return b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    };
    let status = page.status();
    let reason = status.canonical_reason().unwrap_or("");
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in page.headers() {
        put(&mut bytes, name.as_str(), &[value.as_bytes()]);
    }
    bytes.extend_from_slice(date);
    let length = page.body().len().to_string();
    put(&mut bytes, "Content-Length", &[length.as_bytes()]);
    if !ask.keep_alive {
        put(&mut bytes, "Connection", &[b"close"]);
    }
    bytes.extend_from_slice(b"\r\n");
    if !ask.head_only {
        bytes.extend_from_slice(page.body());
    }
    bytes
}

/// Status line and own fields.
fn fields(answer: &Answer<'_>, out: &mut Vec<u8>) {
    for part in ["HTTP/1.1 ", answer.status(), "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    answer.fields(&mut |name, value| put(out, name, value));
}

fn put(out: &mut Vec<u8>, name: &str, value: &[&[u8]]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    value.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// Date, Connection where it is needed, the end of the head, the body.
#[inline]
fn finish(
    request: &Request<'_>,
    may_stay: bool,
    date: &[u8],
    body: &[u8],
    out: &mut Vec<u8>,
) -> Ending {
    out.extend_from_slice(date);
    let stays = may_stay && !request.body;
    let (field, ending): (&[u8], _) = match (stays, request.keep_alive, request.http11) {
        (true, true, true) => (b"\r\n", Ending::Open),
        (true, true, false) => (b"Connection: keep-alive\r\n\r\n", Ending::Open),
        (_, false, _) if !request.body => (b"Connection: close\r\n\r\n", Ending::Close),
        // The client did not ask for the close: it may have sent more already.
        _ => (b"Connection: close\r\n\r\n", Ending::Linger),
    };
    out.extend_from_slice(field);
    if !body.is_empty() {
        out.extend_from_slice(body);
    }
    ending
}

#[cfg(test)]
mod tests;
