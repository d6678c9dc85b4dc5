//! A request's head and the routes → the answer's bytes. Plain functions, so nothing here can wait.

pub mod own_paths;
pub mod pages;
pub mod refused_hosts;
pub mod static_files;

use crate::answer::own_paths::{Elsewhere, Stats, is_challenge};
use crate::answer::refused_hosts::Recent;
use crate::answer::static_files::{StaticFile, Statics};
use crate::counters::{Counters, Shard, Slot};
use crate::protocol::http1::head::{Fault, Head, Method, Refusal};
use crate::routes::Routes;
use crate::routes::farm::Picked;
use common::model::host::{MAX_HOST, normalize};
use common::model::tally::CountKey;
use common::model::target::Scheme;
use rand::Rng;
use std::time::Instant;

impl Refusal {
    /// Every refusal, of all faults one.
    pub const ALL: [Self; 9] = [
        Self::BadRequest(Fault::RequestLine),
        Self::UnknownHost,
        Self::Method,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::NoServer,
        Self::NoSecureServer,
        Self::NoTable,
        Self::Version,
    ];

    /// The status.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::UnknownHost => 403,
            Self::Method => 405,
            Self::TargetTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::NoServer | Self::NoSecureServer | Self::NoTable => 503,
            Self::Version => 505,
        }
    }

    /// Why, as one word of the access log and the stats.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadRequest(fault) => match fault {
                Fault::RequestLine => "request-line",
                Fault::Target => "target",
                Fault::LineEnd => "line-end",
                Fault::ControlByte => "control-byte",
                Fault::Field => "field",
                Fault::NoHost => "no-host",
                Fault::TwoHosts => "two-hosts",
                Fault::Host => "host",
                Fault::OtherHost => "other-host",
                Fault::Framing => "framing",
                Fault::Proxy => "proxy-header",
            },
            Self::UnknownHost => "unknown-host",
            Self::Method => "method",
            Self::TargetTooLong => "target-too-long",
            Self::HeadTooLarge => "head-too-large",
            Self::NoServer => "no-server",
            Self::NoSecureServer => "no-secure-server",
            Self::NoTable => "no-table",
            Self::Version => "version",
        }
    }

    /// Its place in [`Self::ALL`].
    fn place(self) -> usize {
        Self::ALL
            .iter()
            .position(|other| std::mem::discriminant(other) == std::mem::discriminant(&self))
            .unwrap_or_default()
    }

    /// Status line, own fields, and the body.
    fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::BadRequest(_) => ("400 Bad Request", "", "bad request\n"),
            Self::UnknownHost => ("403 Forbidden", "", "no farm answers for this host\n"),
            Self::Method => (
                "405 Method Not Allowed",
                "Allow: GET, HEAD\r\n",
                "only GET and HEAD are redirected\n",
            ),
            Self::TargetTooLong => ("414 URI Too Long", "", "the request target is too long\n"),
            Self::HeadTooLarge => (
                "431 Request Header Fields Too Large",
                "",
                "the request head is too large\n",
            ),
            Self::NoServer => (
                "503 Service Unavailable",
                "Retry-After: 5\r\n",
                "no server of this farm is available\n",
            ),
            Self::NoSecureServer => (
                "503 Service Unavailable",
                "Retry-After: 5\r\n",
                "no server of this farm that takes https is available, and https is not redirected to http\n",
            ),
            Self::NoTable => (
                "503 Service Unavailable",
                "Retry-After: 5\r\n",
                "no configuration yet\n",
            ),
            Self::Version => (
                "505 HTTP Version Not Supported",
                "",
                "only HTTP/1.0 and HTTP/1.1\n",
            ),
        }
    }
}

/// The longest file that is copied into its answer, to leave in one segment with its head. Longer ones are sent from
/// where they are: whoever reads slowly holds none.
const SMALL: usize = 4096;

/// The counters of refusals, by refusal.
#[derive(Debug, Clone)]
pub struct RefusalSlots([Slot; Refusal::ALL.len()]);

impl RefusalSlots {
    /// The slots in `counters`.
    pub fn new(counters: &Counters) -> Self {
        Self(Refusal::ALL.map(|refusal| counters.slot(&CountKey::Refused(refusal.status()))))
    }

    fn of(&self, refusal: Refusal) -> Slot {
        self.0[refusal.place()]
    }
}

/// What answering looks at.
pub struct View<'a, R: Rng> {
    /// The table.
    pub routes: &'a Routes,
    /// The static files.
    pub statics: &'a Statics,
    /// The stats pages, where this process knows of any.
    pub stats: Option<&'a Stats>,
    /// Where challenges of certificate authorities are answered.
    pub acme: Option<&'a Elsewhere>,
    /// Whether https may be redirected to http.
    pub allow_downgrade: bool,
    /// How the request came.
    pub scheme: Scheme,
    /// `Date: …` and CRLF.
    pub date: &'a [u8],
    /// Whether the process is ending: every answer closes.
    pub draining: bool,
    /// This thread's counters.
    pub shard: &'a Shard,
    /// The refusals' counters.
    pub refused: &'a RefusalSlots,
    /// This thread's random source.
    pub rng: &'a mut R,
    /// What counted the latest redirect.
    pub chosen: Option<Slot>,
    /// Where refusals are noted.
    pub recent: &'a Recent,
    /// The latest refusal.
    pub refusal: Option<Refusal>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered; the connection stays open.
    Open,
    /// Answered; the client asked that the connection close.
    Close,
    /// Answered; we close though the client may be sending more.
    Refused,
    /// Answered but for the body, which is a static file's; then the connection stays open or closes.
    File {
        /// Whether it stays open.
        open: bool,
    },
    /// A page that is not made here, for peers that may see it.
    Aside {
        /// Whether the connection may stay open after it.
        keep_alive: bool,
    },
}

/// Appends the answer to `head` to `out`. `aside_refused`: the peer was found not to be allowed the stats pages.
#[inline]
pub fn answer<R: Rng>(
    head: &Head<'_>,
    view: &mut View<'_, R>,
    aside_refused: bool,
    out: &mut Vec<u8>,
) -> Outcome {
    let mut buffer = [0; MAX_HOST];
    // What is no host makes no request, whatever is asked (RFC 9112 section 3.2). HTTP/1.0 may name none: then it is the
    // host of no farm.
    let host = if head.host.is_empty() && !head.http11 {
        Some((&[][..], None))
    } else {
        normalize(head.host, &mut buffer)
    };
    let Some((host, _)) = host else {
        // As with a body, what follows is not to be trusted.
        return refuse(
            Fault::Host.into(),
            Some(&Head {
                body: true,
                ..*head
            }),
            view,
            out,
        );
    };
    if head.method == Method::Other {
        return refuse(Refusal::Method, Some(head), view, out);
    }
    if let Some(file) = view.statics.get(head.target) {
        return send_file(file, head, view, out);
    }
    if !aside_refused
        && let Some(stats) = view.stats
        && let Some(rest) = stats.named_by(head.target)
    {
        return match &stats.elsewhere {
            None => Outcome::Aside {
                keep_alive: head.keep_alive && !head.body && !view.draining,
            },
            Some(url) => send_elsewhere(url, rest, head, view, out),
        };
    }
    let Some(farm) = view.routes.farm(host) else {
        return other_host(head, view, out);
    };
    if let Some(acme) = view.acme
        && is_challenge(head.target)
    {
        return send_elsewhere(acme, head.target, head, view, out);
    }
    let secure = view.scheme == Scheme::Https && !view.allow_downgrade;
    let Picked {
        head: start,
        destination,
        slot,
    } = match farm.pick(secure, view.rng) {
        Ok(picked) => picked,
        Err(refusal) => return refuse(refusal, Some(head), view, out),
    };
    // Before the answer is put together: what it fetches from memory is there by the time that is done.
    view.shard.count(slot);
    view.chosen = Some(slot);
    out.extend_from_slice(start);
    destination
        .origin(view.scheme)
        .iter()
        .for_each(|part| out.extend_from_slice(part));
    // A path that is empty is `/` (RFC 9110 section 4.2.3).
    if head.target[0] == b'?' {
        out.push(b'/');
    }
    out.extend_from_slice(head.target);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(view.date);
    let outcome = connection(head, farm.keepalive(), view.draining, out);
    out.extend_from_slice(b"\r\n");
    outcome
}

/// Writes the Connection field, where one is needed, and says what becomes of the connection.
#[inline]
fn connection(head: &Head<'_>, may_stay: bool, draining: bool, out: &mut Vec<u8>) -> Outcome {
    if head.body || !may_stay || draining {
        out.extend_from_slice(b"Connection: close\r\n");
        // The client did not ask for the close: it may have sent more already.
        return if head.keep_alive || head.body {
            Outcome::Refused
        } else {
            Outcome::Close
        };
    }
    match (head.keep_alive, head.http11) {
        (true, true) => Outcome::Open,
        (true, false) => {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
            Outcome::Open
        }
        (false, _) => {
            out.extend_from_slice(b"Connection: close\r\n");
            Outcome::Close
        }
    }
}

fn send_elsewhere<R: Rng>(
    url: &Elsewhere,
    rest: &[u8],
    head: &Head<'_>,
    view: &View<'_, R>,
    out: &mut Vec<u8>,
) -> Outcome {
    let before = url.before(view.scheme);
    let start = [
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nCache-Control: no-store\r\nLocation: ",
        before,
        rest,
        b"\r\n",
    ]
    .concat();
    send(&start, b"", head, view, out)
}

/// DNS and layer-4 checkers ask under a host of no farm, or none.
fn other_host<R: Rng>(head: &Head<'_>, view: &mut View<'_, R>, out: &mut Vec<u8>) -> Outcome {
    let ready = view.routes.ready;
    match head.target {
        b"/healthz" => send_text("200 OK", "", "ok\n", head, view, out),
        b"/readyz" if ready && !view.draining => {
            send_text("200 OK", "", "ready\n", head, view, out)
        }
        b"/readyz" => send_text(
            "503 Service Unavailable",
            "Retry-After: 5\r\n",
            "not ready\n",
            head,
            view,
            out,
        ),
        _ if ready => refuse(Refusal::UnknownHost, Some(head), view, out),
        _ => refuse(Refusal::NoTable, Some(head), view, out),
    }
}

/// Appends a refusal. Without a head nothing is known of what follows: the connection closes.
pub fn refuse<R: Rng>(
    refusal: Refusal,
    head: Option<&Head<'_>>,
    view: &mut View<'_, R>,
    out: &mut Vec<u8>,
) -> Outcome {
    view.shard.count(view.refused.of(refusal));
    view.recent.note(
        head.map_or(b"".as_slice(), |head| head.host),
        refusal,
        Instant::now(),
    );
    view.refusal = Some(refusal);
    let (status, fields, body) = refusal.parts();
    let unknown = Head {
        method: Method::Get,
        target: b"/",
        host: b"",
        http11: true,
        keep_alive: true,
        body: true,
        if_none_match: None,
        if_modified_since: None,
    };
    send_text(status, fields, body, head.unwrap_or(&unknown), view, out)
}

fn send_text<R: Rng>(
    status: &str,
    fields: &str,
    body: &str,
    head: &Head<'_>,
    view: &View<'_, R>,
    out: &mut Vec<u8>,
) -> Outcome {
    let length = body.len();
    let start = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n{fields}"
    );
    send(start.as_bytes(), body.as_bytes(), head, view, out)
}

fn send_file<R: Rng>(
    file: &StaticFile,
    head: &Head<'_>,
    view: &View<'_, R>,
    out: &mut Vec<u8>,
) -> Outcome {
    let StaticFile {
        etag,
        last_modified,
        kind,
        body,
        ..
    } = file;
    let validators = format!(
        "ETag: {etag}\r\nLast-Modified: {last_modified}\r\nCache-Control: public, max-age=3600\r\n"
    );
    if file.is_held(head.if_none_match, head.if_modified_since) {
        return send(
            format!("HTTP/1.1 304 Not Modified\r\n{validators}").as_bytes(),
            b"",
            head,
            view,
            out,
        );
    }
    let start = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{validators}",
        body.len()
    );
    if body.len() <= SMALL || head.method == Method::Head {
        return send(start.as_bytes(), body, head, view, out);
    }
    Outcome::File {
        open: send(start.as_bytes(), b"", head, view, out) == Outcome::Open,
    }
}

fn send<R: Rng>(
    start: &[u8],
    body: &[u8],
    head: &Head<'_>,
    view: &View<'_, R>,
    out: &mut Vec<u8>,
) -> Outcome {
    out.extend_from_slice(start);
    out.extend_from_slice(view.date);
    let outcome = connection(head, true, view.draining, out);
    out.extend_from_slice(b"\r\n");
    if head.method != Method::Head {
        out.extend_from_slice(body);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http1::head::{FIELDS, Parsed, parse};
    use common::model::health::Health;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::collections::HashMap;

    fn ask(request: &[u8]) -> (Outcome, String) {
        ask_with(request, None)
    }

    fn ask_with(request: &[u8], elsewhere: Option<&str>) -> (Outcome, String) {
        ask_by(Scheme::Http, request, elsewhere)
    }

    fn ask_by(scheme: Scheme, request: &[u8], elsewhere: Option<&str>) -> (Outcome, String) {
        let farms = serde_json::json!([{"name": "img", "domains": ["img.org"], "servers":
            [{"name": "a", "target": "http://a.org:81/base", "weight": 1, "enable": "on"}]}]);
        let farms = serde_json::from_value(farms).expect("valid farms");
        let counters = Counters::new(1);
        let mut rng = SmallRng::seed_from_u64(1);
        let routes = Routes::build(
            &farms,
            &HashMap::new(),
            &Health::default(),
            &counters,
            &Routes::default(),
            &mut rng,
        );
        let mut view = View {
            routes: &routes,
            statics: &Statics::default(),
            stats: Some(&Stats::new(
                "/stats",
                elsewhere.map(|url| url.parse().expect("a target")).as_ref(),
            )),
            acme: Some(&Elsewhere::host(
                &"http://acme.org:8080".parse().expect("a target"),
            )),
            allow_downgrade: false,
            scheme,
            date: b"",
            draining: false,
            shard: &counters.shard(0),
            refused: &RefusalSlots::new(&counters),
            rng: &mut rng,
            chosen: None,
            recent: &Recent::default(),
            refusal: None,
        };
        let mut out = Vec::new();
        let outcome = match parse(request, FIELDS) {
            Parsed::Complete(head, _) => answer(&head, &mut view, false, &mut out),
            Parsed::Refused(refusal) => refuse(refusal, None, &mut view, &mut out),
            Parsed::Partial => Outcome::Open,
        };
        (outcome, String::from_utf8_lossy(&out).into_owned())
    }

    fn status(answer: &str) -> &str {
        answer.get(9..12).unwrap_or("none")
    }

    #[test]
    fn a_redirect_keeps_the_path_and_says_no_store() {
        let (outcome, text) = ask(b"GET /x/%2e?y HTTP/1.1\r\nHost: IMG.org.:9998\r\n\r\n");
        assert_eq!(outcome, Outcome::Open);
        assert_eq!(
            text,
            "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nCache-Control: no-store\r\nLocation: http://a.org:81/base/x/%2e?y\r\n\r\n"
        );
    }

    #[test]
    fn every_answer_leaves_the_connection_defined() {
        let close = "Connection: close\r\n";
        for (request, expected, outcome, closes) in [
            (
                "GET / HTTP/1.1\r\nHost: img.org\r\nConnection: close\r\n\r\n",
                "302",
                Outcome::Close,
                true,
            ),
            (
                "GET / HTTP/1.0\r\nHost: img.org\r\n\r\n",
                "302",
                Outcome::Close,
                true,
            ),
            (
                "GET / HTTP/1.1\r\nHost: img.org\r\nContent-Length: 4\r\n\r\n",
                "302",
                Outcome::Refused,
                true,
            ),
            (
                "GET / HTTP/1.1\r\nHost: other.org\r\n\r\n",
                "403",
                Outcome::Open,
                false,
            ),
            ("GET /healthz HTTP/1.0\r\n\r\n", "200", Outcome::Close, true),
            (
                "GET /readyz HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
                "200",
                Outcome::Open,
                false,
            ),
            (
                "POST / HTTP/1.1\r\nHost: img.org\r\n\r\n",
                "405",
                Outcome::Open,
                false,
            ),
            (
                "POST / HTTP/1.1\r\nHost: img.org\r\nTransfer-Encoding: chunked\r\n\r\n",
                "405",
                Outcome::Refused,
                true,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
                "400",
                Outcome::Refused,
                true,
            ),
            ("GET / HTTP/1.1\r\n\r\n", "400", Outcome::Refused, true),
            (
                "POST / HTTP/1.1\r\nHost: a b\r\n\r\n",
                "400",
                Outcome::Refused,
                true,
            ),
            (
                "GET /stats HTTP/1.1\r\nHost: u@x\r\n\r\n",
                "400",
                Outcome::Refused,
                true,
            ),
        ] {
            let (got, text) = ask(request.as_bytes());
            assert_eq!(
                (status(&text), got, text.contains(close)),
                (expected, outcome, closes),
                "{request:?} gave {text}"
            );
        }
    }

    #[test]
    fn stats_pages_are_set_aside_and_nothing_beside_them() {
        for (path, aside) in [
            ("/stats", true),
            ("/stats.json", true),
            ("/stats?x", true),
            ("/statsx", false),
            ("/st", false),
        ] {
            let (outcome, _) =
                ask(format!("GET {path} HTTP/1.1\r\nHost: img.org\r\n\r\n").as_bytes());
            assert_eq!(matches!(outcome, Outcome::Aside { .. }), aside, "{path}");
        }
        let (outcome, text) = ask_with(
            b"GET /stats.json?x HTTP/1.1\r\nHost: img.org\r\n\r\n",
            Some("http://stats.org/stats"),
        );
        assert!(
            outcome == Outcome::Open
                && text.contains("Location: http://stats.org/stats.json?x\r\n"),
            "{text}"
        );
        let (_, text) = ask_by(
            Scheme::Https,
            b"GET /stats.@evil.org/ HTTP/1.1\r\nHost: img.org\r\n\r\n",
            Some("stats.org:9999"),
        );
        assert!(
            text.contains("Location: https://stats.org:9999/stats.@evil.org/\r\n"),
            "{text}"
        );
    }

    #[test]
    fn https_is_not_sent_to_http_and_challenges_go_where_they_are_answered() {
        let (outcome, text) = ask_by(
            Scheme::Https,
            b"GET / HTTP/1.1\r\nHost: img.org\r\n\r\n",
            None,
        );
        assert!(
            outcome == Outcome::Open && status(&text) == "503" && text.contains("that takes https"),
            "{text}"
        );
        let challenge = |path: &str| {
            ask(
                format!("GET /.well-known/acme-challenge{path} HTTP/1.1\r\nHost: img.org\r\n\r\n")
                    .as_bytes(),
            )
            .1
        };
        assert!(
            challenge("/To-k_1")
                .contains("Location: http://acme.org:8080/.well-known/acme-challenge/To-k_1\r\n")
        );
        for other in ["", "/", "/a?b", "/a/../b", "/%2e", "x/a"] {
            assert!(
                challenge(other).contains(&format!(
                    "Location: http://a.org:81/base/.well-known/acme-challenge{other}\r\n"
                )),
                "{other}"
            );
        }
    }
}
