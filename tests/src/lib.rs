//! The system from outside: what the suites need to start real programs, a real redis-server and real origins on
//! loopback, and to speak to them. Nothing here but `scripted` knows how rbalancer
//! works inside.
#![allow(clippy::panic, reason = "a test that cannot go on says why and fails")]

pub mod client;
pub mod corpus;
pub mod crowd;
pub mod fault;
pub mod h2;
pub mod metrics;
pub mod netns;
pub mod origin;
pub mod paced;
pub mod port;
pub mod process;
pub mod redis;
pub mod redis_cluster;
pub mod resp;
pub mod scenario;
pub mod scene;
pub mod scripted;
pub mod sentinel;
pub mod stalled;
pub mod stats;
pub mod tls;
pub mod traffic;
pub mod trouble;
pub mod up;
pub mod usage;
pub mod visitor;
pub mod world;

use std::time::Duration;

/// How long a program may take to start or to end.
pub const START: Duration = Duration::from_secs(20);

/// How soon a dead server must be out and a living one back.
pub const TURN: Duration = Duration::from_secs(8);

/// How soon counts made must be in the report.
pub const FLUSH: Duration = Duration::from_secs(5);

/// Between two looks at a condition.
pub const LOOK: Duration = Duration::from_millis(20);

/// Polls a condition until it holds, or fails when it does not within the limit. The optional message says what was
/// last seen; it is made only on failure.
#[macro_export]
macro_rules! eventually {
    ($limit:expr, $condition:expr) => {
        $crate::eventually!($limit, $condition, "nothing more is known")
    };
    ($limit:expr, $condition:expr, $($message:tt)+) => {{
        let (limit, started) = ($limit, ::std::time::Instant::now());
        while !$condition {
            assert!(started.elapsed() < limit, "not within {limit:?}: {}: {}", stringify!($condition), format!($($message)+));
            ::std::thread::sleep($crate::LOOK);
        }
    }};
}
