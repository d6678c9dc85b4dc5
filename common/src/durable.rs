//! State files that survive a crash: written whole or not at all, and read only if they are what was written.

use crate::generation::checksum;
use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Writes `value` as JSON under a line with its checksum: to a file beside `path`, synced, then renamed over it.
///
/// # Errors
/// Names the path and the step that failed; the old file is then untouched.
pub fn write(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let json = serde_json::to_vec(value)?;
    // Processes may share a file: each has a draft of its own.
    let beside = path.with_added_extension(format!("{}.new", std::process::id()));
    let place = || format!("state file {}", path.display());
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        writeln!(file, "{}", checksum(&json))?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // The rename itself is on disk only when the directory is.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    };
    write().with_context(place)
}

/// Reads what [`write()`] wrote; none if there is no file.
///
/// # Errors
/// Names the path, and what is wrong with the file.
pub fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let place = || format!("state file {}", path.display());
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        outcome => outcome.with_context(place)?,
    };
    let Some((sum, json)) = bytes.iter().position(|&byte| byte == b'\n').map(|end| (&bytes[..end], &bytes[end + 1..])) else {
        bail!("{} has no checksum: remove it", place());
    };
    if sum != checksum(json).as_bytes() {
        bail!("{} is damaged (its checksum does not match): remove it", place());
    }
    serde_json::from_slice(json).with_context(place).map(Some)
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
            assert!(read::<Vec<u8>>(&path).is_err(), "a file cut at {cut} was believed");
        }
    }
}
