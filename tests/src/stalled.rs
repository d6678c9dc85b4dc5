//! File systems that stand still: one whose writes hang, as on a frozen or dying disk, and one where everything does,
//! as on a network file system whose server is gone. Both need root; where the machine has no loop devices or no
//! `/dev/fuse` there is none to be had.

use crate::START;
use crate::process::Process;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// A file system of its own that can be frozen.
#[derive(Debug)]
pub struct Freezable {
    directory: TempDir,
}

impl Freezable {
    /// Makes one; none where nothing can be mounted.
    pub fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let made = Self { directory };
        let image = made.directory.path().join("image");
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(16 << 20))
            .expect("a file in a temporary directory");
        std::fs::create_dir(made.path()).expect("a folder");
        run("mkfs.ext4", &["-q".as_ref(), &image])
            .expect("mkfs.ext4 makes a file system: apt-get install e2fsprogs");
        match run(
            "mount",
            &["-o".as_ref(), "loop".as_ref(), &image, &made.path()],
        ) {
            Ok(()) => Some(made),
            Err(why) => {
                say(&format!(
                    "no loop mount on this machine, so no frozen disk: {why}"
                ));
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// Has every write wait until [`Freezable::thaw`], but for a minute at the most: a process that waits in one cannot
    /// even be killed, and a test that fails waits for its processes.
    pub fn freeze(&self) {
        let path = self.path();
        run("fsfreeze", &["-f".as_ref(), &path])
            .expect("a file system that was mounted can be frozen");
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(60));
            let _ = run("fsfreeze", &["-u".as_ref(), &path]);
        });
    }

    /// Ends it.
    pub fn thaw(&self) {
        run("fsfreeze", &["-u".as_ref(), &self.path()])
            .expect("a frozen file system can be thawed");
    }
}

impl Drop for Freezable {
    fn drop(&mut self) {
        // The first fails where it is not frozen, the second where it was never mounted.
        let _ = run("fsfreeze", &["-u".as_ref(), &self.path()]);
        let _ = run("umount", &["-l".as_ref(), &self.path()]);
    }
}

/// A folder in which everything hangs: a file system in user space whose program never answers.
#[derive(Debug)]
pub struct Unanswering {
    directory: TempDir,
    /// Holds the file system; when it ends, everything in the folder fails at once.
    holder: Option<Process>,
}

impl Unanswering {
    /// Makes one; none where nothing can be mounted.
    pub fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("sh");
        let mount = "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 test \"$0\" && echo mounted && exec sleep 600";
        command.args(["-c", mount]).arg(directory.path());
        let holder = Process::spawn("mount", command);
        match holder.find(START, |line| line.contains("mounted").then_some(())) {
            Some(()) => Some(Self {
                directory,
                holder: Some(holder),
            }),
            None => {
                say(&format!(
                    "no file system in user space on this machine: {}",
                    holder.lines().join(" ")
                ));
                None
            }
        }
    }

    /// A file in it.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("file")
    }

    /// Puts a link to a file in it where `path` is.
    pub fn take_place_of(&self, path: &Path) {
        let beside = path.with_added_extension("link");
        std::os::unix::fs::symlink(self.file(), &beside)
            .and_then(|()| std::fs::rename(&beside, path))
            .expect("a link in a folder of the test");
    }

    /// What waits fails from now on.
    pub fn end(&mut self) {
        self.holder = None;
    }
}

impl Drop for Unanswering {
    fn drop(&mut self) {
        self.end();
        let _ = run("umount", &["-l".as_ref(), self.directory.path()]);
    }
}

/// A pipe that nobody reads.
pub fn pipe(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    run("mkfifo", &[&path]).expect("mkfifo makes a pipe");
    path
}

#[allow(
    clippy::print_stderr,
    reason = "a case that cannot be tried here says so"
)]
fn say(words: &str) {
    eprintln!("{words}");
}

fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
