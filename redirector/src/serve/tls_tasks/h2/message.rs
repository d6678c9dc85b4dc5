//! Messages of HTTP/2 as values: a request as answering knows it, an answer as a response.

use crate::answer::Answer;
use crate::answer::refusal::{Fault, Refusal};
use crate::answer::request::{MAX_TARGET, Method, Request};
use crate::protocol::http1::head::is_same_authority;
use bytes::Bytes;
use common::model::host::{MAX_HOST, normalize};
use common::model::target::Scheme;
use common::net::web::Page;
use hyper::header::{
    CONTENT_LENGTH, COOKIE, DATE, HOST, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
};
use hyper::http::HeaderMap;
use hyper::{Response, StatusCode};

/// Header fields of most answers, or more.
const FIELDS: usize = 8;

/// A request nothing is known of.
pub(super) const UNKNOWN: Request<'static> = Request {
    method: Method::Get,
    target: b"/",
    host: b"",
    http11: true,
    keep_alive: true,
    body: false,
    if_none_match: None,
    if_modified_since: None,
};

/// What is `asked` with up to `max_fields` fields, by the rules of `protocol/http1/head` and RFC 9113 section 8.3.1. A body never closes the connection:
/// its stream ends alone. (hyper has dropped a fragment already: it reaches no Location.)
pub(super) fn request<B>(
    asked: &hyper::Request<B>,
    max_fields: usize,
) -> Result<Request<'_>, Refusal> {
    let method = match *asked.method() {
        hyper::Method::GET => Method::Get,
        hyper::Method::HEAD => Method::Head,
        _ => Method::Other,
    };
    let fields = asked.headers();
    // Browsers send each cookie in a field of its own (RFC 9113 section 8.2.3): together they are one.
    if fields.len() > max_fields
        && fields.len() - fields.get_all(COOKIE).iter().count().saturating_sub(1) > max_fields
    {
        return Err(Refusal::HeadTooLarge);
    }
    let target = match method {
        Method::Other => "/",
        _ => asked
            .uri()
            .path_and_query()
            .map_or("", |target| target.as_str()),
    };
    if target.len() > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    if !target.starts_with('/') {
        return Err(Fault::Target.into());
    }
    Ok(Request {
        method,
        target: target.as_bytes(),
        host: host(asked)?,
        // A list in several fields: nothing is known to match.
        if_none_match: once(fields, &IF_NONE_MATCH).unwrap_or(Some(b"")),
        if_modified_since: once(fields, &IF_MODIFIED_SINCE)?,
        ..UNKNOWN
    })
}

/// The host as `:authority` names it, or nothing.
pub(super) fn authority<B>(request: &hyper::Request<B>) -> &[u8] {
    let authority = request.uri().authority();
    authority.map_or(b"", |authority| authority.as_str().as_bytes())
}

/// The host asked for: `:authority`, Host, or both where they agree.
fn host<B>(request: &hyper::Request<B>) -> Result<&[u8], Refusal> {
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let scheme = if request.uri().scheme_str() == Some("http") {
        Scheme::Http
    } else {
        Scheme::Https
    };
    match (authority, once(request.headers(), &HOST)?) {
        (Some(authority), Some(host)) if !is_same_authority(authority, host, scheme) => {
            Err(Fault::OtherHost.into())
        }
        (None, None) => Err(Fault::NoHost.into()),
        (authority, host) => {
            let host = authority.or(host).unwrap_or_default();
            // What is no host makes no request; only its own stream ends with it.
            normalize(host, &mut [0; MAX_HOST])
                .map(|_| host)
                .ok_or(Fault::Host.into())
        }
    }
}

/// The value of a field that may stand once.
fn once<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = fields.get_all(name).iter();
    let value = values.next().map(HeaderValue::as_bytes);
    let twice = if *name == HOST {
        Fault::TwoHosts
    } else {
        Fault::Field
    };
    if values.next().is_some() {
        Err(twice.into())
    } else {
        Ok(value)
    }
}

/// An answer as a response; `date` is the Date field as HTTP/1 writes it.
pub(super) fn response(answer: &Answer<'_>, head_only: bool, date: &[u8]) -> Response<Bytes> {
    let code = StatusCode::from_u16(answer.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = status(code);
    if !head_only {
        *response.body_mut() = match answer {
            // A file is shared by all who ask for it, not copied for each: they may take their time.
            Answer::File(file) => file.body.clone(),
            _ => Bytes::copy_from_slice(answer.body()),
        };
    }
    let headers = response.headers_mut();
    headers.reserve(FIELDS);
    answer.fields(&mut |name, value| {
        // Our own fields are well-formed; what a client sent was looked at byte by byte.
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_maybe_shared(Bytes::from(value.concat()));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    });
    let date = date
        .strip_prefix(b"Date: ")
        .unwrap_or_default()
        .trim_ascii_end();
    if let Ok(date) = HeaderValue::from_bytes(date) {
        headers.insert(DATE, date);
    }
    response
}

/// A page as a response; none is a failure.
pub(super) fn of_page(page: Option<Page>, head_only: bool) -> Response<Bytes> {
    let Some(page) = page else {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let (mut parts, body) = page.into_parts();
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response::from_parts(parts, if head_only { Bytes::new() } else { body })
}

fn status(code: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = code;
    response
}

#[cfg(test)]
mod tests;
