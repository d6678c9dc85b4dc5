//! rbalancer.conf: a document → a table and settings, or every problem at once with its line.
//! No store and no socket may enter here.

mod reader;
pub mod resolve;
pub mod values;
mod warnings;

use crate::conf::reader::ConfReader;
use common::config::global::{Global, Problems, read_document};
use common::config::ini::{Document, Problem, Section};
use common::config::keys::{self};
use common::config::values::switch;
use common::model::farm::{Farms, Name};
use common::net::listen::{ListenAddress, ListenAddresses};
use common::process::admin::Admin;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A configuration file, read whole.
#[derive(Debug)]
pub struct Conf {
    /// The cluster its table is for.
    pub cluster: Name,
    /// The table.
    pub farms: Farms,
    /// The redirector's settings, as `[global]` has them.
    pub redirector: redirector::Settings,
    /// The Redis that `[global]` names, if any.
    pub redis: Option<common::store::RedisSettings>,
    /// The admin listener that `[global]` names, or the default one.
    pub admin: Option<Admin>,
    /// What `[global]` sets of the process, as written: it is taken once, at the start.
    pub process: BTreeMap<String, String>,
    /// Whether a reload may take service away, which otherwise has to be insisted on.
    pub reload_force: bool,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
}

/// What the command line sets over the file.
#[derive(Debug, Default)]
pub struct Flags {
    /// `--listen`
    pub listen: Option<ListenAddresses>,
    /// `--redis`
    pub redis: Option<common::store::RedisAddress>,
    /// Whether a file with `[global]` alone will do, as for a host of a cluster.
    pub host_only: bool,
}

/// Reads and checks a file.
///
/// # Errors
/// Every problem at once.
pub fn load(path: &Path, flags: Flags) -> Result<Conf, Problems> {
    let (document, problems) = read_document(path)?;
    parse(&document, problems, flags)
}

/// Checks a document.
///
/// # Errors
/// Every problem at once, those found while reading the text included.
pub fn parse(document: &Document, problems: Vec<Problem>, flags: Flags) -> Result<Conf, Problems> {
    let mut global = Global::new(document, problems, common::config::environment::setting);
    let redirector = redirector::Settings::take(&mut global, flags.listen);
    let redis = global.redis(flags.redis);
    let admin = Admin::of_redirector(&mut global);
    let reload_force = global.get("reload_force", switch).unwrap_or(false);
    // What is only for other daemons that read this file has to be good too.
    let _ = (
        Admin::of_healthd(&mut global),
        global.get("stats_bind", str::parse::<ListenAddress>),
    );
    let mut reading = ConfReader {
        document,
        problems: Vec::new(),
        redirector: &redirector,
        host_only: flags.host_only,
        claimed: HashMap::new(),
    };
    let farms = reading.farms();
    let mut warnings = reading.unlisted();
    warnings.extend(reading.bare_times());
    warnings.extend(reading.ports_of_farms());
    let mut problems = reading.problems;
    if let Err(Problems(others)) = global.finish(()) {
        problems.extend(others);
    }
    let none_needed = farms.is_empty() && problems.is_empty();
    let farms = Farms::try_from(farms).unwrap_or_else(|error| {
        if none_needed {
            return Farms::default();
        }
        // Each of its rules has been checked with a line before: this is for what they leave over.
        if problems.is_empty() {
            problems.push(Problem {
                file: document.file.clone(),
                line: None,
                message: error.to_string(),
            });
        }
        Farms::default()
    });
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let process = document.section("global").map(process).unwrap_or_default();
    Ok(Conf {
        cluster: redirector.cluster.clone(),
        farms,
        redirector,
        redis,
        admin,
        process,
        reload_force,
        warnings,
    })
}

fn process(global: &Section) -> BTreeMap<String, String> {
    let set = global
        .entries
        .iter()
        .filter(|entry| keys::of_process().any(|key| key == entry.key));
    set.map(|entry| (entry.key.clone(), entry.value.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
