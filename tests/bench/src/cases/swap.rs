//! A large table is read anew under load, again and again; and a mere loop runs on that core instead, which tells how
//! much of the difference is the reading's.

use super::{CLIENTS, CROWD, Effort, measure, requests_for_all, start_rbalancer};
use crate::configuration;
use crate::load::{Load, Manner, Outcome, Pace, Sending};
use crate::report::{Bound, Report, Target};
use crate::server::{PATIENCE, SERVER_CORE, Server, free_port};
use crate::spread::Spread;
use anyhow::{Context, ensure};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// From one change to the next, if the server has taken the one by then.
const CHANGE: Duration = Duration::from_millis(500);

/// The shortest measurement: reading a large file takes seconds on a core that also serves.
const SHORTEST: Duration = Duration::from_secs(10);

/// Between two looks at what the server does.
const LOOK: Duration = Duration::from_millis(100);

/// p99 and failures with and without changes.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    let port = free_port()?;
    let edition = |mark| {
        configuration::write(
            &effort.folder,
            mark,
            &configuration::rbalancer(port, 1, effort.farms, 10, mark),
        )
    };
    let editions = [edition("img")?, edition("pic")?];
    let file = effort.folder.join("swap.conf");
    point(&file, &editions[0])?;
    let server = start_rbalancer(effort, "rbalancer", port, &file, SERVER_CORE)?;
    let requests = requests_for_all(effort.farms, Manner::KeepAlive);
    let rate = measure(
        &server,
        &Load::closed(port, Manner::KeepAlive, &requests, CLIENTS, effort.time),
    )?
    .rate()
        / 4.0;
    let time = effort.time.max(SHORTEST);
    let load = Load {
        port,
        requests: &requests,
        manner: Manner::KeepAlive,
        pace: Pace::Open(rate),
        sending: Sending::Apart,
        clients: CROWD,
        time,
    };
    let columns = [
        "",
        "requests/s",
        "changes",
        "CPU µs per redirect",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "failures",
    ];
    let mut report = Report::new(
        format!(
            "{} farms × 10 servers, the whole table changed again and again, keep-alive",
            effort.farms
        ),
        &columns,
    );
    let mut rows = [
        ("no change", Vec::new()),
        ("changed again and again", Vec::new()),
        ("no change, beside a mere loop", Vec::new()),
    ];
    for _ in 0..effort.rounds {
        for (row, (_, found)) in rows.iter_mut().enumerate() {
            settle(&server)?;
            let (seen, cpu) = (changes(&server), server.cpu()?);
            let outcome = match row {
                1 => changed(&server, &file, &editions, &load)?,
                2 => {
                    let _loop = Loop::start()?;
                    load.run()?
                }
                _ => load.run()?,
            };
            let cpu = (server.cpu()? - cpu).as_secs_f64() * 1e6 / outcome.redirects as f64;
            found.push((outcome, changes(&server) - seen, cpu));
        }
    }
    ensure!(
        rows[1].1.iter().all(|(_, changes, _)| *changes > 0),
        "in a round that was to have changes none came through"
    );
    for (name, found) in &rows {
        let quantile = |share| {
            Spread::of(
                found
                    .iter()
                    .map(|(outcome, ..)| outcome.latencies.quantile(share)),
            )
            .to_string()
        };
        report.rows.push(vec![
            (*name).to_owned(),
            format!("{rate:.0}"),
            found
                .iter()
                .map(|(_, changes, _)| changes)
                .sum::<usize>()
                .to_string(),
            Spread::of(found.iter().map(|(.., cpu)| *cpu)).to_string(),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            found
                .iter()
                .map(|(outcome, ..)| outcome.failures)
                .sum::<u64>()
                .to_string(),
        ]);
    }
    let of = |row: usize| {
        rows[row]
            .1
            .iter()
            .map(|(outcome, ..)| outcome.latencies.quantile(0.99))
            .collect::<Vec<_>>()
    };
    report.targets.push(Target::new(
        "p99 with changes over p99 without",
        Spread::ratio(&of(1), &of(0)),
        Bound::AtMost(1.5),
    ));
    report.notes.push(Outcome::untimed(
        rows.iter()
            .flat_map(|(_, found)| found)
            .map(|(outcome, ..)| outcome),
    ));
    let beside = Spread::ratio(&of(1), &of(2));
    report.notes.push(format!(
        "At a quarter of saturation; reading the file happens on the one core that also serves. p99 with changes over p99 beside a loop at nice \
         15 on that core: {beside}."
    ));
    Ok(report)
}

/// A process that computes for ever on the server's core, behind all others as the reading of a file is.
struct Loop(Child);

impl Loop {
    fn start() -> anyhow::Result<Self> {
        let command = [
            "-c",
            SERVER_CORE,
            "nice",
            "-n",
            "15",
            "sh",
            "-c",
            "while :; do :; done",
        ];
        Ok(Self(
            Command::new("taskset")
                .args(command)
                .spawn()
                .context("taskset")?,
        ))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // It runs until it is killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The load, while another thread changes the file and tells the server.
fn changed(
    server: &Server,
    file: &Path,
    editions: &[PathBuf; 2],
    load: &Load<'_>,
) -> anyhow::Result<Outcome> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for edition in editions.iter().rev().cycle() {
                let seen = changes(server);
                point(file, edition)?;
                server.signal(Signal::HUP)?;
                std::thread::sleep(CHANGE);
                while changes(server) == seen && !over.load(Ordering::Relaxed) {
                    std::thread::sleep(LOOK);
                }
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
            anyhow::Ok(())
        });
        let outcome = load.run();
        over.store(true, Ordering::Relaxed);
        changing
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that changes the table panicked"))??;
        outcome
    })
}

/// Waits until the server does nothing: the last change may still be read when its round is over.
fn settle(server: &Server) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let before = server.cpu()?;
        std::thread::sleep(3 * LOOK);
        if server.cpu()? - before < LOOK / 10 {
            return Ok(());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "{} does not come to rest:\n{}",
            server.name,
            server.words()
        );
    }
}

/// Makes `file` name `edition`, in one step.
fn point(file: &Path, edition: &Path) -> anyhow::Result<()> {
    let beside = file.with_extension("next");
    let _ = std::fs::remove_file(&beside);
    std::os::unix::fs::symlink(edition, &beside)?;
    Ok(std::fs::rename(&beside, file)?)
}

/// How many tables the server has taken so far, by its own words.
fn changes(server: &Server) -> usize {
    server.words().matches("new table").count()
}
