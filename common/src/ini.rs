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
        let mut reading = Reading { document: Self { file: file.to_owned(), ..Self::default() }, ..Reading::default() };
        // Keys of a section that cannot be used are not reported one by one.
        let mut skipping = false;
        let mut orphans = false;
        for (number, raw) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let line = uncomment(raw.trim());
            let outcome = if line.is_empty() {
                Ok(())
            } else if line.starts_with('[') {
                let opened = reading.open_section(line, number);
                skipping = opened.is_err();
                opened
            } else if skipping {
                Ok(())
            } else if !reading.found.is_empty() {
                reading.add_key(line, number)
            } else if !std::mem::replace(&mut orphans, true) {
                Err(format!("`{}` stands before the first section: put it under one, such as [global]", shorten(line)))
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
const PIECE: usize = 64 * 1024;

/// The pass over the lines.
#[derive(Default)]
struct Reading<'a> {
    document: Document,
    problems: Vec<Problem>,
    /// The piece for the parser crate: nothing but sections and `key=value`.
    plain: String,
    /// The sections of the piece.
    found: Vec<FoundSection<'a>>,
    /// The keys of the last of them, each with its line.
    keys: HashMap<Cow<'a, str>, usize>,
}

/// A section, and its keys in lower case, each with its line.
struct FoundSection<'a> {
    name: &'a str,
    line: usize,
    keys: Vec<(Cow<'a, str>, usize)>,
}

impl<'a> Reading<'a> {
    fn problem(&mut self, line: usize, message: String) {
        self.problems.push(Problem { file: self.document.file.clone(), line: Some(line), message });
    }

    fn open_section(&mut self, line: &'a str, number: usize) -> Result<(), String> {
        let name = line[1..].strip_suffix(']').map(str::trim).filter(|name| !name.is_empty() && !name.contains(['[', ']']));
        let name = name.ok_or_else(|| format!("`{}` is no section: write [name]", shorten(line)))?;
        let before = self.document.sections.len();
        if let Some(&place) = self.document.places.get(name) {
            let first = self.document.sections.get(place).map_or_else(|| self.found[place - before].line, |section| section.line);
            return Err(format!("section [{name}] appears twice, first on line {first}: merge the two"));
        }
        if self.plain.len() >= PIECE {
            self.end_piece();
        }
        self.document.places.insert(name.to_owned(), self.document.sections.len() + self.found.len());
        self.found.push(FoundSection { name, line: number, keys: Vec::new() });
        self.keys.clear();
        self.plain.extend(["[", name, "]\n"]);
        Ok(())
    }

    fn add_key(&mut self, line: &'a str, number: usize) -> Result<(), String> {
        let (key, value) =
            line.split_once(['=', ':']).ok_or_else(|| format!("`{}` is neither a section nor KEY = VALUE", shorten(line)))?;
        let key = lower_case(key.trim());
        let Some(section) = self.found.last_mut().filter(|_| !key.is_empty()) else {
            return Err(format!("`{}` has no key before the `=`", shorten(line)));
        };
        if let Some(first) = self.keys.get(&key) {
            return Err(format!("`{key}` is set twice in [{}], first on line {first}: remove one", section.name));
        }
        if value.ends_with('\\') {
            // The parser crate would join the next line to this one.
            return Err(format!("`{}` ends with a backslash: remove it", shorten(line)));
        }
        self.plain.extend([&*key, "=", value.trim(), "\n"]);
        self.keys.insert(key.clone(), number);
        section.keys.push((key, number));
        Ok(())
    }

    /// Has the parser crate read the piece.
    fn end_piece(&mut self) {
        let options = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
        let ini = Ini::load_from_str_opt(&self.plain, options).unwrap_or_else(|error| {
            let first = self.found.first().map_or(1, |section| section.line);
            self.problem(first, format!("from here on: {}", error.msg));
            Ini::new()
        });
        self.document.sections.extend(self.found.drain(..).map(|found| {
            let properties = ini.section(Some(found.name));
            let entry = |(key, line): (Cow<'_, str>, usize)| {
                let value = unquote(properties?.get(&key)?).to_owned();
                Some(Entry { key: key.into_owned(), value, line })
            };
            Section { name: found.name.to_owned(), line: found.line, entries: found.keys.into_iter().filter_map(entry).collect() }
        }));
        self.plain.clear();
    }
}

fn lower_case(key: &str) -> Cow<'_, str> {
    if key.bytes().any(|byte| byte.is_ascii_uppercase()) { key.to_ascii_lowercase().into() } else { key.into() }
}

/// Cuts a comment: a whole line of one, or one after white space and outside quotes.
fn uncomment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'') && (before.is_whitespace() || before == '=') && line[at + 1..].contains(c) => quote = Some(c),
            None if matches!(c, '#' | ';') && before.is_whitespace() => return line[..at].trim_end(),
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> (Document, Vec<String>) {
        let (document, problems) = Document::parse("f", text);
        (document, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn indented_files_with_inline_comments_read_as_a_person_reads_them() {
        let (document, problems) = parse(
            "\u{feff}    [global]\n    PORT = 9998      # Listening port.\n\n    ; about img\n    [img]  ; it\n    list=srv1, srv2\n    a=x#y;z\n    q=\"a ; b\" ; c\n\te: 'v'\n    empty=\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        let value = |section: &str, key: &str| document.section(section)?.get(key).map(|entry| (entry.value.as_str(), entry.line));
        assert_eq!(value("global", "port"), Some(("9998", 2)));
        assert_eq!(value("img", "list"), Some(("srv1, srv2", 6)));
        assert_eq!(value("img", "a"), Some(("x#y;z", 7)));
        assert_eq!(value("img", "q"), Some(("a ; b", 8)));
        assert_eq!(value("img", "e"), Some(("v", 9)));
        assert_eq!(value("img", "empty"), Some(("", 10)));
    }

    #[test]
    fn every_problem_is_found_at_once_and_placed() {
        let (_, problems) = parse("x=1\ny=2\n[a]\nk=1\nK=2\nwhat\np=c:\\\n[a]\nz=1\n[b\n=v\n[c]\n=v\n");
        let starts = [
            "f:1: `x=1` stands before",
            "f:5: `k` is set twice in [a], first on line 4",
            "f:6: `what` is neither",
            "f:7: `p=c:\\` ends with a backslash",
            "f:8: section [a] appears twice",
            "f:10: `[b` is no section",
            "f:13: `=v` has no key",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:?}");
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem} should start with {start}");
        }
    }

    #[test]
    fn a_large_file_is_read_whole_and_its_lines_are_known_across_pieces() {
        let section = |n: usize| format!("[s{n}]\nkey = {n}\n");
        let text: String = (0..10_000).map(section).chain([section(0), section(9_999)]).collect();
        assert!(text.len() > 2 * PIECE);
        let (document, problems) = parse(&text);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("f:20001: section [s0] appears twice, first on line 1:"), "{problems:?}");
        assert!(problems[1].starts_with("f:20003: section [s9999] appears twice, first on line 19999:"), "{problems:?}");
        for n in 0..10_000 {
            let found = document.section(&format!("s{n}")).expect("there");
            let entry = Entry { key: "key".into(), value: n.to_string(), line: 2 * n + 2 };
            assert_eq!((found.line, &found.entries), (2 * n + 1, &vec![entry]));
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "(\\[|\\]|=|;|#|\"| |\n|\r|\t|[a-c]|é){0,200}") {
            Document::parse("f", &text);
        }

        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec("[a-zA-Z0-9:/._,%-]{0,20}", 1..8)) {
            let text: String = values.iter().enumerate().map(|(n, value)| format!("k{n} = {value} ; c\n")).collect();
            let (document, problems) = Document::parse("f", &format!("[s]\n{text}"));
            prop_assert!(problems.is_empty(), "{:?}", problems);
            for (n, value) in values.iter().enumerate() {
                prop_assert_eq!(&document.section("s").expect("there").get(&format!("k{n}")).expect("there").value, value);
            }
        }
    }
}
