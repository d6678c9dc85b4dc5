//! HTTP/2 against its letter: for each breach the error that RFC 9113 and RFC 7541 name, on the stream or the
//! connection they name, and a good request on a new connection afterwards. The process stays up, small and quiet.
#![allow(clippy::panic, clippy::print_stdout, reason = "a test that cannot go on says why and fails; figures are shown")]

use std::process::Command;
use std::time::Duration;
use tests::h2::kind::{CONTINUATION, DATA, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use tests::h2::{ACK, END_HEADERS, END_STREAM, PADDED, PREFACE, PRIORITIZED, Raw, fields, frame, get, headers, status};
use tests::process::Process;
use tests::scenario::Scale;
use tests::tls::SecureUp;
use tests::up::ends_well;

/// Error codes of RFC 9113 section 7.
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What comes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The first answer on any stream.
    Answer(u16),
    /// One stream ends with an error.
    Stream(u32),
    /// The connection ends with an error.
    Connection(u32),
    /// The connection ends without a word.
    End,
}
use Outcome::{Answer, Connection, End, Stream};

/// One case: what it is, what is sent behind preface and settings, and what may come of it.
type Case = (&'static str, Vec<u8>, &'static [Outcome]);

/// Reads on until something comes of it.
fn outcome(raw: &mut Raw) -> Outcome {
    loop {
        let code = |payload: &[u8], at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        match raw.next() {
            Some((HEADERS, _, _, block)) => return Answer(status(&block)),
            Some((RST_STREAM, _, _, payload)) => return Stream(code(&payload, 0)),
            // Without an error it announces an end and ends nothing.
            Some((GOAWAY, _, _, payload)) if code(&payload, 4) != 0 => return Connection(code(&payload, 4)),
            Some(_) => {}
            None => return End,
        }
    }
}

/// A good request on a new connection is answered.
fn still_serves(up: &SecureUp, after: &str) {
    let mut good = Raw::open(up.secure);
    good.send(&headers(END_STREAM, 1, &get("/good")));
    assert_eq!(outcome(&mut good), Answer(302), "after {after}");
}

/// Runs each case on a connection of its own; all that goes wrong at once.
fn check(cases: Vec<Case>) {
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    still_serves(&up, "the start");
    let before = up.process.anonymous_kib();
    let mut wrong = Vec::new();
    for (what, bytes, expected) in cases {
        let mut raw = Raw::open(up.secure);
        raw.send(&bytes);
        let found = outcome(&mut raw);
        if !expected.contains(&found) {
            wrong.push(format!("{what}: {found:?} instead of {expected:?}"));
        }
        still_serves(&up, what);
    }
    let grown = up.process.anonymous_kib().saturating_sub(before);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(grown < 16 * 1024, "grew by {grown} KiB");
    quiet(&up);
    ends_well(up.process);
}

/// Nothing panicked.
fn quiet(up: &SecureUp) {
    let lines = up.process.lines();
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{}", lines.join("\n"));
}

/// A good request on stream 1.
fn good() -> Vec<u8> {
    headers(END_STREAM, 1, &get("/"))
}

/// The begin of one with a body.
fn open() -> Vec<u8> {
    headers(0, 1, &get("/"))
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

const PROTOCOL: &[Outcome] = &[Connection(PROTOCOL_ERROR)];
/// Where the RFC names an error of its own, hyper's HTTP/2 may end the connection with the general one instead.
const SIZE: &[Outcome] = &[Connection(FRAME_SIZE_ERROR), Connection(PROTOCOL_ERROR)];
const WINDOW: &[Outcome] = &[Connection(FLOW_CONTROL_ERROR), Connection(PROTOCOL_ERROR), Stream(FLOW_CONTROL_ERROR)];
const SERVED: &[Outcome] = &[Answer(302)];

#[test]
fn settings_and_pings() {
    check(vec![
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), SIZE),
        ("an acknowledgement with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), SIZE),
        ("ENABLE_PUSH of 2", setting(2, 2), PROTOCOL),
        ("a window of 2^31", setting(4, 1 << 31), WINDOW),
        ("frames of 100 bytes", setting(5, 100), PROTOCOL),
        ("frames of 2^24 bytes", setting(5, 1 << 24), PROTOCOL),
        ("an unknown setting", [setting(0x7777, 1), good()].concat(), SERVED),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL),
        ("PING of seven bytes", frame(PING, 0, 0, &[0; 7]), SIZE),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL),
        ("a PING that answers nothing", [frame(PING, ACK, 0, &[9; 8]), good()].concat(), SERVED),
    ]);
}

#[test]
fn frames_on_the_wrong_stream() {
    check(vec![
        ("DATA on stream 0", frame(DATA, 0, 0, b"x"), PROTOCOL),
        ("HEADERS on stream 0", headers(END_STREAM, 0, &get("/")), PROTOCOL),
        ("PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 1]), PROTOCOL),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0; 4]), PROTOCOL),
        ("CONTINUATION on stream 0", frame(CONTINUATION, END_HEADERS, 0, &[]), PROTOCOL),
        ("HEADERS on an even stream", headers(END_STREAM, 2, &get("/")), PROTOCOL),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"x"), PROTOCOL),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), PROTOCOL),
        ("WINDOW_UPDATE on an idle stream", update(1, 1), PROTOCOL),
        ("PUSH_PROMISE from a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), PROTOCOL),
        ("PRIORITY on an idle stream", [frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 1]), good()].concat(), SERVED),
        // The deprecated priorities may be read or not (RFC 9113 section 5.3).
        ("a stream that depends on itself", headers_with_priority(1), &[Answer(302), Stream(PROTOCOL_ERROR), Connection(PROTOCOL_ERROR)]),
        (
            "PRIORITY of a stream on itself",
            [frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 1]), good()].concat(),
            &[Answer(302), Stream(PROTOCOL_ERROR), Connection(PROTOCOL_ERROR)],
        ),
        ("the reserved bit of a stream", headers(END_STREAM, 1 | 1 << 31, &get("/")), SERVED),
    ]);
}

fn headers_with_priority(depends_on: u32) -> Vec<u8> {
    let payload = [&depends_on.to_be_bytes()[..], &[1], &get("/")].concat();
    frame(HEADERS, END_STREAM | END_HEADERS | PRIORITIZED, 1, &payload)
}

#[test]
fn sizes_and_windows() {
    let padded = |length: u8| [&[length][..], &get("/")].concat();
    check(vec![
        ("a frame of more than 16 KiB", frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0; 16_385]), SIZE),
        ("DATA of more than 16 KiB", [open(), frame(DATA, 0, 1, &[0; 16_385])].concat(), SIZE),
        ("RST_STREAM of three bytes", [open(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), SIZE),
        ("PRIORITY of four bytes", frame(PRIORITY, 0, 1, &[0; 4]), SIZE),
        ("WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), SIZE),
        ("GOAWAY of four bytes", frame(GOAWAY, 0, 0, &[0; 4]), SIZE),
        ("WINDOW_UPDATE by nothing", update(0, 0), PROTOCOL),
        ("WINDOW_UPDATE by nothing on a stream", [open(), update(1, 0)].concat(), &[Stream(PROTOCOL_ERROR), Connection(PROTOCOL_ERROR)]),
        ("a window that overflows", [update(0, 0x7fff_ffff), update(0, 1)].concat(), WINDOW),
        ("a stream's window that overflows", [open(), update(1, 0x7fff_ffff), update(1, 1)].concat(), WINDOW),
        ("more DATA than the window", [frame(SETTINGS, ACK, 0, &[]), open(), frame(DATA, 0, 1, &[0; 16_000])].concat(), WINDOW),
        ("HEADERS padded beyond their end", frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &padded(255)), PROTOCOL),
        ("DATA padded beyond its end", [open(), frame(DATA, PADDED, 1, &[9, 0])].concat(), PROTOCOL),
        ("HEADERS padded to nothing", frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &padded(0)), SERVED),
        ("an empty HEADERS", frame(HEADERS, END_STREAM | END_HEADERS, 1, &[]), &[Stream(PROTOCOL_ERROR), Answer(400)]),
    ]);
}

#[test]
fn what_is_not_known_is_passed_over_and_blocks_are_whole() {
    let block = get("/");
    let (first, last) = block.split_at(10);
    let begun = frame(HEADERS, END_STREAM, 1, first);
    check(vec![
        ("an unknown frame", [frame(0x1f, 0xff, 0, b"what"), good()].concat(), SERVED),
        ("an unknown frame on an idle stream", [frame(0x77, 0, 9, b"what"), good()].concat(), SERVED),
        ("unknown flags", frame(HEADERS, END_STREAM | END_HEADERS | 0xd2, 1, &get("/")), SERVED),
        ("a block in two frames", [&begun[..], &frame(CONTINUATION, END_HEADERS, 1, last)].concat(), SERVED),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &get("/")), PROTOCOL),
        ("CONTINUATION of another stream", [&begun[..], &frame(CONTINUATION, END_HEADERS, 3, last)].concat(), PROTOCOL),
        ("PING within a block", [&begun[..], &frame(PING, 0, 0, &[0; 8])].concat(), PROTOCOL),
        (
            "an unknown frame within a block",
            [&begun[..], &frame(0x1f, 0, 0, b"what"), &frame(CONTINUATION, END_HEADERS, 1, last)].concat(),
            PROTOCOL,
        ),
        ("HEADERS within a block", [&begun[..], &headers(END_STREAM, 3, &get("/"))].concat(), PROTOCOL),
    ]);
}

#[test]
fn compressed_fields() {
    const BROKEN: &[Outcome] = &[Connection(COMPRESSION_ERROR), Connection(PROTOCOL_ERROR)];
    let with = |more: &[u8]| headers(END_STREAM, 1, &[&get("/")[..], more].concat());
    check(vec![
        ("index 0", with(&[0x80]), BROKEN),
        ("an index beyond both tables", with(&[0xff, 0x80, 0x01]), BROKEN),
        ("a name of an index beyond both tables", with(&[0x7f, 0x70, 1, b'x']), BROKEN),
        ("an index of more than 32 bits", with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), BROKEN),
        ("a text that ends too early", with(&[0, 5, b'x']), BROKEN),
        ("a table larger than allowed", headers(END_STREAM, 1, &[&[0x3f, 0xe1, 0xff, 0x03][..], &get("/")].concat()), BROKEN),
        ("a table's size behind fields", with(&[0x20]), BROKEN),
        ("a code of eight bits and more for padding", with(&[0, 1, b'x', 0x82, 0xff, 0xff]), BROKEN),
        ("a code padded with zeros", with(&[0, 1, b'x', 0x81, 0x00]), BROKEN),
    ]);
}

/// A `GET` of which `name` is missing, or others where it is.
fn without(name: &str, instead: &[(&str, &str)]) -> Vec<u8> {
    let all = [(":method", "GET"), (":scheme", "https"), (":authority", "img.test"), (":path", "/")];
    let kept: Vec<_> = all.into_iter().filter(|(held, _)| *held != name).chain(instead.iter().copied()).collect();
    headers(END_STREAM, 1, &fields(&kept))
}

#[test]
fn malformed_messages() {
    // RFC 9113 section 8.1.1: a stream error or an answer before it; section 5.4.1 allows to end the connection.
    const MALFORMED: &[Outcome] = &[Stream(PROTOCOL_ERROR), Answer(400), Connection(PROTOCOL_ERROR)];
    let with = |name: &'static str, value: &'static str| without("", &[(name, value)]);
    check(vec![
        ("a name in upper case", with("X-Upper", "1"), MALFORMED),
        ("a name with a space", with("x y", "1"), MALFORMED),
        ("an empty name", with("", "1"), MALFORMED),
        ("a value with NUL", with("x", "a\0b"), MALFORMED),
        ("a value with LF", with("x", "a\nevil: b"), MALFORMED),
        ("a value with CR", with("x", "a\rb"), MALFORMED),
        ("no :method", without(":method", &[]), MALFORMED),
        ("no :scheme", without(":scheme", &[]), MALFORMED),
        ("no :path", without(":path", &[]), MALFORMED),
        ("an empty :path", without(":path", &[(":path", "")]), MALFORMED),
        ("a :path that does not begin with /", without(":path", &[(":path", "img")]), MALFORMED),
        ("neither :authority nor Host", without(":authority", &[]), MALFORMED),
        ("Host in place of :authority", without(":authority", &[("host", "img.test")]), SERVED),
        ("two methods", with(":method", "GET"), MALFORMED),
        ("two paths", with(":path", "/evil"), MALFORMED),
        ("two authorities", with(":authority", "evil.test"), MALFORMED),
        ("a second Host", with("host", "evil.test"), MALFORMED),
        ("an unknown pseudo-field", with(":evil", "1"), MALFORMED),
        ("a pseudo-field of answers", with(":status", "200"), MALFORMED),
        ("a pseudo-field behind a field", without(":path", &[("x", "1"), (":path", "/")]), MALFORMED),
        ("Connection", with("connection", "close"), MALFORMED),
        ("Transfer-Encoding", with("transfer-encoding", "chunked"), MALFORMED),
        ("Keep-Alive", with("keep-alive", "1"), MALFORMED),
        ("Proxy-Connection", with("proxy-connection", "close"), MALFORMED),
        ("Upgrade", with("upgrade", "h2c"), MALFORMED),
        ("TE: gzip", with("te", "gzip"), MALFORMED),
        ("TE: trailers", with("te", "trailers"), SERVED),
        ("a length without a body", with("content-length", "5"), MALFORMED),
        ("a length that is none", with("content-length", "5, 5"), MALFORMED),
        ("a user in :authority", without(":authority", &[(":authority", "a@img.test")]), MALFORMED),
        ("CONNECT", headers(0, 1, &fields(&[(":method", "CONNECT"), (":authority", "img.test:443")])), &[Answer(405), Answer(400)]),
        ("CONNECT with a path", without(":method", &[(":method", "CONNECT")]), &[Stream(PROTOCOL_ERROR), Answer(400), Answer(405)]),
        (
            "OPTIONS *",
            headers(END_STREAM, 1, &fields(&[(":method", "OPTIONS"), (":scheme", "https"), (":authority", "img.test"), (":path", "*")])),
            &[Answer(405)],
        ),
    ]);
}

#[test]
fn prefaces() {
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    let http1 = b"GET / HTTP/1.1\r\nHost: img.test\r\n\r\n";
    for (what, bytes) in [("one in lower case", &*PREFACE.to_ascii_lowercase()), ("HTTP/1.1", http1)] {
        let mut raw = Raw::silent(up.secure);
        raw.send(&[bytes, &frame(SETTINGS, 0, 0, &[])].concat());
        let found = outcome(&mut raw);
        assert!(matches!(found, Connection(PROTOCOL_ERROR) | End), "{what}: {found:?}");
        still_serves(&up, what);
    }
    // RFC 9113 section 3.4 wants SETTINGS first; hyper's HTTP/2 does not insist, and nothing hangs on it.
    let mut raw = Raw::silent(up.secure);
    raw.send(&[PREFACE, &frame(PING, 0, 0, &[0; 8]), &good()].concat());
    let found = outcome(&mut raw);
    assert!(matches!(found, Connection(PROTOCOL_ERROR) | End | Answer(302)), "PING before SETTINGS: {found:?}");
    quiet(&up);
}

/// What comes on a stream that is over; the answers before that are passed over.
fn after_the_answer(up: &SecureUp, first: &[u8], then: &[u8]) -> Outcome {
    let mut raw = Raw::open(up.secure);
    raw.send(first);
    assert_eq!(outcome(&mut raw), Answer(302));
    raw.send(then);
    raw.send(&headers(END_STREAM, 7, &get("/")));
    loop {
        match raw.next() {
            // Answered as if nothing had been sent in between.
            Some((HEADERS, _, 7, _)) => return Answer(302),
            Some((RST_STREAM, _, 1, payload)) if payload[3] != 0 => return Stream(payload[3].into()),
            Some((GOAWAY, _, _, payload)) if payload[7] != 0 => return Connection(payload[7].into()),
            Some(_) => {}
            None => return End,
        }
    }
}

#[test]
fn frames_on_streams_that_are_over() {
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    const CLOSED: &[Outcome] = &[Stream(STREAM_CLOSED), Connection(STREAM_CLOSED)];
    let both = [headers(END_STREAM, 3, &get("/")), headers(END_STREAM, 1, &get("/"))].concat();
    let cases: &[(&str, Vec<u8>, Vec<u8>, &[Outcome])] = &[
        ("DATA", good(), frame(DATA, END_STREAM, 1, b"x"), CLOSED),
        ("HEADERS", good(), good(), &[Stream(STREAM_CLOSED), Connection(STREAM_CLOSED), Connection(PROTOCOL_ERROR)]),
        // A stream that was never opened is closed by a later one (RFC 9113 section 5.1.1).
        (
            "HEADERS on a lower stream",
            headers(END_STREAM, 5, &get("/")),
            headers(END_STREAM, 3, &get("/")),
            &[Connection(PROTOCOL_ERROR), Connection(STREAM_CLOSED)],
        ),
        ("WINDOW_UPDATE", good(), update(1, 1), SERVED),
        ("RST_STREAM", good(), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), SERVED),
        ("PRIORITY", good(), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]), SERVED),
    ];
    for (what, first, then, expected) in cases {
        let found = after_the_answer(&up, first, then);
        assert!(expected.contains(&found), "{what} on a stream that is over: {found:?} instead of {expected:?}");
        still_serves(&up, what);
    }
    let mut raw = Raw::open(up.secure);
    raw.send(&both);
    assert!(std::iter::from_fn(|| raw.next()).any(|(kind, ..)| kind == GOAWAY), "a stream below another one was opened");
    quiet(&up);
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
    for (what, block) in [("a bomb", bomb), ("64 fields and more", [get("/"), fields(&[("x", "y")]).repeat(100)].concat())] {
        for _ in 0..20 {
            let mut raw = Raw::open(up.secure);
            raw.send(&headers(END_STREAM, 1, &block));
            let found = outcome(&mut raw);
            assert!(refused.contains(&found), "{what}: {found:?}");
        }
        still_serves(&up, what);
    }
    let grown = up.process.anonymous_kib().saturating_sub(before);
    assert!(grown < 4 * 1024, "grew by {grown} KiB");
    quiet(&up);
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
    outcome(&mut raw)
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
        streams.flat_map(|stream| [headers(END_STREAM, stream, &get("/")), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()).collect()
    };
    assert!(matches!(flood(&up, &[], reset, 100), Connection(ENHANCE_YOUR_CALM) | End | Answer(302)), "rapid reset");
    still_serves(&up, "rapid reset");
    // The server is made to reset (CVE-2025-8671): each stream begins well and breaks the protocol then.
    let made = |round: u32| {
        let streams = (round * 50..(round + 1) * 50).map(|n| 2 * n + 1);
        streams.flat_map(|stream| [headers(0, stream, &get("/")), update(stream, 0)].concat()).collect()
    };
    let found = flood(&up, &[], made, 100);
    assert!(calm_or_served.contains(&found) || found == Stream(PROTOCOL_ERROR) || found == Connection(PROTOCOL_ERROR), "{found:?}");
    still_serves(&up, "resets of the server's own");
    let begun = frame(HEADERS, END_STREAM, 1, &get("/"));
    let found = flood(&up, &begun, |_| frame(CONTINUATION, 0, 1, &fields(&[("x", &"y".repeat(100))]).repeat(100)), 1000);
    assert!(calm.contains(&found) || found == Connection(PROTOCOL_ERROR), "CONTINUATION flood: {found:?}");
    still_serves(&up, "CONTINUATION flood");
    let found = flood(&up, &begun, |_| frame(CONTINUATION, 0, 1, &[]).repeat(100), 100);
    assert!(calm.contains(&found) || found == Connection(PROTOCOL_ERROR), "empty CONTINUATION flood: {found:?}");
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
    quiet(&up);
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
                    &fields(&[(":method", "GET"), (":scheme", "https"), (":authority", "img.test"), (":path", "/stats")]),
                )
            })
            .collect::<Vec<u8>>(),
    );
    raw.send(&frame(PING, 0, 0, &[1; 8]));
    while refused < 50 {
        match raw.next() {
            Some((RST_STREAM, _, _, payload)) if payload == [0, 0, 0, 7] => refused += 1,
            Some((GOAWAY, _, _, payload)) => panic!("the connection ended: {payload:?} after {refused}"),
            Some(_) => {}
            None => panic!("the connection ended after {refused} refusals"),
        }
    }
    still_serves(&up, "too many streams");
    quiet(&up);
}

/// A load of h2load: every request is redirected.
#[test]
fn h2load_gets_a_redirect_for_each_request() {
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    let count = Scale::asked().pick(20_000, 1_000_000u64);
    let mut load = Command::new("h2load");
    load.args(["-n", &count.to_string(), "-c", "20", "-m", "50", "-H", ":authority: img.test"]);
    load.arg(format!("https://127.0.0.1:{}/img/a.jpg?x=1", up.secure.port()));
    let ended = Process::spawn("h2load", load).wait(Duration::from_secs(300));
    let text = ended.text();
    let line = |what: &str| text.lines().find(|line| line.starts_with(what)).unwrap_or_default().to_owned();
    println!("h2load: {}; {}", line("finished in"), line("requests:"));
    ended.expect(
        0,
        &[&format!("{count} succeeded, 0 failed, 0 errored, 0 timeout"), &format!("status codes: 0 2xx, {count} 3xx, 0 4xx, 0 5xx")],
    );
    quiet(&up);
    ends_well(up.process);
}
