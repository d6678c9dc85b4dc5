//! What a process is told: flag before environment (`RBALANCER_<KEY>`) before `[global]` of a file before default.

use crate::config::environment;
use crate::config::ini::{Document, Problem, Section};
use crate::config::keys::{self, Place};
pub use crate::config::suggest::did_you_mean;
use std::fmt;
use std::path::Path;

/// Where a configuration file is looked for when none is named; the second is the first rbalancer's place.
pub const DEFAULT_FILES: [&str; 2] = ["/etc/rbalancer/rbalancer.conf", "/etc/rbalancer.conf"];

/// The first of [`DEFAULT_FILES`] that is there. One that may not be looked at is there too: reading it says why not.
pub fn default_file() -> Option<&'static Path> {
    DEFAULT_FILES
        .iter()
        .map(Path::new)
        .find(|path| path.try_exists().unwrap_or(true))
}

/// Everything wrong with a configuration, all at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort();
        for (index, problem) in sorted.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// `[global]` and the environment, read key by key.
#[derive(Debug)]
pub struct Global {
    /// The file's name, empty where there is none.
    file: String,
    section: Option<Section>,
    has_farms: bool,
    environment: fn(&str) -> Option<String>,
    problems: Vec<Problem>,
}

impl Global {
    /// Reads the file given by `-c`, if any. Its farms are not looked at.
    pub fn load(config: Option<&Path>) -> Result<Self, Problems> {
        let (document, problems) = match config {
            Some(path) => read_document(path)?,
            None => Default::default(),
        };
        Ok(Self::new(&document, problems, environment::setting))
    }

    /// Reads from a document already parsed, with the problems found so far; `environment` has the value of a variable.
    pub fn new(
        document: &Document,
        problems: Vec<Problem>,
        environment: fn(&str) -> Option<String>,
    ) -> Self {
        let (file, section) = (document.file.clone(), document.section("global").cloned());
        let mut global = Self {
            file,
            section,
            has_farms: document.section("farms").is_some(),
            environment,
            problems,
        };
        global.check_keys();
        global
    }

    /// Whether the file has farms, which only the command line reads.
    pub fn has_farms(&self) -> bool {
        self.has_farms
    }

    fn check_keys(&mut self) {
        let known = keys::names(Place::Global);
        let Some(section) = &self.section else { return };
        for entry in section
            .entries
            .iter()
            .filter(|entry| !known.contains(&entry.key.as_str()))
        {
            let message = format!(
                "unknown key `{}` in [global]{}",
                entry.key,
                did_you_mean(&entry.key, &known)
            );
            self.problems.push(Problem {
                file: self.file.clone(),
                line: Some(entry.line),
                message,
            });
        }
    }

    /// The value of `key` from environment or file; an unusable one is noted for [`Global::finish`].
    pub fn get<T, E: fmt::Display>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        debug_assert!(
            keys::find(key, Place::Global).is_some(),
            "{key} is in the table of keys"
        );
        let variable = format!("RBALANCER_{}", key.to_ascii_uppercase());
        let entry = self.section.as_ref().and_then(|section| section.get(key));
        let (file, line, text) = match ((self.environment)(&variable), entry) {
            (Some(text), _) => (format!("environment {variable}"), None, text),
            (None, Some(entry)) => (self.file.clone(), Some(entry.line), entry.value.clone()),
            (None, None) => return None,
        };
        self.parsed(file, line, &format!("{key}: "), &text, parse)
    }

    /// The value of the environment variable `name`, whose name is that of no key.
    pub fn variable<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = (self.environment)(name)?;
        self.parsed(format!("environment {name}"), None, "", &text, parse)
    }

    fn parsed<T, E: fmt::Display>(
        &mut self,
        file: String,
        line: Option<usize>,
        before: &str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err(error) => {
                let message = format!("{before}{error}");
                self.problems.push(Problem {
                    file,
                    line,
                    message,
                });
                None
            }
        }
    }

    /// Whether nothing was found wrong so far.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Notes that the value of `key`, good by itself, does not fit the others.
    pub fn refuse(&mut self, key: &str, message: &str) {
        let refused = self.get(key, |_| Err::<(), _>(message.to_owned()));
        debug_assert!(refused.is_none(), "a refused value is no value");
    }

    /// Notes a problem found outside a single value.
    pub fn problem(&mut self, message: String) {
        let file = if self.file.is_empty() {
            "settings".to_owned()
        } else {
            self.file.clone()
        };
        self.problems.push(Problem {
            file,
            line: None,
            message,
        });
    }

    /// Ends the reading: every problem at once, or `settings`.
    pub fn finish<T>(self, settings: T) -> Result<T, Problems> {
        if self.problems.is_empty() {
            Ok(settings)
        } else {
            Err(Problems(self.problems))
        }
    }
}

/// Reads and parses a file; one that cannot be read is the only problem then.
pub fn read_document(path: &Path) -> Result<(Document, Vec<Problem>), Problems> {
    let file = path.display().to_string();
    let bad = |message: String| {
        Problems(vec![Problem {
            file: file.clone(),
            line: None,
            message,
        }])
    };
    let bytes = std::fs::read(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1;
        Problems(vec![Problem {
            file: file.clone(),
            line: Some(line),
            message: "is not UTF-8 text: save it as UTF-8".into(),
        }])
    })?;
    Ok(Document::parse(&file, &text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::number;

    #[test]
    fn the_environment_comes_before_the_file_and_all_problems_at_once() {
        let (document, problems) = Document::parse("f", "[global]\nport=x\nthraeds=2\nmaxconn=5\n");
        let mut global = Global::new(&document, problems, |key| {
            (key == "RBALANCER_MAXCONN").then(|| "7".to_owned())
        });
        assert_eq!(global.get("maxconn", number(1u32, 9)), Some(7));
        assert_eq!(global.get("port", number(1u16, 65535)), None);
        let text = global.finish(()).expect_err("two problems").to_string();
        assert!(
            text.contains("f:2: port: `x`")
                && text.contains("f:3: unknown key `thraeds` in [global]; did you mean `threads`?"),
            "{text}"
        );
    }
}
