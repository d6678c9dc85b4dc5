//! Latency of an open load at half of what the slowest of the servers can do, from the time each request was due.

use super::{CLIENTS, CROWD, Effort, measure, peers};
use crate::calm::Calmest;
use crate::configuration::HOST;
use crate::load::{Load, Manner, Outcome, Pace, Sending};
use crate::report::{Bound, Report, Target};
use crate::spread::Spread;

/// Rounds, each of half the time, for one of another case: one disturbance of a few milliseconds is the p99 of a round.
const MORE: usize = 3;

/// Of three servers, in two manners, all at the same rate.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    let servers = peers(effort)?;
    let columns = ["", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "failures"];
    let mut report = Report::new(
        "Latency of an open load at half of the slowest server's saturation",
        &columns,
    );
    for manner in [Manner::ServerCloses, Manner::KeepAlive] {
        let requests = [manner.request(HOST)];
        let mut slowest = f64::INFINITY;
        for server in &servers {
            slowest = slowest.min(
                measure(
                    server,
                    &Load::closed(server.port, manner, &requests, CLIENTS, effort.time),
                )?
                .rate(),
            );
        }
        let rate = slowest / 2.0;
        let mut outcomes: Vec<Vec<_>> = servers.iter().map(|_| Vec::new()).collect();
        let calmest = Calmest::of(MORE * effort.rounds, || {
            for (server, outcomes) in servers.iter().zip(&mut outcomes) {
                let load = Load {
                    port: server.port,
                    requests: &requests,
                    manner,
                    pace: Pace::Open(rate),
                    sending: Sending::Apart,
                    clients: CROWD,
                    time: effort.time / 2,
                };
                outcomes.push(load.run()?);
            }
            Ok(())
        })?;
        let outcomes: Vec<_> = outcomes
            .into_iter()
            .map(|outcomes| calmest.only(outcomes))
            .collect();
        let untimed = Outcome::untimed(outcomes.iter().flatten());
        report
            .notes
            .push(format!("{}: {calmest} {untimed}", manner.name()));
        let p99 = |of: usize| {
            outcomes[of]
                .iter()
                .map(|outcome| outcome.latencies.quantile(0.99))
                .collect::<Vec<_>>()
        };
        for (server, outcomes) in servers.iter().zip(&outcomes) {
            let quantile = |share| {
                Spread::of(
                    outcomes
                        .iter()
                        .map(|outcome| outcome.latencies.quantile(share)),
                )
                .to_string()
            };
            let failures: u64 = outcomes.iter().map(|outcome| outcome.failures).sum();
            let name = format!("{}, {}", server.name, manner.name());
            report.rows.push(vec![
                name,
                format!("{rate:.0}"),
                quantile(0.5),
                quantile(0.99),
                quantile(0.999),
                failures.to_string(),
            ]);
        }
        // One peer, not the luckier one of each round: the least of two is less than either.
        let median = |of: usize| Spread::of(p99(of)).median;
        let better = if median(1) < median(2) {
            p99(1)
        } else {
            p99(2)
        };
        let what = format!("p99 over the better peer's, {}", manner.name());
        report.targets.push(Target::new(
            what,
            Spread::ratio(&p99(0), &better),
            Bound::AtMost(1.1),
        ));
    }
    report.notes.push(
        "Times run from when a request was due, whether or not a client was free to make it."
            .into(),
    );
    Ok(report)
}
