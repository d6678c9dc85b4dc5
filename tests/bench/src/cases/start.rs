//! From exec to the first redirect of `rbalancer up`.

use super::Effort;
use crate::configuration::{self, HOST};
use crate::load::{Manner, is_whole_redirect};
use crate::report::{Bound, Report, Target};
use crate::server::{PATIENCE, SERVER_CORE, Server, ask, free_port};
use crate::spread::Spread;
use anyhow::ensure;
use std::time::{Duration, Instant};

/// With a small table and a large one.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    let mut report = Report::new("From exec to the first redirect, ms", &["table", "ms"]);
    for (farms, servers, bound) in [(1, 2, Some(50.0)), (effort.farms, 10, None)] {
        let mut times = Vec::new();
        for _ in 0..effort.rounds {
            times.push(once(effort, farms, servers)?.as_secs_f64() * 1000.0);
        }
        let spread = Spread::of(times);
        report
            .rows
            .push(vec![format!("{farms} × {servers}"), spread.to_string()]);
        if let Some(bound) = bound {
            report.targets.push(Target::new(
                "ms from exec to the first redirect",
                spread,
                Bound::AtMost(bound),
            ));
        }
    }
    report
        .notes
        .push("taskset is in it: it becomes rbalancer.".into());
    Ok(report)
}

fn once(effort: &Effort, farms: usize, servers: usize) -> anyhow::Result<Duration> {
    let port = free_port()?;
    let file = configuration::write(
        &effort.folder,
        "start.conf",
        &configuration::rbalancer(port, 1, farms, servers, "img"),
    )?;
    let (program, request) = (
        effort.programs.join("rbalancer"),
        Manner::KeepAlive.request(HOST),
    );
    let command = [
        &*program.to_string_lossy(),
        "up",
        "-c",
        &file.to_string_lossy(),
    ];
    let began = Instant::now();
    let server = Server::start("start", port, &command, SERVER_CORE, &effort.folder)?;
    loop {
        if ask(port, &request).is_ok_and(|answer| is_whole_redirect(answer.as_bytes())) {
            return Ok(began.elapsed());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "no redirect in {PATIENCE:?}:\n{}",
            server.words()
        );
    }
}
