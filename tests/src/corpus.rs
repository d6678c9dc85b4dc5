//! The corpus of raw requests (tests/corpus/requests.txt): what is sent, and exactly what must come of it.

use std::path::Path;

/// What becomes of the connection after the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It stays open for the next request.
    Open,
    /// We close it.
    Close,
    /// More bytes are needed.
    Wait,
}

/// One answer: its status and, of a redirect, what follows the server in its Location.
pub type Expected = (u16, Option<Vec<u8>>);

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// The answers, in order.
    pub answers: Vec<Expected>,
    /// What becomes of the connection.
    pub end: End,
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/requests.txt");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(case)
        .collect()
}

fn case(line: &str) -> Case {
    let mut parts = line.splitn(3, " | ");
    let (Some(name), Some(outcome), Some(bytes)) = (parts.next(), parts.next(), parts.next())
    else {
        panic!("no case: {line}");
    };
    let (mut answers, mut end): (Vec<Expected>, _) = (Vec::new(), None);
    for word in outcome.split(' ') {
        match word {
            "open" => end = Some(End::Open),
            "close" => end = Some(End::Close),
            "wait" => end = Some(End::Wait),
            path if path.starts_with('/') => {
                answers.last_mut().expect("a status comes first").1 = Some(unescape(path));
            }
            status => answers.push((
                status
                    .parse()
                    .unwrap_or_else(|_| panic!("{name}: {status} is no status")),
                None,
            )),
        }
    }
    Case {
        name: name.to_owned(),
        bytes: unescape(bytes),
        answers,
        end: end.unwrap_or_else(|| panic!("{name}: no end")),
    }
}

/// Bytes from `\r \n \t \0 \\ \xNN` and `<x*9>`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some((inner, after)) = rest.strip_prefix('<').and_then(|open| open.split_once('>'))
            && let Some((repeated, count)) = inner.rsplit_once('*')
            && let Ok(count) = count.parse()
        {
            bytes.extend(unescape(repeated).repeat(count));
            rest = after;
        } else if let Some(escape) = rest.strip_prefix('\\') {
            let (byte, length) = match escape.as_bytes()[0] {
                b'r' => (b'\r', 1),
                b'n' => (b'\n', 1),
                b't' => (b'\t', 1),
                b'0' => (0, 1),
                b'x' => (
                    u8::from_str_radix(&escape[1..3], 16)
                        .unwrap_or_else(|_| panic!("no byte: {rest}")),
                    3,
                ),
                _ => (b'\\', 1),
            };
            bytes.push(byte);
            rest = &escape[length..];
        } else {
            bytes.extend(&rest.as_bytes()[..first.len_utf8()]);
            rest = &rest[first.len_utf8()..];
        }
    }
    bytes
}
