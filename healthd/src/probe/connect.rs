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
mod tests;
