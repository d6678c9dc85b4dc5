//! Pages that are made elsewhere and sent here: the stats, under `rbalancer up`.

use crate::protocol::http1::connection::PageAsk;
use common::net::network::Network;
use common::net::web::{Ask, Method, Page, Router};
use std::net::IpAddr;
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
    /// Whether `client` may see them.
    pub fn allow(&self, client: IpAddr) -> bool {
        self.allowed.iter().any(|network| network.contains(client))
    }

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

/// The answer to `ask`; no page: making it failed.
pub(crate) fn answer(page: Option<&Page>, ask: &PageAsk, date: &[u8]) -> Vec<u8> {
    let Some(page) = page else {
        return b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    };
    let status = page.status();
    let mut bytes = format!(
        "HTTP/1.1 {} {}\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("")
    )
    .into_bytes();
    for (name, value) in page.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(date);
    let connection = if ask.keep_alive {
        ""
    } else {
        "Connection: close\r\n"
    };
    bytes.extend_from_slice(
        format!("Content-Length: {}\r\n{connection}\r\n", page.body().len()).as_bytes(),
    );
    if !ask.head_only {
        bytes.extend_from_slice(page.body());
    }
    bytes
}
