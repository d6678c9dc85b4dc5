//! Where a process listens: parsing addresses, and binding them before anything else is started.

use crate::net::socket::{self, Sharing};
use crate::words::list;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::str::FromStr;

/// Connections the kernel may hold for us while we are busy.
const BACKLOG: i32 = 4096;

/// An address to listen on: `127.0.0.1:9998`, `[::1]:9998`, `*:9998` or `:9998` for every address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress {
    /// The address; none: every one, IPv6 and IPv4.
    pub ip: Option<IpAddr>,
    /// The port; 0: any free one.
    pub port: u16,
}

/// Why a text is no [`ListenAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no address to listen on: write ADDRESS:PORT, such as 127.0.0.1:9998, [::1]:9998 or *:9998"
)]
pub struct BadListenAddress(String);

impl FromStr for ListenAddress {
    type Err = BadListenAddress;
    fn from_str(text: &str) -> Result<Self, BadListenAddress> {
        let bad = || BadListenAddress(text.chars().take(80).collect());
        let (ip, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        let ip = match ip.trim_start_matches('[').trim_end_matches(']') {
            "" | "*" => None,
            _ if ip.contains(':') && !ip.starts_with('[') => return Err(bad()),
            name if name.eq_ignore_ascii_case("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ip => Some(ip.parse().map_err(|_| bad())?),
        };
        Ok(Self { ip, port })
    }
}

impl ListenAddress {
    /// An address with or without a port: `10.0.0.1`, `::1`, `localhost` or `*` listen on `port`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn with_port(text: &str, port: u16) -> Result<Self, BadListenAddress> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(ip) => Ok(Self { ip: Some(ip), port }),
            Err(_) if bare == "*" || bare.eq_ignore_ascii_case("localhost") => {
                format!("{bare}:{port}").parse()
            }
            Err(_) => text.parse(),
        }
    }

    /// Whether it stands for every IPv6 address, and so for every IPv4 one where nothing else is said.
    fn is_all_v6(&self) -> bool {
        self.ip
            .is_none_or(|ip| ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }
}

/// Addresses to listen on, by commas: at least one, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddresses(Vec<ListenAddress>);

impl ListenAddresses {
    /// Reads a list; an address without a port listens on `port`.
    ///
    /// # Errors
    /// When it is empty, or an address is none or is there twice.
    pub fn with_port(text: &str, port: u16) -> Result<Self, String> {
        Self::collect(text, |item| ListenAddress::with_port(item, port))
    }

    fn collect(
        text: &str,
        parse: impl Fn(&str) -> Result<ListenAddress, BadListenAddress>,
    ) -> Result<Self, String> {
        let mut addresses = Vec::new();
        for item in list(text) {
            let address = parse(item).map_err(|error| error.to_string())?;
            // Any free port may be asked for more than once.
            if address.port != 0 && addresses.contains(&address) {
                return Err(format!("names {address} twice: remove one"));
            }
            addresses.push(address);
        }
        if addresses.is_empty() {
            Err("is empty: write ADDRESS:PORT, several by commas".into())
        } else {
            Ok(Self(addresses))
        }
    }

    /// The addresses, one or more.
    pub fn iter(&self) -> impl Iterator<Item = ListenAddress> + '_ {
        self.0.iter().copied()
    }

    /// The same addresses, each once, on another port.
    #[must_use]
    pub fn on_port(&self, port: u16) -> Self {
        let mut addresses: Vec<ListenAddress> = Vec::new();
        for ListenAddress { ip, .. } in self.iter() {
            let address = ListenAddress { ip, port };
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Self(addresses)
    }

    /// The first of them.
    pub fn first(&self) -> ListenAddress {
        self.0[0]
    }

    /// Whether the list names an IPv4 address with the port of `address`, which then stands for IPv6 alone.
    fn has_v4_beside(&self, address: ListenAddress) -> bool {
        self.iter()
            .any(|other| other.port == address.port && other.ip.is_some_and(|ip| ip.is_ipv4()))
    }
}

impl From<ListenAddress> for ListenAddresses {
    fn from(address: ListenAddress) -> Self {
        Self(vec![address])
    }
}

impl FromStr for ListenAddresses {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::collect(text, str::parse)
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => write!(f, "*:{}", self.port),
        }
    }
}

/// Bound sockets of one port: one for each thread.
#[derive(Debug)]
pub struct Listeners {
    /// The address bound, with the real port.
    pub address: SocketAddr,
    /// One socket a thread.
    pub sockets: Vec<TcpListener>,
    /// Whether somebody else holds the socket as well, and keeps what waits in it when this process ends.
    pub passed: bool,
}

/// The sockets that whoever started this process has passed to it, in their order: systemd's socket units, by
/// `LISTEN_FDS` (sd_listen_fds(3)).
#[derive(Debug)]
pub struct InheritedSockets {
    listeners: std::vec::IntoIter<TcpListener>,
}

impl InheritedSockets {
    /// Takes them; none, where none were passed.
    ///
    /// # Errors
    /// When what was passed is no listening TCP socket.
    pub fn take() -> anyhow::Result<Self> {
        let mut passed = listenfd::ListenFd::from_env();
        let count = passed.len();
        let listener = |index| {
            passed
                .take_tcp_listener(index)
                .map_err(|error| anyhow::anyhow!("socket {index} of LISTEN_FDS: {error}"))
        };
        let listeners: Vec<Option<TcpListener>> =
            (0..count).map(listener).collect::<Result<_, _>>()?;
        Ok(Self {
            listeners: listeners
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .into_iter(),
        })
    }

    /// For each of `addresses` the next one for each of `threads`, or else the address, bound.
    ///
    /// # Errors
    /// As [`bind`].
    pub fn or_bind(
        &mut self,
        addresses: &ListenAddresses,
        threads: usize,
        sharing: Sharing,
    ) -> anyhow::Result<Vec<Listeners>> {
        let one = |address: ListenAddress| match self.listeners.next() {
            Some(listener) => adopt(&listener, threads),
            None if address.is_all_v6() && addresses.has_v4_beside(address) => {
                let ip = Ipv6Addr::UNSPECIFIED.into();
                bind_at(
                    SocketAddr::new(ip, address.port),
                    threads,
                    sharing,
                    Families::One,
                )
                .map_err(|error| named(address, &error))
            }
            None => bind(address, threads, sharing),
        };
        addresses.iter().map(one).collect()
    }
}

/// A socket that was passed, for each of `threads`.
fn adopt(listener: &TcpListener, threads: usize) -> anyhow::Result<Listeners> {
    // As for one that is bound here: whoever made it may not have thought of it.
    listener.set_nonblocking(true)?;
    socket2::SockRef::from(listener).set_tcp_nodelay(true)?;
    let sockets = (0..threads)
        .map(|_| listener.try_clone())
        .collect::<io::Result<Vec<_>>>()?;
    Ok(Listeners {
        address: listener.local_addr()?,
        sockets,
        passed: true,
    })
}

/// One thread's socket of one address.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// Whether somebody else holds it as well.
    pub passed: bool,
}

/// The sockets of all addresses, for each thread its own.
pub fn by_thread(all: Vec<Listeners>) -> Vec<Vec<Listener>> {
    let threads = all.first().map_or(0, |listeners| listeners.sockets.len());
    let mut each: Vec<Vec<Listener>> = (0..threads)
        .map(|_| Vec::with_capacity(all.len()))
        .collect();
    for Listeners {
        sockets, passed, ..
    } in all
    {
        each.iter_mut()
            .zip(sockets)
            .for_each(|(own, socket)| own.push(Listener { socket, passed }));
    }
    each
}

/// The addresses, by commas.
pub fn words(all: &[Listeners]) -> String {
    all.iter()
        .map(|listeners| listeners.address.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Which families of addresses a socket for every IPv6 address takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Families {
    Both,
    One,
}

/// Binds `address` with one socket for each of `threads`.
///
/// # Errors
/// Names the address, and for one in use what to do.
pub fn bind(address: ListenAddress, threads: usize, sharing: Sharing) -> anyhow::Result<Listeners> {
    let bound = match address.ip {
        Some(ip) => bind_at(
            SocketAddr::new(ip, address.port),
            threads,
            sharing,
            Families::Both,
        ),
        // Where the machine has no IPv6, every address means every IPv4 address.
        None => bind_at(
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port),
            threads,
            sharing,
            Families::Both,
        )
        .or_else(|error| match error.raw_os_error() {
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => bind_at(
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port),
                threads,
                sharing,
                Families::Both,
            ),
            _ => Err(error),
        }),
    };
    bound.map_err(|error| named(address, &error))
}

fn named(address: ListenAddress, error: &io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            ": another program listens there; stop it or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher one"
        }
        _ => "",
    };
    anyhow::anyhow!("cannot listen on {address}: {error}{remedy}")
}

fn bind_at(
    address: SocketAddr,
    threads: usize,
    sharing: Sharing,
    families: Families,
) -> io::Result<Listeners> {
    let mut address = address;
    let only_v6 = !address.ip().is_unspecified() || families == Families::One;
    if sharing == Sharing::Exclusive && threads > 1 {
        // Threads share a port, which would let another process of this user share it too: a socket that shares
        // with nobody asks first whether somebody is there.
        address = socket::listen(address, only_v6, Sharing::Exclusive, 1)?.local_addr()?;
    }
    let sharing = if threads > 1 {
        Sharing::Shared
    } else {
        sharing
    };
    let mut sockets = Vec::with_capacity(threads);
    for _ in 0..threads {
        let socket = socket::listen(address, only_v6, sharing, BACKLOG)?;
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(Listeners {
        address,
        sockets,
        passed: false,
    })
}

#[cfg(test)]
mod tests;
