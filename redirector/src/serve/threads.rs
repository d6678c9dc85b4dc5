//! The threads that serve clients: how they are started, and woken when the process ends.

use anyhow::Context;
use common::process::signals::{Phase, Shutdown};
use common::process::thread_priority::ThreadPriority;
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Starts a thread that serves clients; what it returns.
pub(crate) fn thread(
    name: String,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> anyhow::Result<oneshot::Receiver<io::Result<()>>> {
    let (ended, end) = oneshot::channel();
    let serve = move || {
        ThreadPriority::Serving.take();
        ended.send(work())
    };
    std::thread::Builder::new()
        .name(name)
        .spawn(serve)
        .context("cannot start a thread for clients")?;
    Ok(end)
}

/// Has threads that wait for their clients look at each new phase.
pub(crate) async fn wake_at_end(wakers: Vec<Arc<mio::Waker>>, mut shutdown: Shutdown) {
    for phase in [Phase::Draining, Phase::Stopping] {
        shutdown.reached(phase).await;
        // One that cannot be woken looks at its next tick.
        wakers.iter().for_each(|waker| drop(waker.wake()));
    }
}
