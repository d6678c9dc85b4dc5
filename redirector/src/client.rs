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
mod tests;
