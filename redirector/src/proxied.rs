//! Who a client behind a trusted proxy is: the PROXY protocol before the first request, and X-Forwarded-For and
//! -Proto in one. Pure. Whether the peer is trusted is asked before anything here is believed.
//!
//! Source: "The PROXY protocol, versions 1 & 2", HAProxy Technologies, revision of 2020/03/05.

use common::settings::Network;
use common::target::Scheme;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest header of version 1, its CRLF included (section 2.1).
const V1_MAX: usize = 107;

/// The beginning of version 2 (section 2.2): no request begins so.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The most that may follow the fixed 16 bytes of version 2: addresses and what else the proxy tells.
const V2_MAX: usize = 2048;

/// Room for any header.
pub const LONGEST: usize = 16 + V2_MAX;

/// What the first bytes of a connection from a trusted proxy amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxied {
    /// More bytes are needed.
    Partial,
    /// No such header: a request begins here.
    Absent,
    /// A header of so many bytes; the client's address, if the proxy can name it.
    Client(Option<IpAddr>, usize),
    /// A header of so many bytes: the proxy asks for itself.
    Itself(usize),
    /// A header that is not right: nothing after it can be trusted.
    Bad,
}

/// Reads the header at the beginning of `bytes`.
pub fn parse(bytes: &[u8]) -> Proxied {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(left, right)| left == right);
    if begins(V2_SIGNATURE) && !bytes.is_empty() && bytes != b"\r" && bytes != b"\r\n" {
        return if bytes.len() < V2_SIGNATURE.len() { Proxied::Partial } else { v2(bytes) };
    }
    if begins(b"PROXY ") {
        return if bytes.len() < 6 { Proxied::Partial } else { v1(bytes) };
    }
    // One empty line may precede a request: two bytes may still become either.
    if b"\r\n\r".starts_with(bytes) { Proxied::Partial } else { Proxied::Absent }
}

/// `PROXY TCP4 SOURCE DESTINATION PORT PORT` and CRLF.
fn v1(bytes: &[u8]) -> Proxied {
    let Some(end) = bytes.iter().take(V1_MAX).position(|&byte| byte == b'\n') else {
        return if bytes.len() < V1_MAX { Proxied::Partial } else { Proxied::Bad };
    };
    let line = bytes[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let Some(line) = line else { return Proxied::Bad };
    let mut words = line.split(' ').skip(1);
    let client = match (words.next(), words.next().map(str::parse::<IpAddr>)) {
        (Some("UNKNOWN"), _) => return Proxied::Client(None, end + 1),
        (Some("TCP4"), Some(Ok(client @ IpAddr::V4(_)))) | (Some("TCP6"), Some(Ok(client @ IpAddr::V6(_)))) => client,
        _ => return Proxied::Bad,
    };
    let destination = words.next().is_some_and(|word| word.parse::<IpAddr>().is_ok_and(|to| to.is_ipv4() == client.is_ipv4()));
    let ports = [words.next(), words.next()].iter().all(|port| port.is_some_and(|port| port.parse::<u16>().is_ok()));
    if destination && ports && words.next().is_none() { Proxied::Client(Some(client), end + 1) } else { Proxied::Bad }
}

fn v2(bytes: &[u8]) -> Proxied {
    let Some(&[version_command, family, high, low]) = bytes.get(12..16) else { return Proxied::Partial };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if version_command >> 4 != 2 || version_command & 0xf > 1 || length > V2_MAX {
        return Proxied::Bad;
    }
    let Some(addresses) = bytes.get(16..16 + length) else { return Proxied::Partial };
    // LOCAL: the proxy itself asks, for its health checks.
    if version_command & 0xf == 0 {
        return Proxied::Itself(16 + length);
    }
    let client = match family >> 4 {
        1 => addresses.get(..12).map(|_| IpAddr::V4(Ipv4Addr::new(addresses[0], addresses[1], addresses[2], addresses[3]))),
        2 => addresses.get(..36).and_then(|all| <[u8; 16]>::try_from(&all[..16]).ok()).map(|all| IpAddr::V6(Ipv6Addr::from(all))),
        // Unspecified, or a socket in the file system: nobody with an address.
        0 | 3 => return Proxied::Client(None, 16 + length),
        _ => None,
    };
    client.map_or(Proxied::Bad, |client| Proxied::Client(Some(client), 16 + length))
}

/// What X-Forwarded-For says of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// Nothing: there is no such field.
    Absent,
    /// Its address.
    Client(IpAddr),
    /// Nothing that can be read: it may be anybody.
    Unknown,
}

/// The client that X-Forwarded-For names, by the values of all such fields, the last one first: the last address that
/// is no trusted proxy's. What stands before it anybody may have written.
pub fn forwarded_for<'a>(values: impl Iterator<Item = &'a [u8]>, trusted: &[Network]) -> Forwarded {
    let mut client = Forwarded::Absent;
    for value in values {
        if client == Forwarded::Absent {
            client = Forwarded::Unknown;
        }
        // Empty elements of a list are none (RFC 9110 section 5.6.1).
        for word in value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty()) {
            let Some(address) = forwarded_address(word) else { return Forwarded::Unknown };
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
    let address = word.parse::<IpAddr>().ok().or_else(|| word.parse::<std::net::SocketAddr>().ok().map(|both| both.ip()));
    Some(address.or_else(|| word.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?.to_canonical())
}

/// The scheme that X-Forwarded-Proto names: the last, which the nearest proxy wrote.
pub fn forwarded_proto(value: &[u8]) -> Option<Scheme> {
    let last = value.rsplit(|&byte| byte == b',').next()?.trim_ascii();
    match last {
        _ if last.eq_ignore_ascii_case(b"https") => Some(Scheme::Https),
        _ if last.eq_ignore_ascii_case(b"http") => Some(Scheme::Http),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    fn binary(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [V2_SIGNATURE.as_slice(), &[version_command, family], &length, rest].concat()
    }

    #[test]
    fn a_header_of_text_names_the_client() {
        let whole = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(parse(whole), Proxied::Client(client("192.0.2.7"), 45));
        (1..45).for_each(|cut| assert_eq!(parse(&whole[..cut]), Proxied::Partial, "cut at {cut}"));
        assert_eq!(parse(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n"), Proxied::Client(client("2001:db8::1"), 32));
        assert_eq!(parse(b"PROXY UNKNOWN whatever\r\nGET"), Proxied::Client(None, 24));
        for bad in [
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 70000\r\n",
            "PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), Proxied::Bad, "{bad:?}");
        }
        assert_eq!(parse(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes()), Proxied::Bad);
    }

    #[test]
    fn a_header_of_bytes_names_the_client() {
        let v4 = binary(0x21, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 1, 2, 3, 4]);
        assert_eq!(parse(&[&v4[..], b"GET"].concat()), Proxied::Client(client("192.0.2.7"), 28));
        (1..28).for_each(|cut| assert_eq!(parse(&v4[..cut]), Proxied::Partial, "cut at {cut}"));
        let mut addresses = [0; 40];
        addresses[15] = 1;
        assert_eq!(parse(&binary(0x21, 0x21, &addresses)), Proxied::Client(client("::1"), 56));
        assert_eq!(parse(&binary(0x20, 0, &[])), Proxied::Itself(16));
        assert_eq!(parse(&binary(0x21, 0x31, &[0; 216])), Proxied::Client(None, 232));
        for bad in [binary(0x11, 0x11, &[0; 12]), binary(0x22, 0x11, &[0; 12]), binary(0x21, 0x11, &[0; 8]), binary(0x21, 0x41, &[0; 12])] {
            assert_eq!(parse(&bad), Proxied::Bad, "{bad:?}");
        }
        assert_eq!(parse(&binary(0x21, 0x11, &[0; V2_MAX + 1])), Proxied::Bad);
    }

    #[test]
    fn a_request_is_no_header() {
        for request in ["GET / HTTP/1.1\r\n", "P", "PUT / HTTP/1.1\r\n", "\r\nGET / HTTP/1.1\r\n", "PROXYX / HTTP/1.1\r\n"] {
            let expected = if request == "P" { Proxied::Partial } else { Proxied::Absent };
            assert_eq!(parse(request.as_bytes()), expected, "{request:?}");
        }
    }

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        let trusted: Vec<Network> = ["10.0.0.0/8", "::1"].iter().map(|text| text.parse().expect("a network")).collect();
        for (values, expected) in [
            (&[&b"192.0.2.7"[..]][..], Some("192.0.2.7")),
            (&[b"6.6.6.6, 192.0.2.7"], Some("192.0.2.7")),
            (&[b"6.6.6.6, 192.0.2.7 ,10.1.1.1,10.2.2.2"], Some("192.0.2.7")),
            (&[b"10.3.3.3, 10.1.1.1"], Some("10.3.3.3")),
            (&[b"[2001:db8::1]:80, ::1"], Some("2001:db8::1")),
            (&[b"192.0.2.7:1234"], Some("192.0.2.7")),
            (&[b"\xff, 192.0.2.7,"], Some("192.0.2.7")),
            (&[b"6.6.6.6, unknown"], None),
            (&[b"6.6.6.6, \xff, 10.1.1.1"], None),
            (&[b""], None),
            // Several fields are one list; the last one comes first here.
            (&[b"10.1.1.1", b"6.6.6.6, 192.0.2.7"], Some("192.0.2.7")),
            (&[b"", b"192.0.2.7"], Some("192.0.2.7")),
            (&[b"10.1.1.1", b"nonsense"], None),
        ] {
            let expected = expected.and_then(client).map_or(Forwarded::Unknown, Forwarded::Client);
            assert_eq!(forwarded_for(values.iter().copied(), &trusted), expected, "{values:?}");
        }
        assert_eq!(forwarded_for(std::iter::empty(), &trusted), Forwarded::Absent);
        assert_eq!(forwarded_proto(b"http, HTTPS"), Some(Scheme::Https));
        assert_eq!((forwarded_proto(b"https,http"), forwarded_proto(b"ftp")), (Some(Scheme::Http), None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(start in "(PROXY TCP4 |\r\n\r\n\0\r\nQUIT\n|)", rest in proptest::collection::vec(any::<u8>(), 0..120)) {
            let bytes = [start.as_bytes(), &rest].concat();
            if let Proxied::Client(_, length) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
            forwarded_for([&rest[..], &rest].into_iter(), &[]);
        }
    }
}
