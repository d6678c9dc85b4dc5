//! How long a server that keeps falling is held: the successes it needs to rise double with each fall soon after a
//! rise. Pure: time comes in as an argument.

use std::time::{Duration, Instant};

/// A fall this soon after a rise is one more flap.
const SOON: Duration = Duration::from_secs(30);

/// For each such time in service one flap is forgiven: the successes needed halve again.
const QUIET: Duration = Duration::from_secs(60);

/// The successes in a row that are asked for at the most, unless the check itself asks for more.
const MOST: u16 = 64;

/// What is remembered of one check's falls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flapping {
    flaps: u32,
    rose: Option<Instant>,
}

impl Flapping {
    /// It came back.
    pub(crate) fn rose(&mut self, now: Instant) {
        self.rose = Some(now);
    }

    /// It fell. The first fall of all is no flap.
    pub(crate) fn fell(&mut self, now: Instant) {
        let Some(rose) = self.rose.take() else { return };
        let up = now.saturating_duration_since(rose);
        let forgiven = u32::try_from(up.as_secs() / QUIET.as_secs()).unwrap_or(u32::MAX);
        self.flaps = self.flaps.saturating_sub(forgiven);
        if up < SOON {
            self.flaps = (self.flaps + 1).min(MOST.ilog2());
        }
    }

    /// The successes in a row it needs to come back.
    pub(crate) fn needed(&self, rise: u16) -> u16 {
        rise.saturating_mul(1 << self.flaps).min(MOST).max(rise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fall_soon_after_a_rise_doubles_and_quiet_halves_again() {
        let mut flapping = Flapping::default();
        let mut now = Instant::now();
        flapping.fell(now);
        assert_eq!(flapping.needed(2), 2);
        let mut turn = |up: u64| {
            flapping.rose(now);
            now += Duration::from_secs(up);
            flapping.fell(now);
            flapping.needed(2)
        };
        assert_eq!(
            [1, 29, 1, 1, 1, 1, 1].map(&mut turn),
            [4, 8, 16, 32, 64, 64, 64]
        );
        assert_eq!(turn(45), 64);
        assert_eq!([60, 120, 3600].map(turn), [64, 16, 2]);
        assert_eq!(
            Flapping {
                flaps: 6,
                rose: None
            }
            .needed(100),
            100
        );
    }
}
