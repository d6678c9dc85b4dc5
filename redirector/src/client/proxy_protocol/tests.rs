//! Tests of [`super`].

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
    (1..45).for_each(|cut| assert_eq!(parse(&whole[..cut]), ProxyHeader::Partial, "cut at {cut}"));
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
