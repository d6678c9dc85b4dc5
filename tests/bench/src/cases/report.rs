//! The stats of a large cluster: what they cost statsd and Redis each second with nobody looking, one and many.

use super::Effort;
use crate::cluster::{Cluster, Others};
use crate::configuration;
use crate::report::{Bound, Report, Target};
use crate::server::{PATIENCE, SERVER_CORE, Server, free_port};
use crate::spread::Spread;
use anyhow::{Context, ensure};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// Redirectors of the cluster.
const REPLICAS: usize = 100;

/// Farms of ten servers, a tenth of what the other cases have.
const SHARE: usize = 10;

/// Both forms a second, for so many viewers.
const VIEWERS: [usize; 3] = [0, 1, 10];

/// The shortest measurement: statsd reads once a second.
const SHORTEST: Duration = Duration::from_secs(10);

/// What one measurement found, each per second.
struct Found {
    statsd_ms: f64,
    redis_ms: f64,
    calls: f64,
    page_ms: Vec<f64>,
    json_ms: Vec<f64>,
}

/// CPU of statsd and Redis by the number of viewers.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    let farms = (effort.farms / SHARE).max(1);
    let cluster = Cluster::start(
        &configuration::watched(farms, 10, |_| 80),
        &effort.programs,
        &effort.folder,
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut others = runtime.block_on(Others::join(&cluster.store, REPLICAS))?;
    let port = free_port()?;
    let program = effort.programs.join("rbalancer-statsd");
    let statsd = cluster.run(
        &program,
        port,
        &["--listen", &format!("127.0.0.1:{port}")],
        SERVER_CORE,
        &effort.folder,
    )?;
    let began = Instant::now();
    while !get(port, "/readyz").is_ok_and(|(_, answer)| answer.starts_with(b"HTTP/1.1 200")) {
        ensure!(
            began.elapsed() < PATIENCE,
            "statsd does not get ready:\n{}",
            statsd.words()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let columns = [
        "viewers",
        "statsd: CPU ms per second",
        "Redis: ms per second",
        "commands per second",
        "page: ms",
        "JSON: ms",
    ];
    let title = format!(
        "Stats of {farms} farms × 10 servers, {REPLICAS} redirectors: read once a second, page and JSON for each viewer"
    );
    let mut report = Report::new(title, &columns);
    for viewers in VIEWERS {
        let mut found = Vec::new();
        for _ in 0..effort.rounds.min(3) {
            found.push(measure(
                effort.time.max(SHORTEST),
                viewers,
                &statsd,
                &mut others,
                &runtime,
            )?);
        }
        let spread = |figure: fn(&Found) -> f64| Spread::of(found.iter().map(figure));
        let all =
            |times: fn(&Found) -> &Vec<f64>| Spread::of(found.iter().flat_map(times).copied());
        let shown = |spread: Spread| {
            if spread.median.is_nan() {
                String::new()
            } else {
                spread.to_string()
            }
        };
        let cells = [
            spread(|found| found.statsd_ms),
            spread(|found| found.redis_ms),
            spread(|found| found.calls),
        ];
        let times = [all(|found| &found.page_ms), all(|found| &found.json_ms)];
        report.rows.push(
            [
                vec![viewers.to_string()],
                [&cells[..], &times[..]]
                    .concat()
                    .into_iter()
                    .map(shown)
                    .collect(),
            ]
            .concat(),
        );
        if viewers == 1 {
            report.targets.push(Target::new(
                "CPU ms from store data to page and JSON",
                cells[0],
                Bound::AtMost(50.0),
            ));
        }
    }
    let (page, json) = (
        get(port, "/stats")?.1.len(),
        get(port, "/stats.json")?.1.len(),
    );
    report.notes.push(format!(
        "Page {page} bytes, JSON {json}; statsd {:.0} MiB.",
        statsd.memory()? as f64 / f64::from(1 << 20)
    ));
    report.notes.push("Redis: what it did for readers, by its own words (INFO commandstats); the load shares its core.".into());
    Ok(report)
}

fn measure(
    time: Duration,
    viewers: usize,
    statsd: &Server,
    others: &mut Others,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<Found> {
    let (began, cpu, reads) = (
        Instant::now(),
        statsd.cpu()?,
        runtime.block_on(others.reads())?,
    );
    let mut found = Found {
        statsd_ms: 0.0,
        redis_ms: 0.0,
        calls: 0.0,
        page_ms: Vec::new(),
        json_ms: Vec::new(),
    };
    let mut next = began;
    while began.elapsed() < time {
        next += Duration::from_secs(1);
        runtime.block_on(others.second())?;
        for _ in 0..viewers {
            found.page_ms.push(get(statsd.port, "/stats")?.0);
            found.json_ms.push(get(statsd.port, "/stats.json")?.0);
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let (seconds, after) = (
        began.elapsed().as_secs_f64(),
        runtime.block_on(others.reads())?,
    );
    found.statsd_ms = (statsd.cpu()? - cpu).as_secs_f64() * 1000.0 / seconds;
    found.redis_ms = (after.busy - reads.busy) as f64 / 1000.0 / seconds;
    found.calls = (after.calls - reads.calls) as f64 / seconds;
    Ok(found)
}

/// An answer with its head, and the milliseconds it took.
fn get(port: u16, path: &str) -> anyhow::Result<(f64, Vec<u8>)> {
    let (began, mut answer) = (Instant::now(), Vec::new());
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: stats\r\nConnection: close\r\n\r\n"
    )?;
    stream
        .read_to_end(&mut answer)
        .with_context(|| format!("{path} of statsd"))?;
    Ok((began.elapsed().as_secs_f64() * 1000.0, answer))
}
