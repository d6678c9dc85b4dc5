//! What an operator sets by hand on this host, beating the store: the way to take a server out while the store is
//! away. One line a server: `img/srv2 off`.

use common::files;
use common::model::farm::{Farms, Intent, ServerId};
use common::model::overrides::Override;
use common::process::logging::log_errors;
use common::process::signals::Reload;
use std::collections::{BTreeMap, HashMap};
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// What the file says of each server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByFile(BTreeMap<ServerId, Intent>);

impl ByFile {
    /// Reads `path`; no file is an empty one.
    ///
    /// # Errors
    /// Names every line that is wrong, one a line.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = files::read(path).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| Error::other("is not UTF-8 text"))
        });
        match text {
            Ok(text) => Self::parse(&path.display().to_string(), &text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: cannot be read: {error}", path.display())),
        }
    }

    fn parse(file: &str, text: &str) -> Result<Self, String> {
        let (mut servers, mut problems) = (BTreeMap::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.split(['#', ';']).next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match parse_line(line) {
                Ok((id, intent)) => {
                    if servers.insert(id.clone(), intent).is_some() {
                        problems.push(format!("{file}:{}: {id} is set twice", index + 1));
                    }
                }
                Err(why) => problems.push(format!("{file}:{}: {why}", index + 1)),
            }
        }
        if problems.is_empty() {
            Ok(Self(servers))
        } else {
            Err(problems.join("\n"))
        }
    }

    /// `overrides` of the store with what the file says on top.
    pub fn over(&self, overrides: &HashMap<ServerId, Override>) -> HashMap<ServerId, Override> {
        let mut all = overrides.clone();
        for (id, intent) in &self.0 {
            all.entry(id.clone()).or_default().enable = Some(*intent);
        }
        all
    }

    /// The servers it names that are not among `farms`: a slip of the pen, or a line that was forgotten. Logged where
    /// they are others than those `said` before.
    pub fn unknown(&self, farms: &Farms, said: &[ServerId]) -> Vec<ServerId> {
        let is_known = |id: &ServerId| {
            farms.iter().any(|farm| {
                farm.name == id.farm && farm.servers.iter().any(|server| server.name == id.server)
            })
        };
        let unknown: Vec<ServerId> = self.0.keys().filter(|id| !is_known(id)).cloned().collect();
        if unknown != said && !unknown.is_empty() {
            let names = unknown
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            tracing::warn!("override_file: not in the table, and so without effect: {names}");
        }
        unknown
    }

    /// For people: `img/srv2 off, img/srv3 drain`.
    pub fn words(&self) -> String {
        let server = |(id, intent): (&ServerId, &Intent)| format!("{id} {}", intent.as_str());
        self.0.iter().map(server).collect::<Vec<_>>().join(", ")
    }
}

fn parse_line(line: &str) -> Result<(ServerId, Intent), String> {
    let mut words = line.split_whitespace();
    let (Some(id), Some(intent), None) = (words.next(), words.next(), words.next()) else {
        return Err(format!(
            "`{line}` is not understood: write FARM/SERVER off, drain or on"
        ));
    };
    let id = id.parse::<ServerId>().map_err(|error| error.to_string())?;
    let intent = match intent.to_ascii_lowercase().as_str() {
        "off" => Intent::Off,
        "drain" => Intent::Drain,
        "on" => Intent::On,
        other => return Err(format!("`{other}` is none of off, drain, on")),
    };
    Ok((id, intent))
}

/// Reads the override file again whenever that is asked for; a bad one changes nothing.
pub(crate) async fn follow(path: PathBuf, set: watch::Sender<ByFile>, mut reload: Reload) {
    loop {
        if !set.borrow().words().is_empty() {
            tracing::warn!("{} sets by hand: {}", path.display(), set.borrow().words());
        }
        reload.asked().await;
        let read = files::within("override_file", &path, ByFile::read).await;
        match read.map_err(|hangs| hangs.to_string()).flatten() {
            Ok(by_file) => {
                if by_file == ByFile::default() && *set.borrow() != by_file {
                    tracing::info!("{} sets nothing any more", path.display());
                }
                set.send_replace(by_file);
            }
            Err(problems) => log_errors(&format!("keeping what was set:\n{problems}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_set_servers_and_bad_ones_are_all_named() {
        let good = ByFile::parse(
            "f",
            "# by night\nimg/srv2 off ; broken disk\n\n  img/srv1\tDRAIN\n",
        )
        .expect("good");
        assert_eq!(good.words(), "img/srv1 drain, img/srv2 off");
        let id: ServerId = "img/srv2".parse().expect("valid");
        let stored = [(
            id.clone(),
            Override {
                enable: Some(Intent::On),
                why: "w".into(),
                ..Override::default()
            },
        )]
        .into();
        let all = good.over(&stored);
        assert_eq!(
            (all[&id].enable, all[&id].why.as_str(), all.len()),
            (Some(Intent::Off), "w", 2)
        );
        let bad = ByFile::parse(
            "f",
            "img off\nimg/a of\nimg/b off off\nimg/c on\nimg/c off\n",
        )
        .expect_err("four problems");
        assert!(
            ["f:1:", "f:2:", "f:3:", "f:5: img/c is set twice"]
                .iter()
                .all(|place| bad.contains(place)),
            "{bad}"
        );
    }
}
