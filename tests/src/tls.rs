//! TLS from outside: certificates of the tests' own, `rbalancer up` with them, and a client that trusts anybody and
//! tells whom it met.

use crate::START;
use crate::process::Process;
use crate::up::write;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A certificate for `names`, written as `NAME.pem` and `NAME.key`; its bytes.
pub fn certificate(directory: &Path, name: &str, names: &[&str]) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>(),
    );
    let made = made.expect("a certificate");
    write(directory, &format!("{name}.pem"), made.cert.pem());
    write(
        directory,
        &format!("{name}.key"),
        made.signing_key.serialize_pem(),
    );
    made.cert.der().to_vec()
}

/// A running `rbalancer up` with a TLS port.
#[derive(Debug)]
pub struct SecureUp {
    /// The process.
    pub process: Process,
    /// Where it answers without TLS.
    pub plain: SocketAddr,
    /// Where it answers with TLS.
    pub secure: SocketAddr,
    /// Where its configuration and certificates lie.
    pub directory: TempDir,
}

impl SecureUp {
    /// Starts it with `a.pem` for img.test; `global` and `farm` are more lines, `servers` name and domain.
    pub fn start(global: &str, farm: &str, servers: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        certificate(directory.path(), "a", &["img.test"]);
        Self::start_in(
            directory,
            &format!("tls_cert = a.pem\ntls_key = a.key\n{global}"),
            farm,
            servers,
        )
    }

    /// Starts it in a directory with certificates; `global` names them.
    pub fn start_in(
        directory: TempDir,
        global: &str,
        farm: &str,
        servers: &[(&str, &str)],
    ) -> Self {
        let file = write(
            directory.path(),
            "rbalancer.conf",
            configuration(global, farm, servers),
        );
        let process = Process::start(
            "rbalancer",
            directory.path(),
            &["up", "-c", &file, "--listen", "127.0.0.1:0"],
            &[],
        );
        let plain = process.wait_for_address(START);
        let line = process.wait_for_line("listening for TLS on ", START);
        let secure = line
            .rsplit(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .expect("an address at the end of the line");
        Self {
            process,
            plain,
            secure,
            directory,
        }
    }
}

/// A configuration with TLS on a free port.
pub fn configuration(global: &str, farm: &str, servers: &[(&str, &str)]) -> String {
    let names: Vec<&str> = servers.iter().map(|(name, _)| *name).collect();
    let sections: String = servers
        .iter()
        .map(|(name, domain)| format!("[{name}]\ndomain = {domain}\n"))
        .collect();
    format!(
        "[global]\ncheck = off\ntls_bind = 127.0.0.1:0\n{global}\n[farms]\nlist = img\n[img]\ndomain = img.test\nlist = {}\n{farm}\n{sections}",
        names.join(", ")
    )
}

/// How clients begin; sessions are resumed among those that share one.
pub fn client(versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("known versions");
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A client of any version that speaks HTTP/1.1.
pub fn http1() -> Arc<ClientConfig> {
    client(rustls::ALL_VERSIONS, &["http/1.1"])
}

/// A connection to a TLS port.
#[derive(Debug)]
pub struct Secured(pub StreamOwned<ClientConnection, TcpStream>);

impl Secured {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// As the handshake gives them.
    pub fn open(address: SocketAddr, host: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        Self::open_behind(address, &[], host, config)
    }

    /// The same with bytes in front of the handshake, one by one: those of a proxy.
    ///
    /// # Errors
    /// As the handshake gives them.
    pub fn open_behind(
        address: SocketAddr,
        before: &[u8],
        host: &str,
        config: Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let name = ServerName::try_from(host.to_owned()).expect("a host name");
        before
            .iter()
            .try_for_each(|byte| stream.write_all(std::slice::from_ref(byte)))?;
        let mut session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Self(StreamOwned::new(session, stream)))
    }

    /// The certificate the server showed.
    pub fn certificate(&self) -> Vec<u8> {
        self.0
            .conn
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|own| own.to_vec())
            .unwrap_or_default()
    }

    /// Asks and reads an answer without a body; its head.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn head(&mut self, target: &str) -> io::Result<String> {
        self.0
            .write_all(format!("GET {target} HTTP/1.1\r\nHost: img.test\r\n\r\n").as_bytes())?;
        self.read_head()
    }

    /// Reads to the end of a head.
    ///
    /// # Errors
    /// When the connection breaks before it.
    pub fn read_head(&mut self) -> io::Result<String> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    /// Whether the server ends the connection.
    pub fn is_ended(&mut self) -> bool {
        let mut rest = Vec::new();
        !matches!(self.0.read_to_end(&mut rest), Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

/// Asks once over a new connection; the head of the answer.
pub fn ask(address: SocketAddr, target: &str) -> String {
    let asked = Secured::open(address, "img.test", http1())
        .and_then(|mut connection| connection.head(target));
    asked.unwrap_or_else(|error| panic!("GET {target} at {address}: {error}"))
}

/// Takes every certificate: whose it is, is for the test to say.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
