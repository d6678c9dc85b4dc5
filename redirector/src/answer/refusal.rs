//! A request that is refused: why, with which status and words, and what counts it.

use crate::counters::{Counters, Slot};
use common::model::tally::CountKey;

/// The status of a service that is not there now.
const UNAVAILABLE: &str = "503 Service Unavailable";

/// When to ask again.
const SOON: Option<(&str, &str)> = Some(("Retry-After", "5"));

/// A short text as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    /// Status and reason phrase.
    pub status: &'static str,
    /// A field of its own.
    pub field: Option<(&'static str, &'static str)>,
    /// The body.
    pub body: &'static str,
    /// Why the request was refused, if it was.
    pub refusal: Option<Refusal>,
}

impl Text {
    /// Tells monitoring that all is well.
    pub(super) const fn ok(body: &'static str) -> Self {
        Self {
            status: "200 OK",
            field: None,
            body,
            refusal: None,
        }
    }

    /// Tells monitoring that this process takes no clients now.
    pub(super) const NOT_READY: Self = Self {
        status: UNAVAILABLE,
        field: SOON,
        body: "not ready\n",
        refusal: None,
    };
}

/// A request refused by status. Its body is a short text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 400: not a request this server can trust.
    BadRequest(Fault),
    /// 403: a host of no farm.
    UnknownHost,
    /// 405: neither GET nor HEAD.
    Method,
    /// 414: target over [`MAX_TARGET`](crate::answer::request::MAX_TARGET).
    TargetTooLong,
    /// 431: head over [`MAX_HEAD`](crate::answer::request::MAX_HEAD), or more fields than `max_fields`.
    HeadTooLarge,
    /// 503: no live server.
    NoServer,
    /// 503: live servers, but none that takes https.
    NoSecureServer,
    /// 503: no table yet.
    NoTable,
    /// 505: not HTTP/1.
    Version,
}

/// What is wrong with a request that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A request line that is no `METHOD TARGET HTTP/N.N`.
    RequestLine,
    /// A target that no server is asked for.
    Target,
    /// A line that ends in a bare CR or LF.
    LineEnd,
    /// A control byte.
    ControlByte,
    /// A field without a name, with a blank before its colon, folded, or twice where it may stand once.
    Field,
    /// No Host.
    NoHost,
    /// Several Hosts.
    TwoHosts,
    /// A Host that is none.
    Host,
    /// A target that names another host than Host.
    OtherHost,
    /// A body whose end is not certain.
    Framing,
    /// A header of the PROXY protocol that is none.
    Proxy,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::BadRequest(fault)
    }
}

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

    /// The answer to it.
    pub(super) fn text(self) -> Text {
        let (status, field, body) = match self {
            Self::BadRequest(_) => ("400 Bad Request", None, "bad request\n"),
            Self::UnknownHost => ("403 Forbidden", None, "no farm answers for this host\n"),
            Self::Method => (
                "405 Method Not Allowed",
                Some(("Allow", "GET, HEAD")),
                "only GET and HEAD are redirected\n",
            ),
            Self::TargetTooLong => ("414 URI Too Long", None, "the request target is too long\n"),
            Self::HeadTooLarge => (
                "431 Request Header Fields Too Large",
                None,
                "the request head is too large\n",
            ),
            Self::NoServer => (UNAVAILABLE, SOON, "no server of this farm is available\n"),
            Self::NoSecureServer => (
                UNAVAILABLE,
                SOON,
                "no server of this farm that takes https is available, and https is not redirected to http\n",
            ),
            Self::NoTable => (UNAVAILABLE, SOON, "no configuration yet\n"),
            Self::Version => (
                "505 HTTP Version Not Supported",
                None,
                "only HTTP/1.0 and HTTP/1.1\n",
            ),
        };
        Text {
            status,
            field,
            body,
            refusal: Some(self),
        }
    }
}

/// The counters of refusals, by refusal.
#[derive(Debug, Clone)]
pub struct RefusalSlots([Slot; Refusal::ALL.len()]);

impl RefusalSlots {
    /// The slots in `counters`.
    pub fn new(counters: &Counters) -> Self {
        Self(Refusal::ALL.map(|refusal| counters.slot(&CountKey::Refused(refusal.status()))))
    }

    /// The slot of `refusal`.
    pub(super) fn of(&self, refusal: Refusal) -> Slot {
        self.0[refusal.place()]
    }
}
