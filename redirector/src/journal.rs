//! Carries lines of the access log from the threads that serve clients to a file, and never holds one up: a queue
//! that is full drops lines and counts them.

use crate::access_log::{self, Entry, Style};
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes of lines gathered before they are handed over.
const BATCH: usize = 16 * 1024;

/// Batches that may wait for the file: four megabytes.
const QUEUE: usize = 256;

/// How often the writer looks whether the file is to be opened anew while nothing comes.
const LOOK: Duration = Duration::from_millis(250);

/// How long the end of the process waits for lines to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Where lines go, and what of them was lost.
#[derive(Debug, Clone)]
pub struct Journal {
    sender: SyncSender<Batch>,
    style: Style,
    state: Arc<State>,
}

/// What the threads share with the writer.
#[derive(Debug, Default)]
pub struct State {
    dropped: AtomicU64,
    reopen: AtomicBool,
}

impl State {
    /// Lines that were not written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The file was moved away: the next line goes to a new one.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }
}

/// Opens the file anew whenever the process is told to (USR1), as programs that move logs away do. Without a log the
/// signal means nothing, and must not end the process.
pub(crate) async fn follow_usr1(state: Option<Arc<State>>) {
    let Ok(mut usr1) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined1()) else {
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
pub struct Lines {
    journal: Journal,
    batch: Batch,
}

impl Journal {
    /// Opens `path` to append to, and starts the thread that writes.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread cannot be started.
    pub fn open(path: PathBuf, style: Style) -> std::io::Result<(Self, Writing)> {
        let file = append(&path)?;
        let (sender, batches) = sync_channel(QUEUE);
        let state: Arc<State> = Arc::default();
        let writer = Writer { path, file: Some(file), state: state.clone(), failing: false };
        let (ended, end) = oneshot::channel();
        std::thread::Builder::new().name("access-log".into()).spawn(move || {
            writer.run(&batches);
            drop(ended);
        })?;
        Ok((Self { sender, style, state }, Writing(end)))
    }

    /// What was lost, and how to have the file opened anew.
    pub fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// Lines of one thread's own.
    pub fn lines(&self) -> Lines {
        Lines { journal: self.clone(), batch: Batch::default() }
    }
}

/// The thread that writes: it ends when every journal and all lines are gone.
#[derive(Debug)]
pub struct Writing(oneshot::Receiver<Infallible>);

impl Writing {
    /// Waits until all lines are written, but not for long.
    pub async fn end(self) {
        if tokio::time::timeout(LAST_LINES, self.0).await.is_err() {
            tracing::warn!("access log: the file takes no more; the last lines are lost");
        }
    }
}

impl Lines {
    /// Adds a line.
    pub fn add(&mut self, entry: &Entry<'_>) {
        access_log::write(entry, self.journal.style, &mut self.batch.bytes);
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
            self.journal.sender.try_send(std::mem::take(&mut self.batch))
        {
            self.journal.state.dropped.fetch_add(lost.lines, Ordering::Relaxed);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.hand_over();
    }
}

fn append(path: &PathBuf) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// The thread that writes.
struct Writer {
    path: PathBuf,
    file: Option<File>,
    state: Arc<State>,
    failing: bool,
}

impl Writer {
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
        let mut attempt = || -> std::io::Result<()> {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(append(&self.path)?),
            };
            file.write_all(&batch.bytes)
        };
        match attempt() {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("access log {}: written again", self.path.display());
            }
            Ok(()) => {}
            Err(error) => {
                self.state.dropped.fetch_add(batch.lines, Ordering::Relaxed);
                self.file = None;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("access log {}: {error}; lines are dropped and counted", self.path.display());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(target: &[u8]) -> Entry<'_> {
        Entry {
            at: 0,
            client: "192.0.2.1".parse().ok(),
            method: b"GET",
            target,
            version: "HTTP/1.1",
            host: b"",
            status: 302,
            bytes: 0,
            referer: b"",
            agent: b"",
            farm: "",
            server: "",
            location: b"",
        }
    }

    fn until(mut holds: impl FnMut() -> bool) {
        let started = std::time::Instant::now();
        while !holds() {
            assert!(started.elapsed() < Duration::from_secs(10), "not within 10 s");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn lines_reach_the_file_and_a_new_one_after_it_was_moved() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let (journal, _) = Journal::open(path.clone(), Style::default()).expect("it opens");
        let mut lines = journal.lines();
        lines.add(&entry(b"/one"));
        lines.hand_over();
        until(|| std::fs::read_to_string(&path).is_ok_and(|text| text.contains("GET /one HTTP/1.1")));
        std::fs::rename(&path, &moved).expect("moved");
        journal.state().reopen();
        lines.add(&entry(b"/two"));
        drop(lines);
        until(|| std::fs::read_to_string(&path).is_ok_and(|text| text.contains("/two")));
        assert!(!std::fs::read_to_string(&moved).expect("it is there").contains("/two"));
        assert_eq!(journal.state().dropped(), 0);
    }

    #[tokio::test]
    async fn at_the_end_every_line_is_in_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let (journal, writing) = Journal::open(path.clone(), Style::default()).expect("it opens");
        let mut lines = journal.lines();
        (0..20_000).for_each(|_| lines.add(&entry(b"/last")));
        drop((lines, journal));
        writing.end().await;
        assert_eq!(std::fs::read_to_string(&path).expect("it is there").lines().count(), 20_000);
    }

    #[test]
    fn what_a_full_queue_cannot_take_is_counted_and_nobody_waits() {
        let (sender, batches) = sync_channel(1);
        let journal = Journal { sender, style: Style::default(), state: Arc::default() };
        let mut lines = journal.lines();
        for _ in 0..3 {
            (0..10).for_each(|_| lines.add(&entry(b"/x")));
            lines.hand_over();
        }
        assert_eq!((journal.state().dropped(), batches.recv().expect("one batch").lines), (20, 10));
    }

    #[test]
    fn a_file_that_cannot_be_written_costs_lines_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/access.log");
        assert!(Journal::open(path.clone(), Style::default()).is_err());
        let state: Arc<State> = Arc::default();
        let mut writer = Writer { path: path.clone(), file: None, state: state.clone(), failing: false };
        let batch = || Batch { bytes: b"x\n".to_vec(), lines: 1 };
        writer.write(&batch());
        assert_eq!(state.dropped(), 1);
        std::fs::create_dir(folder.path().join("deep")).expect("made");
        writer.write(&batch());
        assert_eq!((std::fs::read(&path).expect("written"), state.dropped()), (b"x\n".to_vec(), 1));
    }
}
