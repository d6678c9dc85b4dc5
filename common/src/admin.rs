//! The admin listener of a daemon, apart from the public port: where `/healthz`, `/readyz` and `/metrics` are.

use crate::listen::{self, ListenAddress};
use crate::settings::Global;
use crate::socket::Sharing;
use std::net::{IpAddr, Ipv4Addr, TcpListener};

/// The default port of a redirector's admin listener.
pub const REDIRECTOR_PORT: u16 = 9997;

/// The default port of a healthd's admin listener.
pub const HEALTHD_PORT: u16 = 9996;

/// Where a daemon's admin listener is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admin {
    address: ListenAddress,
    /// Whether somebody asked for this very address.
    chosen: bool,
}

impl Admin {
    /// Takes `admin_bind`, by default `port` on loopback; none when it is `off`.
    pub fn take(global: &mut Global, port: u16) -> Option<Self> {
        let parse = |text: &str| match text.eq_ignore_ascii_case("off") {
            true => Ok(None),
            false => text.parse::<ListenAddress>().map(Some),
        };
        let default = Self { address: ListenAddress { ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), port }, chosen: false };
        match global.get("admin_bind", parse) {
            None => Some(default),
            Some(chosen) => chosen.map(|address| Self { address, chosen: true }),
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
            Err(error) if self.chosen => Err(error.context("admin_bind")),
            Err(error) => {
                tracing::warn!("no admin pages: {error:#}");
                Ok(None)
            }
        }
    }
}
