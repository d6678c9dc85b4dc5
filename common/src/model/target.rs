//! `Target`: where a server is, and the only maker of a `Location`.

use crate::model::host::{Host, MAX_HOST, normalize};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The two schemes a client can be redirected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `http://`
    Http,
    /// `https://`
    Https,
}

impl Scheme {
    /// The scheme's name, as before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port meant where none is written.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A server's scheme (none: the request's), host, port and base path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    scheme: Option<Scheme>,
    host: Host,
    port: Option<u16>,
    /// Empty, or starts with `/` and does not end with one.
    base: Box<str>,
}

/// Why a text is no [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Another scheme than http and https.
    #[error("scheme `{0}` is unknown: use http:// or https://, or none to follow the request's")]
    Scheme(String),
    /// User and password in a URL would be handed to every client.
    #[error("a user or password before `@` would be sent to every client: remove it")]
    UserInfo,
    /// A query or fragment cannot be combined with the request's.
    #[error("`{0}` is not allowed here: a server is [http[s]://]HOST[:PORT][/BASE]")]
    QueryOrFragment(char),
    /// A name nobody means: `http` and `https` are what a URL written with one slash or none is left with.
    #[error("`{0}` is no host here: write {0}://HOST")]
    SchemeAsHost(String),
    /// A host of digits that is no address: resolvers read such as one, or find nothing (WHATWG URL, ends in a number).
    #[error("`{0}` is no IPv4 address: it has four numbers from 0 to 255")]
    Address(String),
    /// Host or port malformed.
    #[error("`{0}` is no host with an optional port")]
    Authority(String),
    /// A base path with bytes a URL does not carry.
    #[error("base path `{0}` holds a character that must be percent-encoded")]
    Base(String),
}

impl Target {
    /// The configured scheme, if any.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// The host alone.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port as written, if any.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The base path: empty, or `/…` without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `host` or `host:port`, as a Host header or a URL holds it.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.to_string(),
        }
    }

    /// Everything of a `Location` that comes before the request's path, for a request that came by `scheme`.
    pub fn origin(&self, request: Scheme) -> String {
        format!(
            "{}://{}{}",
            self.scheme.unwrap_or(request),
            self.authority(),
            self.base
        )
    }
}

/// Whether `byte` may stand in a request target and so in a `Location`: no control, no space, no DEL. Bytes from
/// 0x80 pass as they are (RFC 9110 section 5.5, obs-text), since nothing of the client's URL is rewritten.
pub fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

impl FromStr for Target {
    type Err = BadTarget;
    /// Parses what somebody has written.
    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let target = if text.is_ascii() {
            Self::well_formed(text)?
        } else {
            Self::well_formed(&with_a_labels(text)?)?
        };
        plausible(&target.host)?;
        match text.trim_end_matches('/').ends_with(':') {
            true => Err(BadTarget::Authority(text.chars().take(300).collect())),
            false => Ok(target),
        }
    }
}

impl Target {
    fn well_formed(text: &str) -> Result<Self, BadTarget> {
        let (scheme, rest) = match text.split_once("://") {
            None => (None, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
                (Some(Scheme::Http), rest)
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
                (Some(Scheme::Https), rest)
            }
            Some((scheme, _)) => return Err(BadTarget::Scheme(scheme.chars().take(40).collect())),
        };
        if let Some(mark) = rest.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(BadTarget::QueryOrFragment(mark));
        }
        let (authority, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(BadTarget::UserInfo);
        }
        let base = base.trim_end_matches('/');
        if !base
            .bytes()
            .all(|byte| byte.is_ascii() && is_target_byte(byte))
        {
            return Err(BadTarget::Base(base.chars().take(80).collect()));
        }
        let bad = || BadTarget::Authority(authority.chars().take(300).collect());
        let mut buffer = [0; MAX_HOST];
        let (host, port) = normalize(authority.as_bytes(), &mut buffer).ok_or_else(bad)?;
        let host = std::str::from_utf8(host)
            .ok()
            .and_then(|host| host.parse().ok())
            .ok_or_else(bad)?;
        if port == Some(0) {
            return Err(bad());
        }
        Ok(Self {
            scheme,
            host,
            port,
            base: base.into(),
        })
    }
}

/// `text` with the host's A-label in the place of a name in another script (RFC 5891 section 5; UTS #46), as clients
/// send it and resolvers look it up.
fn with_a_labels(text: &str) -> Result<String, BadTarget> {
    let (scheme, rest) = text
        .split_once("://")
        .map_or(("", text), |(scheme, _)| text.split_at(scheme.len() + 3));
    let (authority, base) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = authority.split_at(authority.rfind(':').unwrap_or(authority.len()));
    let host = idna::domain_to_ascii(host)
        .map_err(|_| BadTarget::Authority(authority.chars().take(300).collect()))?;
    Ok([scheme, &host, port, base].concat())
}

/// Refuses a host that parses but that no server has: a slip of the pen would send every client nowhere.
fn plausible(host: &Host) -> Result<(), BadTarget> {
    let name = host.as_str();
    if matches!(name, "http" | "https") {
        return Err(BadTarget::SchemeAsHost(name.to_owned()));
    }
    let labels = || name.split('.');
    let in_numbers = labels()
        .next_back()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if in_numbers
        && name
            .parse::<Ipv4Addr>()
            .map_or(true, |address| address.is_unspecified())
    {
        return Err(BadTarget::Address(name.to_owned()));
    }
    // RFC 1035 section 2.3.1: a label is not empty and does not begin or end with a dash.
    let is_bad = |label: &str| label.is_empty() || label.starts_with('-') || label.ends_with('-');
    if !name.starts_with('[') && labels().any(is_bad) {
        return Err(BadTarget::Authority(name.to_owned()));
    }
    Ok(())
}

impl TryFrom<String> for Target {
    type Error = BadTarget;
    /// Parses what is in a table. It was plausible to whoever published it: no farm is lost for it.
    fn try_from(text: String) -> Result<Self, BadTarget> {
        Self::well_formed(&text)
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{scheme}://")?;
        }
        write!(f, "{}{}", self.authority(), self.base)
    }
}

#[cfg(test)]
mod tests;
