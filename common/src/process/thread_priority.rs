//! Who goes first where threads want the same core: nice values and slices (sched(7)).
//! Only the three files that `unsafe_code` names in the workspace's Cargo.toml may hold `unsafe`.

/// What a thread is to the others of the machine. Each takes its own, and keeps it: it cannot be gone back from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadPriority {
    /// Clients wait for it. It has its share of a core in short slices, and so interrupts others when it wakes, where
    /// it would wait for the end of theirs (Linux 6.12: sched_setattr(2), `sched_runtime` of a fair policy).
    Serving,
    /// It keeps the process going: a quarter is left to it of a core that serving threads would fill.
    Background,
    /// It is long, and no client waits for it: a thirtieth.
    Unhurried,
}

/// The shortest slice the kernel grants.
const SLICE_NANOSECONDS: u64 = 100_000;

impl ThreadPriority {
    /// The calling thread takes it. Where the kernel does not grant it, or knows nothing of it, all goes on as before.
    pub fn take(self) {
        match self {
            Self::Serving => shorten_slices(),
            Self::Background => give_way(5),
            Self::Unhurried => give_way(15),
        }
    }
}

/// By so much more than the process as a whole, whose nice value is the one its first thread was started with.
fn give_way(by: i32) {
    let started_with =
        rustix::process::getpriority_process(Some(rustix::process::getpid())).unwrap_or(0);
    let _ = rustix::process::setpriority_process(None, started_with + by);
}

fn shorten_slices() {
    let Ok(nice) = rustix::process::getpriority_process(None) else {
        return;
    };
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: 0,
        // Whoever started us may have chosen another one.
        sched_flags: libc::SCHED_FLAG_KEEP_POLICY as u64,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: SLICE_NANOSECONDS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the pointer names a live sched_attr of the size it says it has, which the kernel only reads; 0 is the
    // calling thread.
    #[allow(unsafe_code, reason = "no safe crate offers sched_setattr")]
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nice value and, where the kernel tells it, the slice of a thread that took `precedence`.
    fn standing(precedence: ThreadPriority) -> (i32, Option<u64>) {
        let thread = std::thread::spawn(move || {
            precedence.take();
            let told = std::fs::read_to_string("/proc/thread-self/sched").unwrap_or_default();
            let slice = told.lines().find_map(|line| {
                line.strip_prefix("se.slice")?
                    .split(':')
                    .nth(1)?
                    .trim()
                    .parse()
                    .ok()
            });
            (
                rustix::process::getpriority_process(None).expect("a nice value"),
                slice,
            )
        });
        thread.join().expect("no panic")
    }

    #[test]
    fn each_takes_its_own() {
        let own = rustix::process::getpriority_process(None).expect("a nice value");
        let (nice, slice) = standing(ThreadPriority::Serving);
        assert_eq!(
            (nice, slice.unwrap_or(SLICE_NANOSECONDS)),
            (own, SLICE_NANOSECONDS)
        );
        let (background, longer) = standing(ThreadPriority::Background);
        let (unhurried, _) = standing(ThreadPriority::Unhurried);
        // 19 is the nicest.
        assert_eq!((background, unhurried), (19.min(own + 5), 19.min(own + 15)));
        assert!(
            longer.is_none_or(|longer| longer > SLICE_NANOSECONDS),
            "{longer:?}"
        );
    }
}
