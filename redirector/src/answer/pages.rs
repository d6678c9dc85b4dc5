//! Pages that are made elsewhere and sent here: the stats, under `rbalancer up`.

use common::net::network::Network;
use common::net::web::{Ask, Method, Page, Router};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Pages that are made elsewhere, and by whom they may be seen.
#[derive(Clone)]
pub struct Pages {
    /// Makes them.
    pub router: Router,
    /// Where they are made, so that a long page holds no client up.
    pub runtime: tokio::runtime::Handle,
    /// Who may see them.
    pub allowed: Arc<[Network]>,
}

impl Pages {
    /// Has the page at `target` made.
    pub fn make(&self, target: &str) -> JoinHandle<Page> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let ask = Ask {
            method: Method::GET,
            path: path.to_owned(),
            query: query.to_owned(),
            accept: String::new(),
        };
        self.runtime.spawn(self.router.as_ref()(ask))
    }
}

/// A page asked for that is made elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAsk {
    /// Path and query.
    pub target: String,
    /// Whether only the head is wanted.
    pub head_only: bool,
    /// Whether the connection may stay open after it.
    pub keep_alive: bool,
}
