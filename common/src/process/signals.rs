//! Signals: what asks a process to end, to read again, and how far its end has come.

use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// When the end of the process was asked for: once it was.
pub fn asked_to_end(mut shutdown: Shutdown) -> tokio::task::JoinHandle<Instant> {
    tokio::spawn(async move {
        shutdown.reached(Phase::Draining).await;
        Instant::now()
    })
}

/// How far the end of a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// At work.
    Running,
    /// Finishing what was begun.
    Draining,
    /// Ending at once.
    Stopping,
}

impl Phase {
    /// The phase after one more request to end: what was asked twice is meant now.
    fn asked_to_end(self) -> Self {
        if self == Self::Running {
            Self::Draining
        } else {
            Self::Stopping
        }
    }
}

/// Tells a role when to end. Clones see the same phase.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Phase>);

/// Ends what holds the [`Shutdown`] it was made with.
#[derive(Debug, Clone)]
pub struct Stop(std::sync::Arc<watch::Sender<Phase>>);

impl Stop {
    /// A pair: one to end with, one to be ended by.
    pub fn new() -> (Self, Shutdown) {
        let (sender, receiver) = watch::channel(Phase::Running);
        (Self(std::sync::Arc::new(sender)), Shutdown(receiver))
    }

    /// Moves on to `phase`; never back.
    pub fn move_to(&self, phase: Phase) {
        self.0.send_if_modified(|held| {
            let later = phase > *held;
            *held = phase.max(*held);
            later
        });
    }
}

impl Shutdown {
    /// Waits until the process is at least in `phase`.
    pub async fn reached(&mut self, phase: Phase) {
        // A sender that is gone can never move on: the wait is over.
        let _ = self.0.wait_for(|held| *held >= phase).await;
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }
}

/// Counts requests to read files again (HUP).
#[derive(Debug, Clone)]
pub struct Reload(watch::Receiver<u64>);

impl Reload {
    /// A reload that is never asked for.
    pub fn never() -> Self {
        Self(watch::channel(0).1)
    }

    /// Waits for the next request.
    pub async fn asked(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Follows the process's signals: TERM and QUIT drain, a second one (or INT) stops now, HUP reloads. USR1 and USR2 do
/// nothing of themselves, and must not end a process that is told with all others that logs were moved.
///
/// # Errors
/// When the kernel refuses a handler.
pub fn on_signals() -> std::io::Result<(Shutdown, Reload)> {
    let (stop, shutdown) = Stop::new();
    let (reloads, reload) = watch::channel(0);
    let (mut term, mut quit) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::quit())?,
    );
    let (mut int, mut hup) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    );
    // A handler stays in place when its stream is dropped.
    drop((
        signal(SignalKind::user_defined1())?,
        signal(SignalKind::user_defined2())?,
    ));
    tokio::spawn(async move {
        let mut phase = Phase::Running;
        while phase != Phase::Stopping {
            let asked = tokio::select! {
                _ = term.recv() => "TERM",
                _ = quit.recv() => "QUIT",
                _ = int.recv() => "INT",
                _ = hup.recv() => {
                    reloads.send_modify(|count| *count += 1);
                    continue;
                }
            };
            phase = if asked == "INT" {
                Phase::Stopping
            } else {
                phase.asked_to_end()
            };
            // Said first: who ends at once would end before it.
            tracing::info!(
                "ending after {asked}: {}",
                if phase == Phase::Draining {
                    "what is under way is finished"
                } else {
                    "now"
                }
            );
            stop.move_to(phase);
        }
        // The handlers stay in place: a third signal is one too many, not a crash.
        std::future::pending::<()>().await;
    });
    Ok((shutdown, Reload(reload)))
}
