//! State files that survive a crash: written whole or not at all, and read only if they are what was written.

use crate::files;
use crate::model::generation::checksum;
use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Writes `value` as JSON under a line with its checksum: to a file beside `path`, synced, then renamed over it.
///
/// # Errors
/// Names the path and the step that failed; the old file is then untouched. So is a pipe, a device or a folder.
pub fn write(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let json = serde_json::to_vec(value)?;
    // Processes may share a file: each has a draft of its own.
    let beside = path.with_added_extension(format!("{}.new", std::process::id()));
    let write = || -> std::io::Result<()> {
        match fs::metadata(path) {
            Ok(meta) => files::refuse_irregular(&meta)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut file = File::create(&beside)?;
        writeln!(file, "{}", checksum(&json))?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // The rename itself is on disk only when the directory is.
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    };
    write().with_context(|| place(path))
}

/// Reads what [`write()`] wrote; none if there is no file. A file that cannot be used is set aside under another name:
/// the next writing would destroy the only trace of what was in it.
///
/// # Errors
/// Names the path, what is wrong with the file, and where it is now.
pub fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    read_whole(path).map_err(|error| match set_aside(path) {
        Some(aside) => error.context(format!(
            "{} cannot be used and is now {}",
            place(path),
            aside.display()
        )),
        None => error.context(format!("{} cannot be used", place(path))),
    })
}

fn place(path: &Path) -> String {
    format!("state file {}", path.display())
}

fn read_whole<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let bytes = match files::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        outcome => outcome?,
    };
    let Some((sum, json)) = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .map(|end| (&bytes[..end], &bytes[end + 1..]))
    else {
        bail!("it has no checksum");
    };
    if sum != checksum(json).as_bytes() {
        bail!("it is damaged: its checksum does not match");
    }
    serde_json::from_slice(json)
        .context("it is of another program or version")
        .map(Some)
}

/// How many damaged files are kept beside each other.
const KEPT_ASIDE: u32 = 9;

/// Renames a regular file that cannot be used to `.damaged`, or `.damaged.2` and so on where there is one.
fn set_aside(path: &Path) -> Option<PathBuf> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let named = |number: u32| match number {
        1 => path.with_added_extension("damaged"),
        _ => path.with_added_extension(format!("damaged.{number}")),
    };
    let aside = (1..KEPT_ASIDE)
        .map(named)
        .find(|name| !name.exists())
        .unwrap_or_else(|| named(KEPT_ASIDE));
    fs::rename(path, &aside).ok().map(|()| aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_back_or_refused_never_half_believed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state");
        assert_eq!(read::<Vec<u8>>(&path).expect("no file is fine"), None);
        write(&path, &vec![1u8, 2, 3]).expect("written");
        assert_eq!(read::<Vec<u8>>(&path).expect("read"), Some(vec![1, 2, 3]));
        let whole = fs::read(&path).expect("there");
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).expect("written");
            assert!(
                read::<Vec<u8>>(&path).is_err(),
                "a file cut at {cut} was believed"
            );
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_kept_under_another_name() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state");
        for (damage, aside) in [
            ("cut short", "state.damaged"),
            ("again\nx", "state.damaged.2"),
        ] {
            fs::write(&path, damage).expect("written");
            let error = format!("{:#}", read::<Vec<u8>>(&path).expect_err("damaged"));
            assert!(error.contains(aside), "{error}");
            assert_eq!(
                fs::read_to_string(folder.path().join(aside)).expect("kept"),
                damage
            );
            assert_eq!(
                read::<Vec<u8>>(&path).expect("no file is fine"),
                None,
                "and said once"
            );
        }
        write(&path, &"of another kind").expect("written");
        assert!(read::<Vec<u8>>(&path).is_err() && folder.path().join("state.damaged.3").exists());
    }

    #[test]
    fn what_is_no_regular_file_is_neither_read_nor_replaced() {
        let folder = tempfile::tempdir().expect("folder");
        let pipe = folder.path().join("pipe");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .expect("coreutils")
                .success()
        );
        for refused in [pipe.as_path(), folder.path()] {
            assert!(
                write(refused, &1).is_err() && read::<u8>(refused).is_err(),
                "{}",
                refused.display()
            );
            assert!(refused.exists());
        }
    }
}
