//! The cases, and what they share: the servers of one comparison and one measurement of one of them.

mod cost;
mod latency;
mod memory;
mod probes;
mod report;
mod start;
mod stop;
mod swap;
mod syscalls;
mod threads;
mod tls;
mod versions;

use crate::configuration::{self, HOST};
use crate::load::{Load, Manner, Outcome};
use crate::report::Report;
use crate::server::{SERVER_CORE, Server, free_port};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Clients at once in a closed load: the server sleeps when it has answered one handful of them, until the next comes.
const CLIENTS: usize = 32;

/// So many that it seldom sleeps; also how many an open load may have, where those that are due and find none free wait
/// while their time runs.
const CROWD: usize = 256;

/// What a server may need for the ends of its last connections.
const SETTLE: Duration = Duration::from_millis(50);

/// A case of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// A new connection for each request, closed by the server
    Close,
    /// The same, each request right behind its handshake
    Sparse,
    /// One request after the other on each connection
    Keepalive,
    /// A new connection for each request, closed by the client
    Oneshot,
    /// A table of many farms of 10 servers against 1 of 2
    Farms,
    /// Two threads against one, and against two processes
    Threads,
    /// p99 of an open load at half of saturation
    Latency,
    /// The table is changed under load
    Swap,
    /// Memory of an idle connection
    Memory,
    /// From exec to the first redirect
    Start,
    /// From the signal to the end, with idle clients
    Stop,
    /// System calls of one request
    Syscalls,
    /// The stats of a large cluster
    Report,
    /// Many servers probed every two seconds
    Probes,
    /// Handshakes and requests over TLS
    Tls,
    /// An earlier rbalancer, named by --before, beside this one
    Versions,
}

/// How much to measure, and with what.
#[derive(Debug)]
pub struct Effort {
    /// Rounds of each comparison.
    pub rounds: usize,
    /// Length of one measurement.
    pub time: Duration,
    /// Where rbalancer and the floor were built.
    pub programs: PathBuf,
    /// An earlier rbalancer to compare with.
    pub before: Option<PathBuf>,
    /// Farms of a large table.
    pub farms: usize,
    /// For configurations and logs.
    pub folder: PathBuf,
}

impl Case {
    /// Measures it.
    ///
    /// # Errors
    /// When a server does not start or does not answer.
    pub fn run(self, effort: &Effort) -> anyhow::Result<Report> {
        match self {
            Self::Close => cost::manner(effort, Manner::ServerCloses),
            Self::Sparse => cost::sparse(effort),
            Self::Keepalive => cost::manner(effort, Manner::KeepAlive),
            Self::Oneshot => cost::manner(effort, Manner::ClientCloses),
            Self::Farms => cost::farms(effort),
            Self::Threads => threads::run(effort),
            Self::Latency => latency::run(effort),
            Self::Swap => swap::run(effort),
            Self::Memory => memory::run(effort),
            Self::Start => start::run(effort),
            Self::Stop => stop::run(effort),
            Self::Syscalls => syscalls::run(effort),
            Self::Report => report::run(effort),
            Self::Probes => probes::run(effort),
            Self::Tls => tls::run(effort),
            Self::Versions => versions::run(effort),
        }
    }
}

/// rbalancer on `cores`, with a table of its own.
fn rbalancer(
    effort: &Effort,
    name: &str,
    cores: &str,
    threads: usize,
    farms: usize,
    servers: usize,
) -> anyhow::Result<Server> {
    let port = free_port()?;
    let file = write_rbalancer(effort, port, threads, farms, servers)?;
    start_rbalancer(effort, name, port, &file, cores)
}

/// A configuration file for it.
fn write_rbalancer(
    effort: &Effort,
    port: u16,
    threads: usize,
    farms: usize,
    servers: usize,
) -> anyhow::Result<PathBuf> {
    let text = configuration::rbalancer(port, threads, farms, servers, "img");
    configuration::write(&effort.folder, &format!("rbalancer-{port}.conf"), &text)
}

fn start_rbalancer(
    effort: &Effort,
    name: &str,
    port: u16,
    file: &Path,
    cores: &str,
) -> anyhow::Result<Server> {
    start_program(
        effort,
        &effort.programs.join("rbalancer"),
        name,
        port,
        file,
        cores,
    )
}

/// Some rbalancer on `cores`.
fn start_program(
    effort: &Effort,
    program: &Path,
    name: &str,
    port: u16,
    file: &Path,
    cores: &str,
) -> anyhow::Result<Server> {
    let (program, file) = (program.to_string_lossy(), file.to_string_lossy());
    let command = [&*program, "up", "-c", &file];
    let mut server = Server::start(name, port, &command, cores, &effort.folder)?;
    server.ready(&Manner::KeepAlive.request(HOST))?;
    Ok(server)
}

/// The floor, with rbalancer's own answer to this manner of request.
fn floor(effort: &Effort, manner: Manner, reply: &str) -> anyhow::Result<Server> {
    let port = free_port()?;
    let program = effort.programs.join("floor");
    let closes = if manner == Manner::ServerCloses {
        "close"
    } else {
        "keep"
    };
    let command = [
        &*program.to_string_lossy(),
        &port.to_string(),
        closes,
        reply,
    ];
    let mut server = Server::start("floor", port, &command, SERVER_CORE, &effort.folder)?;
    server.ready(&manner.request(HOST))?;
    Ok(server)
}

fn haproxy(effort: &Effort, more: &str) -> anyhow::Result<Server> {
    let port = free_port()?;
    let file = configuration::write(
        &effort.folder,
        "haproxy.cfg",
        &configuration::haproxy(port, more),
    )?;
    let mut server = Server::start(
        "haproxy",
        port,
        &["haproxy", "-db", "-f", &file.to_string_lossy()],
        SERVER_CORE,
        &effort.folder,
    )?;
    server.ready(&Manner::KeepAlive.request(HOST))?;
    Ok(server)
}

fn nginx(effort: &Effort, more: &str) -> anyhow::Result<Server> {
    let port = free_port()?;
    let file = configuration::write(
        &effort.folder,
        "nginx.conf",
        &configuration::nginx(port, &effort.folder, more),
    )?;
    let mut server = Server::start(
        "nginx",
        port,
        &["nginx", "-c", &file.to_string_lossy()],
        SERVER_CORE,
        &effort.folder,
    )?;
    server.ready(&Manner::KeepAlive.request(HOST))?;
    Ok(server)
}

/// rbalancer, haproxy and nginx.
fn peers(effort: &Effort) -> anyhow::Result<Vec<Server>> {
    Ok(vec![
        rbalancer(effort, "rbalancer", SERVER_CORE, 1, 1, 2)?,
        haproxy(effort, "")?,
        nginx(effort, "")?,
    ])
}

/// The floor and the peers.
fn all(effort: &Effort, manner: Manner) -> anyhow::Result<Vec<Server>> {
    let mut servers = peers(effort)?;
    let ours = servers.first_mut().context("peers begin with rbalancer")?;
    let reply = ours.ready(&manner.request(HOST))?;
    servers.insert(0, floor(effort, manner, &reply)?);
    Ok(servers)
}

/// A request to each host of a large table, in an order that no cache can guess (a prime stride).
fn requests_for_all(farms: usize, manner: Manner) -> Vec<Vec<u8>> {
    (0..farms)
        .map(|index| manner.request(&configuration::host(index * 7919 % farms)))
        .collect()
}

/// One measurement.
struct Measured {
    outcome: Outcome,
    /// CPU microseconds of the server per redirect.
    cpu: f64,
    /// Those of its threads that serve clients, where they have a name.
    serving: f64,
    /// How often it slept for a thousand redirects.
    sleeps: f64,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.outcome.redirects as f64 / self.outcome.elapsed.as_secs_f64()
    }
}

/// `load` on `server`.
fn measure(server: &Server, load: &Load<'_>) -> anyhow::Result<Measured> {
    let (before, served_before, slept_before) =
        (server.cpu()?, server.serving_cpu()?, server.sleeps());
    let outcome = load.run().with_context(|| server.name.clone())?;
    // The last connections are closed after the last reply.
    std::thread::sleep(SETTLE);
    let (used, serving, slept) = (
        server.cpu()? - before,
        server.serving_cpu()? - served_before,
        server.sleeps().saturating_sub(slept_before),
    );
    let redirects = outcome.redirects as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / redirects;
    Ok(Measured {
        cpu: each(used),
        serving: each(serving),
        sleeps: slept as f64 * 1e3 / redirects,
        outcome,
    })
}
