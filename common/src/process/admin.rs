//! The admin listener of a daemon, apart from the public port: where `/healthz`, `/readyz` and `/metrics` are.

use crate::config::global::Global;
use crate::net::listen::{self, ListenAddress};
use crate::net::socket::Sharing;
use std::net::{IpAddr, Ipv4Addr, TcpListener};

/// Where a daemon's admin listener is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admin {
    /// What it is called in the file: one file may serve all daemons of a host, whose listeners are apart.
    key: &'static str,
    address: ListenAddress,
    /// Whether somebody asked for this very address.
    chosen: bool,
}

impl Admin {
    /// Takes a redirector's, or that of `rbalancer up`; none when it is `off`.
    pub fn of_redirector(global: &mut Global) -> Option<Self> {
        Self::take(global, "admin_bind", 9997)
    }

    /// Takes a healthd's; none when it is `off`.
    pub fn of_healthd(global: &mut Global) -> Option<Self> {
        Self::take(global, "healthd_bind", 9996)
    }

    /// By default it is `port` on loopback.
    fn take(global: &mut Global, key: &'static str, port: u16) -> Option<Self> {
        let parse = |text: &str| match text.eq_ignore_ascii_case("off") {
            true => Ok(None),
            false => text.parse::<ListenAddress>().map(Some),
        };
        let default = Self {
            key,
            address: ListenAddress {
                ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                port,
            },
            chosen: false,
        };
        match global.get(key, parse) {
            None => Some(default),
            Some(chosen) => chosen.map(|address| Self {
                key,
                address,
                chosen: true,
            }),
        }
    }

    /// Binds it. A default address that is taken is no reason not to start: daemons may share a host.
    ///
    /// # Errors
    /// When a chosen address cannot be bound.
    pub fn bind(self) -> anyhow::Result<Option<TcpListener>> {
        match listen::bind(self.address, 1, Sharing::Exclusive) {
            Ok(mut listeners) => {
                tracing::info!("admin pages on {}", listeners.address);
                Ok(listeners.sockets.pop())
            }
            Err(error) if self.chosen => Err(error.context(self.key)),
            Err(error) => {
                tracing::warn!(
                    "no admin pages: {error:#}; set {} for this one, or off",
                    self.key
                );
                Ok(None)
            }
        }
    }
}
