//! Much at once, one test at a time: slow clients, overload, descriptors, fifty redirectors, what Redis is asked.

mod descriptors;
mod overload;
mod propagation;
mod redis_cost;
mod slow_clients;

use tokio::sync::{Mutex, MutexGuard};

/// Held by the test that runs: another at the same time would be in its figures.
static ALONE: Mutex<()> = Mutex::const_new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.blocking_lock()
}
