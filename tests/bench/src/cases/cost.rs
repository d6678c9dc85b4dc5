//! CPU time of the server per redirect, in interleaved rounds.

use super::{CLIENTS, CROWD, Effort, Measured, all, measure, rbalancer, requests_for_all};
use crate::calm::Calmest;
use crate::configuration::HOST;
use crate::load::{Load, Manner, Sending};
use crate::report::{Bound, Report, Target};
use crate::server::{SERVER_CORE, Server};
use crate::spread::Spread;
use std::time::Duration;

const COLUMNS: [&str; 8] = [
    "",
    "CPU µs per redirect",
    "over rbalancer",
    "sleeps per 1000",
    "redirects/s",
    "p50 µs",
    "p99 µs",
    "failures",
];

/// A server with the requests made to it, and what was measured.
struct Subject {
    server: Server,
    requests: Vec<Vec<u8>>,
    rounds: Vec<Measured>,
}

impl Subject {
    fn of(server: Server, manner: Manner) -> Self {
        Self {
            server,
            requests: vec![manner.request(HOST)],
            rounds: Vec::new(),
        }
    }

    fn cpu(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round.cpu).collect()
    }

    fn row(&self, with: &str, over: &[f64]) -> Vec<String> {
        let spread = |of: fn(&Measured) -> f64| Spread::of(self.rounds.iter().map(of)).to_string();
        let failures: u64 = self.rounds.iter().map(|round| round.outcome.failures).sum();
        vec![
            format!("{}{with}", self.server.name),
            spread(|round| round.cpu),
            format!("×{}", Spread::ratio(&self.cpu(), over)),
            spread(|round| round.sleeps),
            spread(Measured::rate),
            spread(|round| round.outcome.latencies.quantile(0.5)),
            spread(|round| round.outcome.latencies.quantile(0.99)),
            failures.to_string(),
        ]
    }
}

/// Measures all of them in turn, round by round, after one short round that does not count.
fn compare(
    effort: &Effort,
    manner: Manner,
    sending: Sending,
    clients: usize,
    subjects: &mut [Subject],
) -> anyhow::Result<Calmest> {
    let measured = |subject: &Subject, time| {
        let load = Load {
            sending,
            ..Load::closed(
                subject.server.port,
                manner,
                &subject.requests,
                clients,
                time,
            )
        };
        measure(&subject.server, &load)
    };
    for subject in subjects.iter() {
        measured(subject, effort.time.min(Duration::from_millis(500)))?;
    }
    subjects
        .iter_mut()
        .for_each(|subject| subject.rounds.clear());
    let calmest = Calmest::of(effort.rounds, || {
        for subject in subjects.iter_mut() {
            subject.rounds.push(measured(subject, effort.time)?);
        }
        Ok(())
    })?;
    for subject in subjects.iter_mut() {
        subject.rounds = calmest.only(std::mem::take(&mut subject.rounds));
    }
    Ok(calmest)
}

/// The floor, rbalancer and the peers in one manner: with few clients at once, and with so many that the servers seldom
/// sleep.
pub(super) fn manner(effort: &Effort, manner: Manner) -> anyhow::Result<Report> {
    let mut subjects: Vec<Subject> = all(effort, manner)?
        .into_iter()
        .map(|server| Subject::of(server, manner))
        .collect();
    let mut report = Report::new(format!("CPU per redirect, {}", manner.name()), &COLUMNS);
    let (most, least_haproxy, least_nginx) = match manner {
        Manner::ServerCloses => (0.95, 2.0, Some(1.8)),
        Manner::KeepAlive => (1.2, 1.2, Some(1.3)),
        Manner::ClientCloses => (1.1, 1.05, None),
    };
    for clients in [CLIENTS, CROWD] {
        let calmest = compare(effort, manner, Sending::Together, clients, &mut subjects)?;
        report.notes.push(format!("{clients} clients: {calmest}"));
        let cpu: Vec<Vec<f64>> = subjects.iter().map(Subject::cpu).collect();
        let [floor, ours, haproxy, nginx] = cpu.as_slice() else {
            anyhow::bail!("four servers are compared")
        };
        report.rows.extend(
            subjects
                .iter()
                .map(|subject| subject.row(&format!(", {clients} clients"), ours)),
        );
        let mut target = |what: &str, measured, bound| {
            report.targets.push(Target::new(
                format!("{what}, {clients} clients"),
                measured,
                bound,
            ));
        };
        target(
            "rbalancer over floor",
            Spread::ratio(ours, floor),
            Bound::AtMost(most),
        );
        target(
            "haproxy over rbalancer",
            Spread::ratio(haproxy, ours),
            Bound::AtLeast(least_haproxy),
        );
        if let Some(least) = least_nginx {
            target(
                "nginx over rbalancer",
                Spread::ratio(nginx, ours),
                Bound::AtLeast(least),
            );
        }
    }
    Ok(report)
}

/// Two servers in one manner: the CPU per redirect of `now` over that of `before`, with few clients and with many.
pub(super) fn two(
    effort: &Effort,
    manner: Manner,
    before: Server,
    now: Server,
) -> anyhow::Result<[(usize, Spread); 2]> {
    let mut subjects = [Subject::of(before, manner), Subject::of(now, manner)];
    let mut ratio = |clients| {
        compare(effort, manner, Sending::Together, clients, &mut subjects)?;
        let [before, now] = &subjects;
        anyhow::Ok((clients, Spread::ratio(&now.cpu(), &before.cpu())))
    };
    Ok([ratio(CLIENTS)?, ratio(CROWD)?])
}

/// The same where each request comes right behind its handshake.
pub(super) fn sparse(effort: &Effort) -> anyhow::Result<Report> {
    let manner = Manner::ServerCloses;
    let mut subjects: Vec<Subject> = all(effort, manner)?
        .into_iter()
        .map(|server| Subject::of(server, manner))
        .collect();
    let calmest = compare(effort, manner, Sending::Apart, CLIENTS, &mut subjects)?;
    let mut report = Report::new(
        "CPU per redirect, server closes, each request right behind its handshake",
        &COLUMNS,
    );
    let [_, ours, ..] = subjects.as_slice() else {
        anyhow::bail!("four servers are compared")
    };
    let ours = ours.cpu();
    report.rows = subjects
        .iter()
        .map(|subject| subject.row("", &ours))
        .collect();
    report.notes.push(calmest.to_string());
    report.notes.push(
        "The server sleeps between requests: most of each figure is what it costs to wake it."
            .into(),
    );
    Ok(report)
}

/// A large table against a small one.
pub(super) fn farms(effort: &Effort) -> anyhow::Result<Report> {
    let manner = Manner::KeepAlive;
    let small = rbalancer(effort, "1 farm × 2 servers", SERVER_CORE, 1, 1, 2)?;
    let large = rbalancer(
        effort,
        &format!("{} farms × 10 servers", effort.farms),
        SERVER_CORE,
        1,
        effort.farms,
        10,
    )?;
    let mut spread_out = Subject::of(large, manner);
    spread_out.requests = requests_for_all(effort.farms, manner);
    let mut subjects = [Subject::of(small, manner), spread_out];
    let calmest = compare(effort, manner, Sending::Together, CLIENTS, &mut subjects)?;
    let [small, large] = &subjects;
    let mut report = Report::new(
        "CPU per redirect, large table against small, keep-alive, requests for all hosts in turn",
        &COLUMNS,
    );
    report.columns[2] = "over 1 farm".into();
    report.notes.push(calmest.to_string());
    report.rows = subjects
        .iter()
        .map(|subject| subject.row("", &small.cpu()))
        .collect();
    report.targets.push(Target::new(
        format!("{} farms over one", effort.farms),
        Spread::ratio(&large.cpu(), &small.cpu()),
        Bound::AtMost(1.1),
    ));
    let serving = |subject: &Subject| {
        subject
            .rounds
            .iter()
            .map(|round| round.serving)
            .collect::<Vec<_>>()
    };
    report.targets.push(Target::new(
        "the same for the thread that serves",
        Spread::ratio(&serving(large), &serving(small)),
        Bound::AtMost(1.1),
    ));
    for subject in &subjects {
        let before = subject.server.cpu()?;
        std::thread::sleep(effort.time);
        let share =
            (subject.server.cpu()? - before).as_secs_f64() / effort.time.as_secs_f64() * 100.0;
        report.notes.push(format!(
            "{} without any request: {share:.1} % of a core, part of the figure above.",
            subject.server.name
        ));
    }
    Ok(report)
}
