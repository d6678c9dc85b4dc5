//! Names → addresses for probes. A failed look-up is told from a failed server, and the last known addresses are
//! probed when a look-up fails.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// A name has no known address: nothing about the server.
#[derive(Debug, Clone)]
pub struct LookupFailed(String);

impl std::fmt::Display for LookupFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "name does not resolve: {}", self.0)
    }
}

impl std::error::Error for LookupFailed {}

/// The system's resolver, with a memory.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    known: Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>,
    /// One name that leads to another host.
    pin: Option<(String, String)>,
}

impl Lookup {
    /// The same, but `name` leads to `host`.
    pub fn pinned(&self, name: &str, host: &str) -> Self {
        Self { known: self.known.clone(), pin: Some((name.to_owned(), host.trim_matches(['[', ']']).to_owned())) }
    }

    async fn find(self, name: String) -> Result<Vec<SocketAddr>, LookupFailed> {
        let name = match self.pin {
            Some((from, to)) if from == name => to,
            _ => name,
        };
        let found: Result<Vec<SocketAddr>, _> = tokio::net::lookup_host((name.as_str(), 0)).await.map(Iterator::collect);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                known.insert(name, addresses.clone());
                Ok(addresses)
            }
            other => known
                .get(&name)
                .cloned()
                .ok_or_else(|| LookupFailed(other.err().map_or_else(|| "no address".into(), |error| error.to_string()))),
        }
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
