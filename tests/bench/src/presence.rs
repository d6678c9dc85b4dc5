//! Whether a thread that never sleeps has run all the time. The machine's host, or another thread, takes its core away
//! now and then, and what it times meanwhile takes too long by that.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Shorter ones are the kernel's own interrupts.
const ABSENCE: Duration = Duration::from_micros(50);

/// When the calling thread was away last. It has to look again and again.
#[derive(Debug)]
pub(crate) struct Presence {
    looked: Instant,
    /// What it had run by then. Where the host says what it takes (proc_stat(5), `steal`), that is no part of it.
    ran: Duration,
    back: Option<Instant>,
}

impl Presence {
    /// It is here now.
    pub(crate) fn begin() -> Self {
        Self {
            looked: Instant::now(),
            ran: ran(),
            back: None,
        }
    }

    /// Whether it has been away since `start`, as far as can be told at `now`.
    pub(crate) fn was_away(&mut self, start: Instant, now: Instant) -> bool {
        if now.saturating_duration_since(start) >= ABSENCE {
            self.look(now);
        }
        self.back.is_some_and(|back| start < back)
    }

    /// Looks whether it was away until `now`.
    pub(crate) fn look(&mut self, now: Instant) {
        let ran = ran();
        if now
            .saturating_duration_since(self.looked)
            .saturating_sub(ran.saturating_sub(self.ran))
            >= ABSENCE
        {
            self.back = Some(now);
        }
        (self.looked, self.ran) = (now, ran);
    }
}

/// What the calling thread has run so far.
fn ran() -> Duration {
    let clock = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_an_absence_for_what_had_begun_before() {
        let mut presence = Presence::begin();
        let before = Instant::now();
        std::thread::sleep(2 * ABSENCE);
        let after = Instant::now();
        assert!(presence.was_away(before, after));
        // Begun behind it, and too short to have held another.
        assert!(!presence.was_away(after, after));
    }
}
