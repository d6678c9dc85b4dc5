//! What is asked of this process but answered at a configured URL beside the table's: the stats pages, and challenges
//! of certificate authorities.

use common::model::target::{Scheme, Target};
use common::net::network::Network;
use std::sync::Arc;

/// A configured URL as the beginning of a Location. What a request adds always stands behind the first slash of a
/// path, so that it cannot become part of the host or port.
#[derive(Debug, Clone)]
pub struct UrlPrefix {
    http: Box<[u8]>,
    https: Box<[u8]>,
}

impl UrlPrefix {
    /// For what follows that begins with a slash.
    pub fn host(url: &Target) -> Self {
        Self::with(url, "")
    }

    /// For what may follow the path `url` names, or `path` on a host alone.
    pub fn page(url: &Target, path: &str) -> Self {
        Self::with(url, if url.base().is_empty() { path } else { "" })
    }

    fn with(url: &Target, path: &str) -> Self {
        let by = |scheme| {
            [url.origin(scheme).as_bytes(), path.as_bytes()]
                .concat()
                .into()
        };
        Self {
            http: by(Scheme::Http),
            https: by(Scheme::Https),
        }
    }

    /// What precedes the rest in a Location, for a request that came by `scheme`.
    pub fn before(&self, scheme: Scheme) -> &[u8] {
        match scheme {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        }
    }
}

/// Who makes the stats pages.
#[derive(Debug, Clone)]
pub enum StatsMaker {
    /// This process, for clients of these networks.
    Here(Arc<[Network]>),
    /// Whoever answers at this URL.
    Elsewhere(UrlPrefix),
}

/// Where the stats pages are.
#[derive(Debug, Clone)]
pub struct StatsPages {
    /// Their path.
    uri: Box<[u8]>,
    /// Who makes them.
    pub maker: StatsMaker,
}

impl StatsPages {
    /// At the path `uri`, for clients of the networks `allowed`.
    pub fn here(uri: &str, allowed: Arc<[Network]>) -> Self {
        Self {
            uri: uri.as_bytes().into(),
            maker: StatsMaker::Here(allowed),
        }
    }

    /// For those who ask at the path `uri`, at `url`.
    pub fn elsewhere(uri: &str, url: &Target) -> Self {
        Self {
            uri: uri.as_bytes().into(),
            maker: StatsMaker::Elsewhere(UrlPrefix::page(url, uri)),
        }
    }

    /// What follows the path in `target`: nothing in `/stats`, `.json` in `/stats.json`; none for other targets.
    #[inline]
    pub fn named_by<'a>(&self, target: &'a [u8]) -> Option<&'a [u8]> {
        let rest = target.strip_prefix(&*self.uri)?;
        matches!(rest.first(), None | Some(b'?' | b'.' | b'/')).then_some(rest)
    }
}

/// Whether `target` is where a certificate authority looks for a token (RFC 8555 section 8.3), and nothing beside.
pub fn is_challenge(target: &[u8]) -> bool {
    let token = target
        .strip_prefix(b"/.well-known/acme-challenge/")
        .unwrap_or_default();
    !token.is_empty()
        && token
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_alone_has_the_pages_at_the_path_asked_for() {
        for (url, http, https) in [
            (
                "http://s.org:9999",
                "http://s.org:9999/stats",
                "http://s.org:9999/stats",
            ),
            (
                "http://s.org:9999/",
                "http://s.org:9999/stats",
                "http://s.org:9999/stats",
            ),
            ("s.org/x", "http://s.org/x", "https://s.org/x"),
            (
                "https://s.org/stats",
                "https://s.org/stats",
                "https://s.org/stats",
            ),
        ] {
            let page = UrlPrefix::page(&url.parse().expect("a target"), "/stats");
            assert_eq!(
                [page.before(Scheme::Http), page.before(Scheme::Https)],
                [http.as_bytes(), https.as_bytes()],
                "{url}"
            );
        }
    }
}
