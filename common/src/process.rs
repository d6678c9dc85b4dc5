//! What every program does the same: arguments, logging, signals, exit codes, threads and their priority.
//! No farm and no answer may enter here.

pub mod admin;
pub mod arguments;
pub mod durable;
pub mod exit;
pub mod huge_pages;
pub mod logging;
pub mod signals;
pub mod thread_priority;

use crate::process::thread_priority::ThreadPriority;
use tokio::runtime::{Builder, Runtime};

/// A runtime whose `threads`, and those for blocking work, give way to the thread that makes it and to those that one
/// starts.
///
/// # Errors
/// When the kernel refuses a thread.
pub fn background(threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .on_thread_start(|| ThreadPriority::Background.take())
        .build()
}

/// Runs `work` to its end on `runtime`, and then waits for nobody: a look-up or a file that hangs ends with the process.
pub fn run_on<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

/// Does long `work` on a thread of its own that stands back behind all others; none where it panicked or the kernel
/// refused a thread.
pub async fn unhurried<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    let stand_back = move || {
        ThreadPriority::Unhurried.take();
        // Who has stopped waiting needs no outcome.
        let _ = done.send(work());
    };
    if let Err(error) = std::thread::Builder::new()
        .name("unhurried".into())
        .spawn(stand_back)
    {
        tracing::error!("no thread for long work: {error}");
    }
    outcome.await.ok()
}

/// The host's name, for people.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// A random 128-bit identity in hexadecimal.
pub fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
