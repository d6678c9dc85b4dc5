//! Carries lines of the access log from the threads that serve clients to a file, and never holds one up: a queue
//! that is full drops lines and counts them.

use crate::access_log::entry::{self, LogEntry, Style};
use anyhow::Context;
use common::files::{self, Occupied};
use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// The key that names the destination.
const KEY: &str = "access_log";

/// Bytes of lines gathered before they are handed over.
const BATCH: usize = 16 * 1024;

/// Batches that may wait for the file: four megabytes.
const QUEUE: usize = 256;

/// How often the writer looks whether the file is to be opened anew while nothing comes.
const LOOK: Duration = Duration::from_millis(250);

/// How long the end of the process waits for lines to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Where the access log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogDestination {
    /// Appended to this file, or pipe.
    Path(PathBuf),
    /// What the process was started with, as containers want it. It is never opened: systemd passes a socket there, and
    /// another user's terminal may not be opened.
    Stdout,
    /// The same beside the process's own log.
    Stderr,
}

impl FromStr for LogDestination {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("is empty: write a path, - for standard output, or off".into()),
            "-" | "stdout" | "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Ok(Self::Stdout),
            "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => Ok(Self::Stderr),
            word if !word.contains(['/', '.']) => Err(format!(
                "`{word}` is no path: write - for standard output, /dev/stderr for standard error, off, or ./{word} for a file of that name"
            )),
            path => Ok(Self::Path(path.into())),
        }
    }
}

impl fmt::Display for LogDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Stdout => f.write_str("standard output"),
            Self::Stderr => f.write_str("standard error"),
        }
    }
}

impl LogDestination {
    /// Opens it to append to.
    fn open(&self) -> io::Result<File> {
        match self {
            Self::Path(path) => files::append(path),
            Self::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
            Self::Stderr => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
        }
    }

    /// For the log and `/readyz` while it hangs.
    fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Stdout => Path::new("/dev/stdout"),
            Self::Stderr => Path::new("/dev/stderr"),
        }
    }
}

/// Where lines go, and what of them was lost.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    sender: SyncSender<Batch>,
    style: Style,
    state: Arc<LogState>,
}

/// What the threads share with the writer.
#[derive(Debug, Default)]
pub(crate) struct LogState {
    dropped: AtomicU64,
    reopen: AtomicBool,
}

impl LogState {
    /// Lines that were not written.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The file was moved away: the next line goes to a new one.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }
}

/// Opens the file anew whenever the process is told to (USR1), as programs that move logs away do. Without a log the
/// signal means nothing, and must not end the process.
pub(crate) async fn follow_usr1(state: Option<Arc<LogState>>) {
    let Ok(mut usr1) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined1())
    else {
        return std::future::pending().await;
    };
    while usr1.recv().await.is_some() {
        if let Some(state) = &state {
            state.reopen();
        }
    }
    std::future::pending::<()>().await;
}

#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

/// The lines of one thread.
#[derive(Debug)]
pub struct LogBuffer {
    log: AccessLog,
    batch: Batch,
}

impl AccessLog {
    /// Starts the thread that opens `destination` and writes to it. One that hangs, or a pipe that nobody reads yet,
    /// costs lines, which are counted, and holds up no start.
    ///
    /// # Errors
    /// When it cannot be opened or the thread cannot be started.
    pub(crate) async fn open(
        destination: LogDestination,
        style: Style,
    ) -> anyhow::Result<(Self, WriterHandle)> {
        let (sender, batches) = sync_channel(QUEUE);
        let state: Arc<LogState> = Arc::default();
        let words = format!("access_log {destination}");
        let mut writer = Writer {
            destination,
            file: None,
            state: state.clone(),
            failing: false,
        };
        let ((ended, end), (opened, open)) = (oneshot::channel(), oneshot::channel());
        let write = move || {
            // Whoever has stopped waiting goes on without.
            let _ = opened.send(writer.open());
            writer.run(&batches);
            drop(ended);
        };
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(write)
            .context(words.clone())?;
        if let Ok(Ok(Err(error))) = tokio::time::timeout(files::PATIENCE, open).await {
            return Err(error).context(words);
        }
        Ok((
            Self {
                sender,
                style,
                state,
            },
            WriterHandle(end),
        ))
    }

    /// What was lost, and how to have the file opened anew.
    pub(crate) fn state(&self) -> Arc<LogState> {
        self.state.clone()
    }

    /// Lines of one thread's own.
    pub(crate) fn lines(&self) -> LogBuffer {
        LogBuffer {
            log: self.clone(),
            batch: Batch::default(),
        }
    }
}

/// The thread that writes: it ends when every `AccessLog` and all lines are gone.
#[derive(Debug)]
pub(crate) struct WriterHandle(oneshot::Receiver<Infallible>);

impl WriterHandle {
    /// Waits until all lines are written, but not for long.
    pub(crate) async fn end(self) {
        if tokio::time::timeout(LAST_LINES, self.0).await.is_err() {
            tracing::warn!("access log: the file takes no more; the last lines are lost");
        }
    }
}

impl LogBuffer {
    /// Adds a line.
    pub fn add(&mut self, entry: &LogEntry<'_>) {
        entry::write(entry, self.log.style, &mut self.batch.bytes);
        self.batch.lines += 1;
        if self.batch.bytes.len() >= BATCH {
            self.hand_over();
        }
    }

    /// Hands over what was gathered. The thread's tick calls it, so that a quiet server's lines are seen soon.
    pub fn hand_over(&mut self) {
        if self.batch.lines == 0 {
            return;
        }
        if let Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) =
            self.log.sender.try_send(std::mem::take(&mut self.batch))
        {
            self.log
                .state
                .dropped
                .fetch_add(lost.lines, Ordering::Relaxed);
        }
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// The thread that writes.
struct Writer {
    destination: LogDestination,
    file: Option<File>,
    state: Arc<LogState>,
    failing: bool,
}

impl Writer {
    /// Opens the destination for the first time.
    fn open(&mut self) -> io::Result<()> {
        // Nobody else writes the access log: it is marked only to be seen where it hangs.
        let _occupied = Occupied::take(KEY, self.destination.path());
        match self.destination.open() {
            Ok(file) => {
                self.file = Some(file);
                Ok(())
            }
            Err(error) if files::is_unread(&error) => {
                self.failing = true;
                tracing::warn!(
                    "access_log {}: nobody reads it; lines are dropped and counted until somebody does",
                    self.destination
                );
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn run(mut self, batches: &Receiver<Batch>) {
        loop {
            let batch = batches.recv_timeout(LOOK);
            if self.state.reopen.swap(false, Ordering::Relaxed) {
                self.file = None;
            }
            match batch {
                Ok(batch) => self.write(&batch),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, batch: &Batch) {
        let _occupied = Occupied::take(KEY, self.destination.path());
        let mut attempt = || -> io::Result<()> {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(self.destination.open()?),
            };
            file.write_all(&batch.bytes)
        };
        match attempt() {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("access_log {}: written again", self.destination);
            }
            Ok(()) => {}
            Err(error) => {
                self.state.dropped.fetch_add(batch.lines, Ordering::Relaxed);
                self.file = None;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        "access_log {}: {error}; lines are dropped and counted",
                        self.destination
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
