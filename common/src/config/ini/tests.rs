//! What a text reads as, and that none of its lines is lost.

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
    let value = |section: &str, key: &str| {
        document
            .section(section)?
            .get(key)
            .map(|entry| (entry.value.as_str(), entry.line))
    };
    assert_eq!(value("global", "port"), Some(("9998", 2)));
    assert_eq!(value("img", "list"), Some(("srv1, srv2", 6)));
    assert_eq!(value("img", "a"), Some(("x#y;z", 7)));
    assert_eq!(value("img", "q"), Some(("a ; b", 8)));
    assert_eq!(value("img", "e"), Some(("v", 9)));
    assert_eq!(value("img", "empty"), Some(("", 10)));
}

#[test]
fn a_value_goes_on_in_lines_that_stand_deeper_than_its_key() {
    let (document, problems) = parse(
        "  [img]\n  list = a,\n    b, ; the second\n\n  # between\n    c\n  domain =\n\thttp://one.org\n\t  [::1]:80,\n\ttwo.org:81\n     weight = 3\n  rise: 4\n    [next]\n    k = 1\n    v = x=1\n     , y\n",
    );
    assert_eq!(problems, Vec::<String>::new());
    let value = |section: &str, key: &str| {
        document
            .section(section)?
            .get(key)
            .map(|entry| (entry.value.as_str(), entry.line))
    };
    assert_eq!(value("img", "list"), Some(("a, b, c", 2)));
    assert_eq!(
        value("img", "domain"),
        Some(("http://one.org, [::1]:80, two.org:81", 7))
    );
    assert_eq!(
        value("img", "weight"),
        Some(("3", 11)),
        "a key is one however deep it stands"
    );
    assert_eq!(
        (value("img", "rise"), value("next", "k")),
        (Some(("4", 12)), Some(("1", 14)))
    );
    assert_eq!(value("next", "v"), Some(("x=1 , y", 15)));
    let (_, problems) = parse("[a]\nk = 1\nk = 2\n  more\nwhat\n  so\n x\\\n[b]\nk = 1\n  x\\\n");
    assert_eq!(
        problems.len(),
        3,
        "what belongs to a line that is refused is not refused again: {problems:?}"
    );
    assert!(
        problems[2].starts_with("f:10: `x\\` has a backslash"),
        "{problems:?}"
    );
}

#[test]
fn every_problem_is_found_at_once_and_placed() {
    let (_, problems) = parse("x=1\ny=2\n[a]\nk=1\nK=2\nwhat\np=c:\\\n[a]\nz=1\n[b\n=v\n[c]\n=v\n");
    let starts = [
        "f:1: `x=1` stands before",
        "f:5: `k` is set twice in [a], first on line 4",
        "f:6: `what` is neither",
        "f:7: `p=c:\\` has a backslash in its key or at its end",
        "f:8: section [a] appears twice",
        "f:10: `[b` is no section",
        "f:13: `=v` has no key",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(
            problem.starts_with(start),
            "{problem} should start with {start}"
        );
    }
}

#[test]
fn a_large_file_is_read_whole_and_its_lines_are_known_across_pieces() {
    let section = |n: usize| format!("[s{n}]\nkey = {n}\n");
    let text: String = (0..10_000)
        .map(section)
        .chain([section(0), section(9_999)])
        .collect();
    assert!(text.len() > 2 * PIECE);
    let (document, problems) = parse(&text);
    assert_eq!(problems.len(), 2);
    assert!(
        problems[0].starts_with("f:20001: section [s0] appears twice, first on line 1:"),
        "{problems:?}"
    );
    assert!(
        problems[1].starts_with("f:20003: section [s9999] appears twice, first on line 19999:"),
        "{problems:?}"
    );
    for n in 0..10_000 {
        let found = document.section(&format!("s{n}")).expect("there");
        let entry = Entry {
            key: "key".into(),
            value: n.to_string(),
            line: 2 * n + 2,
        };
        assert_eq!((found.line, &found.entries), (2 * n + 1, &vec![entry]));
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "(\\[|\\]|=|;|#|\"| |\n|\r|\t|[a-c]|é){0,200}") {
        Document::parse("f", &text);
    }

    #[test]
    fn no_line_is_lost_without_a_word(lines in proptest::collection::vec("[a-c0=:;#\\\\\r\"' é\\[\\]%$]{0,12}", 1..12)) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (document, problems) = Document::parse("f", &format!("[s]\n{text}"));
        let places = document.sections.iter().flat_map(|section| section.entries.iter().map(|entry| entry.line).chain([section.line]));
        let mut told: Vec<usize> = places.chain(problems.iter().filter_map(|problem| problem.line)).collect();
        told.sort_unstable();
        let (mut skipping, mut key_indent) = (false, None);
        for (number, line) in (2..).zip(&lines) {
            let indent = depth(line);
            let line = uncomment(line.trim());
            // What goes on is in the value of the key above, which has a test of its own.
            let goes_on = key_indent.is_some_and(|key| indent > key) && !begins_with_key(line) && !line.starts_with('[');
            if !line.is_empty() && !goes_on {
                key_indent = (!line.starts_with('[')).then_some(indent);
            }
            let is_told = told.binary_search(&number).is_ok();
            if line.starts_with('[') {
                skipping = !document.sections.iter().any(|section| section.line == number);
            }
            prop_assert!(is_told || line.is_empty() || skipping || goes_on, "line {} of {:?}: {:?} {:?}", number, text, document, problems);
        }
    }

    #[test]
    fn a_list_reads_the_same_on_one_line_and_on_many(
        items in proptest::collection::vec("[a-z0-9.:/\\[\\]]{1,12}", 1..8), commas in any::<u8>(), indent in 0usize..3
    ) {
        let one = format!("[s]\nlist = {}\n", items.join(", "));
        let many: String = items.iter().enumerate().map(|(n, item)| format!("{}{item}{}\n", " ".repeat(indent + 1 + n % 3), if commas >> n & 1 == 1 { "," } else { "" })).collect();
        let many = format!("[s]\n{}list =\n{many}", " ".repeat(indent));
        let list = |text: &str| {
            let (document, problems) = Document::parse("f", text);
            let value = document.section("s").and_then(|section| section.get("list")).map(|entry| entry.value.clone());
            (value.map(|value| value.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect::<Vec<_>>()), problems.len())
        };
        // An item in brackets alone reads as a section.
        prop_assume!(!items.iter().any(|item| item.starts_with('[') || item.ends_with(':')));
        prop_assert_eq!(list(&many), list(&one));
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
