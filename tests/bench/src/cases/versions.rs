//! This rbalancer beside an earlier one, in interleaved rounds on one core: whether a change has cost anything.

use super::{Effort, cost, start_program, tls, write_rbalancer};
use crate::load::Manner;
use crate::report::{Bound, Report, Target};
use crate::server::{SERVER_CORE, Server, free_port};
use anyhow::Context;
use std::path::Path;

/// What a change may cost: as much as the machine's own noise.
const NOISE: f64 = 1.03;

/// CPU per redirect in every manner, and per work over TLS.
pub(super) fn run(effort: &Effort) -> anyhow::Result<Report> {
    let before = effort
        .before
        .as_deref()
        .context("name an earlier rbalancer: --before FILE")?;
    let now = effort.programs.join("rbalancer");
    let columns = ["", "CPU, this one over the earlier"];
    let mut report = Report::new("This rbalancer beside an earlier one", &columns);
    let mut add = |what: String, ratio: crate::spread::Spread| {
        report.rows.push(vec![what.clone(), format!("×{ratio}")]);
        report
            .targets
            .push(Target::new(what, ratio, Bound::AtMost(NOISE)));
    };
    for manner in [
        Manner::ServerCloses,
        Manner::KeepAlive,
        Manner::ClientCloses,
    ] {
        let (old, new) = (
            plain(effort, before, "before")?,
            plain(effort, &now, "now")?,
        );
        for (clients, ratio) in cost::two(effort, manner, old, new)? {
            add(format!("{}, {clients} clients", manner.name()), ratio);
        }
    }
    for (work, ratio) in tls::two(effort, before, &now)? {
        add(format!("TLS, {work}"), ratio);
    }
    Ok(report)
}

/// A build with one farm of two servers, as every comparison has.
fn plain(effort: &Effort, program: &Path, name: &str) -> anyhow::Result<Server> {
    let port = free_port()?;
    let file = write_rbalancer(effort, port, 1, 1, 2)?;
    start_program(effort, program, name, port, &file, SERVER_CORE)
}
