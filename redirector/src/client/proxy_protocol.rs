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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    fn of(address: Option<IpAddr>, length: usize) -> ProxyHeader {
        ProxyHeader::Client {
            address,
            secure: false,
            length,
        }
    }

    fn binary(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [
            V2_SIGNATURE.as_slice(),
            &[version_command, family],
            &length,
            rest,
        ]
        .concat()
    }

    #[test]
    fn a_header_of_text_names_the_client() {
        let whole = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(parse(whole), of(client("192.0.2.7"), 45));
        (1..45)
            .for_each(|cut| assert_eq!(parse(&whole[..cut]), ProxyHeader::Partial, "cut at {cut}"));
        assert_eq!(
            parse(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n"),
            of(client("2001:db8::1"), 32)
        );
        assert_eq!(parse(b"PROXY UNKNOWN whatever\r\nGET"), of(None, 24));
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
            assert_eq!(parse(bad.as_bytes()), ProxyHeader::Bad, "{bad:?}");
        }
        assert_eq!(
            parse(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes()),
            ProxyHeader::Bad
        );
    }

    #[test]
    fn a_header_of_bytes_names_the_client() {
        let v4 = binary(0x21, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 1, 2, 3, 4]);
        assert_eq!(
            parse(&[&v4[..], b"GET"].concat()),
            of(client("192.0.2.7"), 28)
        );
        (1..28).for_each(|cut| assert_eq!(parse(&v4[..cut]), ProxyHeader::Partial, "cut at {cut}"));
        let mut addresses = [0; 36];
        addresses[15] = 1;
        assert_eq!(
            parse(&binary(0x21, 0x21, &addresses)),
            of(client("::1"), 52)
        );
        assert_eq!(parse(&binary(0x20, 0, &[])), ProxyHeader::Itself(16));
        assert_eq!(parse(&binary(0x21, 0x31, &[0; 216])), of(None, 232));
        for bad in [
            binary(0x11, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x21, 0x11, &[0; 8]),
            binary(0x21, 0x41, &[0; 12]),
        ] {
            assert_eq!(parse(&bad), ProxyHeader::Bad, "{bad:?}");
        }
        assert_eq!(
            parse(&binary(0x21, 0x11, &[0; V2_MAX + 1])),
            ProxyHeader::Bad
        );
    }

    /// Type, length and value.
    fn item(kind: u8, value: &[u8]) -> Vec<u8> {
        [
            &[kind],
            &u16::try_from(value.len()).expect("short").to_be_bytes()[..],
            value,
        ]
        .concat()
    }

    #[test]
    fn a_header_of_bytes_tells_of_tls() {
        let with = |items: &[u8]| {
            parse(&binary(
                0x21,
                0x11,
                &[&[192, 0, 2, 7, 198, 51, 100, 1, 1, 2, 3, 4], items].concat(),
            ))
        };
        let secure = |items: &[u8]| match with(items) {
            ProxyHeader::Client { secure, length, .. } => {
                (length == 28 + items.len()).then_some(secure)
            }
            _ => None,
        };
        let version = item(0x21, b"TLSv1.3");
        let tls = item(PP2_TYPE_SSL, &[&[1, 0, 0, 0, 0], &version[..]].concat());
        assert_eq!(secure(&tls), Some(true));
        // Whatever else is told before and behind it: ALPN, authority, checksum, nothing, who knows what.
        let all = [
            item(1, b"h2"),
            item(2, b"img.test"),
            item(3, &[1, 2, 3, 4]),
            tls.clone(),
            item(4, &[0; 9]),
            item(0xee, b""),
        ]
        .concat();
        assert_eq!(secure(&all), Some(true));
        // A client without TLS, and one that only showed a certificate in the session.
        assert_eq!(secure(&item(PP2_TYPE_SSL, &[0, 0, 0, 0, 1])), Some(false));
        assert_eq!(
            secure(&item(PP2_TYPE_SSL, &[0b110, 0, 0, 0, 0])),
            Some(false)
        );
        assert_eq!(
            secure(&item(1, &tls)),
            Some(false),
            "what stands inside another value is not told"
        );
        for bad in [
            &tls[..tls.len() - 1],
            &item(PP2_TYPE_SSL, &[1, 0, 0, 0])[..],
            &item(PP2_TYPE_SSL, b""),
            &[PP2_TYPE_SSL],
            &[PP2_TYPE_SSL, 0],
            &[PP2_TYPE_SSL, 0xff, 0xff, 1, 0, 0, 0, 0],
            &[&tls[..], &[4, 0]].concat(),
        ] {
            assert_eq!(with(bad), ProxyHeader::Bad, "{bad:?}");
        }
        // Of a client without an address too; the proxy's own checks tell of nobody.
        let of_nobody = parse(&binary(0x21, 0, &tls));
        assert_eq!(
            of_nobody,
            ProxyHeader::Client {
                address: None,
                secure: true,
                length: 16 + tls.len()
            }
        );
        assert!(matches!(
            parse(&binary(0x21, 0x31, &[&[0; 216], &tls[..]].concat())),
            ProxyHeader::Client {
                address: None,
                secure: true,
                ..
            }
        ));
        assert_eq!(parse(&binary(0x21, 0x31, &[0; 215])), ProxyHeader::Bad);
        assert_eq!(parse(&binary(0x20, 0x11, &[1, 2])), ProxyHeader::Itself(18));
    }

    #[test]
    fn a_request_is_no_header() {
        for request in [
            "GET / HTTP/1.1\r\n",
            "P",
            "PUT / HTTP/1.1\r\n",
            "\r\nGET / HTTP/1.1\r\n",
            "\r\n\r\nGET",
            "\r\n\r\n\r\n",
            "PROXYX / HTTP/1.1\r\n",
        ] {
            let expected = if request == "P" {
                ProxyHeader::Partial
            } else {
                ProxyHeader::Absent
            };
            assert_eq!(parse(request.as_bytes()), expected, "{request:?}");
        }
    }

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        let trusted: Vec<Network> = ["10.0.0.0/8", "::1"]
            .iter()
            .map(|text| text.parse().expect("a network"))
            .collect();
        for (values, expected) in [
            (&[&b"192.0.2.7"[..]][..], Some("192.0.2.7")),
            (&[b"6.6.6.6, 192.0.2.7"], Some("192.0.2.7")),
            (
                &[b"6.6.6.6, 192.0.2.7 ,10.1.1.1,10.2.2.2"],
                Some("192.0.2.7"),
            ),
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
            let expected = expected
                .and_then(client)
                .map_or(Forwarded::Unknown, Forwarded::Client);
            assert_eq!(
                forwarded_for(values.iter().copied(), &trusted),
                expected,
                "{values:?}"
            );
        }
        assert_eq!(
            forwarded_for(std::iter::empty(), &trusted),
            Forwarded::Absent
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(start in "(PROXY TCP4 |\r\n\r\n\0\r\nQUIT\n|)", rest in proptest::collection::vec(any::<u8>(), 0..120)) {
            let bytes = [start.as_bytes(), &rest].concat();
            if let ProxyHeader::Client { length, .. } = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
            forwarded_for([&rest[..], &rest].into_iter(), &[]);
        }
    }
}
