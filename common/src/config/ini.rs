//! INI text → [`Document`]: sections and keys, each with its line, so that every problem can name its place.
//!
//! The parser crate keeps inline comments in values, knows no lines and loses sections of indented files. So a
//! pass over the lines comes first: it trims, drops comments, remembers places, and hands on a plain text.

use ini::{Ini, ParseOption};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// Something wrong with a configuration file or setting: the place, the problem and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, or where else the setting came from.
    pub file: String,
    /// The line, if there is one.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// One key of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, in lower case.
    pub key: String,
    /// The value, trimmed, without comment and surrounding quotes.
    pub value: String,
    /// Its line, from 1.
    pub line: usize,
}

/// One section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// The line of its `[name]`, from 1.
    pub line: usize,
    /// Its keys, in order; no key twice.
    pub entries: Vec<Entry>,
}

impl Section {
    /// The entry of `key` (in lower case), if it is there.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// A parsed file: no section twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// The file's name, for messages.
    pub file: String,
    /// Its sections, in order.
    pub sections: Vec<Section>,
    /// Where each of them is: a large file has as many look-ups as sections.
    places: HashMap<String, usize>,
}

impl Document {
    /// Parses `text`; what could not be understood is left out and listed.
    pub fn parse(file: &str, text: &str) -> (Self, Vec<Problem>) {
        let mut reading = IniReader {
            document: Self {
                file: file.to_owned(),
                ..Self::default()
            },
            ..IniReader::default()
        };
        // Keys of a section that cannot be used are not reported one by one.
        let mut skipping = false;
        let mut orphans = false;
        for (number, raw) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let line = uncomment(raw.trim());
            let indent = depth(raw);
            let outcome = if line.is_empty() {
                Ok(())
            } else if reading.continues(line, indent) {
                reading.continue_value(line)
            } else if line.starts_with('[') {
                reading.open_key = None;
                let opened = reading.open_section(line, number);
                skipping = opened.is_err();
                opened
            } else if skipping {
                Ok(())
            } else if !reading.document.sections.is_empty() {
                let added = reading.add_key(line, number);
                reading.open_key = Some(OpenKey {
                    indent,
                    is_good: added.is_ok(),
                });
                added
            } else if !std::mem::replace(&mut orphans, true) {
                Err(format!(
                    "`{}` stands before the first section: put it under one, such as [global]",
                    shorten(line)
                ))
            } else {
                Ok(())
            };
            if let Err(message) = outcome {
                reading.problem(number, message);
            }
        }
        reading.end_piece();
        (reading.document, reading.problems)
    }

    /// The section called `name`, if it is there.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.places.get(name).map(|&place| &self.sections[place])
    }
}

/// The parser crate is given a large file in pieces of about so many bytes, at the ends of sections: what it makes of
/// one is many times as large.
const PIECE: usize = if cfg!(test) { 64 } else { 64 * 1024 };

/// The pass over the lines.
#[derive(Default)]
struct IniReader<'a> {
    /// Entries of the piece that is not ended have no value yet.
    document: Document,
    problems: Vec<Problem>,
    /// The piece for the parser crate: nothing but sections and `key=value`.
    plain: String,
    /// Where its sections begin among the document's.
    first: usize,
    /// The keys of the last section, each with its line.
    keys: HashMap<Cow<'a, str>, usize>,
    /// The last key, whose value may go on in the next lines.
    open_key: Option<OpenKey>,
}

/// A key whose value may go on.
struct OpenKey {
    /// How deep it stands.
    indent: usize,
    /// Whether it was taken; what belongs to one that was not is not looked at.
    is_good: bool,
}

/// How deep a line stands: white space before it in columns, a tab to the next multiple of eight.
fn depth(raw: &str) -> usize {
    let white = raw.chars().take_while(|c| c.is_whitespace());
    white.fold(0, |column, c| {
        if c == '\t' {
            (column / 8 + 1) * 8
        } else {
            column + 1
        }
    })
}

/// Whether a line begins with a key: a word of letters, digits and underscores before `=`, or before `:` and white
/// space or nothing. `http://a` and `a:80` do not.
fn begins_with_key(line: &str) -> bool {
    let word = line
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(line.len());
    let rest = line[word..].trim_start();
    word > 0
        && (rest.starts_with('=')
            || rest == ":"
            || (line[word..].starts_with(':') && rest[1..].starts_with(char::is_whitespace)))
}

impl<'a> IniReader<'a> {
    fn problem(&mut self, line: usize, message: String) {
        self.problems.push(Problem {
            file: self.document.file.clone(),
            line: Some(line),
            message,
        });
    }

    /// Whether a line goes on with the value before it: it stands deeper than its key, as Python's ConfigParser reads it
    /// and with it the first rbalancer. A key is a key however deep it stands.
    fn continues(&self, line: &str, indent: usize) -> bool {
        let is_section = line.starts_with('[') && line.ends_with(']') && !line.contains(':');
        self.open_key
            .as_ref()
            .is_some_and(|key| indent > key.indent)
            && !begins_with_key(line)
            && !is_section
    }

    /// Adds a line to the value before it; a comma that is missing between them is meant.
    fn continue_value(&mut self, line: &str) -> Result<(), String> {
        if !self.open_key.as_ref().is_some_and(|key| key.is_good) {
            return Ok(());
        }
        if line.ends_with('\\') || line.contains('\r') {
            return Err(format!(
                "`{}` has a backslash at its end or a carriage return in it: remove it",
                shorten(&line.replace('\r', "\\r"))
            ));
        }
        self.plain.pop();
        let goes_on = self.plain.ends_with([',', '=']) || line.starts_with(',');
        self.plain
            .extend([if goes_on { "" } else { "," }, " ", line, "\n"]);
        Ok(())
    }

    fn open_section(&mut self, line: &str, number: usize) -> Result<(), String> {
        // What a backslash or a carriage return would mean to the parser crate is not what it says.
        let name = line[1..]
            .strip_suffix(']')
            .map(str::trim)
            .filter(|name| !name.is_empty() && !name.contains(['[', ']', '\\', '\r']));
        let name =
            name.ok_or_else(|| format!("`{}` is no section: write [name]", shorten(line)))?;
        if let Some(first) = self.document.section(name) {
            return Err(format!(
                "section [{name}] appears twice, first on line {}: merge the two",
                first.line
            ));
        }
        if self.plain.len() >= PIECE {
            self.end_piece();
        }
        self.document
            .places
            .insert(name.to_owned(), self.document.sections.len());
        self.document.sections.push(Section {
            name: name.to_owned(),
            line: number,
            entries: Vec::new(),
        });
        self.keys.clear();
        self.plain.extend(["[", name, "]\n"]);
        Ok(())
    }

    fn add_key(&mut self, line: &'a str, number: usize) -> Result<(), String> {
        if line.contains('\r') {
            return Err(format!(
                "`{}` has a carriage return in it: end lines with a line feed",
                shorten(&line.replace('\r', "\\r"))
            ));
        }
        let (key, value) = line
            .split_once(['=', ':'])
            .ok_or_else(|| format!("`{}` is neither a section nor KEY = VALUE", shorten(line)))?;
        let key = lower_case(key.trim());
        let Some(section) = self
            .document
            .sections
            .last_mut()
            .filter(|_| !key.is_empty())
        else {
            return Err(format!("`{}` has no key before the `=`", shorten(line)));
        };
        if let Some(first) = self.keys.get(&key) {
            return Err(format!(
                "`{key}` is set twice in [{}], first on line {first}: remove one",
                section.name
            ));
        }
        if key.contains('\\') || value.ends_with('\\') {
            return Err(format!(
                "`{}` has a backslash in its key or at its end: remove it",
                shorten(line)
            ));
        }
        self.plain.extend([&*key, "=", value.trim(), "\n"]);
        section.entries.push(Entry {
            key: key.clone().into_owned(),
            value: String::new(),
            line: number,
        });
        self.keys.insert(key, number);
        Ok(())
    }

    /// Has the parser crate read the piece.
    fn end_piece(&mut self) {
        let options = ParseOption {
            enabled_quote: false,
            enabled_escape: false,
            ..ParseOption::default()
        };
        let read = Ini::load_from_str_opt(&self.plain, options).ok();
        let mut unread = Vec::new();
        for section in &mut self.document.sections[self.first..] {
            let properties = read
                .as_ref()
                .and_then(|ini| ini.section(Some(section.name.as_str())));
            section.entries.retain_mut(|entry| match properties.and_then(|properties| properties.get(&entry.key)) {
                Some(value) => {
                    entry.value = unquote(value).to_owned();
                    true
                }
                None => {
                    unread
                        .push((entry.line, format!("the value of `{}` cannot be read: write letters, digits and punctuation", entry.key)));
                    false
                }
            });
        }
        unread
            .into_iter()
            .for_each(|(line, message)| self.problem(line, message));
        self.first = self.document.sections.len();
        self.plain.clear();
    }
}

fn lower_case(key: &str) -> Cow<'_, str> {
    if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        key.to_ascii_lowercase().into()
    } else {
        key.into()
    }
}

/// Cuts a comment: a whole line of one, or one after white space and outside quotes.
fn uncomment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'')
                && (before.is_whitespace() || before == '=')
                && line[at + 1..].contains(c) =>
            {
                quote = Some(c);
            }
            None if matches!(c, '#' | ';') && before.is_whitespace() => {
                return line[..at].trim_end();
            }
            _ => {}
        }
        before = c;
    }
    line
}

fn unquote(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

fn shorten(line: &str) -> String {
    line.chars().take(60).collect()
}

#[cfg(test)]
mod tests;
