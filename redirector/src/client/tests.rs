//! Tests of [`super`].

use super::*;

fn proxies(trusted: &str) -> TrustedProxies {
    let trusted: Arc<[Network]> = [trusted.parse().expect("a network")].into();
    TrustedProxies::new(&trusted)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

const RAW: &[u8] = b"\r\nGET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-FORWARDED-FOR:  5.5.5.5, 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n\
    X-Forwarded-For: 7.7.7.7\r\n";

fn known(text: &str) -> Option<IpAddr> {
    Some(address(text))
}

#[test]
fn a_trusted_proxy_is_believed_and_nobody_else() {
    let proxies = proxies("10.0.0.0/8");
    let proxy = proxies.peer_of(known("10.1.1.1"));
    assert_eq!(
        proxies.client(&proxy, RAW),
        Client {
            address: known("192.0.2.7"),
            scheme: Some(Scheme::Https)
        }
    );
    let two = b"GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 10.2.2.2\r\n\r\n";
    assert_eq!(proxies.client(&proxy, two).address, known("192.0.2.7"));
    // What cannot be read names nobody, and not the proxy.
    assert_eq!(
        proxies
            .client(&proxy, b"GET / HTTP/1.1\r\nX-Forwarded-For: \xff\r\n\r\n")
            .address,
        None
    );
    let mut stranger = proxies.peer_of(known("8.8.8.8"));
    assert_eq!(
        proxies.client(&stranger, RAW),
        Client {
            address: known("8.8.8.8"),
            scheme: None
        }
    );
    assert_eq!(
        proxies.read_proxy_header(&mut stranger, b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"),
        ProxyHeader::Absent
    );
    assert!(!proxies.peer_of(None).trusted);
}

#[test]
fn a_proxy_introduces_its_client_once_and_the_client_speaks_for_nobody() {
    let proxies = proxies("10.0.0.0/8");
    let mut proxy = proxies.peer_of(known("10.1.1.1"));
    assert_eq!(
        proxies.read_proxy_header(&mut proxy, b"PROXY TCP4 192.0.2.7 "),
        ProxyHeader::Partial
    );
    let introduced = ProxyHeader::Client {
        address: known("192.0.2.7"),
        secure: false,
        length: 34,
    };
    assert_eq!(
        proxies.read_proxy_header(&mut proxy, b"PROXY TCP4 192.0.2.7 1.2.3.4 1 2\r\nGET"),
        introduced
    );
    assert_eq!(
        proxies.read_proxy_header(&mut proxy, b"PROXY TCP4 6.6.6.6 1.2.3.4 1 2\r\n"),
        ProxyHeader::Absent
    );
    assert_eq!(
        proxies
            .client(
                &proxy,
                b"GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
            )
            .address,
        known("192.0.2.7")
    );
    let mut chain = proxies.peer_of(known("10.1.1.1"));
    proxies.read_proxy_header(&mut chain, b"PROXY TCP4 10.2.2.2 1.2.3.4 1 2\r\n");
    assert_eq!(
        proxies
            .client(
                &chain,
                b"GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
            )
            .address,
        known("6.6.6.6")
    );
}

#[test]
fn how_the_client_came_is_told_by_fields_before_the_introduction() {
    let proxies = proxies("10.0.0.0/8");
    let over_tls = |client: [u8; 4]| {
        let addresses = [client, [1, 2, 3, 4], [0, 1, 0, 2]].concat();
        let header = [
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14".as_slice(),
            &addresses,
            b"\x20\0\x05\x01\0\0\0\0",
        ]
        .concat();
        let mut guest = proxies.peer_of(known("10.1.1.1"));
        assert!(matches!(
            proxies.read_proxy_header(&mut guest, &header),
            ProxyHeader::Client {
                secure: true,
                length: 36,
                ..
            }
        ));
        guest
    };
    let (client, proxy) = (over_tls([192, 0, 2, 7]), over_tls([10, 2, 2, 2]));
    let lied = b"GET / HTTP/1.1\r\nX-Forwarded-Proto: http\r\n\r\n";
    assert_eq!(
        proxies.client(&client, lied).scheme,
        Some(Scheme::Https),
        "who is introduced speaks for nobody"
    );
    assert_eq!(proxies.client(&proxy, lied).scheme, Some(Scheme::Http));
    assert_eq!(
        proxies.client(&proxy, b"GET / HTTP/1.1\r\n\r\n").scheme,
        Some(Scheme::Https)
    );
    let plain = proxies.peer_of(known("10.1.1.1"));
    let behind =
        b"\r\n\r\nGET http://a?X-Scheme: HTTP/1.1\r\nA: b\r\n\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(
        proxies.client(&plain, behind).scheme,
        None,
        "what follows a head is none of it"
    );
}
