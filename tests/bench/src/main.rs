//! `bench`: runs the cases asked for, prints what they found and writes it as Markdown. Started by tests/bench/run,
//! which installs and builds what is needed.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's own words"
)]

use anyhow::{Context, ensure};
use bench::cases::{Case, Effort};
use bench::idle::Polling;
use clap::{Parser, ValueEnum};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// What a redirect costs, beside a floor, haproxy and nginx.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of each comparison
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Farms of a large table
    #[arg(long, default_value_t = 10_000)]
    farms: usize,
    /// An earlier rbalancer to compare with, for the case versions
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Where the Markdown goes
    #[arg(long, default_value = "target/bench.md")]
    output: PathBuf,
    /// The cases; all without any
    #[arg(value_enum)]
    cases: Vec<Case>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain without a stack: what is wrong is a server or the machine.
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            eprintln!("bench: {}", causes.join(": "));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(
        cores >= 2,
        "one core for the servers and one for the load are needed, and there is {cores}"
    );
    let folder = tempfile::tempdir()?;
    let here = std::env::current_exe()?;
    let effort = Effort {
        rounds: arguments.rounds.max(1),
        time: Duration::from_secs_f64(arguments.seconds),
        farms: arguments.farms.max(1),
        before: arguments.before.clone(),
        programs: here
            .parent()
            .context("a program lies in a folder")?
            .to_owned(),
        folder: folder.path().to_owned(),
    };
    // The servers have core 0 to themselves.
    let mut load_core = CpuSet::new();
    load_core.set(1);
    sched_setaffinity(None, &load_core).context("core 1 for the load")?;

    let polling = Polling::begin();
    let place = place(arguments, cores, polling.is_some());
    println!("{place}");
    let mut markdown = format!("{place}\n");
    // Without a name all are meant, but for one that has nothing to compare with.
    let all = Case::value_variants().iter().copied();
    let cases: Vec<Case> = if arguments.cases.is_empty() {
        all.filter(|case| *case != Case::Versions || effort.before.is_some())
            .collect()
    } else {
        arguments.cases.clone()
    };
    let mut failed = Vec::new();
    for case in cases {
        eprintln!("… {case:?}");
        match case.run(&effort) {
            Ok(report) => {
                print!("{}", report.plain());
                markdown += &report.markdown();
            }
            // The others can still be measured.
            Err(error) => {
                eprintln!("{case:?} failed: {error:#}");
                markdown += &format!("\n### {case:?}\nfailed: {error:#}\n");
                failed.push(format!("{case:?}"));
            }
        }
        // After each case, so that a long run that is stopped leaves what it has found.
        std::fs::write(&arguments.output, &markdown)
            .with_context(|| format!("{}", arguments.output.display()))?;
    }
    println!("\nas Markdown in {}", arguments.output.display());
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// What it is measured on, and how.
fn place(arguments: &Arguments, cores: usize, polling: bool) -> String {
    let first_line = |program: &str, argument: &str| {
        let said = Command::new(program).arg(argument).output().ok()?;
        let said = if said.stdout.is_empty() {
            said.stderr
        } else {
            said.stdout
        };
        Some(String::from_utf8_lossy(&said).lines().next()?.to_owned())
    };
    let said =
        |program, argument| first_line(program, argument).unwrap_or_else(|| format!("{program} ?"));
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok();
    let processor = processor.as_deref().and_then(|text| {
        text.lines()
            .find_map(|line| line.strip_prefix("model name"))
    });
    format!(
        "{cores} cores ({}), Linux {}, {}, {}. Median (min-max) of {} interleaved rounds of {} s; servers on core 0, load on core 1{}.",
        processor.map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':'])),
        said("uname", "-r"),
        said("haproxy", "-v"),
        said("nginx", "-v"),
        arguments.rounds,
        arguments.seconds,
        if polling {
            "; cores without work poll instead of going back to the machine's host"
        } else {
            ""
        },
    )
}
