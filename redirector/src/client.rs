//! Who asks, where that has to be known: behind trusted proxies, and for the access log. Without either a thread has
//! none of this, and a request costs nothing more.

pub mod forwarded_scheme;
pub mod proxy_protocol;

use crate::access_log::entry::Entry;
use crate::access_log::writer::Lines;
use crate::counters::{Counters, Slot};
use crate::protocol::http1::head::{Head, MAX_FIELDS, Method, Parsed, Refusal, parse};
use common::model::tally::CountKey;
use common::model::target::Scheme;
use common::net::network::Network;
use common::time::unix_ms;
use proxy_protocol::{Forwarded, Proxied};
use std::net::IpAddr;
use std::sync::Arc;

/// The longest part of a request that was not understood which is logged.
const NONSENSE: usize = 200;

/// What one thread knows of who may ask.
#[derive(Debug)]
pub struct Guests {
    trusted: Arc<[Network]>,
    log: Option<Lines>,
    counters: Arc<Counters>,
    /// Farm and server of each slot, as far as they were needed.
    names: Vec<(String, String)>,
}

/// The peer of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// None: not known.
    client: Option<IpAddr>,
    /// Whether the client, as far as it is known, is a trusted proxy.
    trusted: bool,
    /// Whether the client came to the proxy that introduced it over TLS.
    secure: bool,
    /// Whether the beginning of the connection was looked at for a header of the PROXY protocol.
    introduced: bool,
}

/// Who asked for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The client; none: it may be anybody.
    pub client: Option<IpAddr>,
    /// How the client's request came to the proxy, if that is known.
    pub scheme: Option<Scheme>,
}

/// A request whose answer is not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who asked.
    pub asker: Asker,
    /// The head as it came.
    pub raw: Box<[u8]>,
}

impl Guests {
    /// None where nobody needs to be known.
    pub fn new(
        trusted: &Arc<[Network]>,
        log: Option<Lines>,
        counters: &Arc<Counters>,
    ) -> Option<Self> {
        let needed = !trusted.is_empty() || log.is_some();
        needed.then(|| Self {
            trusted: trusted.clone(),
            log,
            counters: counters.clone(),
            names: Vec::new(),
        })
    }

    /// The guest at `peer`; one whose address is not known is nobody's proxy.
    pub fn meet(&self, peer: Option<IpAddr>) -> Guest {
        let trusted = peer.is_some_and(|peer| self.trusts(peer));
        Guest {
            client: peer,
            trusted,
            secure: false,
            introduced: !trusted,
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// What the first bytes of a connection say of its client, if the peer may introduce one and has not yet. From
    /// then on the client speaks: it is believed only where it is a trusted proxy itself.
    pub fn introduce(&self, guest: &mut Guest, bytes: &[u8]) -> Proxied {
        if guest.introduced {
            return Proxied::Absent;
        }
        let said = proxy_protocol::parse(bytes);
        guest.introduced = said != Proxied::Partial;
        // Somebody the proxy cannot name may be anybody.
        if let Proxied::Client {
            address, secure, ..
        } = said
        {
            (guest.client, guest.trusted, guest.secure) = (
                address,
                address.is_some_and(|client| self.trusts(client)),
                secure,
            );
        }
        said
    }

    /// Who asked, by `raw`, the head as it came.
    pub fn asker(&self, guest: &Guest, raw: &[u8]) -> Asker {
        self.forwarded(guest, fields(raw, b"x-forwarded-for"), all_fields(raw))
    }

    /// Who asked, by the values of X-Forwarded-For, the last one first, and by all fields of the request.
    pub fn forwarded<'a>(
        &self,
        guest: &Guest,
        clients: impl Iterator<Item = &'a [u8]>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Asker {
        let introduced = guest.secure.then_some(Scheme::Https);
        if !guest.trusted {
            return Asker {
                client: guest.client,
                scheme: introduced,
            };
        }
        let client = match proxy_protocol::forwarded_for(clients, &self.trusted) {
            Forwarded::Absent => guest.client,
            Forwarded::Client(client) => Some(client),
            Forwarded::Unknown => None,
        };
        // The fields are about the client itself, the introduction about the proxy nearest to us.
        Asker {
            client,
            scheme: forwarded_scheme::told(fields).or(introduced),
        }
    }

    /// Whether requests are logged.
    pub fn logs(&self) -> bool {
        self.log.is_some()
    }

    /// Logs a request, its raw head and its answer, and what was chosen or why it was refused.
    pub fn log(
        &mut self,
        asker: Asker,
        head: Option<&Head<'_>>,
        raw: &[u8],
        answer: &[u8],
        became: (Option<Slot>, Option<Refusal>),
    ) {
        let line = raw
            .split(|&byte| byte == b'\r' || byte == b'\n')
            .find(|line| !line.is_empty())
            .unwrap_or_default();
        let mut words = line
            .split(|&byte| byte == b' ')
            .map(Some)
            .chain(std::iter::repeat(None))
            .map(Option::unwrap_or_default);
        let [method, target, version] = match head {
            Some(_) => std::array::from_fn(|_| words.next().unwrap_or_default()),
            None => [
                b"-".as_slice(),
                &line[..line.len().min(NONSENSE)],
                b"HTTP/1.1",
            ],
        };
        let version = std::str::from_utf8(version).unwrap_or_default();
        let texts =
            [b"referer".as_slice(), b"user-agent"].map(|name| field(raw, name).unwrap_or_default());
        let request = Request {
            method,
            target,
            version,
            host: head.map_or(b"".as_slice(), |head| head.host),
            texts,
        };
        self.write(
            asker,
            &request,
            head.is_some_and(|head| head.method == Method::Head),
            answer,
            became,
        );
    }

    /// Logs a request whose answer was made later.
    pub fn log_late(&mut self, asked: &Asked, answer: &[u8]) {
        if let Parsed::Complete(head, _) = parse(&asked.raw, MAX_FIELDS) {
            self.log(asked.asker, Some(&head), &asked.raw, answer, (None, None));
        }
    }

    /// Logs what was asked in another form than HTTP/1.
    pub fn write(
        &mut self,
        asker: Asker,
        request: &Request<'_>,
        head_only: bool,
        answer: &[u8],
        became: (Option<Slot>, Option<Refusal>),
    ) {
        let (chosen, refusal) = became;
        let Some(log) = &mut self.log else { return };
        let (farm, server) = match chosen {
            Some(slot) => name(&mut self.names, &self.counters, slot),
            None => ("", ""),
        };
        let number = |text: Option<&[u8]>| {
            text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
        };
        log.add(&Entry {
            at: unix_ms(),
            client: asker.client,
            method: request.method,
            target: request.target,
            version: request.version,
            host: request.host,
            status: number(answer.get(9..12))
                .and_then(|status: usize| u16::try_from(status).ok())
                .unwrap_or(0),
            bytes: if head_only {
                0
            } else {
                number(field(answer, b"content-length")).unwrap_or(0)
            },
            referer: request.texts[0],
            agent: request.texts[1],
            farm,
            server,
            location: field(answer, b"location").unwrap_or_default(),
            reason: refusal.map_or("", Refusal::reason),
        });
    }

    /// Hands over the lines gathered.
    pub fn tick(&mut self) {
        if let Some(log) = &mut self.log {
            log.hand_over();
        }
    }
}

/// A request as the log shows it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a [u8],
    /// Path and query.
    pub target: &'a [u8],
    /// The version.
    pub version: &'a str,
    /// The host.
    pub host: &'a [u8],
    /// Referer and User-Agent.
    pub texts: [&'a [u8]; 2],
}

impl Guest {
    /// Whether nothing is to come that tells of it.
    pub fn is_introduced(&self) -> bool {
        self.introduced
    }
}

/// The value of the last field `name` (in small letters) in a head that is known to be well formed.
fn field<'a>(head: &'a [u8], name: &'static [u8]) -> Option<&'a [u8]> {
    fields(head, name).next()
}

/// The lines of a head; nothing of what follows it.
fn lines(head: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    // Empty lines before a request are not its end.
    let head = head.trim_ascii_start();
    let end = memchr::memmem::find(head, b"\r\n\r\n").unwrap_or(head.len());
    head[..end].split(|&byte| byte == b'\n')
}

/// All fields, names and values.
fn all_fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(head).skip(1).filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

/// The values of all fields `name`, the last one first.
fn fields<'a>(head: &'a [u8], name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    lines(head).rev().filter_map(move |line| {
        let named =
            line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name);
        named.then(|| line[name.len() + 1..].trim_ascii())
    })
}

fn name<'a>(
    names: &'a mut Vec<(String, String)>,
    counters: &Counters,
    slot: Slot,
) -> (&'a str, &'a str) {
    if names.len() <= slot.index() {
        *names = counters.keys(0).iter().map(words).collect();
    }
    names
        .get(slot.index())
        .map_or(("", ""), |(farm, server)| (farm, server))
}

fn words(key: &CountKey) -> (String, String) {
    match key {
        CountKey::Server(id) => (id.farm.to_string(), id.server.to_string()),
        CountKey::Fallback(farm) => (farm.to_string(), "@fallback".into()),
        CountKey::Refused(_) => Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests(trusted: &str) -> Guests {
        let trusted: Arc<[Network]> = [trusted.parse().expect("a network")].into();
        Guests::new(&trusted, None, &Arc::new(Counters::new(1))).expect("somebody is trusted")
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
        let guests = guests("10.0.0.0/8");
        let proxy = guests.meet(known("10.1.1.1"));
        assert_eq!(
            guests.asker(&proxy, RAW),
            Asker {
                client: known("192.0.2.7"),
                scheme: Some(Scheme::Https)
            }
        );
        let two =
            b"GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 10.2.2.2\r\n\r\n";
        assert_eq!(guests.asker(&proxy, two).client, known("192.0.2.7"));
        // What cannot be read names nobody, and not the proxy.
        assert_eq!(
            guests
                .asker(&proxy, b"GET / HTTP/1.1\r\nX-Forwarded-For: \xff\r\n\r\n")
                .client,
            None
        );
        let mut stranger = guests.meet(known("8.8.8.8"));
        assert_eq!(
            guests.asker(&stranger, RAW),
            Asker {
                client: known("8.8.8.8"),
                scheme: None
            }
        );
        assert_eq!(
            guests.introduce(&mut stranger, b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"),
            Proxied::Absent
        );
        assert!(!guests.meet(None).trusted);
    }

    #[test]
    fn a_proxy_introduces_its_client_once_and_the_client_speaks_for_nobody() {
        let guests = guests("10.0.0.0/8");
        let mut proxy = guests.meet(known("10.1.1.1"));
        assert_eq!(
            guests.introduce(&mut proxy, b"PROXY TCP4 192.0.2.7 "),
            Proxied::Partial
        );
        let introduced = Proxied::Client {
            address: known("192.0.2.7"),
            secure: false,
            length: 34,
        };
        assert_eq!(
            guests.introduce(&mut proxy, b"PROXY TCP4 192.0.2.7 1.2.3.4 1 2\r\nGET"),
            introduced
        );
        assert_eq!(
            guests.introduce(&mut proxy, b"PROXY TCP4 6.6.6.6 1.2.3.4 1 2\r\n"),
            Proxied::Absent
        );
        assert_eq!(
            guests
                .asker(
                    &proxy,
                    b"GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
                )
                .client,
            known("192.0.2.7")
        );
        let mut chain = guests.meet(known("10.1.1.1"));
        guests.introduce(&mut chain, b"PROXY TCP4 10.2.2.2 1.2.3.4 1 2\r\n");
        assert_eq!(
            guests
                .asker(
                    &chain,
                    b"GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
                )
                .client,
            known("6.6.6.6")
        );
    }

    #[test]
    fn how_the_client_came_is_told_by_fields_before_the_introduction() {
        let guests = guests("10.0.0.0/8");
        let over_tls = |client: [u8; 4]| {
            let addresses = [client, [1, 2, 3, 4], [0, 1, 0, 2]].concat();
            let header = [
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14".as_slice(),
                &addresses,
                b"\x20\0\x05\x01\0\0\0\0",
            ]
            .concat();
            let mut guest = guests.meet(known("10.1.1.1"));
            assert!(matches!(
                guests.introduce(&mut guest, &header),
                Proxied::Client {
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
            guests.asker(&client, lied).scheme,
            Some(Scheme::Https),
            "who is introduced speaks for nobody"
        );
        assert_eq!(guests.asker(&proxy, lied).scheme, Some(Scheme::Http));
        assert_eq!(
            guests.asker(&proxy, b"GET / HTTP/1.1\r\n\r\n").scheme,
            Some(Scheme::Https)
        );
        let plain = guests.meet(known("10.1.1.1"));
        let behind =
            b"\r\n\r\nGET http://a?X-Scheme: HTTP/1.1\r\nA: b\r\n\r\nX-Forwarded-Proto: https\r\n";
        assert_eq!(
            guests.asker(&plain, behind).scheme,
            None,
            "what follows a head is none of it"
        );
    }
}
