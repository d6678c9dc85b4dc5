//! Names → addresses for probes. A failed look-up is told from a failed server, and the last known addresses are
//! probed when a look-up fails. One that was found a moment ago is not looked up again: ten thousand servers would ask
//! the resolver thousands of times a second.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A name has no known address: nothing about the server.
#[derive(Debug, Clone)]
pub struct LookupFailed(String);

impl std::fmt::Display for LookupFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "name does not resolve: {}", self.0)
    }
}

impl std::error::Error for LookupFailed {}

/// Addresses are used for so long without another look, unless a probe of them fails.
const KEPT: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// When to look again.
    until: Instant,
}

/// The system's resolver, with a memory.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    known: Arc<Mutex<HashMap<String, Known>>>,
    /// One name that leads to another host.
    pin: Option<(String, String)>,
}

impl Lookup {
    /// The same, but `name` leads to `host`.
    pub fn pinned(&self, name: &str, host: &str) -> Self {
        Self { known: self.known.clone(), pin: Some((name.to_owned(), host.trim_matches(['[', ']']).to_owned())) }
    }

    /// The name is looked up the next time it is asked for.
    pub fn doubt(&self, name: &str) {
        if let Some(known) = self.known().get_mut(name) {
            known.until = Instant::now();
        }
    }

    pub(crate) async fn find(self, name: String) -> Result<Vec<SocketAddr>, LookupFailed> {
        let name = match self.pin {
            Some((ref from, ref to)) if *from == name => to.clone(),
            _ => name,
        };
        if let Some(known) = self.known().get(&name).filter(|known| known.until > Instant::now()) {
            return Ok(known.addresses.clone());
        }
        let found: Result<Vec<SocketAddr>, _> = tokio::net::lookup_host((name.as_str(), 0)).await.map(Iterator::collect);
        let mut known = self.known();
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                known.insert(name, Known { addresses: addresses.clone(), until: Instant::now() + KEPT });
                Ok(addresses)
            }
            other => known
                .get(&name)
                .map(|known| known.addresses.clone())
                .ok_or_else(|| LookupFailed(other.err().map_or_else(|| "no address".into(), |error| error.to_string()))),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let finding = self.clone().find(name.as_str().to_owned());
        Box::pin(async move {
            let addresses = finding.await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_kept_until_it_is_doubted_and_the_last_known_where_none_is_found() {
        let lookup = Lookup::default();
        let kept: SocketAddr = "203.0.113.1:0".parse().expect("an address");
        for name in ["localhost", "no-such-name.invalid"] {
            lookup.known().insert(name.into(), Known { addresses: vec![kept], until: Instant::now() + KEPT });
            assert_eq!(lookup.clone().find(name.into()).await.expect("known"), [kept]);
            lookup.doubt(name);
        }
        let found = lookup.clone().find("localhost".into()).await.expect("every host has one");
        assert!(found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
        assert_eq!(lookup.find("no-such-name.invalid".into()).await.expect("known"), [kept]);
    }
}
