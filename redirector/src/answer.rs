//! A request → an answer, both values. Plain functions, so nothing here can wait.
//! No byte of a protocol and no socket may enter here.

pub mod own_paths;
pub mod pages;
pub mod refusal;
pub mod refused_hosts;
pub mod request;
pub mod sources;
pub mod static_files;

use crate::answer::own_paths::{StatsMaker, is_challenge};
use crate::answer::refusal::{Fault, Refusal, Text};
use crate::answer::request::{Method, Request};
use crate::answer::sources::AnswerView;
use crate::answer::static_files::StaticFile;
use crate::counters::Slot;
use crate::routes::farm::{Nobody, Picked, ResponseHead};
use common::model::host::{MAX_HOST, normalize};
use common::model::target::Scheme;
use rand::Rng;
use std::net::IpAddr;
use std::time::Instant;

/// What a request is answered with.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// A redirect to a server of a farm, or to its fallback.
    Redirect(Redirect<'a>),
    /// A redirect to a configured URL beside the table.
    Beside {
        /// What precedes the rest in Location.
        before: &'a [u8],
        /// What the request adds.
        rest: &'a [u8],
    },
    /// A short text: a refusal, or a word to monitoring.
    Text(Text),
    /// A static file.
    File(&'a StaticFile),
    /// A static file that the client holds already.
    Unchanged(&'a StaticFile),
    /// A page that is made elsewhere in this process.
    Page,
}

/// A redirect in its parts.
#[derive(Debug, Clone, Copy)]
pub struct Redirect<'a> {
    /// Status and fixed fields.
    pub head: &'a ResponseHead,
    /// Scheme; host, port and base path.
    pub origin: [&'a [u8]; 2],
    /// Path and query as they came.
    pub target: &'a [u8],
    /// What counts it.
    pub slot: Slot,
    /// Whether the farm lets a connection stay open.
    pub keepalive: bool,
}

impl Redirect<'_> {
    /// What stands between origin and target: a path that is empty is `/` (RFC 9110 section 4.2.3).
    #[inline]
    pub fn slash(&self) -> &'static [u8] {
        if self.target.first() == Some(&b'?') {
            b"/"
        } else {
            b""
        }
    }
}

impl Answer<'_> {
    /// The status line without the version: `302 Found`.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Redirect(redirect) => redirect.head.code.status_line(),
            Self::Beside { .. } => "302 Found",
            Self::Text(text) => text.status,
            Self::File(_) | Self::Page => "200 OK",
            Self::Unchanged(_) => "304 Not Modified",
        }
    }

    /// The status as a number.
    pub fn code(&self) -> u16 {
        let digits = self.status().bytes().take(3);
        digits.fold(0, |code, digit| code * 10 + u16::from(digit - b'0'))
    }

    /// Where the client is sent, in parts; empty where it is not.
    pub fn location(&self) -> [&[u8]; 4] {
        match self {
            Self::Redirect(redirect) => {
                let [scheme, place] = redirect.origin;
                [scheme, place, redirect.slash(), redirect.target]
            }
            Self::Beside { before, rest } => [before, rest, b"", b""],
            _ => [b""; 4],
        }
    }

    /// What GET gets as the body.
    pub fn body(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.body.as_bytes(),
            Self::File(file) => &file.body,
            Self::Redirect(_) | Self::Beside { .. } | Self::Unchanged(_) | Self::Page => b"",
        }
    }

    /// Hands every field but Date and what concerns the connection to `put`, in the order they are sent, a value in
    /// parts. For HTTP/1 those of a redirect lie ready in its [`ResponseHead`].
    pub fn fields(&self, put: &mut dyn FnMut(&'static str, &[&[u8]])) {
        let length = self.body().len().to_string();
        let mut cache_control = "no-store";
        match self {
            Self::Redirect(redirect) => {
                put("Content-Length", &[b"0"]);
                put("Cache-Control", &[redirect.head.cache_control.as_bytes()]);
                return put("Location", &self.location());
            }
            Self::Beside { .. } => {
                put("Content-Length", &[b"0"]);
                put("Cache-Control", &[b"no-store"]);
                return put("Location", &self.location());
            }
            Self::Text(_) => {
                put("Content-Type", &[b"text/plain; charset=utf-8"]);
                put("Content-Length", &[length.as_bytes()]);
            }
            Self::File(file) => {
                put("Content-Type", &[file.kind.as_bytes()]);
                put("Content-Length", &[length.as_bytes()]);
            }
            Self::Unchanged(_) | Self::Page => {}
        }
        if let Self::File(file) | Self::Unchanged(file) = self {
            put("ETag", &[file.etag.as_bytes()]);
            put("Last-Modified", &[file.last_modified.as_bytes()]);
            cache_control = "public, max-age=3600";
        }
        put("Cache-Control", &[cache_control.as_bytes()]);
        if let Self::Text(Text {
            field: Some((name, value)),
            ..
        }) = self
        {
            put(name, &[value.as_bytes()]);
        }
    }

    /// What counted a redirect.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Redirect(redirect) => Some(redirect.slot),
            _ => None,
        }
    }

    /// Why the request was refused, if it was.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Text(text) => text.refusal,
            _ => None,
        }
    }

    /// Whether the connection may stay open as far as the farm is asked.
    #[inline]
    pub fn keepalive(&self) -> bool {
        match self {
            Self::Redirect(redirect) => redirect.keepalive,
            _ => true,
        }
    }
}

/// The answer to `request`, counted. `client` is asked only where it matters who asks: for the stats.
#[inline]
pub fn answer<'q, 'v: 'q, R: Rng>(
    request: &Request<'q>,
    view: &mut AnswerView<'v, R>,
    client: impl FnOnce() -> Option<IpAddr>,
) -> Answer<'q> {
    let mut buffer = [0; MAX_HOST];
    // What is no host makes no request, whatever is asked (RFC 9112 section 3.2). HTTP/1.0 may name none: then it is the
    // host of no farm.
    let host = if request.host.is_empty() && !request.http11 {
        Some((&[][..], None))
    } else {
        normalize(request.host, &mut buffer)
    };
    let Some((host, _)) = host else {
        return refuse(Fault::Host.into(), request.host, view);
    };
    if request.method == Method::Other {
        return refuse(Refusal::Method, request.host, view);
    }
    if let Some(own) = own_path(request, view, client) {
        return own;
    }
    let Some(farm) = view.routes.farm(host) else {
        return other_host(request, view);
    };
    if let Some(acme) = view.acme
        && is_challenge(request.target)
    {
        let (before, rest) = (acme.before(view.scheme), request.target);
        return Answer::Beside { before, rest };
    }
    let secure = view.scheme == Scheme::Https && !view.allow_downgrade;
    let Picked {
        head,
        destination,
        slot,
    } = match farm.pick(secure, view.rng) {
        Ok(picked) => picked,
        Err(Nobody::AtAll) => return refuse(Refusal::NoServer, request.host, view),
        Err(Nobody::Secure) => return refuse(Refusal::NoSecureServer, request.host, view),
    };
    // Before the answer is put together: what it fetches from memory is there by the time that is done.
    view.shard.count(slot);
    Answer::Redirect(Redirect {
        head,
        origin: destination.origin(view.scheme),
        target: request.target,
        slot,
        keepalive: farm.keepalive(),
    })
}

/// What is answered under every host: static files, and the stats pages to those who may see them.
#[inline]
fn own_path<'q, 'v: 'q, R: Rng>(
    request: &Request<'q>,
    view: &AnswerView<'v, R>,
    client: impl FnOnce() -> Option<IpAddr>,
) -> Option<Answer<'q>> {
    let (statics, stats) = (view.statics, view.stats);
    if let Some(file) = statics.get(request.target) {
        let is_held = file.is_held(request.if_none_match, request.if_modified_since);
        return Some(if is_held {
            Answer::Unchanged(file)
        } else {
            Answer::File(file)
        });
    }
    let stats = stats?;
    let rest = stats.named_by(request.target)?;
    match &stats.maker {
        StatsMaker::Here(allowed) => {
            let client = client()?;
            let may_see = allowed.iter().any(|network| network.contains(client));
            may_see.then_some(Answer::Page)
        }
        StatsMaker::Elsewhere(url) => {
            let before = url.before(view.scheme);
            Some(Answer::Beside { before, rest })
        }
    }
}

/// DNS and layer-4 checkers ask under a host of no farm, or none.
#[cold]
fn other_host<'q, 'v: 'q, R: Rng>(
    request: &Request<'q>,
    view: &mut AnswerView<'v, R>,
) -> Answer<'q> {
    let ready = view.routes.ready;
    match request.target {
        b"/healthz" => Answer::Text(Text::ok("ok\n")),
        b"/readyz" if ready && !view.draining => Answer::Text(Text::ok("ready\n")),
        b"/readyz" => Answer::Text(Text::NOT_READY),
        _ if ready => refuse(Refusal::UnknownHost, request.host, view),
        _ => refuse(Refusal::NoTable, request.host, view),
    }
}

/// The answer to a request that is refused, counted and noted under the `host` it named.
#[cold]
pub fn refuse<'q, R: Rng>(refusal: Refusal, host: &[u8], view: &AnswerView<'_, R>) -> Answer<'q> {
    view.shard.count(view.refused.of(refusal));
    view.recent.note(host, refusal, Instant::now());
    Answer::Text(refusal.text())
}
