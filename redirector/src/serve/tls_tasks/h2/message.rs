//! Messages of HTTP/2 in the words of HTTP/1: a request as the head that answering knows, an answer's bytes as a
//! response.

use crate::protocol::http1::head::{Fault, Head, MAX_TARGET, Method, Refusal, is_same_authority};
use bytes::Bytes;
use common::model::host::{MAX_HOST, normalize};
use common::model::target::Scheme;
use common::net::web::Page;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
};
use hyper::http::HeaderMap;
use hyper::{Request, Response, StatusCode};

/// Header fields of most answers, or more.
const FIELDS: usize = 8;

/// A request nothing is known of.
pub(super) const UNKNOWN: Head<'static> = Head {
    method: Method::Get,
    target: b"/",
    host: b"",
    http11: true,
    keep_alive: true,
    body: false,
    if_none_match: None,
    if_modified_since: None,
};

/// The head of `request` with up to `max_fields` fields, by the rules of `head.rs` and RFC 9113 section 8.3.1. A body never closes the connection:
/// its stream ends alone. (hyper has dropped a fragment already: it reaches no Location.)
pub(super) fn head<B>(request: &Request<B>, max_fields: usize) -> Result<Head<'_>, Refusal> {
    let method = match *request.method() {
        hyper::Method::GET => Method::Get,
        hyper::Method::HEAD => Method::Head,
        _ => Method::Other,
    };
    let fields = request.headers();
    // Browsers send each cookie in a field of its own (RFC 9113 section 8.2.3): together they are one.
    if fields.len() > max_fields
        && fields.len() - fields.get_all(COOKIE).iter().count().saturating_sub(1) > max_fields
    {
        return Err(Refusal::HeadTooLarge);
    }
    let target = match method {
        Method::Other => "/",
        _ => request
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
    Ok(Head {
        method,
        target: target.as_bytes(),
        host: host(request)?,
        // A list in several fields: nothing is known to match.
        if_none_match: once(fields, &IF_NONE_MATCH).unwrap_or(Some(b"")),
        if_modified_since: once(fields, &IF_MODIFIED_SINCE)?,
        ..UNKNOWN
    })
}

/// The host asked for: `:authority`, Host, or both where they agree.
fn host<B>(request: &Request<B>) -> Result<&[u8], Refusal> {
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

/// An answer of ours as a response, with `file` as its body if it is sent.
pub(super) fn of_bytes(answer: &[u8], file: Option<Bytes>) -> Response<Bytes> {
    // Our own bytes are well-formed; what could not be read would be an error of ours.
    parse(answer, file).unwrap_or_else(|| status(StatusCode::INTERNAL_SERVER_ERROR))
}

fn parse(answer: &[u8], file: Option<Bytes>) -> Option<Response<Bytes>> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    // One copy, which the body and all values share.
    let answer = Bytes::copy_from_slice(answer);
    let mut lines = answer[..end]
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii_end);
    let code = StatusCode::from_bytes(lines.next()?.get(9..12)?).ok()?;
    let body = file
        .filter(|_| code == StatusCode::OK)
        .unwrap_or_else(|| answer.slice(end + 4..));
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().reserve(FIELDS);
    for line in lines {
        let colon = memchr::memchr(b':', line)?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        // HTTP/2 has frames for what this field says (RFC 9113 section 8.2.2).
        if name != CONNECTION {
            response.headers_mut().append(
                name,
                HeaderValue::from_maybe_shared(answer.slice_ref(line[colon + 1..].trim_ascii()))
                    .ok()?,
            );
        }
    }
    Some(response)
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
mod tests {
    use super::*;
    use crate::protocol::http1::head::FIELDS;

    fn asked(uri: &str, fields: &[(&str, &str)]) -> Result<(String, String), Refusal> {
        let builder = Request::builder().uri(uri);
        let builder = fields.iter().fold(builder, |builder, (name, value)| {
            builder.header(*name, *value)
        });
        let request = builder.body(()).expect("a request");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        head(&request, FIELDS).map(|head| (text(head.host), text(head.target)))
    }

    #[test]
    fn authority_and_host_must_agree() {
        let good = Ok(("a.org".to_owned(), "/x?y".to_owned()));
        assert_eq!(asked("https://a.org/x?y", &[]), good);
        assert_eq!(asked("https://a.org/x?y", &[("host", "A.org")]), good);
        assert_eq!(asked("/x?y", &[("host", "a.org")]), good);
        assert_eq!(asked("https://a.org/x?y", &[("host", "a.org:443")]), good);
        assert_eq!(
            asked("https://a.org/", &[("host", "a.org:80")]),
            Err(Fault::OtherHost.into())
        );
        assert_eq!(
            asked("https://a.org/", &[("host", "b.org")]),
            Err(Fault::OtherHost.into())
        );
        assert!(
            asked(
                "https://a.org/",
                &[("if-none-match", "\"a\""), ("if-none-match", "\"b\"")]
            )
            .is_ok()
        );
        assert_eq!(
            asked("https://a.org/", &[("host", "a.org"), ("host", "a.org")]),
            Err(Fault::TwoHosts.into())
        );
        assert_eq!(asked("/", &[]), Err(Fault::NoHost.into()));
        assert_eq!(asked("*", &[("host", "a.org")]), Err(Fault::Target.into()));
        assert_eq!(
            asked(
                &format!("/{}", "x".repeat(MAX_TARGET)),
                &[("host", "a.org")]
            ),
            Err(Refusal::TargetTooLong)
        );
    }

    #[test]
    fn any_number_of_cookies_is_one_field() {
        let with = |name: &'static str, count: usize| {
            asked("https://a.org/", &vec![(name, "a=b"); count]).map(drop)
        };
        assert_eq!(
            (
                with("cookie", 300),
                with("x", FIELDS),
                with("x", FIELDS + 1)
            ),
            (Ok(()), Ok(()), Err(Refusal::HeadTooLarge))
        );
        let fields = [vec![("cookie", "a=b"); 300], vec![("x", "y"); FIELDS]].concat();
        assert_eq!(
            asked("https://a.org/", &fields).map(drop),
            Err(Refusal::HeadTooLarge)
        );
    }

    #[test]
    fn an_answer_keeps_its_fields_but_the_connection() {
        let answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://a.org/\xe9\r\nConnection: close\r\n\r\n";
        let response = of_bytes(answer, None);
        assert_eq!(
            (response.status(), response.headers().len()),
            (StatusCode::FOUND, 2)
        );
        assert_eq!(
            response.headers()["location"].as_bytes(),
            b"http://a.org/\xe9"
        );
    }
}
