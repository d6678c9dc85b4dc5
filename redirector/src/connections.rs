//! The connections of one thread: in which phase each is and since when, so that one sweep a quarter of a second
//! enforces every deadline. No timer per connection.

use std::time::Duration;
use tokio::task::AbortHandle;

/// From one sweep to the next.
pub const TICK: Duration = Duration::from_millis(250);

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
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
    /// The end of a TLS handshake.
    Handshake,
}

/// How long each phase may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// [`Phase::Idle`]: `keepalive_timeout`.
    pub idle: Duration,
    /// [`Phase::Head`], from the head's first byte, and [`Phase::Handshake`], from the accept: `client_timeout`.
    pub head: Duration,
}

const WRITE: Duration = Duration::from_secs(10);
const LINGER: Duration = Duration::from_secs(2);
const PAGE: Duration = Duration::from_secs(30);

impl Deadlines {
    fn ticks(&self, phase: Phase) -> u64 {
        let time = match phase {
            Phase::Idle => self.idle,
            Phase::Head | Phase::Handshake => self.head,
            Phase::Write => WRITE,
            Phase::Linger => LINGER,
            Phase::Page => PAGE,
        };
        time.as_millis().div_ceil(TICK.as_millis()) as u64
    }
}

#[derive(Debug)]
struct Entry {
    phase: Phase,
    since: u64,
    abort: Option<AbortHandle>,
}

/// All waiting connections of a thread.
#[derive(Debug, Default)]
pub struct Connections {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    tick: u64,
}

/// The place of one connection.
pub type Place = usize;

impl Connections {
    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a place for a new connection.
    pub fn insert(&mut self) -> Place {
        let entry = Some(Entry { phase: Phase::Idle, since: self.tick, abort: None });
        match self.free.pop() {
            Some(place) => {
                self.entries[place] = entry;
                place
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        }
    }

    /// Says how the connection at `place` can be ended.
    pub fn set_abort(&mut self, place: Place, abort: AbortHandle) {
        if let Some(entry) = &mut self.entries[place] {
            entry.abort = Some(abort);
        }
    }

    /// The connection at `place` waits for something. A head goes on counting from its first byte.
    pub fn set_phase(&mut self, place: Place, phase: Phase) {
        if let Some(entry) = &mut self.entries[place]
            && !(entry.phase == phase && matches!(phase, Phase::Head | Phase::Linger))
        {
            (entry.phase, entry.since) = (phase, self.tick);
        }
    }

    /// Frees a place.
    pub fn remove(&mut self, place: Place) {
        if self.entries[place].take().is_some() {
            self.free.push(place);
        }
    }

    /// Moves time on by one tick and ends every connection that is over its deadline.
    pub fn sweep(&mut self, deadlines: &Deadlines) {
        self.tick += 1;
        for entry in self.entries.iter().flatten() {
            if self.tick - entry.since > deadlines.ticks(entry.phase)
                && let Some(abort) = &entry.abort
            {
                abort.abort();
            }
        }
    }

    /// Ends the `count` connections that have been idle for longest; how many there were to end.
    pub fn evict_idle(&mut self, count: usize) -> usize {
        let mut idle: Vec<(u64, &AbortHandle)> = self
            .entries
            .iter()
            .flatten()
            .filter(|entry| entry.phase == Phase::Idle)
            .filter_map(|entry| Some((entry.since, entry.abort.as_ref()?)))
            .collect();
        if count < idle.len() {
            idle.select_nth_unstable_by_key(count, |(since, _)| *since);
        }
        idle.iter().take(count).map(|(_, abort)| abort.abort()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> tokio::task::JoinHandle<()> {
        tokio::spawn(std::future::pending())
    }

    #[tokio::test]
    async fn each_phase_has_its_deadline_and_a_slow_head_cannot_move_it() {
        let deadlines = Deadlines { idle: Duration::from_secs(65), head: Duration::from_secs(5) };
        let mut connections = Connections::default();
        let (slow, idle) = (waiting(), waiting());
        let (slow_place, idle_place) = (connections.insert(), connections.insert());
        connections.set_abort(slow_place, slow.abort_handle());
        connections.set_abort(idle_place, idle.abort_handle());
        for _ in 0..21 {
            connections.set_phase(slow_place, Phase::Head);
            connections.sweep(&deadlines);
        }
        assert!(slow.await.is_err_and(|error| error.is_cancelled()));
        assert!(!idle.is_finished());
        connections.remove(slow_place);
        assert_eq!((connections.len(), connections.evict_idle(5)), (1, 1));
        assert!(idle.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(connections.insert(), slow_place);
    }
}
