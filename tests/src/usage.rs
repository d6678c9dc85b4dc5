//! What a process uses, as the kernel counts it.

use crate::process::Process;
use std::fs;
use std::time::Duration;

impl Process {
    /// Anonymous memory in KiB: what is its own, without the files it maps.
    pub fn anonymous_kib(&self) -> u64 {
        let rollup = self.kernel_says("smaps_rollup");
        let size = rollup.lines().find_map(|line| {
            line.strip_prefix("Anonymous:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        });
        size.expect("smaps_rollup has a line for anonymous memory")
    }

    /// Processor time of all its threads so far, user and system.
    pub fn cpu(&self) -> Duration {
        let stat = self.kernel_says("stat");
        // The name in brackets may hold anything: the fields are those behind it.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id()))
            .expect("a running process")
            .count()
    }

    fn kernel_says(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.id())).expect("a running process")
    }
}
