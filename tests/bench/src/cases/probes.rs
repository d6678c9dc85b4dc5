//! What it costs healthd to probe many servers every two seconds.

use super::Effort;
use crate::cluster::{Cluster, OTHER_CORE};
use crate::configuration;
use crate::report::{Bound, Report, Target};
use crate::server::{PATIENCE, SERVER_CORE, Server, ask, free_port};
use crate::spread::Spread;
use anyhow::{Context, ensure};
use std::time::{Duration, Instant};

/// Farms of ten servers, a tenth of what the other cases have.
const SHARE: usize = 10;

/// The shortest measurement: every server is probed a few times in it.
const SHORTEST: Duration = Duration::from_secs(6);

/// What every origin says.
const REPLY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What one measurement found.
struct Found {
    /// CPU seconds per second.
    cpu: f64,
    /// Probes per second.
    probes: f64,
}

/// With every server up, and with a third of them refusing.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    let farms = (effort.farms / SHARE).max(1);
    let columns = [
        "",
        "CPU seconds per second",
        "probes per second",
        "CPU µs per probe",
        "memory, MiB",
    ];
    let mut report = Report::new(
        format!("healthd with {farms} farms × 10 servers, each probed every 2 s (HEAD over http)"),
        &columns,
    );
    for (name, refusing) in [("all up", 0), ("a third refuses", 3)] {
        let (found, memory) = with(effort, farms, refusing)?;
        // On a busy machine healthd comes to fewer probes: what all of them would take decides.
        let due = farms as f64 * 10.0 / 2.0;
        let needed = Spread::of(found.iter().map(|found| found.cpu / found.probes * due));
        report.rows.push(vec![
            name.into(),
            Spread::of(found.iter().map(|found| found.cpu)).to_string(),
            Spread::of(found.iter().map(|found| found.probes)).to_string(),
            Spread::of(found.iter().map(|found| found.cpu * 1e6 / found.probes)).to_string(),
            format!("{:.0}", memory as f64 / f64::from(1 << 20)),
        ]);
        report.targets.push(Target::new(
            format!("cores for {due} probes per second, {name}"),
            needed,
            Bound::AtMost(1.0),
        ));
    }
    report.notes.push(
        "The origins are one listener on every address of loopback, on the other core.".into(),
    );
    Ok(report)
}

/// One healthd over `farms`, where every `refusing`th server refuses connections (0: none); its figures and memory.
fn with(effort: &Effort, farms: usize, refusing: usize) -> anyhow::Result<(Vec<Found>, u64)> {
    let open = free_port()?;
    let floor = effort.programs.join("floor").to_string_lossy().into_owned();
    let command = [&*floor, &open.to_string(), "origins", REPLY];
    let _origins =
        Server::start("origins", open, &command, OTHER_CORE, &effort.folder)?.listening()?;
    // Nobody listens on port 1 of loopback.
    let port = |server: usize| {
        if refusing > 0 && server.is_multiple_of(refusing) {
            1
        } else {
            open
        }
    };
    let cluster = Cluster::start(
        &configuration::watched(farms, 10, port),
        &effort.programs,
        &effort.folder,
    )?;
    let admin = free_port()?;
    let settings = configuration::write(
        &effort.folder,
        "healthd.conf",
        &format!("[global]\nhealthd_bind = 127.0.0.1:{admin}\n"),
    )?;
    let arguments = ["--id", "bench", "-c", &*settings.to_string_lossy()];
    let healthd = cluster.run(
        &effort.programs.join("rbalancer-healthd"),
        admin,
        &arguments,
        SERVER_CORE,
        &effort.folder,
    )?;
    settle(&healthd, farms * 10)?;
    let found = (0..effort.rounds.min(3))
        .map(|_| measure(&healthd, effort.time.max(SHORTEST)))
        .collect::<anyhow::Result<_>>()?;
    Ok((found, healthd.memory()?))
}

/// Waits until every server was probed often enough for its state to be known.
fn settle(healthd: &Server, servers: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    while probes(healthd).unwrap_or(0) < 5 * servers as u64 {
        ensure!(
            began.elapsed() < PATIENCE,
            "healthd does not probe:\n{}",
            healthd.words()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn measure(healthd: &Server, time: Duration) -> anyhow::Result<Found> {
    let (began, cpu, before) = (Instant::now(), healthd.cpu()?, probes(healthd)?);
    std::thread::sleep(time);
    let seconds = began.elapsed().as_secs_f64();
    let probes = probes(healthd)?.saturating_sub(before) as f64 / seconds;
    Ok(Found {
        cpu: (healthd.cpu()? - cpu).as_secs_f64() / seconds,
        probes,
    })
}

/// Probes made so far, by its own words.
fn probes(healthd: &Server) -> anyhow::Result<u64> {
    let answer = ask(
        healthd.port,
        b"GET /metrics HTTP/1.1\r\nHost: healthd\r\nConnection: close\r\n\r\n",
    )?;
    let outcomes = answer
        .lines()
        .filter(|line| line.starts_with("rbalancer_healthd_probes_total{"));
    let totals = outcomes.map(|line| {
        line.rsplit(' ')
            .next()
            .and_then(|total| total.parse::<u64>().ok())
    });
    totals
        .sum::<Option<u64>>()
        .filter(|_| answer.contains("# EOF"))
        .context("healthd tells no probes")
}
