//! Nothing lists the keys beside their table: the reference, the sample file and the readers' own defaults agree with it.

use super::*;
use crate::conf::{self, Conf, Flags};
use common::config::ini::Document;
use common::config::keys::Kind;

const REFERENCE: &str = include_str!("../../../keys.md");

const SAMPLE: &str = include_str!("../../../rbalancer.conf");

fn conf(text: &str) -> Conf {
    let (document, problems) = Document::parse("t.conf", text);
    conf::parse(&document, problems, Flags::default()).expect("a good file")
}

#[test]
fn the_reference_is_made_from_the_table() {
    assert_eq!(
        REFERENCE,
        markdown(),
        "deploy/keys.md is old: cargo run -- keys --format markdown > deploy/keys.md"
    );
}

#[test]
fn the_sample_shows_every_key_with_its_default() {
    // What is set in it is an example; what is commented out shows the default.
    let lines: Vec<(bool, &str, &str)> = SAMPLE
        .lines()
        .filter_map(|line| {
            let commented = line.starts_with(';');
            let (name, rest) = line.trim_start_matches(';').split_once('=')?;
            let value = rest.split([';', '#']).next().unwrap_or_default();
            Some((commented, name.trim(), value.trim()))
        })
        .collect();
    for key in KEYS {
        let mut shown = lines
            .iter()
            .filter(|(_, name, _)| *name == key.name)
            .peekable();
        assert!(
            shown.peek().is_some(),
            "{} is not in rbalancer.conf",
            key.name
        );
        for (commented, _, value) in shown {
            let is_example = !commented || (key.default.is_empty() && !value.is_empty());
            assert!(
                is_example || *value == key.default,
                "{} = {value}, and not {}",
                key.name,
                key.default
            );
        }
    }
    for (_, name, _) in lines {
        assert!(
            KEYS.iter().any(|key| key.name == name),
            "{name} is in rbalancer.conf, and no key"
        );
    }
}

#[test]
fn the_defaults_are_those_of_the_readers() {
    let farm = "[farms]\nlist = f\n[f]\ndomain = f.test\nlist = s\n[s]\ndomain = s.test\n";
    let without = format!("{:?}", conf(farm));
    // A port of TLS is of no use without a certificate, and refused; an admin_bind that is named has to be free; a
    // check_uri that is named is expected to answer better.
    let special = ["tls_port", "admin_bind", "check_uri"];
    let alone = |key: &&Key| !key.default.is_empty() && !special.contains(&key.name);
    for key in KEYS.iter().filter(alone) {
        let line = format!("{} = {}\n", key.name, key.default);
        let text = match key.places[0] {
            Place::Server => format!("{farm}{line}"),
            Place::Farm => farm.replace("[s]\n", &format!("{line}[s]\n")),
            Place::Global | Place::Farms => format!("[global]\n{line}{farm}"),
        };
        // What was written in [global] is held as it was written, to tell at a reload what waits for a restart.
        let with = format!(
            "{:?}",
            Conf {
                process: Default::default(),
                ..conf(&text)
            }
        );
        assert_eq!(with, without, "{line}");
    }
}

/// A value that no reader of this kind can take; none where any text will do.
fn bad(key: &Key) -> Option<String> {
    match key.kind {
        Kind::Switch | Kind::Time | Kind::Word(_) => Some("?!".into()),
        Kind::Number(low, high) => Some(if low > 0 { low - 1 } else { high + 1 }.to_string()),
        // An empty value: nothing of what these are is written so.
        Kind::Path | Kind::List(_) | Kind::Text(_) => None,
    }
}

#[test]
fn every_key_is_read_and_refused_where_its_value_is_bad() {
    let farm = "[farms]\nlist = f\n[f]\ndomain = f.test\nlist = s\n[s]\ndomain = s.test\n";
    for key in KEYS {
        let Some(value) = bad(key) else { continue };
        let line = format!("{} = {value}\n", key.name);
        let text = match key.places[0] {
            Place::Server => format!("{farm}{line}"),
            Place::Farm => farm.replace("[s]\n", &format!("{line}[s]\n")),
            Place::Global | Place::Farms => format!("[global]\n{line}{farm}"),
        };
        let (document, problems) = Document::parse("t.conf", &text);
        let problems = conf::parse(&document, problems, Flags::default()).expect_err(&line);
        let words = problems.to_string();
        assert!(words.contains(&format!("{}: ", key.name)), "{line}{words}");
    }
}
