//! `rbalancer up`: everything in one process, on a free port, in a directory of its own.

use crate::client::{self, Answer};
use crate::process::{Ended, Process};
use crate::stats::Stats;
use crate::{START, origin::Origin};
use std::net::SocketAddr;
use std::path::Path;
use tempfile::TempDir;

/// A running `rbalancer up`.
#[derive(Debug)]
pub struct Up {
    /// The process.
    pub process: Process,
    /// Where it answers.
    pub address: SocketAddr,
    /// Where its configuration lies.
    pub directory: TempDir,
}

impl Up {
    /// Starts it with a configuration.
    pub fn start(configuration: &str) -> Self {
        Self::start_in(
            tempfile::tempdir().expect("a temporary directory"),
            configuration,
        )
    }

    /// Starts it in a directory that was prepared.
    pub fn start_in(directory: TempDir, configuration: &str) -> Self {
        let file = write(directory.path(), "rbalancer.conf", configuration);
        let process = Process::start(
            "rbalancer",
            directory.path(),
            &["up", "-c", &file, "--listen", "127.0.0.1:0"],
            &[],
        );
        let address = process.wait_for_address(START);
        Self {
            process,
            address,
            directory,
        }
    }

    /// `GET target` of `host` over a new connection.
    pub fn get(&self, host: &str, target: &str) -> Answer {
        client::get(self.address, host, target)
    }

    /// Its `/stats.json`.
    pub fn stats(&self) -> Stats {
        Stats::of(self.address)
    }

    /// Ends it with TERM; it must end well.
    pub fn end(self) {
        ends_well(self.process);
    }
}

/// Ends a process with TERM; it must drain and exit 0.
pub fn ends_well(process: Process) {
    let Ended { code, lines } = process.terminate(START);
    assert_eq!(code, Some(0), "after TERM:\n{}", lines.join("\n"));
}

/// Writes a file and gives its path as an argument.
pub fn write(directory: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("a file in a temporary directory");
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// A configuration of one farm, `img` for `img.test`, whose servers are `origins` with their names and weights.
/// `global` and `farm` are more lines for those sections.
pub fn one_farm(global: &str, farm: &str, origins: &[(&str, &Origin, u16)]) -> String {
    let names: Vec<&str> = origins.iter().map(|(name, ..)| *name).collect();
    let server = |(name, origin, weight): &(&str, &Origin, u16)| {
        format!("[{name}]\ndomain = {}\nweight = {weight}\n", origin.url())
    };
    let servers: String = origins.iter().map(server).collect();
    format!(
        "[global]\n{global}\n[farms]\nlist = img\n[img]\nlist = {}\ndomain = img.test\n{farm}\n{servers}",
        names.join(", ")
    )
}
