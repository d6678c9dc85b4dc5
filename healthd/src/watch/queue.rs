//! The checks that wait, by when they are due, in two rows with room of their own: probes of servers that hang take
//! their whole timeout, and would hold up those of servers that answer. Pure: time comes in as an argument.

use common::model::check::CheckKey;
use std::collections::BTreeSet;
use std::time::Instant;

/// Where a check waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Its latest probe went well, or it has none yet.
    Answering,
    /// Its latest probe failed.
    Failing,
}

/// How many more probes of each row may be on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProbePermits([usize; 2]);

impl ProbePermits {
    /// So many of each.
    pub(crate) fn new(answering: usize, failing: usize) -> Self {
        Self([answering, failing])
    }

    fn is_left(&self, row: Lane) -> bool {
        self.0[row as usize] > 0
    }

    fn take(&mut self, row: Lane) {
        self.0[row as usize] -= 1;
    }

    /// A probe has ended.
    pub(crate) fn give_back(&mut self, row: Lane) {
        self.0[row as usize] += 1;
    }
}

/// The rows. An entry of a check that is watched no more, or waits elsewhere by now, is for the caller to skip.
#[derive(Debug, Default)]
pub(crate) struct Queue([BTreeSet<(Instant, CheckKey)>; 2]);

impl Queue {
    /// `key` waits in `row` until `due`.
    pub(crate) fn wait(&mut self, row: Lane, due: Instant, key: CheckKey) {
        self.0[row as usize].insert((due, key));
    }

    /// Those that wait in `row`, the next first.
    pub(crate) fn waiting(&self, row: Lane) -> impl Iterator<Item = &CheckKey> {
        self.0[row as usize].iter().map(|(_, key)| key)
    }

    /// When the next is due of those there is room for.
    pub(crate) fn next_due(&self, room: ProbePermits) -> Option<Instant> {
        self.first(room).map(|(due, _)| due)
    }

    /// The next that is due at `now`, if `fits` says that it is one; takes up the room for it.
    pub(crate) fn pop(
        &mut self,
        now: Instant,
        room: &mut ProbePermits,
        fits: impl Fn(Instant, &CheckKey) -> bool,
    ) -> Option<(Lane, CheckKey)> {
        while let Some((_, row)) = self.first(*room).filter(|(due, _)| *due <= now) {
            let (due, key) = self.0[row as usize].pop_first()?;
            if fits(due, &key) {
                room.take(row);
                return Some((row, key));
            }
        }
        None
    }

    fn first(&self, room: ProbePermits) -> Option<(Instant, Lane)> {
        let rows = [Lane::Answering, Lane::Failing]
            .into_iter()
            .filter(|row| room.is_left(*row));
        rows.filter_map(|row| Some((self.0[row as usize].first()?.0, row)))
            .min_by_key(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_row_without_room_holds_up_its_own_checks_only() {
        let (start, mut queue, mut room) =
            (Instant::now(), Queue::default(), ProbePermits::new(2, 1));
        let key = |name: &str| CheckKey(name.into());
        let later = start + Duration::from_secs(1);
        for (row, due, name) in [
            (Lane::Failing, start, "a"),
            (Lane::Failing, start, "b"),
            (Lane::Answering, later, "c"),
            (Lane::Answering, later, "gone"),
        ] {
            queue.wait(row, due, key(name));
        }
        let pop = |queue: &mut Queue, now, room: &mut ProbePermits| {
            queue.pop(now, room, |_, key| &*key.0 != "gone")
        };
        assert_eq!(
            pop(&mut queue, start, &mut room),
            Some((Lane::Failing, key("a")))
        );
        assert_eq!(
            (pop(&mut queue, start, &mut room), queue.next_due(room)),
            (None, Some(later))
        );
        assert_eq!(
            pop(&mut queue, later, &mut room),
            Some((Lane::Answering, key("c")))
        );
        assert_eq!(pop(&mut queue, later, &mut room), None);
        room.give_back(Lane::Failing);
        assert_eq!(
            pop(&mut queue, later, &mut room),
            Some((Lane::Failing, key("b")))
        );
    }
}
