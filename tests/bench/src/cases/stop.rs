//! How long a server takes to end while a thousand clients are connected and say nothing.

use super::memory::{hold, raise_limit};
use super::tls::{Identity, Subject, subjects};
use super::{Effort, SETTLE};
use crate::configuration::HOST;
use crate::report::{Bound, Report, Target};
use crate::spread::Spread;
use anyhow::Context;
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Clients that are connected.
const IDLE: usize = 1000;

/// How long they have been idle: longer than a pause between two requests.
const REST: Duration = Duration::from_millis(1200);

/// Who has not ended by then does not.
const LIMIT: Duration = Duration::from_secs(20);

/// What the clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    Http1,
    Tls,
    Http2,
}

impl Speech {
    const ALL: [Self; 3] = [Self::Http1, Self::Tls, Self::Http2];

    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1",
            Self::Tls => "HTTP/1 over TLS",
            Self::Http2 => "HTTP/2",
        }
    }

    /// The protocol that is offered, and what is said once the connection is there.
    fn first(self) -> (&'static [u8], Vec<u8>) {
        match self {
            // The preface and empty SETTINGS (RFC 9113 section 3.4).
            Self::Http2 => (
                b"h2",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
            ),
            _ => (
                b"http/1.1",
                format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\n\r\n").into_bytes(),
            ),
        }
    }
}

/// The gentle signal of each, and the hard one where that is another.
const SIGNALS: [(&str, &[(&str, Signal)]); 3] = [
    ("rbalancer", &[("TERM", Signal::TERM)]),
    ("haproxy", &[("USR1", Signal::USR1), ("TERM", Signal::TERM)]),
    ("nginx", &[("QUIT", Signal::QUIT), ("TERM", Signal::TERM)]),
];

/// Each server with each of its signals and each kind of client, in a process of its own.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    raise_limit()?;
    let identity = Identity::make(effort)?;
    let mut columns = vec!["", "signal"];
    columns.extend(Speech::ALL.map(Speech::name));
    let title = format!("Seconds from the signal to the end, {IDLE} idle clients");
    let mut report = Report::new(title, &columns);
    for (name, signals) in SIGNALS {
        for (word, signal) in signals {
            let mut row = vec![name.to_owned(), (*word).to_owned()];
            for speech in Speech::ALL {
                let took = stop(effort, &identity, name, *signal, speech)?;
                row.push(took.map_or_else(
                    || format!("over {}", LIMIT.as_secs()),
                    |took| format!("{:.2}", took.as_secs_f64()),
                ));
                if name == "rbalancer" {
                    let took = took.unwrap_or(LIMIT).as_secs_f64();
                    let what = format!("rbalancer, {}", speech.name());
                    let target = Target::new(what, Spread::of([took]), Bound::AtMost(2.0));
                    report.targets.push(target);
                }
            }
            report.rows.push(row);
        }
    }
    Ok(report)
}

/// How long one of them takes to end.
fn stop(
    effort: &Effort,
    identity: &Identity,
    name: &str,
    signal: Signal,
    speech: Speech,
) -> anyhow::Result<Option<Duration>> {
    let mut subjects = subjects(effort, identity)?;
    let found = subjects
        .iter_mut()
        .find(|subject| subject.server.name == name);
    let Subject { server, port, .. } = found.context("it is one of them")?;
    let (mut plain, mut secure) = (Vec::new(), Vec::new());
    if speech == Speech::Http1 {
        plain = hold(server, IDLE)?;
    } else {
        let config = config(identity.der.clone(), speech)?;
        for _ in 0..IDLE {
            secure.push(connect(*port, &config, speech)?);
        }
    }
    std::thread::sleep(REST + SETTLE);
    server.signal(signal)?;
    let took = server.ended(LIMIT)?;
    drop((plain, secure));
    Ok(took)
}

fn config(
    certificate: CertificateDer<'static>,
    speech: Speech,
) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![speech.first().0.to_vec()];
    Ok(Arc::new(config))
}

/// A client that has said its first words, and heard something.
fn connect(
    port: u16,
    config: &Arc<ClientConfig>,
    speech: Speech,
) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let session = ClientConnection::new(config.clone(), ServerName::try_from(HOST)?)?;
    let mut stream = StreamOwned::new(session, socket);
    stream.write_all(&speech.first().1)?;
    let heard = stream.read(&mut [0; 4096]).context("nothing is heard")?;
    anyhow::ensure!(heard > 0, "the connection was ended at once");
    Ok(stream)
}
