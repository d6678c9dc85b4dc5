//! Metrics as monitoring takes them: in the form that is asked for, each well formed.

use crate::client::{Answer, request};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What is asked for, and what that form is called.
const FORMS: [(&str, &str); 2] = [
    (
        "text/html, */*;q=0.5",
        "text/plain; version=0.0.4; charset=utf-8",
    ),
    (
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    ),
];

/// Fails unless `/metrics` at `address` comes as text and as OpenMetrics, each to who asks for it, both well formed and
/// with the same samples.
pub fn come_in_both_forms(address: SocketAddr) {
    let ask = |accept: &str| {
        request(
            address,
            "GET",
            "localhost",
            "/metrics",
            &[("Accept", accept)],
        )
    };
    let [text, openmetrics] = FORMS.map(|(accept, kind)| {
        let answer = ask(accept);
        assert_eq!(
            answer.header("content-type").as_deref(),
            Some(kind),
            "for {accept}"
        );
        answer
    });
    assert_eq!(text.header("vary").as_deref(), Some("Accept"));
    assert_eq!(
        ask("application/openmetrics-text;q=0.1, text/plain")
            .header("content-type")
            .as_deref(),
        Some(FORMS[0].1)
    );
    let without = request(address, "GET", "localhost", "/metrics", &[]);
    assert_eq!(without.header("content-type").as_deref(), Some(FORMS[0].1));
    let names = [names(&text, false), names(&openmetrics, true)];
    assert_eq!(names[0], names[1], "the same samples in both forms");
}

/// The names of all samples. Each stands under the type of its own family, which is there once.
fn names(answer: &Answer, openmetrics: bool) -> BTreeSet<String> {
    let text = answer.text();
    let (mut types, mut names) = (BTreeMap::new(), BTreeSet::new());
    assert_eq!(text.ends_with("\n# EOF\n"), openmetrics, "{text}");
    let mut family = ("", "");
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "TYPE", name, kind] => {
                assert!(
                    types.insert(name.to_owned(), kind.to_owned()).is_none(),
                    "{name} has two types in {text}"
                );
                assert_eq!(
                    name.ends_with("_total"),
                    kind == "counter" && !openmetrics,
                    "{line}"
                );
                family = (name, kind);
            }
            ["#", "HELP", name, _] => assert_eq!(name, family.0, "{line}"),
            ["#", "UNIT", name, unit] => assert!(
                openmetrics && name == family.0 && name.ends_with(&format!("_{unit}")),
                "{line}"
            ),
            ["#", "EOF"] => assert!(openmetrics, "{line}"),
            _ => {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                let suffix = if family.1 == "counter" && openmetrics {
                    "_total"
                } else {
                    ""
                };
                assert_eq!(name, format!("{}{suffix}", family.0), "{line}");
                let value = line
                    .rsplit(' ')
                    .next()
                    .and_then(|value| value.parse::<f64>().ok());
                assert!(value.is_some(), "{line}");
                names.insert(name.to_owned());
            }
        }
    }
    assert!(!names.is_empty(), "no samples in {text}");
    names
}
