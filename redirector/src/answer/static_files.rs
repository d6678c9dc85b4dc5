//! The few files every Host gets (`favicon.ico`): read from `static_dir` into memory, by exact name, nothing else.

use arc_swap::ArcSwap;
use bytes::Bytes;
use common::files;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The largest file served; more is content, which belongs on a farm's servers.
const MAX_SIZE: u64 = 1 << 20;

/// How often static files are looked at for changes.
const POLL: Duration = Duration::from_secs(5);

/// Where static files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticSettings {
    /// The folder.
    pub folder: PathBuf,
    /// The names served from it.
    pub names: Vec<StaticName>,
}

/// A file name: one path component, nothing hidden, nothing that leads out of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticName(String);

impl std::str::FromStr for StaticName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if plain && !text.is_empty() && !text.starts_with('.') {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "`{text}` is no file name: use letters, digits, dots, dashes and underscores, no folder"
            ))
        }
    }
}

/// One file, ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct StaticFile {
    /// `/` and its name.
    path: String,
    modified: SystemTime,
    /// Its entity tag, quotes included.
    pub etag: String,
    /// Its Last-Modified.
    pub last_modified: String,
    /// Its media type.
    pub kind: &'static str,
    /// Its bytes.
    pub body: Bytes,
}

/// The files at hand.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Statics(Vec<StaticFile>);

impl Statics {
    /// Reads the named files that are there; the others are simply not served. Problems are for the log.
    pub fn load(settings: &StaticSettings) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        if !settings.folder.is_dir() {
            problems.push(format!(
                "static_dir {} is no folder: its files are not served, their paths are redirected",
                settings.folder.display()
            ));
        }
        let mut files = Vec::new();
        for StaticName(name) in &settings.names {
            match read(&settings.folder.join(name), name) {
                Ok(file) => files.extend(file),
                Err(problem) => problems.push(format!(
                    "{}: {problem}",
                    settings.folder.join(name).display()
                )),
            }
        }
        (Self(files), problems)
    }

    /// The file a request target names, if it is served.
    #[inline]
    pub fn get(&self, target: &[u8]) -> Option<&StaticFile> {
        self.0.iter().find(|file| {
            let path = file.path.as_bytes();
            target.len() >= path.len()
                && target[..path.len()] == *path
                && matches!(target.get(path.len()), None | Some(b'?'))
        })
    }
}

impl StaticFile {
    /// Whether the client holds this very file already (RFC 9110 section 13.2.2: If-None-Match decides where sent).
    pub fn is_held(&self, if_none_match: Option<&[u8]>, if_modified_since: Option<&[u8]>) -> bool {
        if let Some(tags) = if_none_match {
            let own = self.etag.as_bytes();
            return tags
                .split(|&byte| byte == b',')
                .map(<[u8]>::trim_ascii)
                .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == own);
        }
        let since = if_modified_since
            .and_then(|date| std::str::from_utf8(date).ok())
            .and_then(|date| httpdate::parse_http_date(date).ok());
        // The header knows seconds, the file system more.
        since.is_some_and(|since| {
            self.modified
                .duration_since(since)
                .map_or(true, |newer| newer.as_secs() == 0)
        })
    }
}

/// Keeps the static files as they are on disk.
pub(crate) async fn follow(
    settings: StaticSettings,
    statics: Arc<ArcSwap<Statics>>,
    mut told: Vec<String>,
) {
    loop {
        tokio::time::sleep(POLL).await;
        told = take(&settings, &statics, &told).await;
    }
}

/// Reads the static files; where their disk does not answer, those at hand go on being served. What is wrong with them.
pub(crate) async fn take(
    settings: &StaticSettings,
    statics: &ArcSwap<Statics>,
    told: &[String],
) -> Vec<String> {
    let from = settings.clone();
    let read = files::within("static_dir", &settings.folder, move |_| {
        Statics::load(&from)
    })
    .await;
    // What hangs is named by those who watch.
    let Ok((loaded, problems)) = read else {
        return told.to_vec();
    };
    if problems != told {
        problems
            .iter()
            .for_each(|problem| tracing::warn!("{problem}"));
    }
    if loaded != **statics.load() {
        statics.store(Arc::new(loaded));
    }
    problems
}

fn read(path: &Path, name: &str) -> Result<Option<StaticFile>, String> {
    let file = match files::open_regular(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(file) => file,
    };
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if meta.len() > MAX_SIZE {
        return Err(format!(
            "is larger than {MAX_SIZE} bytes: serve it from a farm's server"
        ));
    }
    let modified = meta.modified().map_err(|error| error.to_string())?;
    let mut body = Vec::new();
    // A file may grow while it is read.
    file.take(MAX_SIZE)
        .read_to_end(&mut body)
        .map_err(|error| error.to_string())?;
    let sum = common::model::generation::checksum(&body);
    Ok(Some(StaticFile {
        path: format!("/{name}"),
        modified,
        etag: format!("\"{}\"", &sum[..32]),
        last_modified: httpdate::fmt_http_date(modified),
        kind: media_type(name),
        body: body.into(),
    }))
}

fn media_type(name: &str) -> &'static str {
    match name
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase())
        .as_deref()
    {
        Some("ico") => "image/x-icon",
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        Some("gif") => "image/gif",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("txt") => "text/plain; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json" | "webmanifest") => "application/json",
        Some("xml") => "application/xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_named_files_of_the_folder_are_served() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("favicon.ico"), b"icon").expect("written");
        fs::write(folder.path().join("secret.txt"), b"secret").expect("written");
        let settings = StaticSettings {
            folder: folder.path().into(),
            names: vec!["favicon.ico".parse().expect("valid")],
        };
        let (statics, problems) = Statics::load(&settings);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            statics.get(b"/favicon.ico?v=1").map(|file| &*file.body),
            Some(b"icon".as_slice())
        );
        for other in [
            "/secret.txt",
            "/favicon.icon",
            "/favicon.ico/x",
            "//favicon.ico",
            "/x/../favicon.ico",
        ] {
            assert!(statics.get(other.as_bytes()).is_none(), "{other}");
        }
        for bad in ["", ".", "..", "../x", "a/b", ".hidden"] {
            assert!(bad.parse::<StaticName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn validators_tell_whether_the_client_has_it() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("a.txt"), b"a").expect("written");
        let (statics, _) = Statics::load(&StaticSettings {
            folder: folder.path().into(),
            names: vec!["a.txt".parse().expect("valid")],
        });
        let file = statics.get(b"/a.txt").expect("served");
        assert!(file.is_held(Some(format!("\"x\", W/{}", file.etag).as_bytes()), None));
        assert!(!file.is_held(Some(b"\"x\""), Some(file.last_modified.as_bytes())));
        assert!(file.is_held(None, Some(file.last_modified.as_bytes())));
        assert!(!file.is_held(None, Some(b"Thu, 01 Jan 1970 00:00:00 GMT")));
    }
}
