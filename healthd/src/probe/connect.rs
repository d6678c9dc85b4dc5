//! A connection to a server that has several addresses, as a client makes one: to the first that takes it.

use crate::evidence::{Evidence, Failure, from_io};
use crate::probe::lookup::{LIMIT, Lookup};
use common::model::check::Check;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// From one attempt to the next while none has ended (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// No shorter than that, however many addresses there are (RFC 8305 section 5).
const SHORTEST: Duration = Duration::from_millis(10);

/// A connection to where `check` asks.
pub(crate) async fn connect(lookup: &Lookup, check: &Check) -> Result<TcpStream, Failure> {
    let (host, port) = match &check.addr {
        Some(addr) => (addr.host.as_str(), addr.port.unwrap_or(check.port)),
        None => (check.host.as_str(), check.port),
    };
    let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    if let Some(address) = literal {
        return Ok(TcpStream::connect((address, port)).await?);
    }
    let addresses = lookup.clone().find(host.to_owned(), LIMIT).await?;
    let addresses = interleaved(
        addresses
            .iter()
            .map(|address| SocketAddr::new(address.ip(), port)),
    );
    Ok(connect_any(&addresses, head_start(addresses.len(), check.timeout)).await?)
}

/// The two families by turns, the first address first (RFC 8305 section 4): one of them may lead nowhere. Each address
/// once.
fn interleaved(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut once: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !once.contains(&address) {
            once.push(address);
        }
    }
    let first = once.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) = once
        .into_iter()
        .partition(|address| address.is_ipv6() == first);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let turns = std::iter::from_fn(|| match (preferred.next(), other.next()) {
        (None, None) => None,
        pair => Some([pair.0, pair.1].into_iter().flatten()),
    });
    turns.flatten().collect()
}

/// From one attempt to the next, so that the last of `count` addresses too has a quarter of a probe's time.
fn head_start(count: usize, timeout: Duration) -> Duration {
    let fits = timeout.mul_f64(0.75) / u32::try_from(count).unwrap_or(u32::MAX).max(1);
    fits.min(HEAD_START).max(SHORTEST)
}

/// Connects to the first of `addresses` that takes a connection. The next is tried as soon as one has failed, or after
/// `head_start` (RFC 8305 section 5); those under way go on.
///
/// # Errors
/// Once all have failed, the failure that says most about the server.
async fn connect_any(addresses: &[SocketAddr], head_start: Duration) -> io::Result<TcpStream> {
    let (mut next, mut attempts, mut failed) = (addresses.iter().copied(), JoinSet::new(), None);
    loop {
        if let Some(address) = next.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = Some(more_telling(failed, error)),
            },
            () = tokio::time::sleep(head_start), if next.len() > 0 => {}
            else => return Err(failed.unwrap_or_else(|| io::Error::other("no address"))),
        }
    }
}

/// That an address refuses says more than that there is no way to another from here.
fn more_telling(held: Option<io::Error>, new: io::Error) -> io::Error {
    let weight = |error: &io::Error| match from_io(error) {
        Some(Evidence::Hard(_)) => 2,
        Some(Evidence::Soft(_)) => 1,
        _ => 0,
    };
    match held {
        Some(held) if weight(&held) >= weight(&new) => held,
        _ => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Instant;
    use tokio::net::{TcpListener, TcpSocket};

    fn at(last: u8, port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), port)
    }

    /// An address that swallows every packet that would begin a connection: its queue is full and nobody accepts.
    async fn swallowing(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(address).expect("a free port");
        let listener = socket.listen(0).expect("a listener");
        let mut taken = Vec::new();
        let limit = Duration::from_millis(100);
        while let Ok(Ok(stream)) = tokio::time::timeout(limit, TcpStream::connect(address)).await {
            taken.push(stream);
        }
        (listener, taken)
    }

    /// A port that is free on all the addresses used here, and who listens there on 127.0.0.1.
    async fn good() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        (listener, port)
    }

    #[tokio::test]
    async fn each_address_that_swallows_packets_costs_one_head_start() {
        let (_listener, port) = good().await;
        let _swallowing = [swallowing(at(2, port)).await, swallowing(at(3, port)).await];
        for silent in [1, 2] {
            let addresses = [&[at(2, port), at(3, port)][..silent], &[at(1, port)]].concat();
            let started = Instant::now();
            let stream =
                tokio::time::timeout(Duration::from_secs(5), connect_any(&addresses, HEAD_START))
                    .await
                    .expect("in time");
            assert_eq!(
                stream
                    .expect("the last takes it")
                    .peer_addr()
                    .expect("connected"),
                at(1, port)
            );
            assert!(
                started.elapsed() >= HEAD_START * u32::try_from(silent).expect("small"),
                "{:?}",
                started.elapsed()
            );
        }
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_nothing() {
        let (_listener, port) = good().await;
        let addresses = [at(2, port), at(3, port), at(1, port)];
        let connected = connect_any(&addresses, Duration::from_secs(3600));
        let stream = tokio::time::timeout(Duration::from_secs(5), connected)
            .await
            .expect("at once")
            .expect("one takes it");
        assert_eq!(stream.peer_addr().expect("connected"), at(1, port));
    }

    #[tokio::test]
    async fn where_all_fail_the_refusal_is_told() {
        let (listener, port) = good().await;
        drop(listener);
        // Port 0 of no host: the system itself says that there is no way there.
        let nowhere = SocketAddr::new(Ipv4Addr::BROADCAST.into(), port);
        for addresses in [[at(1, port), nowhere], [nowhere, at(1, port)]] {
            let failed = connect_any(&addresses, HEAD_START)
                .await
                .expect_err("nobody listens");
            assert_eq!(failed.kind(), io::ErrorKind::ConnectionRefused, "{failed}");
        }
    }

    #[test]
    fn families_take_turns_and_each_address_comes_once() {
        let all = |texts: &[&str]| -> Vec<SocketAddr> {
            texts
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect()
        };
        let given = all(&[
            "1.1.1.1:80",
            "1.1.1.2:80",
            "1.1.1.1:80",
            "[::1]:80",
            "1.1.1.3:80",
            "[::2]:80",
        ]);
        let order = all(&[
            "1.1.1.1:80",
            "[::1]:80",
            "1.1.1.2:80",
            "[::2]:80",
            "1.1.1.3:80",
        ]);
        assert_eq!(interleaved(given.into_iter()), order);
        assert_eq!(
            interleaved(all(&["[::1]:1", "1.1.1.1:1"]).into_iter()),
            all(&["[::1]:1", "1.1.1.1:1"])
        );
        assert!(interleaved(std::iter::empty()).is_empty());
    }

    #[test]
    fn the_last_of_many_addresses_is_tried_within_the_time_too() {
        let ms = Duration::from_millis;
        assert_eq!(
            (head_start(2, ms(1200)), head_start(3, ms(1200))),
            (ms(250), ms(250))
        );
        assert_eq!(
            (head_start(9, ms(1200)), head_start(2, ms(200))),
            (ms(100), ms(75))
        );
        assert_eq!(
            (head_start(1000, ms(1200)), head_start(0, ms(1200))),
            (SHORTEST, HEAD_START)
        );
    }
}
