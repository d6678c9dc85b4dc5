//! Who asks: the peer of a connection, and whom it speaks for where it is a trusted proxy.
//! No farm, no answer and no socket may enter here.

pub(crate) mod forwarded_scheme;
pub(crate) mod header_fields;
pub(crate) mod proxy_protocol;

use crate::client::forwarded_scheme::told;
use crate::client::header_fields::{all_fields, fields};
use crate::client::proxy_protocol::{Forwarded, ProxyHeader, forwarded_for};
use common::model::target::Scheme;
use common::net::network::Network;
use std::net::IpAddr;
use std::sync::Arc;

/// The proxies that may speak for others.
#[derive(Debug, Clone)]
pub struct TrustedProxies(Arc<[Network]>);

/// The peer of one connection, or the client that its PROXY header names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// None: not known.
    address: Option<IpAddr>,
    /// Whether it is a trusted proxy, as far as it is known.
    trusted: bool,
    /// Whether it came over TLS to the proxy that sent the PROXY header.
    secure: bool,
    /// Whether the beginning of the connection was looked at for a PROXY header.
    proxy_header_done: bool,
}

/// Who asked for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its address; none: it may be anybody.
    pub address: Option<IpAddr>,
    /// How its request came to the first proxy, if that is known.
    pub scheme: Option<Scheme>,
}

impl Peer {
    /// Whether no PROXY header may follow.
    pub fn proxy_header_done(&self) -> bool {
        self.proxy_header_done
    }
}

impl TrustedProxies {
    /// Those of these networks.
    pub fn new(networks: &Arc<[Network]>) -> Self {
        Self(networks.clone())
    }

    /// The peer at `address`; one whose address is not known is nobody's proxy.
    pub fn peer_of(&self, address: Option<IpAddr>) -> Peer {
        let trusted = address.is_some_and(|address| self.trusts(address));
        Peer {
            address,
            trusted,
            secure: false,
            proxy_header_done: !trusted,
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Reads the PROXY header in the first bytes of a connection, if the peer may send one and has not yet. From then on
    /// the client it names speaks: that is believed only where it is a trusted proxy itself.
    pub fn read_proxy_header(&self, peer: &mut Peer, bytes: &[u8]) -> ProxyHeader {
        if peer.proxy_header_done {
            return ProxyHeader::Absent;
        }
        let header = proxy_protocol::parse(bytes);
        peer.proxy_header_done = header != ProxyHeader::Partial;
        // Somebody the proxy cannot name may be anybody.
        if let ProxyHeader::Client {
            address, secure, ..
        } = header
        {
            peer.address = address;
            peer.trusted = address.is_some_and(|client| self.trusts(client));
            peer.secure = secure;
        }
        header
    }

    /// Who asked, by `head`, the head of an HTTP/1 request as it came.
    pub fn client(&self, peer: &Peer, head: &[u8]) -> Client {
        self.client_by_fields(peer, fields(head, b"x-forwarded-for"), all_fields(head))
    }

    /// Who asked, by the values of X-Forwarded-For, the last one first, and by all fields of the request.
    pub fn client_by_fields<'a>(
        &self,
        peer: &Peer,
        forwarded: impl Iterator<Item = &'a [u8]>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Client {
        let by_proxy_header = peer.secure.then_some(Scheme::Https);
        if !peer.trusted {
            return Client {
                address: peer.address,
                scheme: by_proxy_header,
            };
        }
        let address = match forwarded_for(forwarded, &self.0) {
            Forwarded::Absent => peer.address,
            Forwarded::Client(client) => Some(client),
            Forwarded::Unknown => None,
        };
        // The fields are about the client itself, the PROXY header about the proxy nearest to us.
        let scheme = told(fields).or(by_proxy_header);
        Client { address, scheme }
    }
}

#[cfg(test)]
mod tests {
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
        let two =
            b"GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 10.2.2.2\r\n\r\n";
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
}
