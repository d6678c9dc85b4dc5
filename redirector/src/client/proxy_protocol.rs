//! Who a client behind a trusted proxy is: the PROXY protocol before the first request, and X-Forwarded-For in one.
//! Pure. Whether the peer is trusted is asked before anything here is believed.
//!
//! Source: "The PROXY protocol, versions 1 & 2", HAProxy Technologies, revision of 2020/03/05.

use common::net::network::Network;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest header of version 1, its CRLF included (section 2.1).
const V1_MAX: usize = 107;

/// The beginning of version 2 (section 2.2): no request begins so.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The most that may follow the fixed 16 bytes of version 2: addresses and what else the proxy tells.
const V2_MAX: usize = 2048;

/// What tells of the client's TLS, and the bit that says it used some (section 2.2.5).
const PP2_TYPE_SSL: u8 = 0x20;
const PP2_CLIENT_SSL: u8 = 0x01;

/// Room for any header.
pub(crate) const LONGEST: usize = 16 + V2_MAX;

/// What the first bytes of a connection from a trusted proxy amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// More bytes are needed.
    Partial,
    /// No such header: a request begins here.
    Absent,
    /// A header that tells of the client.
    Client {
        /// Its address, if the proxy can name it.
        address: Option<IpAddr>,
        /// Whether it came to the proxy over TLS. A client of which that is not said may still speak TLS with us.
        secure: bool,
        /// The bytes of the header.
        length: usize,
    },
    /// A header of so many bytes: the proxy asks for itself.
    Itself(usize),
    /// A header that is not right: nothing after it can be trusted.
    Bad,
}

/// Reads the header at the beginning of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> ProxyHeader {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(left, right)| left == right);
    // Empty lines may precede a request: the first bytes may still become either.
    if begins(V2_SIGNATURE) {
        return if bytes.len() < V2_SIGNATURE.len() {
            ProxyHeader::Partial
        } else {
            v2(bytes)
        };
    }
    if begins(b"PROXY ") {
        return if bytes.len() < 6 {
            ProxyHeader::Partial
        } else {
            v1(bytes)
        };
    }
    ProxyHeader::Absent
}

/// `PROXY TCP4 SOURCE DESTINATION PORT PORT` and CRLF.
fn v1(bytes: &[u8]) -> ProxyHeader {
    let Some(end) = bytes.iter().take(V1_MAX).position(|&byte| byte == b'\n') else {
        return if bytes.len() < V1_MAX {
            ProxyHeader::Partial
        } else {
            ProxyHeader::Bad
        };
    };
    let line = bytes[..end]
        .strip_suffix(b"\r")
        .and_then(|line| std::str::from_utf8(line).ok());
    let Some(line) = line else {
        return ProxyHeader::Bad;
    };
    let mut words = line.split(' ').skip(1);
    let client = match (words.next(), words.next().map(str::parse::<IpAddr>)) {
        (Some("UNKNOWN"), _) => {
            return ProxyHeader::Client {
                address: None,
                secure: false,
                length: end + 1,
            };
        }
        (Some("TCP4"), Some(Ok(client @ IpAddr::V4(_))))
        | (Some("TCP6"), Some(Ok(client @ IpAddr::V6(_)))) => client,
        _ => return ProxyHeader::Bad,
    };
    let destination = words.next().is_some_and(|word| {
        word.parse::<IpAddr>()
            .is_ok_and(|to| to.is_ipv4() == client.is_ipv4())
    });
    let ports = [words.next(), words.next()]
        .iter()
        .all(|port| port.is_some_and(|port| port.parse::<u16>().is_ok()));
    match destination && ports && words.next().is_none() {
        true => ProxyHeader::Client {
            address: Some(client),
            secure: false,
            length: end + 1,
        },
        false => ProxyHeader::Bad,
    }
}

fn v2(bytes: &[u8]) -> ProxyHeader {
    let Some(&[version_command, family, high, low]) = bytes.get(12..16) else {
        return ProxyHeader::Partial;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if version_command >> 4 != 2 || version_command & 0xf > 1 || length > V2_MAX {
        return ProxyHeader::Bad;
    }
    let Some(rest) = bytes.get(16..16 + length) else {
        return ProxyHeader::Partial;
    };
    // LOCAL: the proxy itself asks, for its health checks.
    if version_command & 0xf == 0 {
        return ProxyHeader::Itself(16 + length);
    }
    told(family >> 4, rest).map_or(ProxyHeader::Bad, |(address, secure)| ProxyHeader::Client {
        address,
        secure,
        length: 16 + length,
    })
}

/// The client's address, and whether it came over TLS, by what follows the fixed part of version 2.
fn told(family: u8, rest: &[u8]) -> Option<(Option<IpAddr>, bool)> {
    let (address, told) = match family {
        1 => {
            let (addresses, told) = rest.split_first_chunk::<12>()?;
            (
                Some(IpAddr::V4(Ipv4Addr::new(
                    addresses[0],
                    addresses[1],
                    addresses[2],
                    addresses[3],
                ))),
                told,
            )
        }
        2 => {
            let (addresses, told) = rest.split_first_chunk::<36>()?;
            (
                Some(IpAddr::V6(Ipv6Addr::from(*addresses.first_chunk::<16>()?))),
                told,
            )
        }
        // Unspecified, or a socket in the file system: nobody with an address.
        0 => (None, rest),
        3 => (None, rest.split_first_chunk::<216>()?.1),
        _ => return None,
    };
    Some((address, is_secure(told)?))
}

/// Whether the client came over TLS, by what the proxy tells beside the addresses: type, length in two bytes, value
/// (section 2.2). None: that is not well formed. The names the client gave (authority, ALPN) are for nobody to believe.
fn is_secure(mut told: &[u8]) -> Option<bool> {
    let mut secure = false;
    while let [kind, rest @ ..] = told {
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (value, next) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        if *kind == PP2_TYPE_SSL {
            // Section 2.2.5: flags, how the client's certificate was verified in four bytes, and more of the same form.
            let (fixed, _) = value.split_first_chunk::<5>()?;
            secure |= fixed[0] & PP2_CLIENT_SSL != 0;
        }
        told = next;
    }
    Some(secure)
}

/// What X-Forwarded-For says of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// Nothing: there is no such field.
    Absent,
    /// Its address.
    Client(IpAddr),
    /// Nothing that can be read: it may be anybody.
    Unknown,
}

/// The client that X-Forwarded-For names, by the values of all such fields, the last one first: the last address that
/// is no trusted proxy's. What stands before it anybody may have written.
pub(crate) fn forwarded_for<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    trusted: &[Network],
) -> Forwarded {
    let mut client = Forwarded::Absent;
    for value in values {
        if client == Forwarded::Absent {
            client = Forwarded::Unknown;
        }
        // Empty elements of a list are none (RFC 9110 section 5.6.1).
        for word in value
            .rsplit(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|word| !word.is_empty())
        {
            let Some(address) = forwarded_address(word) else {
                return Forwarded::Unknown;
            };
            client = Forwarded::Client(address);
            if !trusted.iter().any(|network| network.contains(address)) {
                return client;
            }
        }
    }
    client
}

/// An address; some proxies add a port, and brackets around IPv6.
fn forwarded_address(word: &[u8]) -> Option<IpAddr> {
    let word = std::str::from_utf8(word).ok()?;
    let address = word.parse::<IpAddr>().ok().or_else(|| {
        word.parse::<std::net::SocketAddr>()
            .ok()
            .map(|both| both.ip())
    });
    Some(
        address
            .or_else(|| word.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?
            .to_canonical(),
    )
}

#[cfg(test)]
mod tests;
