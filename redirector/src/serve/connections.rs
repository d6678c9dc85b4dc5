//! The waiting connections of one thread: in which phase each is and since when, so that one sweep a quarter of a
//! second enforces every deadline. No timer per connection.

use std::time::Duration;

/// From one sweep to the next.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// How long an idle connection has to ask once more when the process begins to drain. One that has been idle for longer
/// by then has none: a client that asks in that instant asks again (RFC 9112 section 9.3.1).
pub(crate) const LAST_REQUEST: Duration = Duration::from_secs(1);

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A request.
    Idle,
    /// The rest of a head.
    Head,
    /// Room to write.
    Write,
    /// The peer's end after a refusal.
    Linger,
    /// A page that is made elsewhere.
    Page,
    /// The first byte over TLS.
    Hello,
    /// The end of a TLS handshake.
    Handshake,
}

impl Phase {
    /// Whether nothing has begun that would have to be finished.
    fn is_idle(self) -> bool {
        matches!(self, Self::Idle | Self::Hello)
    }
}

/// How long each phase may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// [`Phase::Idle`]: `keepalive_timeout`.
    pub idle: Duration,
    /// [`Phase::Head`], from the head's first byte, and [`Phase::Hello`] and [`Phase::Handshake`] together, from the
    /// accept: `client_timeout`.
    pub head: Duration,
}

const WRITE: Duration = Duration::from_secs(10);
const LINGER: Duration = Duration::from_secs(2);
const PAGE: Duration = Duration::from_secs(30);

impl Deadlines {
    /// How long `phase` may last.
    pub(crate) fn time(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Idle => self.idle,
            Phase::Head | Phase::Hello | Phase::Handshake => self.head,
            Phase::Write => WRITE,
            Phase::Linger => LINGER,
            Phase::Page => PAGE,
        }
    }

    fn ticks(&self, phase: Phase) -> u32 {
        ticks(self.time(phase))
    }
}

fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX)
}

/// Where a connection is, while it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionId {
    index: u32,
    /// Counts the connections that have had this index: an old id is not taken for the new connection.
    serial: u32,
}

impl ConnectionId {
    /// The index: a number that no two connections have at a time.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

/// What a sweep looks at, apart from the rest, so that it touches little memory.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// None: the index is free.
    phase: Option<Phase>,
    /// Whether it was ever answered.
    answered: bool,
    since: u32,
}

#[derive(Debug)]
struct ParkedEntry<T> {
    serial: u32,
    held: Option<T>,
}

/// All waiting connections of a thread.
#[derive(Debug)]
pub(crate) struct Connections<T> {
    clocks: Vec<Clock>,
    entries: Vec<ParkedEntry<T>>,
    free: Vec<u32>,
    /// Ticks since the start; they come round after 34 years.
    tick: u32,
    /// Whether who is idle has no more than [`LAST_REQUEST`].
    draining: bool,
}

impl<T> Default for Connections<T> {
    fn default() -> Self {
        Self {
            clocks: Vec::new(),
            entries: Vec::new(),
            free: Vec::new(),
            tick: 0,
            draining: false,
        }
    }
}

impl<T> Connections<T> {
    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a new connection in; its id.
    pub(crate) fn insert(&mut self, held: T) -> ConnectionId {
        let clock = Clock {
            phase: Some(Phase::Idle),
            answered: false,
            since: self.tick,
        };
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            (entry.held, self.clocks[index as usize]) = (Some(held), clock);
            return ConnectionId {
                index,
                serial: entry.serial,
            };
        }
        self.clocks.push(clock);
        self.entries.push(ParkedEntry {
            serial: 0,
            held: Some(held),
        });
        ConnectionId {
            index: (self.entries.len() - 1) as u32,
            serial: 0,
        }
    }

    /// The id of the connection with this index, if there is one.
    pub(crate) fn at(&self, index: usize) -> Option<ConnectionId> {
        let entry = self.entries.get(index)?;
        entry.held.as_ref().map(|_| ConnectionId {
            index: index as u32,
            serial: entry.serial,
        })
    }

    /// The connection of this id, if it is still there.
    pub(crate) fn get_mut(&mut self, place: ConnectionId) -> Option<&mut T> {
        self.entries
            .get_mut(place.index())
            .filter(|entry| entry.serial == place.serial)?
            .held
            .as_mut()
    }

    /// The connection with this index, and what it waits for.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: usize) -> Option<(ConnectionId, Phase, &mut T)> {
        let (entry, clock) = (self.entries.get_mut(index)?, self.clocks.get(index)?);
        let place = ConnectionId {
            index: index as u32,
            serial: entry.serial,
        };
        Some((place, clock.phase?, entry.held.as_mut()?))
    }

    /// Sets what a connection waits for. The time of a head or an answer goes on from its first byte, unless
    /// it has `progressed`: was answered, or took enough of an answer.
    pub(crate) fn set_phase(&mut self, place: ConnectionId, phase: Phase, progressed: bool) {
        let clock = &mut self.clocks[place.index()];
        if clock.phase == Some(Phase::Hello) && phase == Phase::Handshake {
            clock.phase = Some(phase);
            return;
        }
        if progressed || clock.phase != Some(phase) || matches!(phase, Phase::Idle | Phase::Page) {
            *clock = Clock {
                phase: Some(phase),
                answered: clock.answered || progressed,
                since: self.tick,
            };
        }
    }

    /// Removes a connection.
    pub(crate) fn remove(&mut self, place: ConnectionId) -> Option<T> {
        let entry = self
            .entries
            .get_mut(place.index())
            .filter(|entry| entry.serial == place.serial)?;
        let held = entry.held.take()?;
        entry.serial = entry.serial.wrapping_add(1);
        self.clocks[place.index()].phase = None;
        self.free.push(place.index);
        Some(held)
    }

    /// Moves time on by one tick; the connections that are over their deadline.
    pub(crate) fn sweep(&mut self, deadlines: &Deadlines) -> Vec<ConnectionId> {
        self.tick += 1;
        let limit = |phase: Phase| match self.draining && phase.is_idle() {
            true => deadlines.ticks(phase).min(ticks(LAST_REQUEST)),
            false => deadlines.ticks(phase),
        };
        let over = |clock: &Clock| {
            clock
                .phase
                .is_some_and(|phase| self.tick - clock.since > limit(phase))
        };
        self.clocks
            .iter()
            .enumerate()
            .filter(|(_, clock)| over(clock))
            .filter_map(|(index, _)| self.at(index))
            .collect()
    }

    /// The process drains from now on: who has been idle for longer than [`LAST_REQUEST`]. The others have that long from
    /// now, to ask once more or to begin.
    pub(crate) fn drain(&mut self) -> Vec<ConnectionId> {
        self.draining = true;
        let (now, limit) = (self.tick, ticks(LAST_REQUEST));
        let mut over = Vec::new();
        for index in 0..self.clocks.len() {
            let clock = &mut self.clocks[index];
            if clock.phase.is_some_and(Phase::is_idle) {
                match now - clock.since > limit {
                    true => over.extend(self.at(index)),
                    false => clock.since = now,
                }
            }
        }
        over
    }

    /// Whether a connection is idle, or gone.
    pub(crate) fn is_idle(&self, place: ConnectionId) -> bool {
        self.at(place.index()) != Some(place)
            || self.clocks[place.index()].phase.is_some_and(Phase::is_idle)
    }

    /// The `count` connections that have been idle for longest; where fewer are idle, then those that were answered and
    /// have been in the head of another request for longest: with a byte of one after each answer they would hold their
    /// place for ever. A first head has its time.
    pub(crate) fn longest_waiting(&self, count: usize) -> Vec<ConnectionId> {
        let rank = |clock: &Clock| match clock.phase? {
            Phase::Idle => Some(0),
            Phase::Head if clock.answered => Some(1),
            _ => None,
        };
        let waiting = self
            .clocks
            .iter()
            .enumerate()
            .filter_map(|(index, clock)| Some((rank(clock)?, clock.since, index)));
        let mut waiting: Vec<(u8, u32, usize)> = waiting.collect();
        if count < waiting.len() {
            waiting.select_nth_unstable(count);
            waiting.truncate(count);
        }
        waiting
            .into_iter()
            .filter_map(|(.., index)| self.at(index))
            .collect()
    }
}

#[cfg(test)]
mod tests;
