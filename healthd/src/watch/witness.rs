//! Whether anything is reached over the network besides what is probed: while the prober suspects itself, that speaks
//! for it. The store is asked, by a new connection that says nothing: one that was open before would live on under a
//! firewall that rejects everything new.

use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// From one attempt to the next.
const AGAIN: Duration = Duration::from_secs(1);

/// How long an attempt may take.
const LIMIT: Duration = Duration::from_secs(1);

/// Who may be reached, and attempts to.
#[derive(Debug)]
pub(crate) struct Witness {
    places: Vec<(String, u16)>,
    dialling: JoinSet<Option<IpAddr>>,
    next: Instant,
}

impl Witness {
    /// Any of `places`, hosts with ports; with none of them nobody can be reached.
    pub(crate) fn new(places: Vec<(String, u16)>) -> Self {
        Self {
            places,
            dialling: JoinSet::new(),
            next: Instant::now(),
        }
    }

    /// Begins an attempt where one is due.
    pub(crate) fn start(&mut self, now: Instant) {
        if self.places.is_empty() || !self.dialling.is_empty() || now < self.next {
            return;
        }
        self.next = now + AGAIN;
        let places = self.places.clone();
        self.dialling.spawn(async move {
            for place in places {
                if let Ok(Some(address)) = tokio::time::timeout(LIMIT, dial(place)).await {
                    return Some(address);
                }
            }
            None
        });
    }

    /// The address that was reached when an attempt ends; waits for ever where none is under way.
    pub(crate) async fn reached(&mut self) -> Option<IpAddr> {
        match self.dialling.join_next().await {
            Some(ended) => ended.ok().flatten(),
            None => std::future::pending().await,
        }
    }
}

/// Connects, and says to whom; no address of this very machine, to which no network leads.
async fn dial((host, port): (String, u16)) -> Option<IpAddr> {
    let stream = TcpStream::connect((host.as_str(), port)).await.ok()?;
    let (here, there) = (
        stream.local_addr().ok()?.ip(),
        stream.peer_addr().ok()?.ip(),
    );
    (here != there && !there.is_loopback()).then_some(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_very_machine_is_no_witness() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let mut witness = Witness::new(vec![("127.0.0.1".into(), port)]);
        witness.start(Instant::now());
        assert_eq!(witness.reached().await, None);
        witness.start(Instant::now());
        assert!(witness.dialling.is_empty(), "the next one is not due");
        witness.start(Instant::now() + AGAIN);
        assert_eq!(witness.dialling.len(), 1);
    }

    #[tokio::test]
    async fn with_nobody_to_reach_nothing_is_tried() {
        let mut witness = Witness::new(Vec::new());
        witness.start(Instant::now() + AGAIN);
        assert!(witness.dialling.is_empty());
    }
}
