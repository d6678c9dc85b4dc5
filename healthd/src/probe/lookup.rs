//! Names → addresses for probes. A failed look-up is told from a failed server, and the last known addresses are probed
//! when a look-up fails or takes long: a resolver that hangs says nothing about servers. One that was found a moment
//! ago is not looked up again: ten thousand servers would ask the resolver thousands of times a second.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// A name has no known address: nothing about the server.
#[derive(Debug, Clone)]
pub(crate) struct LookupFailed(String);

impl std::fmt::Display for LookupFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "name does not resolve: {}", self.0)
    }
}

impl std::error::Error for LookupFailed {}

/// Addresses are used for so long without another look, unless a probe of them fails.
const KEPT: Duration = Duration::from_secs(10);

/// How long a probe waits for a look-up, at the most. One that takes longer goes on, and its outcome is for the next.
pub(crate) const LIMIT: Duration = Duration::from_millis(300);

/// Last known addresses are used for so long without waiting again for a look-up that hangs.
const HUNG: Duration = Duration::from_secs(1);

/// Look-ups at once: each holds a thread of the runtime's 512, and a hung one for long.
const AT_ONCE: usize = 256;

/// What was found.
#[derive(Debug)]
struct KnownAddresses {
    addresses: Vec<SocketAddr>,
    /// When to look again.
    until: Instant,
}

type Found = Result<Vec<SocketAddr>, LookupFailed>;

/// The system's resolver, with a memory.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    known: Arc<Mutex<HashMap<String, KnownAddresses>>>,
    /// Look-ups on their way, one a name: all who ask for it wait for the same one.
    asked: Arc<Mutex<HashMap<String, watch::Receiver<Option<Found>>>>>,
    room: Arc<Semaphore>,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            known: Arc::default(),
            asked: Arc::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Lookup {
    /// The name is looked up the next time it is asked for.
    pub(crate) fn doubt(&self, name: &str) {
        if let Some(known) = self.known().get_mut(name) {
            known.until = Instant::now();
        }
    }

    /// The least of the known addresses of `name`: resolvers give them in an order that changes.
    pub(crate) fn least(&self, name: &str) -> Option<IpAddr> {
        self.known()
            .get(name)?
            .addresses
            .iter()
            .map(SocketAddr::ip)
            .min()
    }

    pub(crate) async fn find(self, name: String, limit: Duration) -> Found {
        if let Some(known) = self
            .known()
            .get(&name)
            .filter(|known| known.until > Instant::now())
        {
            return Ok(known.addresses.clone());
        }
        let mut asked = self.ask(&name, |name| async move {
            Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect())
        });
        let answer = tokio::time::timeout(limit, asked.wait_for(Option::is_some)).await;
        if let Some(found) = answer
            .ok()
            .and_then(Result::ok)
            .and_then(|found| found.clone())
        {
            return found;
        }
        let mut known = self.known();
        let known = known
            .get_mut(&name)
            .ok_or_else(|| LookupFailed("the resolver does not answer".into()))?;
        known.until = Instant::now() + HUNG;
        Ok(known.addresses.clone())
    }

    /// The look-up of `name` that is on its way; `resolve` makes one if there is none.
    pub(crate) fn ask<F>(
        &self,
        name: &str,
        resolve: impl FnOnce(String) -> F,
    ) -> watch::Receiver<Option<Found>>
    where
        F: Future<Output = std::io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let mut asked = self.asked();
        if let Some(on_its_way) = asked.get(name) {
            return on_its_way.clone();
        }
        let (sender, receiver) = watch::channel(None);
        asked.insert(name.to_owned(), receiver.clone());
        let (lookup, name, resolving) = (self.clone(), name.to_owned(), resolve(name.to_owned()));
        tokio::spawn(async move {
            let _place = lookup.room.acquire().await;
            let found = lookup.take(&name, resolving.await);
            lookup.asked().remove(&name);
            sender.send_replace(Some(found));
        });
        receiver
    }

    fn take(&self, name: &str, found: std::io::Result<Vec<SocketAddr>>) -> Found {
        let mut known = self.known();
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                known.insert(
                    name.to_owned(),
                    KnownAddresses {
                        addresses: addresses.clone(),
                        until: Instant::now() + KEPT,
                    },
                );
                Ok(addresses)
            }
            other => known
                .get(name)
                .map(|known| known.addresses.clone())
                .ok_or_else(|| {
                    LookupFailed(
                        other
                            .err()
                            .map_or_else(|| "no address".into(), |error| words(&error)),
                    )
                }),
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Option<Found>>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, KnownAddresses>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without what the reader knows already.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text)
        .to_owned()
}

#[cfg(test)]
mod tests;
