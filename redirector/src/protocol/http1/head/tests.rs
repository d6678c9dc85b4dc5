//! What a head is, what is refused, and that no cut or byte makes the parser panic.

use super::*;
use crate::answer::request::{FIELDS, MAX_FIELDS};
use common::model::target::is_target_byte;
use proptest::prelude::*;

/// Any request that is none.
const BAD: Refusal = Refusal::BadRequest(Fault::RequestLine);

fn head(text: &str) -> Request<'_> {
    match parse(text.as_bytes(), FIELDS) {
        Parsed::Complete(head, length) => {
            assert_eq!(length, text.len(), "whole head of {text:?}");
            head
        }
        other => unreachable!("{text:?} gave {other:?}"),
    }
}

fn refused(text: &str) -> Refusal {
    match parse(text.as_bytes(), FIELDS) {
        Parsed::Refused(Refusal::BadRequest(_)) => BAD,
        Parsed::Refused(refusal) => refusal,
        other => unreachable!("{text:?} gave {other:?}"),
    }
}

#[test]
fn a_plain_request_is_read_byte_for_byte() {
    let plain =
        head("GET /a%20b/\u{fc}?q=\"<x>|\\ HTTP/1.1\r\nHost: img.org\r\nAccept: */*\r\n\r\n");
    assert_eq!(
        (plain.method, plain.host, plain.keep_alive, plain.body),
        (Method::Get, b"img.org".as_slice(), true, false)
    );
    assert_eq!(plain.target, "/a%20b/\u{fc}?q=\"<x>|\\".as_bytes());
    assert!(!head("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n").keep_alive);
    assert!(!head("HEAD / HTTP/1.0\r\n\r\n").keep_alive);
    assert!(head("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").keep_alive);
    for empty in 0..=EMPTY_LINES {
        assert_eq!(
            head(&format!("{}GET / HTTP/1.0\r\n\r\n", "\r\n".repeat(empty))).target,
            b"/"
        );
    }
    let many = "\r\n".repeat(EMPTY_LINES + 1);
    assert_eq!(refused(&format!("{many}GET / HTTP/1.0\r\n\r\n")), BAD);
    // What is refused is refused at its first byte.
    assert_eq!(refused(&many[..many.len() - 1]), BAD);
}

#[test]
fn a_greater_minor_version_is_read_as_1_1() {
    for minor in 1..=9 {
        let later = format!("GET / HTTP/1.{minor}\r\nHost: a\r\n\r\n");
        assert!(head(&later).http11 && head(&later).keep_alive, "{later:?}");
        assert_eq!(refused(&format!("GET / HTTP/1.{minor}\r\n\r\n")), BAD);
    }
    assert!(head("POST / HTTP/1.2\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").body);
}

#[test]
fn as_many_fields_as_are_allowed_and_no_more() {
    for most in [1, FIELDS, MAX_FIELDS] {
        let with = |fields: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: y\r\n".repeat(fields - 1)
            )
            .into_bytes()
        };
        assert!(
            matches!(parse(&with(most), most), Parsed::Complete(..)),
            "{most}"
        );
        assert_eq!(
            parse(&with(most + 1), most),
            Parsed::Refused(Refusal::HeadTooLarge),
            "{most}"
        );
    }
}

#[test]
fn the_largest_head_is_taken_whatever_stands_before_it_and_wherever_it_is_cut() {
    for empty in ["", "\r\n", "\r\n\r\n\r\n"] {
        let fixed = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        let whole = format!(
            "{empty}GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "y".repeat(MAX_HEAD - fixed)
        );
        head(&whole);
        assert_eq!(
            parse(&whole.as_bytes()[..whole.len() - 1], FIELDS),
            Parsed::Partial
        );
    }
}

#[test]
fn an_absolute_target_must_name_the_host() {
    assert_eq!(
        head("GET HTTP://Img.org/x?y HTTP/1.1\r\nHost: img.org\r\n\r\n").target,
        b"/x?y"
    );
    assert_eq!(
        head("GET http://img.org HTTP/1.1\r\nHost: img.org\r\n\r\n").target,
        b"/"
    );
    assert_eq!(
        refused("GET http://evil.org/ HTTP/1.1\r\nHost: img.org\r\n\r\n"),
        BAD
    );
    assert_eq!(
        refused("GET http://u@img.org/ HTTP/1.1\r\nHost: img.org\r\n\r\n"),
        BAD
    );
    assert_eq!(refused("GET http:/// HTTP/1.1\r\nHost: \r\n\r\n"), BAD);
    assert_eq!(
        head("GET http://img.org?x/y HTTP/1.1\r\nHost: img.org\r\n\r\n").target,
        b"?x/y"
    );
    // Where HTTP/1.0 names no host, the target does.
    let alone = head("GET http://img.org:81/x HTTP/1.0\r\n\r\n");
    assert_eq!(
        (alone.host, alone.target),
        (b"img.org:81".as_slice(), b"/x".as_slice())
    );
    assert_eq!(head("POST http://img.org/ HTTP/1.0\r\n\r\n").host, b"");
    for bad in [
        "http:///x HTTP/1.0\r\n",
        "http://evil.org/ HTTP/1.0\r\nHost: img.org\r\n",
        "http://img.org/ HTTP/1.0\r\nHost:\r\n",
    ] {
        assert_eq!(refused(&format!("GET {bad}\r\n")), BAD, "{bad:?}");
    }
    assert_eq!(refused("GET http://img.org/ HTTP/1.1\r\n\r\n"), BAD);
}

#[test]
fn what_smuggles_or_confuses_is_refused() {
    for bad in [
        "GET / HTTP/1.1\n\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /#f HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
        "\u{16}\u{3}\u{1}",
        " GET / HTTP/1.1\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(refused(bad), BAD, "{bad:?}");
    }
    assert_eq!(
        refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        Refusal::Version
    );
    assert_eq!(
        refused(&format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "a".repeat(MAX_TARGET)
        )),
        Refusal::TargetTooLong
    );
    assert_eq!(
        refused(&format!("GET /{}", "a".repeat(MAX_HEAD))),
        Refusal::TargetTooLong
    );
    assert_eq!(
        refused(&format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD))),
        Refusal::HeadTooLarge
    );
    assert_eq!(
        refused(&format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(FIELDS)
        )),
        Refusal::HeadTooLarge
    );
}

#[test]
fn what_is_wrong_is_told_apart() {
    for (text, fault) in [
        ("GET  / HTTP/1.1\r\n", Fault::Target),
        ("GE(T / HTTP/1.1\r\n", Fault::RequestLine),
        ("GET / ICY/1.1\r\n", Fault::RequestLine),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Target),
        ("GET / HTTP/1.1\n", Fault::LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n", Fault::LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\0\r\n", Fault::ControlByte),
        ("GET / HTTP/1.1\r\nHost : a\r\n", Fault::Field),
        ("GET / HTTP/1.1\r\n\r\n", Fault::NoHost),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            Fault::TwoHosts,
        ),
        (
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Fault::OtherHost,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
            Fault::Framing,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            Fault::Framing,
        ),
    ] {
        assert_eq!(
            parse(text.as_bytes(), FIELDS),
            Parsed::Refused(fault.into()),
            "{text:?}"
        );
    }
}

#[test]
fn other_methods_are_complete_heads_whatever_their_target() {
    for other in [
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(head(other).method, Method::Other);
    }
    assert!(head("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").body);
    assert!(!head("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").body);
}

#[test]
fn every_cut_of_a_good_head_is_partial() {
    let whole = "\r\n\r\nGET /a?b HTTP/1.1\r\nHost: img.org\r\nConnection: close\r\n\r\n";
    for cut in 0..whole.len() {
        assert_eq!(
            parse(&whole.as_bytes()[..cut], FIELDS),
            Parsed::Partial,
            "cut at {cut}"
        );
    }
}

proptest! {
    /// What stands behind a head never changes it, and a request behind another is found where the first ends.
    #[test]
    fn a_head_ends_where_it_ends(empty in 0..12usize, minor in 0..10u8, form in 0..3usize, behind in proptest::collection::vec(any::<u8>(), 0..40)) {
        let target = ["/x", "http://a/x", "http://a?x"][form];
        let first = format!("{}GET {target} HTTP/1.{minor}\r\nHost: a\r\n\r\n", "\r\n".repeat(empty));
        let both = [first.as_bytes(), &behind].concat();
        match parse(&both, FIELDS) {
            Parsed::Complete(head, length) => {
                prop_assert!(empty <= EMPTY_LINES);
                prop_assert_eq!(length, first.len());
                prop_assert_eq!((head.host, head.http11), (b"a".as_slice(), minor > 0));
            }
            other => {
                prop_assert!(empty > EMPTY_LINES);
                prop_assert_eq!(other, Parsed::Refused(BAD));
            }
        }
    }

    #[test]
    fn parsing_never_panics_and_a_target_is_safe(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut request = b"GET ".to_vec();
        request.extend(bytes);
        request.extend(b" HTTP/1.1\r\nHost: a\r\n\r\n");
        if let Parsed::Complete(head, _) = parse(&request, FIELDS) {
            prop_assert!(matches!(head.target[0], b'/' | b'?'));
            prop_assert!(head.target.iter().all(|&byte| is_target_byte(byte)));
        }
    }
}
