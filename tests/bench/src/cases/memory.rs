//! Anonymous memory of the server for each idle keep-alive connection.

use super::{Effort, peers};
use crate::configuration::{CONNECTIONS, HOST};
use crate::load::{Manner, is_whole_redirect};
use crate::report::{Bound, Report, Target};
use crate::server::Server;
use crate::socket::{dial, receive, send};
use crate::spread::Spread;
use anyhow::{Context, ensure};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Of three servers: before, with all connections, and the difference.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    raise_limit()?;
    let columns = ["", "bytes per connection", "before, MiB", "with all, MiB"];
    let mut report = Report::new(
        format!("Anonymous memory per idle connection, {CONNECTIONS} connections"),
        &columns,
    );
    for server in peers(effort)? {
        // What is made once is no part of a connection.
        drop(hold(&server, 100)?);
        std::thread::sleep(Duration::from_millis(200));
        let before = server.memory()?;
        let held = hold(&server, CONNECTIONS)?;
        let after = server.memory()?;
        let each = (after.saturating_sub(before)) as f64 / held.len() as f64;
        let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        report.rows.push(vec![
            server.name.clone(),
            format!("{each:.0}"),
            mebibytes(before),
            mebibytes(after),
        ]);
        if server.name == "rbalancer" {
            report.targets.push(Target::new(
                "bytes per idle connection",
                Spread::of([each]),
                Bound::AtMost(900.0),
            ));
        }
    }
    report.notes.push(
        "nginx and haproxy set a part of it aside at the start: see the column before.".into(),
    );
    Ok(report)
}

/// Connections that have each had one answer.
pub(super) fn hold(server: &Server, count: usize) -> anyhow::Result<Vec<OwnedFd>> {
    let request = Manner::KeepAlive.request(HOST);
    (0..count)
        .map(|turn| {
            let socket = dial(server.port, turn as u32)?;
            send(&socket, &request)
                .with_context(|| format!("connection {turn} of {}", server.name))?;
            let (mut reply, mut piece, began) = (Vec::new(), [0; 4096], Instant::now());
            while !is_whole_redirect(&reply) {
                ensure!(
                    began.elapsed() < Duration::from_secs(5),
                    "connection {turn} of {} gets no answer",
                    server.name
                );
                match receive(&socket, &mut piece) {
                    Ok(0) => anyhow::bail!("{} closed connection {turn}", server.name),
                    Ok(read) => reply.extend_from_slice(&piece[..read]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(socket)
        })
        .collect()
}

pub(super) fn raise_limit() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let needed = CONNECTIONS as u64 + 100;
    ensure!(
        maximum.is_none_or(|maximum| maximum >= needed),
        "{needed} descriptors are needed: raise the hard limit (ulimit -Hn)"
    );
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?)
}
