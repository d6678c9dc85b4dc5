//! Where a process listens: parsing addresses, and binding them before anything else is started.

use crate::socket::{self, Sharing};
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
#[error("`{0}` is no address to listen on: write ADDRESS:PORT, such as 127.0.0.1:9998, [::1]:9998 or *:9998")]
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
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ip => Some(ip.parse().map_err(|_| bad())?),
        };
        Ok(Self { ip, port })
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
pub struct Passed {
    listeners: std::vec::IntoIter<TcpListener>,
}

impl Passed {
    /// Takes them; none, where none were passed.
    ///
    /// # Errors
    /// When what was passed is no listening TCP socket.
    pub fn take() -> anyhow::Result<Self> {
        let mut passed = listenfd::ListenFd::from_env();
        let count = passed.len();
        let listener = |index| passed.take_tcp_listener(index).map_err(|error| anyhow::anyhow!("socket {index} of LISTEN_FDS: {error}"));
        let listeners: Vec<Option<TcpListener>> = (0..count).map(listener).collect::<Result<_, _>>()?;
        Ok(Self { listeners: listeners.into_iter().flatten().collect::<Vec<_>>().into_iter() })
    }

    /// The next one for each of `threads`, or else `address`, bound.
    ///
    /// # Errors
    /// As [`bind`].
    pub fn or_bind(&mut self, address: ListenAddress, threads: usize, sharing: Sharing) -> anyhow::Result<Listeners> {
        let Some(listener) = self.listeners.next() else { return bind(address, threads, sharing) };
        // As for one that is bound here: whoever made it may not have thought of it.
        listener.set_nonblocking(true)?;
        socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
        let sockets = (0..threads).map(|_| listener.try_clone()).collect::<io::Result<Vec<_>>>()?;
        Ok(Listeners { address: listener.local_addr()?, sockets, passed: true })
    }
}

/// Binds `address` with one socket for each of `threads`.
///
/// # Errors
/// Names the address, and for one in use what to do.
pub fn bind(address: ListenAddress, threads: usize, sharing: Sharing) -> anyhow::Result<Listeners> {
    let bound = match address.ip {
        Some(ip) => bind_at(SocketAddr::new(ip, address.port), threads, sharing),
        // Where the machine has no IPv6, every address means every IPv4 address.
        None => bind_at(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port), threads, sharing).or_else(|error| {
            match error.raw_os_error() {
                Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => {
                    bind_at(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port), threads, sharing)
                }
                _ => Err(error),
            }
        }),
    };
    bound.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => ": another program listens there; stop it or choose another port",
            io::ErrorKind::PermissionDenied => ": ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher one",
            _ => "",
        };
        anyhow::anyhow!("cannot listen on {address}: {error}{remedy}")
    })
}

fn bind_at(address: SocketAddr, threads: usize, sharing: Sharing) -> io::Result<Listeners> {
    let mut address = address;
    if sharing == Sharing::Exclusive && threads > 1 {
        // Threads share a port, which would let another process of this user share it too: a socket that shares
        // with nobody asks first whether somebody is there.
        address = socket::listen(address, Sharing::Exclusive, 1)?.local_addr()?;
    }
    let sharing = if threads > 1 { Sharing::Shared } else { sharing };
    let mut sockets = Vec::with_capacity(threads);
    for _ in 0..threads {
        let socket = socket::listen(address, sharing, BACKLOG)?;
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(Listeners { address, sockets, passed: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_in_other_programs() {
        let parse = |text: &str| text.parse::<ListenAddress>().map(|address| address.to_string()).ok();
        assert_eq!(parse("127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(parse("[::1]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(parse("*:80").as_deref(), Some("*:80"));
        assert_eq!(parse(":80").as_deref(), Some("*:80"));
        for bad in ["80", "::1:80", "host:80", "1.2.3.4:x", "1.2.3.4:70000", ""] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_exclusive_port_is_shared_by_threads_but_with_no_second_program() {
        let free = ListenAddress { ip: Some(Ipv4Addr::LOCALHOST.into()), port: 0 };
        let first = bind(free, 2, Sharing::Exclusive).expect("free port");
        assert_eq!(first.sockets.len(), 2);
        let taken = ListenAddress { port: first.address.port(), ..free };
        let error = bind(taken, 2, Sharing::Exclusive).expect_err("taken").to_string();
        assert!(error.contains("another program listens there"), "{error}");
        assert!(bind(taken, 1, Sharing::Shared).is_ok());
    }

    #[test]
    fn a_passed_socket_sends_without_delay_like_one_bound_here() {
        let passed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("free port");
        let anywhere = ListenAddress { ip: None, port: 0 };
        let listeners = Passed { listeners: vec![passed].into_iter() }.or_bind(anywhere, 2, Sharing::Exclusive).expect("adopted");
        assert!(listeners.passed && listeners.sockets.len() == 2);
        assert!(listeners.sockets.iter().all(|socket| socket2::SockRef::from(socket).tcp_nodelay().expect("an option")));
    }
}
