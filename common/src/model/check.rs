//! `Check`: what is probed and how. Equal checks are probed once, whichever farms share them.

use crate::model::host::Host;
use crate::model::target::{Scheme, Target};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The request a probe makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `HEAD`; a server that answers 405 or 501 is asked again with [`Method::Get`].
    Head,
    /// `GET` with `Range: bytes=0-0`, for which 206 stands for 200; without it where the Range is refused.
    Get,
}

/// The statuses that mean alive: `200-399`, `200,204`, or both mixed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StatusSet(Vec<(u16, u16)>);

/// Why a text is no [`StatusSet`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no set of statuses: write 200-399, or 200,204,300-399; statuses are 100 to 599")]
pub struct BadStatusSet(String);

impl StatusSet {
    /// Any answer below 500: what counts as alive while nobody has said which path to ask for.
    pub fn below_500() -> Self {
        Self(vec![(200, 499)])
    }

    /// Success or redirect: what counts as alive for a path the operator has chosen.
    pub fn below_400() -> Self {
        Self(vec![(200, 399)])
    }

    /// Whether `status` means alive.
    pub fn contains(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|&(low, high)| (low..=high).contains(&status))
    }
}

impl FromStr for StatusSet {
    type Err = BadStatusSet;
    fn from_str(text: &str) -> Result<Self, BadStatusSet> {
        let bad = || BadStatusSet(text.chars().take(80).collect());
        let status = |text: &str| {
            text.trim()
                .parse()
                .ok()
                .filter(|status| (100..=599).contains(status))
                .ok_or_else(bad)
        };
        text.split(',')
            .map(|range| {
                let (low, high) = range.split_once('-').unwrap_or((range, range));
                let (low, high) = (status(low)?, status(high)?);
                (low <= high).then_some((low, high)).ok_or_else(bad)
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl TryFrom<String> for StatusSet {
    type Error = BadStatusSet;
    fn try_from(text: String) -> Result<Self, BadStatusSet> {
        text.parse()
    }
}

impl From<StatusSet> for String {
    fn from(set: StatusSet) -> Self {
        set.to_string()
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (low, high)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

/// An origin-form path with an optional query, as a probe asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckUri(Box<str>);

/// Why a text is no [`CheckUri`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no path to ask for: start it with `/`, percent-encode spaces and other special characters"
)]
pub struct BadCheckUri(String);

impl FromStr for CheckUri {
    type Err = BadCheckUri;
    fn from_str(text: &str) -> Result<Self, BadCheckUri> {
        // RFC 3986 appendix A: what a path and a query may be made of.
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
        if text.starts_with('/') && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(BadCheckUri(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for CheckUri {
    type Error = BadCheckUri;
    fn try_from(text: String) -> Result<Self, BadCheckUri> {
        text.parse()
    }
}

impl From<CheckUri> for String {
    fn from(uri: CheckUri) -> Self {
        uri.0.into()
    }
}

impl fmt::Display for CheckUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where a probe connects instead of the server's own address: a host with an optional port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckAddr {
    /// The host to connect to.
    pub host: Host,
    /// The port; none: the server's.
    pub port: Option<u16>,
}

/// Why a text is no [`CheckAddr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address to probe: write HOST or HOST:PORT")]
pub struct BadCheckAddr(String);

impl FromStr for CheckAddr {
    type Err = BadCheckAddr;
    fn from_str(text: &str) -> Result<Self, BadCheckAddr> {
        let target: Option<Target> = text.parse().ok();
        target
            .filter(|target| {
                target.scheme().is_none() && target.base().is_empty() && !text.ends_with('/')
            })
            .map(|target| Self {
                host: target.host().clone(),
                port: target.port(),
            })
            .ok_or_else(|| BadCheckAddr(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for CheckAddr {
    type Error = BadCheckAddr;
    fn try_from(text: String) -> Result<Self, BadCheckAddr> {
        text.parse()
    }
}

impl From<CheckAddr> for String {
    fn from(addr: CheckAddr) -> Self {
        addr.to_string()
    }
}

impl fmt::Display for CheckAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

/// One thing to probe, complete: two servers with equal checks are probed once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Check {
    /// The scheme probed.
    pub scheme: Scheme,
    /// The server's host: the Host header, and the name its certificate must carry.
    pub host: Host,
    /// The server's port.
    pub port: u16,
    /// Where to connect instead of `host` and `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addr: Option<CheckAddr>,
    /// The request method.
    pub method: Method,
    /// The path asked for, base path included.
    pub uri: CheckUri,
    /// The statuses that mean alive.
    pub expect: StatusSet,
    /// Whether a certificate must be valid.
    pub tls_verify: bool,
    /// From the start of one probe to the start of the next, while all is settled.
    #[serde(with = "millis")]
    pub inter: Duration,
    /// The same while a server is on its way down or up.
    #[serde(with = "millis")]
    pub fastinter: Duration,
    /// The same while a server is down.
    #[serde(with = "millis")]
    pub downinter: Duration,
    /// The whole time a probe may take, from look-up to status.
    #[serde(with = "millis")]
    pub timeout: Duration,
    /// Successes in a row that bring a server up; at least 1.
    pub rise: u16,
    /// Failures in a row that take a server down; at least 1.
    pub fall: u16,
}

/// What a [`Check`] is known by in views of health: its whole text, so that equal checks share and a changed
/// check starts anew.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CheckKey(pub Arc<str>);

impl Check {
    /// The key of this check.
    pub fn key(&self) -> CheckKey {
        CheckKey(self.to_string().into())
    }
}

impl fmt::Display for CheckKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            Method::Head => "HEAD",
            Method::Get => "GET",
        };
        write!(
            f,
            "{method} {}://{}:{}{} expect {}",
            self.scheme, self.host, self.port, self.uri, self.expect
        )?;
        if let Some(addr) = &self.addr {
            write!(f, " at {addr}")?;
        }
        if !self.tls_verify {
            f.write_str(" unverified")?;
        }
        let ms = |duration: Duration| duration.as_millis();
        write!(
            f,
            " every {}/{}/{}ms",
            ms(self.inter),
            ms(self.fastinter),
            ms(self.downinter)
        )?;
        write!(
            f,
            " within {}ms rise {} fall {}",
            ms(self.timeout),
            self.rise,
            self.fall
        )
    }
}

mod millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_sets_hold_ranges_and_lists() {
        let set: StatusSet = "200, 204,300-399".parse().expect("valid");
        assert!(set.contains(200) && set.contains(204) && set.contains(302));
        assert!(!set.contains(201) && !set.contains(400));
        assert_eq!(set.to_string(), "200,204,300-399");
        for bad in ["", "abc", "300-200", "99", "200-600", "200-"] {
            assert!(bad.parse::<StatusSet>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn probe_addresses_are_hosts_with_ports() {
        assert_eq!(
            "127.0.0.1:81".parse::<CheckAddr>().expect("valid").port,
            Some(81)
        );
        assert_eq!(
            "[::1]".parse::<CheckAddr>().expect("valid").to_string(),
            "[::1]"
        );
        for bad in ["http://a", "a/b", "a/", ""] {
            assert!(bad.parse::<CheckAddr>().is_err(), "{bad:?} was accepted");
        }
    }
}
