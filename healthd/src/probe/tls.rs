//! TLS for probes over https: set up once, with the system's root certificates, and used by all of them.

use common::model::check::Check;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// From one look for root certificates to the next, while there are none.
const AGAIN: Duration = Duration::from_secs(5);

/// What probes over https need.
#[derive(Clone)]
pub(crate) struct ProbeTls {
    provider: Arc<CryptoProvider>,
    /// None while the system has no root certificates: they are looked for again when a probe needs them. Roots once
    /// read are kept, so a certificate store that is emptied later changes nothing.
    verifying: Arc<OnceLock<TlsConnector>>,
    /// When they were looked for last.
    looked: Arc<Mutex<Instant>>,
    unverifying: Option<TlsConnector>,
}

impl ProbeTls {
    /// TLS 1.2 and 1.3 by ring.
    pub(crate) fn new() -> Self {
        let provider = Arc::new(ring::default_provider());
        let unverifying = Anyone(provider.signature_verification_algorithms);
        let unverifying = configuration(&provider, |versions| {
            versions
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(unverifying))
                .with_no_client_auth()
        });
        Self {
            provider,
            verifying: Arc::default(),
            looked: Arc::new(Mutex::new(Instant::now())),
            unverifying,
        }
    }

    /// What verifies certificates, or not; none where it cannot be set up.
    pub(crate) async fn connector(&self, verify: bool) -> Option<TlsConnector> {
        if !verify {
            return self.unverifying.clone();
        }
        if self.verifying.get().is_none() && self.is_due() {
            let tls = self.clone();
            // Files, perhaps on a slow disk.
            let _ = tokio::task::spawn_blocking(move || tls.look_for_roots()).await;
        }
        self.verifying.get().cloned()
    }

    /// Whether to look for roots again; then nobody else does so now.
    fn is_due(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = looked.elapsed() >= AGAIN;
        if is_due {
            *looked = Instant::now();
        }
        is_due
    }

    /// Reads the system's root certificates.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) fn look_for_roots(&self) -> Result<(), String> {
        let (found, mut roots) = (
            rustls_native_certs::load_native_certs(),
            RootCertStore::empty(),
        );
        // A certificate that cannot be read is left out, as everywhere.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(found.errors.first().map_or_else(
                || "no root certificates are found".into(),
                ToString::to_string,
            ));
        }
        // Another probe may have been quicker.
        let _ = self
            .verifying
            .set(self.with_roots(roots).ok_or("TLS cannot be set up")?);
        Ok(())
    }

    fn with_roots(&self, roots: RootCertStore) -> Option<TlsConnector> {
        configuration(&self.provider, |versions| {
            versions.with_root_certificates(roots).with_no_client_auth()
        })
    }

    /// With one root certificate alone.
    #[cfg(test)]
    pub(crate) fn trusting(root: CertificateDer<'_>) -> Self {
        let (tls, mut roots) = (Self::new(), RootCertStore::empty());
        roots.add(root.into_owned()).expect("a certificate");
        assert!(
            tls.verifying
                .set(tls.with_roots(roots).expect("versions"))
                .is_ok()
        );
        tls
    }
}

type Versions = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn configuration(
    provider: &Arc<CryptoProvider>,
    complete: impl FnOnce(Versions) -> ClientConfig,
) -> Option<TlsConnector> {
    let versions = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .ok()?;
    let mut configuration = complete(versions);
    // A probe is to find out whether a new client is served, at the price of a new client.
    configuration.resumption = rustls::client::Resumption::disabled();
    Some(TlsConnector::from(Arc::new(configuration)))
}

/// Shakes hands with the server of `check`, whose name the certificate must carry whatever address is asked.
pub(crate) async fn handshake(
    connector: &TlsConnector,
    check: &Check,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = check.host.as_str().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    connector.connect(name, stream).await
}

/// Takes any certificate (`check_tls_verify = off`); that the server holds its key is proven all the same.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
