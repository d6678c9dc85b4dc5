//! `Host`: the only key to look a farm up. Lower case, no port, no trailing dot.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A host name, IPv4 address or bracketed IPv6 literal in its one normal form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(Box<str>);

/// Why a text is no [`Host`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no host name: use letters, digits, dots, dashes and underscores, or an [IPv6] address"
)]
pub struct BadHost(String);

/// The longest host name, a DNS name in text form (RFC 1035 section 2.3.4) with its trailing dot.
pub const MAX_HOST: usize = 254;

/// Room for a normalised host, so that the hot path looks up without an allocation.
pub type HostBuffer = [u8; MAX_HOST];

impl Host {
    /// The host as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Splits `host[:port]` (RFC 9110 section 7.2) and writes the host's normal form into `buffer`.
/// None when the host or the port is malformed; an empty port (`host:`) is allowed there, and so here.
pub fn normalize<'a>(
    authority: &[u8],
    buffer: &'a mut HostBuffer,
) -> Option<(&'a [u8], Option<u16>)> {
    if authority.first() == Some(&b'[') {
        return normalize_v6(authority, buffer);
    }
    let mut length = 0;
    for (to, &from) in buffer.iter_mut().zip(authority) {
        *to = HOST_BYTE[from as usize];
        if *to == 0 {
            break;
        }
        length += 1;
    }
    let port = port(&authority[length..])?;
    let normal = buffer[..length]
        .strip_suffix(b".")
        .unwrap_or(&buffer[..length]);
    let well_formed = !normal.is_empty() && normal[0] != b'.' && !normal.ends_with(b".");
    well_formed.then_some((normal, port))
}

/// Two spellings of one IPv6 address are one host: RFC 5952 names the form to write.
#[cold]
fn normalize_v6<'a>(
    authority: &[u8],
    buffer: &'a mut HostBuffer,
) -> Option<(&'a [u8], Option<u16>)> {
    let (literal, rest) = authority.split_at(memchr::memchr(b']', authority)? + 1);
    let port = port(rest)?;
    let inner = std::str::from_utf8(literal.strip_prefix(b"[")?.strip_suffix(b"]")?).ok()?;
    let text = format!("[{}]", inner.parse::<Ipv6Addr>().ok()?);
    buffer[..text.len()].copy_from_slice(text.as_bytes());
    Some((&buffer[..text.len()], port))
}

/// The port in what stands behind a host: nothing, or `:` and up to five digits.
fn port(rest: &[u8]) -> Option<Option<u16>> {
    match rest {
        [] | [b':'] => Some(None),
        [b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            Some(Some(std::str::from_utf8(digits).ok()?.parse().ok()?))
        }
        _ => None,
    }
}

/// Lower-case form of each byte a host name may hold, 0 for the others.
const HOST_BYTE: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let ascii = byte as u8;
        if ascii.is_ascii_alphanumeric() || ascii == b'.' || ascii == b'-' || ascii == b'_' {
            table[byte] = ascii.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

impl FromStr for Host {
    type Err = BadHost;
    /// Parses a host without a port.
    fn from_str(text: &str) -> Result<Self, BadHost> {
        let bad = || BadHost(text.chars().take(300).collect());
        let mut buffer = [0; MAX_HOST];
        let (host, port) = normalize(text.as_bytes(), &mut buffer).ok_or_else(bad)?;
        let bare_colon = text.ends_with(':');
        if port.is_some() || bare_colon {
            return Err(bad());
        }
        Ok(Self(std::str::from_utf8(host).map_err(|_| bad())?.into()))
    }
}

impl TryFrom<String> for Host {
    type Error = BadHost;
    fn try_from(text: String) -> Result<Self, BadHost> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.0.into()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// As bytes hash, which [`Borrow`] asks for: text hashes otherwise.
impl Hash for Host {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Host {
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(text: &str) -> Option<(String, Option<u16>)> {
        let mut buffer = [0; MAX_HOST];
        normalize(text.as_bytes(), &mut buffer)
            .map(|(host, port)| (String::from_utf8_lossy(host).into_owned(), port))
    }

    #[test]
    fn one_host_has_one_form() {
        for same in [
            "img.org",
            "IMG.org",
            "img.org.",
            "Img.Org.:9998",
            "img.org:",
        ] {
            assert_eq!(
                normal(same).map(|(host, _)| host).as_deref(),
                Some("img.org"),
                "{same}"
            );
        }
        assert_eq!(normal("img.org:80"), Some(("img.org".into(), Some(80))));
        assert_eq!(
            normal("[0:0:0:0:0:0:0:1]:8080"),
            Some(("[::1]".into(), Some(8080)))
        );
        assert_eq!(normal("127.0.0.1"), Some(("127.0.0.1".into(), None)));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in [
            "", ".", "..", "a..", ".a", "a b", "a/b", "u@h", "a:b", "a:1:2", "a:70000", "a:+1",
            "[::1", "[::1]x", "[1.2]", "h\0", "é",
        ] {
            assert_eq!(normal(bad), None, "{bad:?}");
        }
        assert_eq!(normal(&"a".repeat(255)), None);
        assert!("img.org:80".parse::<Host>().is_err());
    }

    proptest! {
        #[test]
        fn normalizing_never_panics_and_is_idempotent(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = [0; MAX_HOST];
            if let Some((host, _)) = normalize(&bytes, &mut buffer) {
                let again: Host = std::str::from_utf8(host).expect("ascii").parse().expect("normal form parses");
                prop_assert_eq!(again.as_str().as_bytes(), host);
            }
        }
    }
}
