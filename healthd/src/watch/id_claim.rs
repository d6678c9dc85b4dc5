//! One id, one prober: a healthd that starts under the id of one at work refuses. Pure: time comes in as an argument.
//!
//! At work is who moves the sequence in the store. One that was killed, hangs or is cut off does not, so its successor
//! takes over after one look. This prober writes nothing while it looks, and what of its own may still be on its way
//! to the store is no greater than what it has counted up to.

use std::time::{Duration, Instant};

/// How long the sequence must stand still: more than two reports of a prober at work. Probing goes on meanwhile.
const LOOK: Duration = Duration::from_millis(2500);

/// From one reading to the next while looking.
pub(crate) const READING: Duration = Duration::from_millis(500);

/// Another healthd is at work under the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken(pub String);

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = &self.0;
        write!(
            f,
            "another healthd is at work under the id `{id}`: stop it, or give this one a name of its own with --id NAME"
        )
    }
}

impl std::error::Error for Taken {}

/// Where the claim to the id stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The store was not read yet.
    Unread,
    /// The sequence stands at `sequence` since `since`.
    Looking {
        /// What the first reading showed.
        sequence: u64,
        /// When it was read.
        since: Instant,
    },
    /// Nobody else is at work under it.
    Ours,
}

impl Claim {
    /// Takes in a reading of the sequence in the store; `own` is what this prober has counted up to, and `told` what it
    /// told last. False if another one is at work.
    pub(crate) fn read(&mut self, read: u64, own: u64, told: Option<u64>, now: Instant) -> bool {
        match *self {
            // Nobody ever was here, or nobody else has been since: whoever follows goes on from there.
            Self::Unread if read == 0 || told == Some(read) => *self = Self::Ours,
            Self::Unread => {
                *self = Self::Looking {
                    sequence: read,
                    since: now,
                }
            }
            Self::Looking { sequence, .. } if read != sequence && read > own => return false,
            Self::Looking { since, .. } if now.saturating_duration_since(since) >= LOOK => {
                *self = Self::Ours;
            }
            Self::Looking { .. } | Self::Ours => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_moves_the_sequence_is_at_work() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut claim = Claim::Unread;
        assert!(claim.read(7, 7, None, start) && claim.read(7, 7, None, after(1000)));
        assert!(!claim.read(8, 7, None, after(1500)));
    }

    #[test]
    fn a_sequence_that_stands_still_is_free() {
        let start = Instant::now();
        let mut claim = Claim::Unread;
        assert!(claim.read(7, 7, None, start) && claim.read(7, 7, None, start + LOOK));
        assert_eq!(claim, Claim::Ours);
        let mut new = Claim::Unread;
        assert!(new.read(0, 0, None, start));
        assert_eq!(new, Claim::Ours);
    }

    #[test]
    fn an_own_report_that_comes_late_is_no_other() {
        let start = Instant::now();
        let mut claim = Claim::Unread;
        assert!(
            claim.read(7, 8, None, start)
                && claim.read(8, 8, None, start + LOOK / 2)
                && claim.read(8, 8, None, start + LOOK)
        );
        assert_eq!(claim, Claim::Ours);
    }

    #[test]
    fn where_nobody_wrote_since_the_own_report_it_is_ours_still() {
        let now = Instant::now();
        let mut claim = Claim::Unread;
        assert!(claim.read(7, 9, Some(7), now));
        assert_eq!(claim, Claim::Ours);
        for read in [6, 8] {
            let mut claim = Claim::Unread;
            assert!(claim.read(read, 9, Some(7), now));
            assert_ne!(
                claim,
                Claim::Ours,
                "a report of ours that came late, or another prober"
            );
        }
    }
}
