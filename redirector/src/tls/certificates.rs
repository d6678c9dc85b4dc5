//! The certificates and keys: read from PEM files, proven to belong together, chosen by the host a client names.

use arc_swap::ArcSwap;
use common::files;
use common::model::generation::checksum;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The largest file read; the longest real chains are a tenth of it.
const MAX_SIZE: u64 = 1 << 20;

/// When a certificate ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The certificate's file.
    pub file: PathBuf,
    /// Seconds since 1970.
    pub at: i64,
}

/// A pair that was read and found good.
#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    /// Names in lower case, `*.` included.
    names: Vec<String>,
    expiry: Expiry,
    /// What the files held, to see that they changed; what the key is cannot be told from it.
    checksum: String,
}

/// The certificates in use, one for each pair. Never empty.
#[derive(Debug)]
pub struct Certificates {
    loaded: Vec<Arc<Loaded>>,
    /// Each name, and the first certificate that holds it.
    by_name: HashMap<String, usize>,
    /// When each ends.
    pub expiries: Vec<Expiry>,
}

/// What is wrong, by file.
pub(crate) type PairProblems = Vec<(PathBuf, String)>;

impl Certificates {
    /// Reads every pair.
    ///
    /// # Errors
    /// Names every file that is no good.
    pub fn read(pairs: &[Pair]) -> Result<Self, PairProblems> {
        let (mut loaded, mut problems) = (Vec::new(), Vec::new());
        for pair in pairs {
            match Contents::read(pair).and_then(|contents| contents.load(pair)) {
                Ok(good) => loaded.push(Arc::new(good)),
                Err(bad) => problems.extend(bad),
            }
        }
        if problems.is_empty() {
            Ok(Self::of(loaded))
        } else {
            Err(problems)
        }
    }

    /// Reads the same pairs again: new certificates, if any pair has changed, and what is wrong with others, which
    /// keep theirs.
    pub fn again(&self, pairs: &[Pair]) -> (Option<Self>, PairProblems) {
        let (mut changed, mut problems) = (false, Vec::new());
        let mut renew = |(pair, old): (&Pair, &Arc<Loaded>)| match Contents::read(pair) {
            Ok(contents) if contents.checksum() == old.checksum => old.clone(),
            read => match read.and_then(|contents| contents.load(pair)) {
                Ok(new) => {
                    changed = true;
                    Arc::new(new)
                }
                Err(bad) => {
                    problems.extend(bad);
                    old.clone()
                }
            },
        };
        let loaded = pairs.iter().zip(&self.loaded).map(&mut renew).collect();
        (changed.then(|| Self::of(loaded)), problems)
    }

    fn of(loaded: Vec<Arc<Loaded>>) -> Self {
        let mut by_name = HashMap::new();
        for (index, pair) in loaded.iter().enumerate() {
            for name in &pair.names {
                by_name.entry(name.clone()).or_insert(index);
            }
        }
        let expiries = loaded.iter().map(|pair| pair.expiry.clone()).collect();
        Self {
            loaded,
            by_name,
            expiries,
        }
    }

    /// Whether a certificate is for `host`, in lower case.
    pub fn covers(&self, host: &str) -> bool {
        let beside = || {
            host.split_once('.')
                .is_some_and(|(_, rest)| self.by_name.contains_key(&format!("*.{rest}")))
        };
        self.by_name.contains_key(host) || beside()
    }

    /// The certificate for the host a client names: its own, else one for every name beside it, else the first.
    fn choose(&self, host: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let found = host.and_then(|host| {
            let host = host.to_ascii_lowercase();
            let host = host.trim_end_matches('.');
            let beside = || self.by_name.get(&format!("*.{}", host.split_once('.')?.1));
            self.by_name.get(host).or_else(beside)
        });
        self.loaded
            .get(found.copied().unwrap_or(0))
            .map(|pair| pair.key.clone())
    }
}

/// What the files of a pair held.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    fn read(pair: &Pair) -> Result<Self, PairProblems> {
        match (read(&pair.certificate), read(&pair.key)) {
            (Ok(certificate), Ok(key)) => Ok(Self { certificate, key }),
            (certificate, key) => Err([
                (&pair.certificate, certificate.err()),
                (&pair.key, key.err()),
            ]
            .into_iter()
            .filter_map(|(file, error)| {
                error.map(|error| (file.clone(), format!("cannot be read: {error}")))
            })
            .collect()),
        }
    }

    fn checksum(&self) -> String {
        checksum(&self.certificate) + &checksum(&self.key)
    }

    /// A pair that may be used, if it is good.
    fn load(&self, pair: &Pair) -> Result<Loaded, PairProblems> {
        let of_certificate = |message: String| vec![(pair.certificate.clone(), message)];
        let of_key = |message: String| vec![(pair.key.clone(), message)];
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| of_certificate(format!("is no PEM file of certificates: {error}")))?;
        let Some(own) = chain.first().cloned() else {
            return Err(of_certificate(
                "holds no certificate: it must hold the server's own, then its chain, in PEM"
                    .into(),
            ));
        };
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            of_key(format!(
                "holds no private key in PEM (PKCS #8, RSA or EC, without a password): {error}"
            ))
        })?;
        let provider = ring::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                of_key(format!("is not the key of {}: name the key it was made with", pair.certificate.display()))
            }
            _ => of_key(format!(
                "{}: use an RSA key of 2048 bits or more, an ECDSA key on P-256 or P-384, or an Ed25519 key",
                unsupported(&self.key)
            )),
        })?;
        let (names, at) = parse(&own).map_err(of_certificate)?;
        Ok(Loaded {
            key: Arc::new(key),
            names,
            expiry: Expiry {
                file: pair.certificate.clone(),
                at,
            },
            checksum: self.checksum(),
        })
    }
}

/// What is wrong with a private key that is in order and cannot be used, as far as its algorithm says: the identifiers
/// of RFC 5480 section 2.1.1.1, SEC 2 and RFC 8410 section 3, in DER.
fn unsupported(pem: &[u8]) -> String {
    const KNOWN: [(&str, &[u8]); 4] = [
        (
            "an ECDSA key on P-521",
            &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
        ),
        (
            "an ECDSA key on P-224",
            &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21],
        ),
        (
            "an ECDSA key on secp256k1",
            &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a],
        ),
        ("an Ed448 key", &[0x06, 0x03, 0x2b, 0x65, 0x71]),
    ];
    let key = PrivateKeyDer::from_pem_slice(pem).ok();
    let bytes = key
        .as_ref()
        .map(PrivateKeyDer::secret_der)
        .unwrap_or_default();
    let known = KNOWN
        .iter()
        .find(|(_, identifier)| memchr::memmem::find(bytes, identifier).is_some());
    known.map_or_else(
        || "cannot be used".into(),
        |(name, _)| format!("is {name}, which is not supported"),
    )
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = files::open_regular(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(MAX_SIZE + 1)
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    });
    match read {
        Ok(bytes) if bytes.len() as u64 > MAX_SIZE => {
            Err(format!("is larger than {MAX_SIZE} bytes"))
        }
        read => read.map_err(|error| error.to_string()),
    }
}

/// The DNS names a certificate is for, and when it ends.
fn parse(own: &CertificateDer<'_>) -> Result<(Vec<String>, i64), String> {
    let (_, parsed) = X509Certificate::from_der(own)
        .map_err(|error| format!("holds a certificate that cannot be read: {error}"))?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names
        .into_iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
    Ok((names.collect(), parsed.validity().not_after.timestamp()))
}

/// The certificates in use: handshakes take from here whatever is newest.
#[derive(Debug)]
pub struct Chosen(ArcSwap<Certificates>);

impl Chosen {
    /// Begins with `certificates`.
    pub fn new(certificates: Certificates) -> Self {
        Self(ArcSwap::from_pointee(certificates))
    }

    /// Uses `certificates` for every handshake from now on.
    pub fn swap(&self, certificates: Certificates) {
        self.0.store(Arc::new(certificates));
    }

    /// The certificates now.
    pub fn now(&self) -> Arc<Certificates> {
        self.0.load_full()
    }
}

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().choose(hello.server_name())
    }
}

/// A certificate with its chain, and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

#[cfg(test)]
mod tests;
