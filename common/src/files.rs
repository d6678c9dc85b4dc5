//! Files that operators name, read and written on threads of their own: a disk, a network file system or a pipe may
//! stand still for as long as it likes, and nobody who serves, probes or refreshes stands still with it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A file that has not answered for so long is named in the log and among [`hanging`].
pub const PATIENCE: Duration = Duration::from_secs(2);

/// How often [`watch`] looks.
const LOOK: Duration = Duration::from_millis(500);

/// The largest file that [`read`] takes: ten times the largest table that was ever measured.
const MAX_SIZE: u64 = 1 << 30;

/// Work on files that is under way in this process, by key of the configuration and path: at most one thread for each.
static UNDER_WAY: Mutex<BTreeMap<(&'static str, PathBuf), UnderWay>> = Mutex::new(BTreeMap::new());

#[derive(Debug)]
struct UnderWay {
    since: Instant,
    /// Whether the log names it already.
    is_logged: bool,
}

/// A file does not answer, and whoever needs it goes on without.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {}: does not answer for {} s now: is its disk or its network there?", path.display(), waited.as_secs())]
pub struct Hangs {
    key: &'static str,
    path: PathBuf,
    waited: Duration,
}

/// Work on a file under way, on a thread of its own.
#[derive(Debug)]
pub struct FileWork<T> {
    key: &'static str,
    path: PathBuf,
    begun: Instant,
    outcome: oneshot::Receiver<T>,
}

/// Begins `work` on `path`, which `key` of the configuration names.
///
/// # Errors
/// When earlier work on it has not ended: another thread would only wait beside the first.
pub fn start<T: Send + 'static>(
    key: &'static str,
    path: &Path,
    work: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<FileWork<T>, Hangs> {
    let guard = Occupied::take(key, path)?;
    let (done, outcome) = oneshot::channel();
    let at = path.to_owned();
    let thread = std::thread::Builder::new()
        .name("file".into())
        .spawn(move || {
            let result = work(&at);
            // Before the outcome is known: who knows it may begin the next work at once.
            drop(guard);
            // Whoever has stopped waiting needs no outcome.
            let _ = done.send(result);
        });
    if let Err(error) = thread {
        tracing::error!("{key} {}: no thread for it: {error}", path.display());
    }
    Ok(FileWork {
        key,
        path: path.to_owned(),
        begun: Instant::now(),
        outcome,
    })
}

/// Does `work` on `path`, but waits no longer than [`PATIENCE`]; what hangs goes on by itself.
///
/// # Errors
/// When it takes longer, or earlier work on the same path has not ended.
pub async fn within<T: Send + 'static>(
    key: &'static str,
    path: &Path,
    work: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, Hangs> {
    start(key, path, work)?.within(PATIENCE).await
}

/// [`within`], for a program that does not serve yet.
///
/// # Errors
/// The same.
pub fn within_blocking<T: Send + 'static>(
    key: &'static str,
    path: &Path,
    work: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, Hangs> {
    let (done, outcome) = std::sync::mpsc::sync_channel(1);
    let begun = start(key, path, move |path| done.send(work(path)))?;
    outcome.recv_timeout(PATIENCE).map_err(|_| begun.hangs())
}

impl<T> FileWork<T> {
    /// The outcome, if it is there within `limit`.
    ///
    /// # Errors
    /// When it is not; the work goes on, and this may be asked again.
    pub async fn within(&mut self, limit: Duration) -> Result<T, Hangs> {
        match tokio::time::timeout(limit, &mut self.outcome).await {
            Ok(Ok(outcome)) => Ok(outcome),
            // The work panicked, or the kernel refused a thread.
            Ok(Err(_)) | Err(_) => Err(self.hangs()),
        }
    }

    fn hangs(&self) -> Hangs {
        Hangs {
            key: self.key,
            path: self.path.clone(),
            waited: self.begun.elapsed(),
        }
    }
}

impl From<Hangs> for io::Error {
    fn from(hangs: Hangs) -> Self {
        Self::new(io::ErrorKind::TimedOut, hangs)
    }
}

/// Marks a path as being worked on until it is dropped.
#[derive(Debug)]
pub struct Occupied(Option<(&'static str, PathBuf)>);

impl Occupied {
    /// Marks `path`; a thread that writes all the time does it for each writing.
    ///
    /// # Errors
    /// When somebody is at it already.
    pub fn take(key: &'static str, path: &Path) -> Result<Self, Hangs> {
        let place = (key, path.to_owned());
        let mut all = under_way();
        if let Some(earlier) = all.get(&place) {
            return Err(Hangs {
                key,
                path: place.1,
                waited: earlier.since.elapsed(),
            });
        }
        all.insert(
            place.clone(),
            UnderWay {
                since: Instant::now(),
                is_logged: false,
            },
        );
        Ok(Self(Some(place)))
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let Some(place) = self.0.take() else { return };
        let ended = under_way().remove(&place);
        if let Some(UnderWay {
            since,
            is_logged: true,
        }) = ended
        {
            tracing::info!(
                "{} {}: answers again after {} s",
                place.0,
                place.1.display(),
                since.elapsed().as_secs()
            );
        }
    }
}

/// What does not answer, for people; empty in good times.
pub fn hanging() -> Vec<String> {
    let words = |((key, path), work): (&(&str, PathBuf), &UnderWay)| {
        let waited = work.since.elapsed();
        (waited >= PATIENCE).then(|| {
            format!(
                "{key} {}: does not answer for {} s",
                path.display(),
                waited.as_secs()
            )
        })
    };
    under_way().iter().filter_map(words).collect()
}

/// What `/readyz` says where all is well, and beside it what hangs: a file that does not answer is no reason to send
/// clients elsewhere.
pub fn ready() -> String {
    let lines = hanging();
    lines
        .iter()
        .fold("ready\n".to_owned(), |text, line| text + line + "\n")
}

/// Names in the log what hangs, once each, for ever.
pub async fn watch() {
    loop {
        tokio::time::sleep(LOOK).await;
        for ((key, path), work) in under_way().iter_mut() {
            if work.since.elapsed() >= PATIENCE && !std::mem::replace(&mut work.is_logged, true) {
                tracing::warn!(
                    "{key} {}: does not answer for {} s; all else goes on",
                    path.display(),
                    work.since.elapsed().as_secs()
                );
            }
        }
    }
}

fn under_way() -> MutexGuard<'static, BTreeMap<(&'static str, PathBuf), UnderWay>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a regular file whole. A pipe is not waited for (open(2), `O_NONBLOCK`), a device is not read.
///
/// # Errors
/// When it is no regular file, larger than a gigabyte, or cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::other(format!("is larger than {MAX_SIZE} bytes")));
    }
    Ok(bytes)
}

/// Opens a regular file to be read, and nothing else.
///
/// # Errors
/// When it is no regular file or cannot be opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    refuse_irregular(&file.metadata()?)?;
    Ok(file)
}

/// Opens a file, or a pipe, to append to it. A pipe that nobody reads is not waited for (fifo(7)): see [`is_unread`].
///
/// # Errors
/// When it cannot be opened.
pub fn append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    // Whoever writes waits for room, so that no line is cut.
    let flags = rustix::fs::fcntl_getfl(&file)? - rustix::fs::OFlags::NONBLOCK;
    rustix::fs::fcntl_setfl(&file, flags)?;
    Ok(file)
}

/// Whether [`append`] found a pipe that nobody reads.
pub fn is_unread(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENXIO)
}

/// Refuses what is no regular file.
///
/// # Errors
/// Says what it is.
pub fn refuse_irregular(meta: &std::fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let kind = meta.file_type();
    let what = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("is {what}: name a regular file"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[tokio::test]
    async fn what_hangs_is_named_and_holds_up_nobody() {
        let (release, released) = channel::<()>();
        let path = Path::new("/somewhere/that/hangs");
        let mut work =
            start("state_file", path, move |_| released.recv().is_ok()).expect("nobody is at it");
        let hangs = work
            .within(Duration::from_millis(1))
            .await
            .expect_err("it hangs")
            .to_string();
        assert!(
            hangs.starts_with("state_file /somewhere/that/hangs: does not answer"),
            "{hangs}"
        );
        assert!(
            within("state_file", path, |_| ()).await.is_err(),
            "a second thread hangs beside the first"
        );
        assert_eq!(
            within("state_file", Path::new("/elsewhere"), |_| 7).await,
            Ok(7)
        );
        release.send(()).expect("waited for");
        assert_eq!(work.within(Duration::from_secs(10)).await, Ok(true));
        assert_eq!(within("state_file", path, |_| 7).await, Ok(7));
    }

    #[test]
    fn only_regular_files_are_read_and_a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("folder");
        let (file, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        std::fs::write(&file, b"x").expect("written");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .expect("coreutils")
                .success()
        );
        assert_eq!(read(&file).expect("read"), b"x");
        let error = |path: &Path| read(path).expect_err("refused").to_string();
        assert_eq!(error(&pipe), "is a pipe: name a regular file");
        assert_eq!(error(folder.path()), "is a folder: name a regular file");
        assert_eq!(
            error(Path::new("/dev/zero")),
            "is a device: name a regular file"
        );
    }
}
