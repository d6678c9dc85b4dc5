//! What is found out about a server, and what errors of our own system say about it.

use std::error::Error;
use std::io::ErrorKind;

/// Why there is no status.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What a probe says about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It answers as expected.
    Success(String),
    /// It certainly does not work: refused, reset, a bad status.
    Hard(String),
    /// It seems not to work, but the trouble may be ours: a timeout, a certificate.
    Soft(String),
    /// Nothing about the server: a failed look-up, no descriptors, no route.
    Nothing(String),
}

/// The errors of a system without resources: ENOMEM, ENFILE, EMFILE, ENOBUFS.
const SHORT_OF: [i32; 4] = [12, 23, 24, 105];

/// What an error of our own system says about a server; none where it is no such error.
pub(crate) fn from_io(error: &std::io::Error) -> Option<Evidence> {
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => Evidence::Hard("connection refused".into()),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            Evidence::Hard("connection reset".into())
        }
        ErrorKind::UnexpectedEof => Evidence::Hard("connection closed before an answer".into()),
        // A router or the local network says so; a machine without power looks like this, a cable pulled here as well.
        ErrorKind::TimedOut | ErrorKind::HostUnreachable => {
            Evidence::Soft("host unreachable".into())
        }
        ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable
        | ErrorKind::PermissionDenied => {
            Evidence::Nothing(format!("no way out from here: {error}"))
        }
        _ if error
            .raw_os_error()
            .is_some_and(|code| SHORT_OF.contains(&code)) =>
        {
            Evidence::Nothing(format!("no resources here: {error}"))
        }
        // An error of our own system that is not known to be the server's doing.
        _ if error.raw_os_error().is_some() => Evidence::Soft(error.to_string()),
        _ => return None,
    })
}
