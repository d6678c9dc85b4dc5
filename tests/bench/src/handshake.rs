//! Clients that shake hands: a few threads, each with one connection after the other, a TLS 1.3 handshake on each, one
//! request behind it, and the server's end.

use crate::configuration::HOST;
use crate::load::{Manner, is_whole_redirect};
use anyhow::{Context, ensure};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients at once.
const CLIENTS: usize = 8;

/// How long one connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shakes hands with the server at `port` for `time`, whose certificate is `certificate`, all `kind` but for each
/// client's first; how many were.
///
/// # Errors
/// When a handshake or a request fails, or a session is not resumed.
pub fn load(
    port: u16,
    certificate: &CertificateDer<'static>,
    kind: HandshakeKind,
    time: Duration,
) -> anyhow::Result<u64> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let began = Instant::now();
    let client = || {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        if kind == HandshakeKind::Full {
            config.resumption = Resumption::disabled();
        }
        let (config, mut count) = (Arc::new(config), 0);
        connect(port, config.clone())?;
        while began.elapsed() < time {
            let found = connect(port, config.clone())?;
            ensure!(found == Some(kind), "{found:?} instead of {kind:?}");
            count += 1;
        }
        // The first is one too.
        anyhow::Ok(count + 1)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients
            .into_iter()
            .map(|client| {
                client
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
            })
            .sum()
    })
}

/// One connection from its begin to its end.
fn connect(port: u16, config: Arc<ClientConfig>) -> anyhow::Result<Option<HandshakeKind>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let session = ClientConnection::new(config, ServerName::try_from(HOST)?)?;
    let mut stream = StreamOwned::new(session, stream);
    stream.write_all(&Manner::ServerCloses.request(HOST))?;
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        // A close without the goodbye of TLS loses nothing here.
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
            return Err(error).context("no end of the answer");
        }
        _ => {}
    }
    ensure!(
        is_whole_redirect(&reply),
        "no redirect: {}",
        String::from_utf8_lossy(&reply)
    );
    Ok(stream.conn.handshake_kind())
}
