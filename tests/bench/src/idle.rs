//! Cores without work. In a virtual machine such a core goes back to the host, which may be slow to return it and takes
//! it away again soon after: whoever was woken is booked for times that are none of its own. Where the kernel offers it,
//! a core without work polls for a while instead.

use std::fs;

/// How long a guest's core polls before it halts, in nanoseconds (the kernel's Documentation/virt/guest-halt-polling.rst).
const SWITCH: &str = "/sys/module/haltpoll/parameters/guest_halt_poll_ns";

/// Longer than the pauses of a load, far shorter than those between two measurements.
const NANOSECONDS: &str = "2000000";

/// Cores without work poll while this is held.
#[derive(Debug)]
pub struct Polling {
    before: String,
}

impl Polling {
    /// Switches it on; none where there is no such switch, or no right to it.
    pub fn begin() -> Option<Self> {
        let before = fs::read_to_string(SWITCH).ok()?;
        fs::write(SWITCH, NANOSECONDS).ok()?;
        Some(Self { before })
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, &self.before);
    }
}
