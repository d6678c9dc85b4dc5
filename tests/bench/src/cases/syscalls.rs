//! The system calls of one request, as strace counts them: on a run of its own, for strace makes everything slow.

use super::{CLIENTS, Effort, all};
use crate::configuration::HOST;
use crate::load::{Load, Manner, Pace, Sending};
use crate::report::Report;
use crate::server::Server;
use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Rarer calls are no part of a request.
const RARE: f64 = 0.005;

/// A server that has used no time for so long has nothing left to do.
const QUIET: Duration = Duration::from_millis(300);

/// Of all servers in all manners.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    let mut report = Report::new(
        "System calls per request (strace -c -f)",
        &["", "in all", "calls"],
    );
    for manner in Manner::ALL {
        for server in all(effort, manner)? {
            let (requests, calls) = count(effort, &server, manner)?;
            let each = |calls: u64| calls as f64 / requests as f64;
            let named: Vec<String> = calls
                .iter()
                .filter(|(_, count)| each(*count) >= RARE)
                .map(|(name, count)| format!("{name} {:.2}", each(*count)))
                .collect();
            let total = each(calls.iter().map(|(_, count)| count).sum());
            report.rows.push(vec![
                format!("{}, {}", server.name, manner.name()),
                format!("{total:.2}"),
                named.join(", "),
            ]);
        }
    }
    report
        .notes
        .push("Under strace a server is slow and finds more work at each turn: epoll_wait is shared by more requests than usual.".into());
    Ok(report)
}

/// How many requests were made under strace, and the calls made for them, the commonest first.
fn count(
    effort: &Effort,
    server: &Server,
    manner: Manner,
) -> anyhow::Result<(u64, Vec<(String, u64)>)> {
    let (summary, told) = (
        effort.folder.join("strace.txt"),
        effort.folder.join("strace.err"),
    );
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-o"]).arg(&summary);
    server.pids().iter().for_each(|pid| {
        command.arg("-p").arg(pid.to_string());
    });
    let mut strace = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&told)?)
        .spawn()
        .context("strace")?;
    let began = Instant::now();
    while fs::read_to_string(&told)?.matches("attached").count() < server.pids().len() {
        ensure!(
            began.elapsed() < Duration::from_secs(5),
            "strace does not attach: {}",
            fs::read_to_string(&told)?
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let requests = [manner.request(HOST)];
    let time = effort.time.min(Duration::from_secs(1));
    let made = Load {
        port: server.port,
        requests: &requests,
        manner,
        pace: Pace::Closed,
        sending: Sending::Together,
        clients: CLIENTS,
        time,
    }
    .run();
    // What the last requests still cost belongs to them, the closes above all.
    let mut used = server.cpu()?;
    loop {
        std::thread::sleep(QUIET);
        let now = server.cpu()?;
        if now == used {
            break;
        }
        used = now;
    }
    kill_process(Pid::from_child(&strace), Signal::INT)?;
    strace.wait()?;
    Ok((made?.redirects, parse(&fs::read_to_string(&summary)?)))
}

/// The calls in a summary of `strace -c`.
fn parse(summary: &str) -> Vec<(String, u64)> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words.last().filter(|name| **name != "total")?;
        words.first()?.parse::<f64>().ok()?;
        Some(((*name).to_owned(), words.get(3)?.parse().ok()?))
    };
    let mut calls: Vec<(String, u64)> = summary.lines().filter_map(line).collect();
    calls.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    calls
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_summary_of_strace_is_read_with_and_without_errors() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
                       ------ ----------- ----------- --------- --------- ----------------\n \
                       60.00    0.100000           1     12345           sendto\n \
                       40.00    0.050000           1     23456       111 accept4\n\
                       ------ ----------- ----------- --------- --------- ----------------\n\
                       100.00    0.150000           1     35801       111 total\n";
        assert_eq!(
            super::parse(summary),
            [("accept4".to_owned(), 23456), ("sendto".to_owned(), 12345)]
        );
    }
}
