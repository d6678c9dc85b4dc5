//! One probe of one check → what it is evidence of.
//! No verdict and no store may enter here.

pub(crate) mod connect;
pub(crate) mod http;
pub(crate) mod lookup;
pub(crate) mod status;
pub(crate) mod tls;

use crate::evidence::{Evidence, from_io};
use crate::probe::lookup::{LIMIT, Lookup, LookupFailed};
use crate::probe::tls::ProbeTls;
use common::model::check::Check;
use common::model::target::Scheme;
use http::Question;
use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

/// Makes probes.
#[derive(Clone)]
pub(crate) struct Prober {
    lookup: Lookup,
    tls: ProbeTls,
}

impl Prober {
    /// A prober. Where TLS cannot be set up, every https probe is no evidence.
    pub(crate) fn new() -> Self {
        let prober = Self {
            lookup: Lookup::default(),
            tls: ProbeTls::new(),
        };
        if let Err(why) = prober.tls.look_for_roots() {
            tracing::warn!(
                "{why}: https servers whose certificate is to be verified are not judged"
            );
        }
        prober
    }

    /// Probes once, within the check's timeout.
    pub(crate) async fn probe(&self, check: &Check) -> Evidence {
        let outcome = tokio::time::timeout(check.timeout, self.ask(check)).await;
        let evidence = outcome.unwrap_or_else(|_| {
            Evidence::Soft(format!("timed out after {}", seconds(check.timeout)))
        });
        if matches!(evidence, Evidence::Hard(_) | Evidence::Soft(_)) {
            // It may have moved: the next probe looks.
            self.lookup.doubt(asked(check));
        }
        evidence
    }

    /// The address that a name stands for, as far as one is known; the same for every name of the same addresses.
    pub(crate) fn address(&self, host: &str) -> Option<IpAddr> {
        self.lookup.least(host)
    }

    async fn ask(&self, check: &Check) -> Evidence {
        // First, and in a part of the time: what hangs here is the resolver, and no server.
        if asked(check)
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_err()
            && let Err(failed) = self
                .lookup
                .clone()
                .find(asked(check).to_owned(), LIMIT.min(check.timeout / 4))
                .await
        {
            return Evidence::Nothing(failed.to_string());
        }
        let mut question = Question::from(check.method);
        let mut outcome = self.request(check, question).await;
        while let Ok(status) = outcome
            && let Some(again) = asks_again(question, status, check)
        {
            question = again;
            outcome = self.request(check, question).await;
        }
        judge(question, outcome, check)
    }

    async fn request(&self, check: &Check, question: Question) -> Result<u16, Evidence> {
        let secure = match check.scheme {
            Scheme::Http => None,
            Scheme::Https => match self.tls.connector(check.tls_verify).await {
                None => return Err(Evidence::Nothing("TLS cannot be set up here".into())),
                connector => connector,
            },
        };
        http::ask(&self.lookup, secure.as_ref(), check, question)
            .await
            .map_err(|error| from_error(&*error))
    }
}

impl Default for Prober {
    fn default() -> Self {
        Self::new()
    }
}

/// The host that is connected to.
fn asked(check: &Check) -> &str {
    check
        .addr
        .as_ref()
        .map_or(&check.host, |addr| &addr.host)
        .as_str()
}

/// What to ask next where `status` may be about the way of asking and not about the server.
fn asks_again(question: Question, status: u16, check: &Check) -> Option<Question> {
    let expected = check.expect.contains(status);
    match (question, status) {
        // RFC 9110 section 9.1: a server may know no HEAD. GET of one byte says as much. Unless just this is wanted.
        (Question::Head, 405 | 501) => {
            (!expected || check.expect.contains(200)).then_some(Question::FirstByte)
        }
        // RFC 9110 section 15.5.17: so an empty file, or one that is made as it is sent.
        (Question::FirstByte, 416) => Some(Question::Whole),
        // A front that takes no Range. One that is asked too often (429) is not asked more often.
        (Question::FirstByte, 400..=428 | 430..=499 | 501) => {
            (!expected).then_some(Question::Whole)
        }
        _ => None,
    }
}

fn judge(question: Question, outcome: Result<u16, Evidence>, check: &Check) -> Evidence {
    match outcome {
        Ok(status) if is_expected(question, status, check) => {
            Evidence::Success(format!("HTTP {status}"))
        }
        Ok(status) => Evidence::Hard(format!("HTTP {status}")),
        Err(evidence) => evidence,
    }
}

/// A part is what was asked for, for the probe's own sake: the whole would have come with 200.
fn is_expected(question: Question, status: u16, check: &Check) -> bool {
    let stands_for_200 = question == Question::FirstByte && status == 206;
    check.expect.contains(status) || (stands_for_200 && check.expect.contains(200))
}

/// What went wrong, from the innermost cause outwards.
fn from_error(error: &(dyn Error + 'static)) -> Evidence {
    let mut causes = vec![error];
    while let Some(cause) = causes[causes.len() - 1].source() {
        causes.push(cause);
    }
    for cause in causes.iter().rev() {
        if let Some(failed) = cause.downcast_ref::<LookupFailed>() {
            return Evidence::Nothing(failed.to_string());
        }
        if let Some(tls) = find_tls(*cause) {
            return from_tls(tls);
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            if let Some(failed) = io
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<LookupFailed>())
            {
                return Evidence::Nothing(failed.to_string());
            }
            if let Some(evidence) = from_io(io) {
                return evidence;
            }
        }
    }
    let innermost = causes.last().map(ToString::to_string).unwrap_or_default();
    Evidence::Hard(innermost)
}

/// The TLS error in `cause`, which may be wrapped in I/O errors, one in another: those name no source.
fn find_tls<'a>(mut cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    while let Some(inner) = cause
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref)
    {
        cause = inner;
    }
    cause.downcast_ref()
}

fn from_tls(error: &rustls::Error) -> Evidence {
    use rustls::Error::{
        AlertReceived, FailedToGetCurrentTime, FailedToGetRandomBytes, InvalidCertificate,
        InvalidMessage, PeerMisbehaved,
    };
    match error {
        InvalidCertificate(_) => Evidence::Soft(format!("certificate: {error}")),
        // The server itself says no, or speaks something else than TLS.
        AlertReceived(_) | InvalidMessage(_) | PeerMisbehaved(_) => {
            Evidence::Hard(format!("TLS: {error}"))
        }
        FailedToGetCurrentTime | FailedToGetRandomBytes => {
            Evidence::Nothing(format!("TLS cannot be set up here: {error}"))
        }
        // Two sides that do not agree: which of them is wrong is not known.
        _ => Evidence::Soft(format!("TLS: {error}")),
    }
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds.fract() == 0.0 {
        format!("{seconds:.0}s")
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests;
