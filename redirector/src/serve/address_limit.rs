//! How many waiting connections each client address holds, over all threads: `maxconn_per_address`.
//!
//! Off unless asked for, since many clients may share an address. A request that is there when its connection is
//! accepted is answered all the same: only who waits takes anything away from others.

use common::net::network::Network;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The connections of all addresses.
#[derive(Debug)]
pub(crate) struct AddressLimit {
    most: usize,
    /// Proxies hold the connections of all of their clients.
    exempt: Arc<[Network]>,
    held: Mutex<HashMap<IpAddr, usize>>,
    refused: AtomicU64,
}

/// One held connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct AddressPermit {
    of: Arc<AddressLimit>,
    /// None: nobody counts.
    address: Option<IpAddr>,
}

impl AddressLimit {
    /// At most `most` connections for each address but those in `exempt`.
    pub(crate) fn new(most: usize, exempt: Arc<[Network]>) -> Arc<Self> {
        Arc::new(Self {
            most,
            exempt,
            held: Mutex::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// One more connection of `peer`; none where it holds as many as it may.
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<AddressPermit> {
        let address =
            (!self.exempt.iter().any(|network| network.contains(peer))).then(|| subject(peer));
        if let Some(address) = address {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let count = held.entry(address).or_default();
            if *count >= self.most {
                return None;
            }
            *count += 1;
        }
        Some(AddressPermit {
            of: self.clone(),
            address,
        })
    }

    /// A connection was refused.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut held = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&address);
            }
        }
    }
}

/// What counts as one address: of IPv6 a /64, which is the least that a customer is given (RFC 6177 section 2).
fn subject(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_share_and_gives_it_back() {
        let exempt: Arc<[Network]> = ["10.0.0.0/8".parse().expect("a network")].into();
        let all = AddressLimit::new(2, exempt);
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let held = [all.take(ip("192.0.2.1")), all.take(ip("::ffff:192.0.2.1"))];
        assert!(
            held.iter().all(Option::is_some)
                && all.take(ip("192.0.2.1")).is_none()
                && all.take(ip("192.0.2.2")).is_some()
        );
        drop(held);
        assert!(all.take(ip("192.0.2.1")).is_some());
        let same = [all.take(ip("2001:db8::1")), all.take(ip("2001:db8::2"))];
        assert!(
            all.take(ip("2001:db8::3")).is_none()
                && all.take(ip("2001:db8:0:1::3")).is_some()
                && same.len() == 2
        );
        assert!(
            [(); 9]
                .map(|()| all.take(ip("10.1.1.1")))
                .iter()
                .all(Option::is_some)
        );
        all.refuse();
        assert_eq!(
            (all.refused(), all.held.lock().expect("no panic").len()),
            (1, 1)
        );
    }
}
