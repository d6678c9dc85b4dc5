//! What TLS costs the server: handshakes, full and resumed, and requests on connections that are kept, over HTTP/1 and
//! HTTP/2; beside haproxy and nginx with the same ECDSA P-256 key and TLS 1.3.

use super::{CLIENTS, Effort, SETTLE, haproxy, nginx, start_program};
use crate::configuration::{self, HOST};
use crate::handshake;
use crate::report::{Bound, Report, Target};
use crate::server::{SERVER_CORE, Server, free_port};
use crate::spread::Spread;
use anyhow::{Context, ensure};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Full,
    Resumed,
    KeepAlive,
    Http2,
}

impl Work {
    const ALL: [Self; 4] = [Self::Full, Self::Resumed, Self::KeepAlive, Self::Http2];

    fn name(self) -> &'static str {
        match self {
            Self::Full => "full handshake",
            Self::Resumed => "resumed handshake",
            Self::KeepAlive => "request, HTTP/1 kept",
            Self::Http2 => "request, HTTP/2",
        }
    }

    /// Does it for `time`; how often it was done.
    fn run(
        self,
        subject: &Subject,
        certificate: &CertificateDer<'static>,
        time: Duration,
    ) -> anyhow::Result<u64> {
        match self {
            Self::Full => handshake::load(subject.port, certificate, HandshakeKind::Full, time),
            Self::Resumed => {
                handshake::load(subject.port, certificate, HandshakeKind::Resumed, time)
            }
            Self::KeepAlive => h2load(subject.port, &["--h1"], time),
            Self::Http2 => h2load(subject.port, &["-m", "10"], time),
        }
    }
}

/// A server with its TLS port, and how often it did each work in a second of its processor time, round by round.
pub(super) struct Subject {
    pub(super) server: Server,
    pub(super) port: u16,
    rounds: [Vec<f64>; 4],
}

impl Subject {
    fn measure(
        &self,
        work: Work,
        certificate: &CertificateDer<'static>,
        time: Duration,
    ) -> anyhow::Result<f64> {
        let before = self.server.cpu()?;
        let count = work
            .run(self, certificate, time)
            .with_context(|| format!("{}, {}", self.server.name, work.name()))?;
        std::thread::sleep(SETTLE);
        Ok(count as f64 / (self.server.cpu()? - before).as_secs_f64())
    }
}

/// The key and certificate all have: as files, and for the clients.
pub(super) struct Identity {
    certificate: String,
    key: String,
    /// Both in one file.
    both: String,
    pub(super) der: CertificateDer<'static>,
}

impl Identity {
    pub(super) fn make(effort: &Effort) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let write = |name, text: &str| {
            Ok::<_, anyhow::Error>(
                configuration::write(&effort.folder, name, text)?
                    .display()
                    .to_string(),
            )
        };
        Ok(Self {
            certificate: write("tls.pem", &certificate)?,
            key: write("tls.key", &key)?,
            both: write("tls-both.pem", &(certificate + &key))?,
            der: made.cert.der().clone(),
        })
    }
}

/// Some rbalancer with a TLS port.
fn rbalancer(
    effort: &Effort,
    program: &Path,
    name: &str,
    identity: &Identity,
) -> anyhow::Result<Subject> {
    let Identity {
        certificate, key, ..
    } = identity;
    let (plain, port) = (free_port()?, free_port()?);
    let lines = format!(
        "[global]\nadmin_bind = off\ntls_bind = 127.0.0.1:{port}\ntls_cert = {certificate}\ntls_key = {key}\n"
    );
    // Servers without a scheme: who asks over https is sent to https, as with the others.
    let text = configuration::rbalancer(plain, 1, 1, 2, "img")
        .replacen("[global]\n", &lines, 1)
        .replace("http://", "");
    let file = configuration::write(&effort.folder, &format!("tls-{port}.conf"), &text)?;
    Ok(Subject {
        server: start_program(effort, program, name, plain, &file, SERVER_CORE)?,
        port,
        rounds: Default::default(),
    })
}

/// rbalancer, haproxy and nginx, each with a TLS port.
pub(super) fn subjects(effort: &Effort, identity: &Identity) -> anyhow::Result<Vec<Subject>> {
    let Identity {
        certificate,
        key,
        both,
        ..
    } = identity;
    let rbalancer = rbalancer(
        effort,
        &effort.programs.join("rbalancer"),
        "rbalancer",
        identity,
    )?;

    let theirs = free_port()?;
    let bind = format!(
        "    bind 127.0.0.1:{theirs} defer-accept backlog 4096 ssl crt {both} alpn h2,http/1.1 ssl-min-ver TLSv1.3\n"
    );
    let haproxy = Subject {
        server: haproxy(effort, &bind)?,
        port: theirs,
        rounds: Default::default(),
    };

    let theirs = free_port()?;
    let listen = format!(
        "        listen 127.0.0.1:{theirs} ssl http2 deferred backlog=4096;\n        ssl_protocols TLSv1.3;\n        \
         ssl_certificate {certificate};\n        ssl_certificate_key {key};\n"
    );
    let nginx = Subject {
        server: nginx(effort, &listen)?,
        port: theirs,
        rounds: Default::default(),
    };
    Ok(vec![rbalancer, haproxy, nginx])
}

/// Two builds of rbalancer: for each work what `program` does over what `before` does.
pub(super) fn two(
    effort: &Effort,
    before: &Path,
    program: &Path,
) -> anyhow::Result<Vec<(&'static str, Spread)>> {
    let identity = Identity::make(effort)?;
    let mut subjects = [
        rbalancer(effort, before, "before", &identity)?,
        rbalancer(effort, program, "now", &identity)?,
    ];
    measure_all(effort, &identity, &mut subjects)?;
    let [before, now] = &subjects;
    let ratio = |index: usize| Spread::ratio(&before.rounds[index], &now.rounds[index]);
    Ok(Work::ALL
        .iter()
        .enumerate()
        .map(|(index, work)| (work.name(), ratio(index)))
        .collect())
}

/// Each work by each server in turn, round by round, after one short round that does not count.
fn measure_all(
    effort: &Effort,
    identity: &Identity,
    subjects: &mut [Subject],
) -> anyhow::Result<()> {
    for round in 0..=effort.rounds {
        let time = if round == 0 {
            effort.time.min(Duration::from_secs(1))
        } else {
            effort.time
        };
        for (index, work) in Work::ALL.into_iter().enumerate() {
            for subject in &mut *subjects {
                let rate = subject.measure(work, &identity.der, time)?;
                if round > 0 {
                    subject.rounds[index].push(rate);
                }
            }
        }
    }
    Ok(())
}

/// rbalancer beside the peers.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    let identity = Identity::make(effort)?;
    let mut subjects = subjects(effort, &identity)?;
    measure_all(effort, &identity, &mut subjects)?;
    let columns = ["", "per second of processor time", "rbalancer over it"];
    let mut report = Report::new(
        "TLS 1.3, ECDSA P-256: done in a second of the server's processor time",
        &columns,
    );
    for (index, work) in Work::ALL.into_iter().enumerate() {
        let ours = subjects[0].rounds[index].clone();
        for Subject { server, rounds, .. } in &subjects {
            let name = format!("{}, {}", work.name(), server.name);
            let ratio = Spread::ratio(&ours, &rounds[index]);
            report.rows.push(vec![
                name,
                Spread::of(rounds[index].iter().copied()).to_string(),
                format!("×{ratio}"),
            ]);
        }
        let best = |round: usize| {
            subjects[1..]
                .iter()
                .map(|subject| subject.rounds[index][round])
                .fold(0.0, f64::max)
        };
        let better: Vec<f64> = (0..effort.rounds).map(best).collect();
        let what = format!("{}: rbalancer over the better of both", work.name());
        report.targets.push(Target::new(
            what,
            Spread::ratio(&ours, &better),
            Bound::AtLeast(1.0),
        ));
    }
    report.notes.push(
        "A handshake carries one request, whose answer the server ends the connection with.".into(),
    );
    Ok(report)
}

/// Requests over [`CLIENTS`] kept connections; how many were redirected, and none may fail.
fn h2load(port: u16, more: &[&str], time: Duration) -> anyhow::Result<u64> {
    let seconds = time.as_secs_f64().ceil();
    let mut load = Command::new("h2load");
    load.args([
        "-c",
        &CLIENTS.to_string(),
        "-D",
        &seconds.to_string(),
        &format!("--connect-to=127.0.0.1:{port}"),
    ])
    .args(more);
    let output = load
        .arg(format!("https://{HOST}/img/a.jpg?x=1"))
        .output()
        .context("h2load (Debian: nghttp2-client)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let number = |line: &str, word: &str| {
        let line = said.lines().find(|said| said.starts_with(line))?;
        line.split([':', ','])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
    };
    let redirected =
        number("status codes", "3xx").with_context(|| format!("h2load said:\n{said}"))?;
    let failed = ["2xx", "4xx", "5xx"]
        .iter()
        .filter_map(|word| number("status codes", word))
        .sum::<u64>();
    ensure!(
        redirected > 0 && failed == 0,
        "{failed} answers were no redirect; h2load said:\n{said}"
    );
    Ok(redirected)
}
