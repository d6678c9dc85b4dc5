//! One probe of one check → what it is evidence of.

use crate::lookup::{LIMIT, Lookup, LookupFailed};
use crate::request;
use crate::tls::Tls;
use common::check::{Check, Method};
use common::target::Scheme;
use hyper::StatusCode;
use std::error::Error;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

/// What a probe says about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// It answers as expected.
    Success(String),
    /// It certainly does not work: refused, reset, a bad status.
    Hard(String),
    /// It seems not to work, but the trouble may be ours: a timeout, a certificate.
    Soft(String),
    /// Nothing about the server: a failed look-up, no descriptors, no route.
    Nothing(String),
}

/// Makes probes.
#[derive(Clone)]
pub struct Prober {
    lookup: Lookup,
    tls: Tls,
}

impl Prober {
    /// A prober. Where TLS cannot be set up, every https probe is no evidence.
    pub fn new() -> Self {
        let prober = Self { lookup: Lookup::default(), tls: Tls::new() };
        if let Err(why) = prober.tls.look_for_roots() {
            tracing::warn!("{why}: https servers whose certificate is to be verified are not judged");
        }
        prober
    }

    /// Probes once, within the check's timeout.
    pub async fn probe(&self, check: &Check) -> Evidence {
        let outcome = tokio::time::timeout(check.timeout, self.ask(check)).await;
        let evidence = outcome.unwrap_or_else(|_| Evidence::Soft(format!("timed out after {}", seconds(check.timeout))));
        if matches!(evidence, Evidence::Hard(_) | Evidence::Soft(_)) {
            // It may have moved: the next probe looks.
            self.lookup.doubt(asked(check));
        }
        evidence
    }

    async fn ask(&self, check: &Check) -> Evidence {
        // First, and in a part of the time: what hangs here is the resolver, and no server.
        if asked(check).trim_matches(['[', ']']).parse::<IpAddr>().is_err()
            && let Err(failed) = self.lookup.clone().find(asked(check).to_owned(), LIMIT.min(check.timeout / 4)).await
        {
            return Evidence::Nothing(failed.to_string());
        }
        let first = self.request(check, check.method).await;
        match first {
            // RFC 9110 section 9.1: a server may know no HEAD. GET of one byte says as much.
            Ok(StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) if check.method == Method::Head => {
                judge(self.request(check, Method::Get).await, check)
            }
            other => judge(other, check),
        }
    }

    async fn request(&self, check: &Check, method: Method) -> Result<StatusCode, Evidence> {
        let secure = match check.scheme {
            Scheme::Http => None,
            Scheme::Https => match self.tls.connector(check.tls_verify).await {
                None => return Err(Evidence::Nothing("TLS cannot be set up here".into())),
                connector => connector,
            },
        };
        request::ask(&self.lookup, secure.as_ref(), check, method).await.map_err(|error| from_error(&*error))
    }
}

impl Default for Prober {
    fn default() -> Self {
        Self::new()
    }
}

/// The host that is connected to.
fn asked(check: &Check) -> &str {
    check.addr.as_ref().map_or(&check.host, |addr| &addr.host).as_str()
}

fn judge(outcome: Result<StatusCode, Evidence>, check: &Check) -> Evidence {
    match outcome {
        Ok(status) if check.expect.contains(status.as_u16()) => Evidence::Success(format!("HTTP {}", status.as_u16())),
        Ok(status) => Evidence::Hard(format!("HTTP {}", status.as_u16())),
        Err(evidence) => evidence,
    }
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
            if let Some(failed) = io.get_ref().and_then(|inner| inner.downcast_ref::<LookupFailed>()) {
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
    while let Some(inner) = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        cause = inner;
    }
    cause.downcast_ref()
}

fn from_tls(error: &rustls::Error) -> Evidence {
    use rustls::Error::{
        AlertReceived, FailedToGetCurrentTime, FailedToGetRandomBytes, InvalidCertificate, InvalidMessage, PeerMisbehaved,
    };
    match error {
        InvalidCertificate(_) => Evidence::Soft(format!("certificate: {error}")),
        // The server itself says no, or speaks something else than TLS.
        AlertReceived(_) | InvalidMessage(_) | PeerMisbehaved(_) => Evidence::Hard(format!("TLS: {error}")),
        FailedToGetCurrentTime | FailedToGetRandomBytes => Evidence::Nothing(format!("TLS cannot be set up here: {error}")),
        // Two sides that do not agree: which of them is wrong is not known.
        _ => Evidence::Soft(format!("TLS: {error}")),
    }
}

/// The errors of a system without resources: ENOMEM, ENFILE, EMFILE, ENOBUFS.
const SHORT_OF: [i32; 4] = [12, 23, 24, 105];

fn from_io(error: &std::io::Error) -> Option<Evidence> {
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => Evidence::Hard("connection refused".into()),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Evidence::Hard("connection reset".into()),
        ErrorKind::UnexpectedEof => Evidence::Hard("connection closed before an answer".into()),
        // A router or the local network says so; a machine without power looks like this, a cable pulled here as well.
        ErrorKind::TimedOut | ErrorKind::HostUnreachable => Evidence::Soft("host unreachable".into()),
        ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown | ErrorKind::AddrNotAvailable | ErrorKind::PermissionDenied => {
            Evidence::Nothing(format!("no way out from here: {error}"))
        }
        _ if error.raw_os_error().is_some_and(|code| SHORT_OF.contains(&code)) => Evidence::Nothing(format!("no resources here: {error}")),
        // An error of our own system that is not known to be the server's doing.
        _ if error.raw_os_error().is_some() => Evidence::Soft(error.to_string()),
        _ => return None,
    })
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds.fract() == 0.0 { format!("{seconds:.0}s") } else { format!("{seconds}s") }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
