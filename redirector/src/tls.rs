//! TLS on the public port: its settings, its certificates and their renewal, and what all threads share (one rustls
//! configuration, so that a session begun with one thread is resumed with any other).
//! No byte of HTTP may enter here.

pub(crate) mod certificates;
pub(crate) mod reload;
pub(crate) mod session;

pub(crate) use certificates::{Certificates, Chosen};

use crate::tls::certificates::Pair;
use certificates::PairProblems;
use common::config::global::{Global, Problems};
use common::config::ini::Problem;
use common::config::values::number;
use common::files;
use common::net::listen::{InheritedSockets, ListenAddresses, Listeners};
use common::net::socket::Sharing;
use common::time::UnixMs;
use common::words::list;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::ServerSessionMemoryCache;
use std::path::PathBuf;
use std::sync::Arc;

/// The port of https.
const DEFAULT_PORT: u16 = 443;

/// Sessions of TLS 1.2 clients without tickets that are kept for resumption.
const SESSIONS: usize = 4096;

/// Where TLS is served and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Where it listens.
    pub listen: ListenAddresses,
    /// The certificates; the first is for clients that name no host, or one nobody holds a certificate for.
    pub pairs: Vec<Pair>,
}

impl TlsSettings {
    /// Takes the keys `tls_…`; `plain` is where the plaintext listeners are. Without a certificate there is no TLS.
    pub fn take(global: &mut Global, plain: &ListenAddresses) -> Option<Self> {
        let port = global.get("tls_port", number(1u16, u16::MAX));
        let listen = global.get("tls_bind", |text| {
            ListenAddresses::with_port(text, port.unwrap_or(DEFAULT_PORT))
        });
        let keys = global.get("tls_key", paths).unwrap_or_default();
        let pairs = global.get("tls_cert", |text| pairs(text, &keys));
        if pairs.is_none() {
            let alone = [
                ("tls_key", !keys.is_empty()),
                ("tls_port", port.is_some()),
                ("tls_bind", listen.is_some()),
            ];
            // An unusable tls_cert has been noted already.
            let unusable = global.get("tls_cert", |_| Ok::<_, String>(())).is_some();
            for (key, _) in alone.into_iter().filter(|(_, given)| *given && !unusable) {
                global.refuse(
                    key,
                    "is of no use without tls_cert: name the certificate, or remove the key",
                );
            }
        }
        let listen = listen.unwrap_or_else(|| plain.on_port(port.unwrap_or(DEFAULT_PORT)));
        Some(Self {
            listen,
            pairs: pairs?,
        })
    }

    /// Reads the certificates: before any socket is bound, so that a bad pair is a configuration error.
    ///
    /// # Errors
    /// Names every file that is no good, and the remedy.
    pub fn load(&self) -> Result<Tls, Problems> {
        let certificates = self.read().map_err(|problems| {
            let problem = |(file, message): (PathBuf, String)| Problem {
                file: file.display().to_string(),
                line: None,
                message,
            };
            Problems(problems.into_iter().map(problem).collect())
        })?;
        let problem = |error: rustls::Error| Problem {
            file: "tls".into(),
            line: None,
            message: error.to_string(),
        };
        Tls::new(self.pairs.clone(), certificates).map_err(|error| Problems(vec![problem(error)]))
    }

    /// The certificates; a disk that does not answer is a problem, not a start that hangs.
    fn read(&self) -> Result<Certificates, PairProblems> {
        let (pairs, first) = (
            self.pairs.clone(),
            self.pairs
                .first()
                .map(|pair| pair.certificate.clone())
                .unwrap_or_default(),
        );
        let read = files::within_blocking("tls_cert", &first, move |_| Certificates::read(&pairs));
        read.map_err(|hangs| vec![(first, hangs.to_string())])
            .flatten()
    }

    /// Binds where TLS is to be served, if it is.
    ///
    /// # Errors
    /// Names the address that cannot be bound, and for ports that need a right, the remedy.
    pub fn bind(
        tls: Option<(&Self, Tls)>,
        passed: &mut InheritedSockets,
        threads: usize,
        sharing: Sharing,
    ) -> anyhow::Result<Option<(Vec<Listeners>, Tls)>> {
        tls.map(|(settings, tls)| Ok((passed.or_bind(&settings.listen, threads, sharing)?, tls)))
            .transpose()
    }
}

/// TLS as every thread serves it. Clones share everything.
#[derive(Debug, Clone)]
pub struct Tls {
    /// What new sessions begin with.
    pub config: Arc<ServerConfig>,
    /// The certificates now, swapped whole when files change.
    pub chosen: Arc<Chosen>,
    /// Where they are read from.
    pub pairs: Vec<Pair>,
}

impl Tls {
    fn new(pairs: Vec<Pair>, certificates: Certificates) -> Result<Self, rustls::Error> {
        let chosen = Arc::new(Chosen::new(certificates));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(chosen.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets hold a session on the client's side, sealed with keys that change every six hours.
        config.ticketer = ring::Ticketer::new()?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(Self {
            config: Arc::new(config),
            chosen,
            pairs,
        })
    }
}

impl Tls {
    /// When the first of the certificates in use ends.
    pub fn expires(&self) -> UnixMs {
        let first = self
            .chosen
            .now()
            .expiries
            .iter()
            .map(|expiry| expiry.at)
            .min()
            .unwrap_or_default();
        u64::try_from(first).unwrap_or_default() * 1000
    }
}

fn paths(text: &str) -> Result<Vec<PathBuf>, String> {
    let paths: Vec<PathBuf> = list(text).into_iter().map(PathBuf::from).collect();
    if paths.is_empty() {
        Err("is empty: write a PEM file or remove the key".into())
    } else {
        Ok(paths)
    }
}

fn pairs(text: &str, keys: &[PathBuf]) -> Result<Vec<Pair>, String> {
    let certificates = paths(text)?;
    if certificates.len() != keys.len() {
        return Err(format!(
            "names {} certificates, tls_key {} keys: write one key for each certificate, in the same order",
            certificates.len(),
            keys.len()
        ));
    }
    Ok(certificates
        .into_iter()
        .zip(keys)
        .map(|(certificate, key)| Pair {
            certificate,
            key: key.clone(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::ini::Document;

    fn take(text: &str) -> Result<Option<TlsSettings>, String> {
        let (document, problems) = Document::parse("f", &format!("[global]\n{text}"));
        let mut global = Global::new(&document, problems, |_| None);
        let tls = TlsSettings::take(
            &mut global,
            &ListenAddresses::with_port("127.0.0.1:80, 127.0.0.1:81", 1).expect("valid"),
        );
        global.finish(tls).map_err(|problems| problems.to_string())
    }

    #[test]
    fn certificates_and_keys_come_in_pairs() {
        let tls = take("tls_cert = a.pem, b.pem\ntls_key = a.key, b.key")
            .expect("good")
            .expect("TLS");
        assert_eq!(
            (
                tls.listen.first().to_string().as_str(),
                tls.listen.iter().count(),
                tls.pairs.len()
            ),
            ("127.0.0.1:443", 1, 2)
        );
        assert_eq!(
            tls.pairs[1],
            Pair {
                certificate: "b.pem".into(),
                key: "b.key".into()
            }
        );
        let tls = take("tls_cert = a\ntls_key = k\ntls_bind = [::1]\ntls_port = 8443")
            .expect("good")
            .expect("TLS");
        assert_eq!(tls.listen.first().to_string(), "[::1]:8443");
        assert_eq!(take("").expect("good"), None);
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_its_line() {
        assert!(
            take("tls_key = a\ntls_cert = a, b")
                .expect_err("one key")
                .starts_with("f:3: tls_cert: names 2 certificates, tls_key 1")
        );
        assert!(
            take("tls_cert = a")
                .expect_err("no key")
                .starts_with("f:2: tls_cert: names 1 certificates, tls_key 0")
        );
        assert!(
            take("tls_port = 443")
                .expect_err("no certificate")
                .starts_with("f:2: tls_port: is of no use without tls_cert")
        );
    }
}
