//! Two threads against one, and against two processes of one thread each, which share nothing.
//!
//! A server sleeps when it has answered those who came together: clients who come to two threads or processes instead of
//! one make each sleep about as often as the one did, and wake one of them where the load runs. The processes listen on
//! one port as threads do, so that they sleep and wake alike: what the threads take more is the price of sharing.

use super::{CLIENTS, CROWD, Effort, SETTLE, rbalancer, write_rbalancer};
use crate::calm::Calmest;
use crate::configuration::HOST;
use crate::load::{Load, Manner, Outcome};
use crate::report::{Bound, Report, Target};
use crate::server::{Server, free_port};
use crate::socket::listen_for_a_child;
use crate::spread::Spread;
use anyhow::Context;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The cores of the servers.
const CORES: &str = "0,1";

/// Requests made before anything is measured.
const WARM_UP: usize = 16;

/// Servers on one port, and what was measured in each round.
struct Subject {
    name: &'static str,
    port: u16,
    servers: Vec<Server>,
    rounds: Vec<Round>,
}

struct Round {
    /// CPU microseconds per redirect.
    cpu: f64,
    /// Sleeps for a thousand redirects.
    sleeps: f64,
    /// Redirects a second.
    rate: f64,
}

impl Subject {
    fn of_threads(effort: &Effort, name: &'static str, threads: usize) -> anyhow::Result<Self> {
        let server = rbalancer(effort, name, CORES, threads, 1, 2)?;
        Ok(Self {
            name,
            port: server.port,
            servers: vec![server],
            rounds: Vec::new(),
        })
    }

    /// Processes of one thread, each with a socket of its own that is passed to it (sd_listen_fds(3)).
    fn of_processes(effort: &Effort, name: &'static str, count: usize) -> anyhow::Result<Self> {
        let port = free_port()?;
        let (program, file) = (
            effort.programs.join("rbalancer"),
            write_rbalancer(effort, port, 1, 1, 2)?,
        );
        let mut servers = Vec::new();
        for number in 0..count {
            let socket = listen_for_a_child(port)?;
            let pass = format!(
                r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&{}"#,
                socket.as_raw_fd()
            );
            let command = [
                "bash",
                "-c",
                &pass,
                "bash",
                &program.to_string_lossy(),
                "up",
                "-c",
                &file.to_string_lossy(),
            ];
            servers.push(Server::start(
                &format!("{name} {number}"),
                port,
                &command,
                CORES,
                &effort.folder,
            )?);
        }
        // The kernel spreads connections over the sockets, and keeps them for a process that is not there yet.
        for turn in 0..WARM_UP {
            servers[turn % count].ready(&Manner::ServerCloses.request(HOST))?;
        }
        Ok(Self {
            name,
            port,
            servers,
            rounds: Vec::new(),
        })
    }

    fn of(&self, figure: fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }

    /// Two loads at a time, on one core.
    fn measure(&self, manner: Manner, clients: usize, time: Duration) -> anyhow::Result<Round> {
        let used = || {
            self.servers
                .iter()
                .map(Server::cpu)
                .sum::<anyhow::Result<Duration>>()
        };
        let slept = || self.servers.iter().map(Server::sleeps).sum::<u64>();
        let requests = [manner.request(HOST)];
        let load = Load::closed(self.port, manner, &requests, clients / 2, time);
        let (used_before, slept_before) = (used()?, slept());
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let running = [(); 2].map(|()| scope.spawn(|| load.run()));
            running
                .into_iter()
                .map(|load| {
                    load.join()
                        .map_err(|_| anyhow::anyhow!("a load panicked"))?
                })
                .collect::<anyhow::Result<_>>()
        })
        .context(self.name)?;
        std::thread::sleep(SETTLE);
        let redirects = outcomes
            .iter()
            .map(|outcome| outcome.redirects)
            .sum::<u64>() as f64;
        Ok(Round {
            cpu: (used()? - used_before).as_secs_f64() * 1e6 / redirects,
            sleeps: slept().saturating_sub(slept_before) as f64 * 1e3 / redirects,
            rate: outcomes
                .iter()
                .map(|outcome| outcome.redirects as f64 / outcome.elapsed.as_secs_f64())
                .sum(),
        })
    }
}

/// Of both manners in which a server answers.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    let columns = [
        "",
        "CPU µs per redirect",
        "over 1 thread",
        "sleeps per 1000",
        "redirects/s",
    ];
    let mut report = Report::new(
        "CPU per redirect, two threads against one and against two processes, all on both cores",
        &columns,
    );
    for (manner, clients) in [Manner::ServerCloses, Manner::KeepAlive]
        .into_iter()
        .flat_map(|manner| [(manner, CLIENTS), (manner, CROWD)])
    {
        let how = format!("{}, {clients} clients", manner.name());
        let mut subjects = [
            Subject::of_threads(effort, "1 thread", 1)?,
            Subject::of_threads(effort, "2 threads", 2)?,
            Subject::of_processes(effort, "2 processes", 2)?,
        ];
        let calmest = Calmest::of(effort.rounds, || {
            for subject in &mut subjects {
                let measured = subject.measure(manner, clients, effort.time)?;
                subject.rounds.push(measured);
            }
            Ok(())
        })?;
        for subject in &mut subjects {
            subject.rounds = calmest.only(std::mem::take(&mut subject.rounds));
        }
        let [one, two, processes] = subjects
            .each_ref()
            .map(|subject| subject.of(|round| round.cpu));
        report.rows.extend(subjects.iter().map(|subject| {
            let spread = |figure| Spread::of(subject.of(figure)).to_string();
            let over = format!("×{}", Spread::ratio(&subject.of(|round| round.cpu), &one));
            vec![
                format!("{}, {how}", subject.name),
                spread(|round| round.cpu),
                over,
                spread(|round| round.sleeps),
                spread(|round| round.rate),
            ]
        }));
        let target = |over: &str, below: &[f64]| {
            Target::new(
                format!("two threads over {over}, {how}"),
                Spread::ratio(&two, below),
                Bound::AtMost(1.1),
            )
        };
        report
            .targets
            .extend([target("one", &one), target("two processes", &processes)]);
        report.notes.push(format!("{how}: {calmest}"));
    }
    report.notes.push(
        "The load shares the second core with the servers. One thread alone can stay off it, two threads or processes cannot: what is above the \
         two processes is the price of the threads."
            .into(),
    );
    Ok(report)
}
