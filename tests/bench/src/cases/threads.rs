//! Two threads against one, and against two processes of one thread each, which share nothing.

use super::{CLIENTS, Effort, SETTLE, rbalancer};
use crate::calm::Calmest;
use crate::configuration::HOST;
use crate::load::{Load, Manner, Outcome, Pace, Sending};
use crate::report::{Bound, Report, Target};
use crate::server::Server;
use crate::spread::Spread;
use anyhow::Context;
use std::time::Duration;

/// Servers on both cores, and CPU microseconds per redirect and redirects a second in each round.
struct Subject {
    name: &'static str,
    servers: Vec<Server>,
    rounds: Vec<(f64, f64)>,
}

impl Subject {
    fn start(effort: &Effort, name: &'static str, threads: &[usize]) -> anyhow::Result<Self> {
        let servers = threads.iter().map(|&threads| rbalancer(effort, name, "0,1", threads, 1, 2)).collect::<Result<_, _>>()?;
        Ok(Self { name, servers, rounds: Vec::new() })
    }

    fn cpu(&self) -> Vec<f64> {
        self.rounds.iter().map(|(cpu, _)| *cpu).collect()
    }

    /// Two loads at a time, on one core: on the one server there is, or on one each.
    fn measure(&self, manner: Manner, time: Duration) -> anyhow::Result<(f64, f64)> {
        let used = || self.servers.iter().map(Server::cpu).sum::<anyhow::Result<Duration>>();
        let requests = [manner.request(HOST)];
        let (pace, sending, clients) = (Pace::Closed, Sending::Together, CLIENTS / 2);
        let load = |port| Load { port, requests: &requests, manner, pace, sending, clients, time };
        let before = used()?;
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let ports = self.servers.iter().cycle().take(2).map(|server| server.port);
            let running: Vec<_> = ports.map(|port| scope.spawn(move || load(port).run())).collect();
            running.into_iter().map(|load| load.join().map_err(|_| anyhow::anyhow!("a load panicked"))?).collect::<anyhow::Result<_>>()
        })
        .context(self.name)?;
        std::thread::sleep(SETTLE);
        let redirects: u64 = outcomes.iter().map(|outcome| outcome.redirects).sum();
        let rate = outcomes.iter().map(|outcome| outcome.redirects as f64 / outcome.elapsed.as_secs_f64()).sum();
        Ok(((used()? - before).as_secs_f64() * 1e6 / redirects as f64, rate))
    }
}

/// Of both manners in which a server answers.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    let columns = ["", "CPU µs per redirect", "over 1 thread", "redirects/s"];
    let mut report = Report::new("CPU per redirect, two threads against one and against two processes, all on both cores", &columns);
    for manner in [Manner::ServerCloses, Manner::KeepAlive] {
        let start = |name, threads: &[usize]| Subject::start(effort, name, threads);
        let mut subjects = [start("1 thread", &[1])?, start("2 threads", &[2])?, start("2 processes", &[1, 1])?];
        let calmest = Calmest::of(effort.rounds, || {
            for subject in &mut subjects {
                let measured = subject.measure(manner, effort.time)?;
                subject.rounds.push(measured);
            }
            Ok(())
        })?;
        for subject in &mut subjects {
            subject.rounds = calmest.only(std::mem::take(&mut subject.rounds));
        }
        let [one, two, processes] = subjects.each_ref().map(Subject::cpu);
        report.rows.extend(subjects.iter().map(|subject| {
            let rates = Spread::of(subject.rounds.iter().map(|(_, rate)| *rate));
            let cpu = subject.cpu();
            let over = format!("×{}", Spread::ratio(&cpu, &one));
            vec![format!("{}, {}", subject.name, manner.name()), Spread::of(cpu).to_string(), over, rates.to_string()]
        }));
        let target = |over: &str, below: &[f64]| {
            Target::new(format!("two threads over {over}, {}", manner.name()), Spread::ratio(&two, below), Bound::AtMost(1.1))
        };
        report.targets.extend([target("one", &one), target("two processes", &processes)]);
        report.notes.push(format!("{}: {calmest}", manner.name()));
    }
    report.notes.push(
        "The load shares the second core with the servers. One thread alone can stay off it, two threads or processes cannot: what is above the \
         two processes is the price of the threads."
            .into(),
    );
    Ok(report)
}
