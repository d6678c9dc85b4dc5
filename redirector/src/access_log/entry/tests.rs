//! Tests of [`super`].

use super::*;
use proptest::prelude::*;

fn entry<'a>(target: &'a [u8], agent: &'a [u8]) -> LogEntry<'a> {
    LogEntry {
        at: 1_795_473_005_250,
        client: "192.0.2.77".parse().ok(),
        method: b"GET",
        target,
        version: "HTTP/1.1",
        host: b"img.test",
        status: 302,
        bytes: 0,
        referer: b"",
        agent,
        farm: "img",
        server: "a",
        location: b"http://a.test/x?token=1",
        reason: "",
    }
}

fn line(target: &[u8], agent: &[u8], style: Style) -> String {
    let mut out = Vec::new();
    write(&entry(target, agent), style, &mut out);
    String::from_utf8(out).expect("a line is text")
}

#[test]
fn a_line_is_what_log_readers_know_with_where_the_client_went() {
    let full = Style::default();
    assert_eq!(
        line(b"/x?token=1", b"curl/8", full),
        "192.0.2.77 - - [23/Nov/2026:22:30:05 +0000] \"GET /x?token=1 HTTP/1.1\" 302 0 \"-\" \"curl/8\" \"img.test\" \"img\" \"a\" \
         \"http://a.test/x?token=1\" \"-\"\n"
    );
    let discreet = Style {
        without_query: true,
        address: Address::Truncated,
        ..full
    };
    let text = line(b"/x?token=1", b"curl/8", discreet);
    assert!(
        text.starts_with("192.0.2.0 - - ") && !text.contains("token"),
        "{text}"
    );
    assert!(
        line(
            b"/",
            b"",
            Style {
                address: Address::Off,
                ..full
            }
        )
        .starts_with("- - - [")
    );
}

#[test]
fn nothing_a_client_sends_ends_a_field_or_a_line() {
    let text = line(b"/\"x\\\n\x1b[2J\xff", b"a\" \"b\r\n", Style::default());
    assert!(
        text.contains("/\\x22x\\x5c\\x0a\\x1b[2J\\xff ")
            && text.contains("\"a\\x22 \\x22b\\x0d\\x0a\""),
        "{text}"
    );
}

#[test]
fn json_holds_no_control_character() {
    let text = line(
        "/\u{7f}\u{9b}2J\u{e9}".as_bytes(),
        b"\x1b",
        Style {
            form: Form::Json,
            ..Style::default()
        },
    );
    assert!(
        text.contains("\"target\":\"/\\u007f\\u009b2J\u{e9}\"")
            && text.contains("\"agent\":\"\\u001b\""),
        "{text}"
    );
}

#[test]
fn a_network_is_what_is_left_of_an_address() {
    let of = |text: &str| {
        address(text.parse().ok(), Address::Truncated)
            .expect("a network")
            .to_string()
    };
    assert_eq!(
        (
            of("2001:db8:1:2::3").as_str(),
            of("::ffff:192.0.2.7").as_str()
        ),
        ("2001:db8:1::", "192.0.2.0")
    );
}

proptest! {
    #[test]
    fn every_entry_is_one_line_and_json_reads_back(
        target in proptest::collection::vec(any::<u8>(), 0..40), agent in proptest::collection::vec(any::<u8>(), 0..40)
    ) {
        let text = line(&target, &agent, Style::default());
        prop_assert_eq!((text.matches('\n').count(), text.matches('"').count()), (1, 16));
        let text = line(&target, &agent, Style { form: Form::Json, ..Style::default() });
        prop_assert!(!text.trim_end().contains(char::is_control));
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(read["target"].as_str().unwrap_or_default(), &*String::from_utf8_lossy(&target));
        prop_assert_eq!(read["status"].as_u64(), Some(302));
    }
}
