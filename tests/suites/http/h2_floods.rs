//! HTTP/2 in masses: floods of frames, streams beyond the limit or over, lists of fields without an end. Each ends its
//! stream or connection, or costs next to nothing; a load of good requests is redirected to the last one.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on says why and fails; figures are shown"
)]

use std::process::Command;
use std::time::Duration;
use tests::h2::kind::{CONTINUATION, DATA, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM};
use tests::h2::outcome::Outcome::{self, Answer, Connection, End, Stream};
use tests::h2::outcome::code::{
    COMPRESSION_ERROR, ENHANCE_YOUR_CALM, PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED,
};
use tests::h2::outcome::{error, still_serves};
use tests::h2::{END_STREAM, Raw, fields, frame, get, headers, setting, update};
use tests::process::Process;
use tests::scenario::Scale;
use tests::tls::SecureUp;
use tests::up::ends_well;

/// One case: what it is, what is answered first, what comes then, and what may come of it.
type Case = (&'static str, Vec<u8>, Vec<u8>, &'static [Outcome]);

/// A good request on stream 1.
fn good() -> Vec<u8> {
    headers(END_STREAM, 1, &get("/"))
}

/// What comes on a stream that is over; the answers before that are passed over.
fn after_the_answer(up: &SecureUp, first: &[u8], then: &[u8]) -> Outcome {
    let mut raw = Raw::open(up.secure);
    raw.send(first);
    assert_eq!(raw.outcome(), Answer(302));
    raw.send(then);
    raw.send(&headers(END_STREAM, 7, &get("/")));
    loop {
        match raw.next_frame() {
            // Answered as if nothing had been sent in between.
            Some((HEADERS, _, 7, _)) => return Answer(302),
            Some((RST_STREAM, _, 1, payload)) if error(&payload) != 0 => {
                return Stream(error(&payload));
            }
            Some((GOAWAY, _, _, payload)) if error(&payload[4..]) != 0 => {
                return Connection(error(&payload[4..]));
            }
            Some(_) => {}
            None => return End,
        }
    }
}

#[test]
fn frames_on_streams_that_are_over() {
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    const CLOSED: &[Outcome] = &[Stream(STREAM_CLOSED), Connection(STREAM_CLOSED)];
    let cases: [Case; 6] = [
        ("DATA", good(), frame(DATA, END_STREAM, 1, b"x"), CLOSED),
        (
            "HEADERS",
            good(),
            good(),
            &[
                Stream(STREAM_CLOSED),
                Connection(STREAM_CLOSED),
                Connection(PROTOCOL_ERROR),
            ],
        ),
        // A stream that was never opened is closed by a later one (RFC 9113 section 5.1.1).
        (
            "HEADERS on a lower stream",
            headers(END_STREAM, 5, &get("/")),
            headers(END_STREAM, 3, &get("/")),
            &[Connection(PROTOCOL_ERROR), Connection(STREAM_CLOSED)],
        ),
        ("WINDOW_UPDATE", good(), update(1, 1), &[Answer(302)]),
        (
            "RST_STREAM",
            good(),
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            &[Answer(302)],
        ),
        (
            "PRIORITY",
            good(),
            frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]),
            &[Answer(302)],
        ),
    ];
    for (what, first, then, expected) in &cases {
        let found = after_the_answer(&up, first, then);
        assert!(
            expected.contains(&found),
            "{what} on a stream that is over: {found:?} instead of {expected:?}"
        );
        still_serves(&up, what);
    }
    ends_well(up.process);
}

#[test]
fn the_lists_of_fields_have_an_end() {
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    still_serves(&up, "the start");
    let before = up.process.anonymous_kib();
    // One field of 4,000 bytes in the table, named again by one byte each: 16 KiB that stand for 48 MiB.
    let value = "y".repeat(4000);
    let entry = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], value.as_bytes()].concat();
    let bomb = [&get("/")[..], &entry, &[0xbe; 12_000]].concat();
    let refused: &[Outcome] = &[
        Answer(431),
        Stream(PROTOCOL_ERROR),
        Stream(ENHANCE_YOUR_CALM),
        Stream(REFUSED_STREAM),
        Connection(PROTOCOL_ERROR),
        Connection(COMPRESSION_ERROR),
        Connection(ENHANCE_YOUR_CALM),
    ];
    for (what, block) in [
        ("a bomb", bomb),
        (
            "more fields than max_fields",
            [get("/"), fields(&[("x", "y")]).repeat(101)].concat(),
        ),
    ] {
        for _ in 0..20 {
            let mut raw = Raw::open(up.secure);
            raw.send(&headers(END_STREAM, 1, &block));
            let found = raw.outcome();
            assert!(refused.contains(&found), "{what}: {found:?}");
        }
        still_serves(&up, what);
    }
    let grown = up.process.anonymous_kib().saturating_sub(before);
    assert!(grown < 4 * 1024, "grew by {grown} KiB");
    ends_well(up.process);
}

/// Sends until the server ends the connection; with which error.
fn flood(up: &SecureUp, begin: &[u8], more: impl Fn(u32) -> Vec<u8>, rounds: u32) -> Outcome {
    let mut raw = Raw::open(up.secure);
    raw.send(begin);
    let all = (0..rounds).all(|round| raw.send(&more(round)));
    // Whoever has sent it all is asked to show that the connection still serves.
    if all {
        raw.send(&headers(END_STREAM, 0x7fff_fff1, &get("/")));
    }
    raw.outcome()
}

#[test]
fn floods_end_the_connection_or_cost_next_to_nothing() {
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    still_serves(&up, "the start");
    let before = up.process.anonymous_kib();
    let calm: &[Outcome] = &[Connection(ENHANCE_YOUR_CALM), End];
    let calm_or_served: &[Outcome] = &[Connection(ENHANCE_YOUR_CALM), End, Answer(302)];
    // Cancelled before it can be answered: HEADERS and RST_STREAM in one segment.
    let reset = |round: u32| {
        let streams = (round * 100..(round + 1) * 100).map(|n| 2 * n + 1);
        streams
            .flat_map(|stream| {
                [
                    headers(END_STREAM, stream, &get("/")),
                    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
                ]
                .concat()
            })
            .collect()
    };
    assert!(
        matches!(
            flood(&up, &[], reset, 100),
            Connection(ENHANCE_YOUR_CALM) | End | Answer(302)
        ),
        "rapid reset"
    );
    still_serves(&up, "rapid reset");
    // The server is made to reset (CVE-2025-8671): each stream begins well and breaks the protocol then.
    let made = |round: u32| {
        let streams = (round * 50..(round + 1) * 50).map(|n| 2 * n + 1);
        streams
            .flat_map(|stream| [headers(0, stream, &get("/")), update(stream, 0)].concat())
            .collect()
    };
    let found = flood(&up, &[], made, 100);
    assert!(
        calm_or_served.contains(&found)
            || found == Stream(PROTOCOL_ERROR)
            || found == Connection(PROTOCOL_ERROR),
        "{found:?}"
    );
    still_serves(&up, "resets of the server's own");
    let begun = frame(HEADERS, END_STREAM, 1, &get("/"));
    let found = flood(
        &up,
        &begun,
        |_| {
            frame(
                CONTINUATION,
                0,
                1,
                &fields(&[("x", &"y".repeat(100))]).repeat(100),
            )
        },
        1000,
    );
    assert!(
        calm.contains(&found) || found == Connection(PROTOCOL_ERROR),
        "CONTINUATION flood: {found:?}"
    );
    still_serves(&up, "CONTINUATION flood");
    let found = flood(
        &up,
        &begun,
        |_| frame(CONTINUATION, 0, 1, &[]).repeat(100),
        100,
    );
    assert!(
        calm.contains(&found) || found == Connection(PROTOCOL_ERROR),
        "empty CONTINUATION flood: {found:?}"
    );
    still_serves(&up, "empty CONTINUATION flood");
    let floods: &[(&str, Vec<u8>)] = &[
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("SETTINGS", setting(4, 100)),
        ("PRIORITY", frame(PRIORITY, 0, 9, &[0, 0, 0, 1, 1])),
        ("WINDOW_UPDATE", update(0, 1)),
        ("unknown frames", frame(0x1f, 0, 0, &[])),
    ];
    for (what, one) in floods {
        let found = flood(&up, &[], |_| one.repeat(500), 40);
        assert!(calm_or_served.contains(&found), "{what}: {found:?}");
        still_serves(&up, what);
    }
    let grown = up.process.anonymous_kib().saturating_sub(before);
    println!("floods: memory grew by {grown} KiB");
    assert!(grown < 16 * 1024, "grew by {grown} KiB");
    ends_well(up.process);
}

#[test]
fn more_streams_than_allowed_are_refused_one_by_one() {
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    let mut raw = Raw::open(up.secure);
    // Nobody takes the answers' windows, so the pages' streams stay open.
    raw.send(&setting(4, 0));
    let mut refused = 0;
    raw.send(
        &(0..150)
            .flat_map(|n| {
                headers(
                    END_STREAM,
                    2 * n + 1,
                    &fields(&[
                        (":method", "GET"),
                        (":scheme", "https"),
                        (":authority", "img.test"),
                        (":path", "/stats"),
                    ]),
                )
            })
            .collect::<Vec<u8>>(),
    );
    raw.send(&frame(PING, 0, 0, &[1; 8]));
    while refused < 50 {
        match raw.next_frame() {
            Some((RST_STREAM, _, _, payload)) if payload == [0, 0, 0, 7] => refused += 1,
            Some((GOAWAY, _, _, payload)) => {
                panic!("the connection ended: {payload:?} after {refused}")
            }
            Some(_) => {}
            None => panic!("the connection ended after {refused} refusals"),
        }
    }
    still_serves(&up, "too many streams");
}

/// A load of h2load: every request is redirected.
#[test]
fn h2load_gets_a_redirect_for_each_request() {
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    let count = Scale::asked().pick(20_000, 1_000_000u64);
    let mut load = Command::new("h2load");
    load.args([
        "-n",
        &count.to_string(),
        "-c",
        "20",
        "-m",
        "50",
        "-H",
        ":authority: img.test",
    ]);
    load.arg(format!(
        "https://127.0.0.1:{}/img/a.jpg?x=1",
        up.secure.port()
    ));
    let ended = Process::spawn("h2load", load).wait(Duration::from_secs(300));
    let text = ended.text();
    let line = |what: &str| {
        text.lines()
            .find(|line| line.starts_with(what))
            .unwrap_or_default()
            .to_owned()
    };
    println!("h2load: {}; {}", line("finished in"), line("requests:"));
    ended.expect(
        0,
        &[
            &format!("{count} succeeded, 0 failed, 0 errored, 0 timeout"),
            &format!("status codes: 0 2xx, {count} 3xx, 0 4xx, 0 5xx"),
        ],
    );
    ends_well(up.process);
}
