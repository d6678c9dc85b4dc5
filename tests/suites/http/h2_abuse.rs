//! HTTP/2 against its letter: for each breach the error that RFC 9113 and RFC 7541 name, on the stream or the
//! connection they name, and a good request on a new connection afterwards. The process stays up, small and quiet.

use tests::h2::kind::{
    CONTINUATION, DATA, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE,
};
use tests::h2::outcome::Outcome::{self, Answer, Connection, End, Stream};
use tests::h2::outcome::code::{
    COMPRESSION_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR,
};
use tests::h2::outcome::still_serves;
use tests::h2::{
    ACK, END_HEADERS, END_STREAM, PADDED, PREFACE, PRIORITIZED, Raw, fields, frame, get, headers,
    setting, update,
};
use tests::tls::SecureUp;
use tests::up::ends_well;

/// One case: what it is, what is sent behind preface and settings, and what may come of it.
type Case = (&'static str, Vec<u8>, &'static [Outcome]);

/// Runs each case on a connection of its own; all that goes wrong at once.
fn check(cases: Vec<Case>) {
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    still_serves(&up, "the start");
    let before = up.process.anonymous_kib();
    let mut wrong = Vec::new();
    for (what, bytes, expected) in cases {
        let mut raw = Raw::open(up.secure);
        raw.send(&bytes);
        let found = raw.outcome();
        if !expected.contains(&found) {
            wrong.push(format!("{what}: {found:?} instead of {expected:?}"));
        }
        still_serves(&up, what);
    }
    let grown = up.process.anonymous_kib().saturating_sub(before);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(grown < 16 * 1024, "grew by {grown} KiB");
    ends_well(up.process);
}

/// A good request on stream 1.
fn good() -> Vec<u8> {
    headers(END_STREAM, 1, &get("/"))
}

/// The begin of one with a body.
fn open() -> Vec<u8> {
    headers(0, 1, &get("/"))
}

const PROTOCOL: &[Outcome] = &[Connection(PROTOCOL_ERROR)];
/// Where the RFC names an error of its own, hyper's HTTP/2 may end the connection with the general one instead.
const SIZE: &[Outcome] = &[Connection(FRAME_SIZE_ERROR), Connection(PROTOCOL_ERROR)];
const WINDOW: &[Outcome] = &[
    Connection(FLOW_CONTROL_ERROR),
    Connection(PROTOCOL_ERROR),
    Stream(FLOW_CONTROL_ERROR),
];
const SERVED: &[Outcome] = &[Answer(302)];

#[test]
fn settings_and_pings() {
    check(vec![
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL),
        (
            "SETTINGS of five bytes",
            frame(SETTINGS, 0, 0, &[0; 5]),
            SIZE,
        ),
        (
            "an acknowledgement with a payload",
            frame(SETTINGS, ACK, 0, &[0; 6]),
            SIZE,
        ),
        ("ENABLE_PUSH of 2", setting(2, 2), PROTOCOL),
        ("a window of 2^31", setting(4, 1 << 31), WINDOW),
        ("frames of 100 bytes", setting(5, 100), PROTOCOL),
        ("frames of 2^24 bytes", setting(5, 1 << 24), PROTOCOL),
        (
            "an unknown setting",
            [setting(0x7777, 1), good()].concat(),
            SERVED,
        ),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL),
        ("PING of seven bytes", frame(PING, 0, 0, &[0; 7]), SIZE),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL),
        (
            "a PING that answers nothing",
            [frame(PING, ACK, 0, &[9; 8]), good()].concat(),
            SERVED,
        ),
    ]);
}

#[test]
fn frames_on_the_wrong_stream() {
    check(vec![
        ("DATA on stream 0", frame(DATA, 0, 0, b"x"), PROTOCOL),
        (
            "HEADERS on stream 0",
            headers(END_STREAM, 0, &get("/")),
            PROTOCOL,
        ),
        (
            "PRIORITY on stream 0",
            frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 1]),
            PROTOCOL,
        ),
        (
            "RST_STREAM on stream 0",
            frame(RST_STREAM, 0, 0, &[0; 4]),
            PROTOCOL,
        ),
        (
            "CONTINUATION on stream 0",
            frame(CONTINUATION, END_HEADERS, 0, &[]),
            PROTOCOL,
        ),
        (
            "HEADERS on an even stream",
            headers(END_STREAM, 2, &get("/")),
            PROTOCOL,
        ),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"x"), PROTOCOL),
        (
            "RST_STREAM on an idle stream",
            frame(RST_STREAM, 0, 1, &[0; 4]),
            PROTOCOL,
        ),
        ("WINDOW_UPDATE on an idle stream", update(1, 1), PROTOCOL),
        (
            "PUSH_PROMISE from a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            PROTOCOL,
        ),
        (
            "PRIORITY on an idle stream",
            [frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 1]), good()].concat(),
            SERVED,
        ),
        // The deprecated priorities may be read or not (RFC 9113 section 5.3).
        (
            "a stream that depends on itself",
            headers_with_priority(1),
            &[
                Answer(302),
                Stream(PROTOCOL_ERROR),
                Connection(PROTOCOL_ERROR),
            ],
        ),
        (
            "PRIORITY of a stream on itself",
            [frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 1]), good()].concat(),
            &[
                Answer(302),
                Stream(PROTOCOL_ERROR),
                Connection(PROTOCOL_ERROR),
            ],
        ),
        (
            "the reserved bit of a stream",
            headers(END_STREAM, 1 | 1 << 31, &get("/")),
            SERVED,
        ),
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
        (
            "a frame of more than 16 KiB",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0; 16_385]),
            SIZE,
        ),
        (
            "DATA of more than 16 KiB",
            [open(), frame(DATA, 0, 1, &[0; 16_385])].concat(),
            SIZE,
        ),
        (
            "RST_STREAM of three bytes",
            [open(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            SIZE,
        ),
        (
            "PRIORITY of four bytes",
            frame(PRIORITY, 0, 1, &[0; 4]),
            SIZE,
        ),
        (
            "WINDOW_UPDATE of three bytes",
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
            SIZE,
        ),
        ("GOAWAY of four bytes", frame(GOAWAY, 0, 0, &[0; 4]), SIZE),
        ("WINDOW_UPDATE by nothing", update(0, 0), PROTOCOL),
        (
            "WINDOW_UPDATE by nothing on a stream",
            [open(), update(1, 0)].concat(),
            &[Stream(PROTOCOL_ERROR), Connection(PROTOCOL_ERROR)],
        ),
        (
            "a window that overflows",
            [update(0, 0x7fff_ffff), update(0, 1)].concat(),
            WINDOW,
        ),
        (
            "a stream's window that overflows",
            [open(), update(1, 0x7fff_ffff), update(1, 1)].concat(),
            WINDOW,
        ),
        (
            "more DATA than the window",
            [
                frame(SETTINGS, ACK, 0, &[]),
                open(),
                frame(DATA, 0, 1, &[0; 16_000]),
            ]
            .concat(),
            WINDOW,
        ),
        (
            "HEADERS padded beyond their end",
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &padded(255)),
            PROTOCOL,
        ),
        (
            "DATA padded beyond its end",
            [open(), frame(DATA, PADDED, 1, &[9, 0])].concat(),
            PROTOCOL,
        ),
        (
            "HEADERS padded to nothing",
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &padded(0)),
            SERVED,
        ),
        (
            "an empty HEADERS",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[]),
            &[Stream(PROTOCOL_ERROR), Answer(400)],
        ),
    ]);
}

#[test]
fn what_is_not_known_is_passed_over_and_blocks_are_whole() {
    let block = get("/");
    let (first, last) = block.split_at(10);
    let begun = frame(HEADERS, END_STREAM, 1, first);
    check(vec![
        (
            "an unknown frame",
            [frame(0x1f, 0xff, 0, b"what"), good()].concat(),
            SERVED,
        ),
        (
            "an unknown frame on an idle stream",
            [frame(0x77, 0, 9, b"what"), good()].concat(),
            SERVED,
        ),
        (
            "unknown flags",
            frame(HEADERS, END_STREAM | END_HEADERS | 0xd2, 1, &get("/")),
            SERVED,
        ),
        (
            "a block in two frames",
            [&begun[..], &frame(CONTINUATION, END_HEADERS, 1, last)].concat(),
            SERVED,
        ),
        (
            "CONTINUATION of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &get("/")),
            PROTOCOL,
        ),
        (
            "CONTINUATION of another stream",
            [&begun[..], &frame(CONTINUATION, END_HEADERS, 3, last)].concat(),
            PROTOCOL,
        ),
        (
            "PING within a block",
            [&begun[..], &frame(PING, 0, 0, &[0; 8])].concat(),
            PROTOCOL,
        ),
        (
            "an unknown frame within a block",
            [
                &begun[..],
                &frame(0x1f, 0, 0, b"what"),
                &frame(CONTINUATION, END_HEADERS, 1, last),
            ]
            .concat(),
            PROTOCOL,
        ),
        (
            "HEADERS within a block",
            [&begun[..], &headers(END_STREAM, 3, &get("/"))].concat(),
            PROTOCOL,
        ),
    ]);
}

#[test]
fn compressed_fields() {
    const BROKEN: &[Outcome] = &[Connection(COMPRESSION_ERROR), Connection(PROTOCOL_ERROR)];
    let with = |more: &[u8]| headers(END_STREAM, 1, &[&get("/")[..], more].concat());
    check(vec![
        ("index 0", with(&[0x80]), BROKEN),
        (
            "an index beyond both tables",
            with(&[0xff, 0x80, 0x01]),
            BROKEN,
        ),
        (
            "a name of an index beyond both tables",
            with(&[0x7f, 0x70, 1, b'x']),
            BROKEN,
        ),
        (
            "an index of more than 32 bits",
            with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
            BROKEN,
        ),
        ("a text that ends too early", with(&[0, 5, b'x']), BROKEN),
        (
            "a table larger than allowed",
            headers(
                END_STREAM,
                1,
                &[&[0x3f, 0xe1, 0xff, 0x03][..], &get("/")].concat(),
            ),
            BROKEN,
        ),
        ("a table's size behind fields", with(&[0x20]), BROKEN),
        (
            "a code of eight bits and more for padding",
            with(&[0, 1, b'x', 0x82, 0xff, 0xff]),
            BROKEN,
        ),
        (
            "a code padded with zeros",
            with(&[0, 1, b'x', 0x81, 0x00]),
            BROKEN,
        ),
    ]);
}

/// A `GET` of which `name` is missing, or others where it is.
fn without(name: &str, instead: &[(&str, &str)]) -> Vec<u8> {
    let all = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "img.test"),
        (":path", "/"),
    ];
    let kept: Vec<_> = all
        .into_iter()
        .filter(|(held, _)| *held != name)
        .chain(instead.iter().copied())
        .collect();
    headers(END_STREAM, 1, &fields(&kept))
}

#[test]
fn malformed_messages() {
    // RFC 9113 section 8.1.1: a stream error or an answer before it; section 5.4.1 allows to end the connection.
    const MALFORMED: &[Outcome] = &[
        Stream(PROTOCOL_ERROR),
        Answer(400),
        Connection(PROTOCOL_ERROR),
    ];
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
        (
            "an empty :path",
            without(":path", &[(":path", "")]),
            MALFORMED,
        ),
        (
            "a :path that does not begin with /",
            without(":path", &[(":path", "img")]),
            MALFORMED,
        ),
        (
            "neither :authority nor Host",
            without(":authority", &[]),
            MALFORMED,
        ),
        (
            "Host in place of :authority",
            without(":authority", &[("host", "img.test")]),
            SERVED,
        ),
        ("two methods", with(":method", "GET"), MALFORMED),
        ("two paths", with(":path", "/evil"), MALFORMED),
        (
            "two authorities",
            with(":authority", "evil.test"),
            MALFORMED,
        ),
        ("a second Host", with("host", "evil.test"), MALFORMED),
        ("an unknown pseudo-field", with(":evil", "1"), MALFORMED),
        (
            "a pseudo-field of answers",
            with(":status", "200"),
            MALFORMED,
        ),
        (
            "a pseudo-field behind a field",
            without(":path", &[("x", "1"), (":path", "/")]),
            MALFORMED,
        ),
        ("Connection", with("connection", "close"), MALFORMED),
        (
            "Transfer-Encoding",
            with("transfer-encoding", "chunked"),
            MALFORMED,
        ),
        ("Keep-Alive", with("keep-alive", "1"), MALFORMED),
        (
            "Proxy-Connection",
            with("proxy-connection", "close"),
            MALFORMED,
        ),
        ("Upgrade", with("upgrade", "h2c"), MALFORMED),
        ("TE: gzip", with("te", "gzip"), MALFORMED),
        ("TE: trailers", with("te", "trailers"), SERVED),
        (
            "a length without a body",
            with("content-length", "5"),
            MALFORMED,
        ),
        (
            "a length that is none",
            with("content-length", "5, 5"),
            MALFORMED,
        ),
        (
            "a user in :authority",
            without(":authority", &[(":authority", "a@img.test")]),
            MALFORMED,
        ),
        (
            "CONNECT",
            headers(
                0,
                1,
                &fields(&[(":method", "CONNECT"), (":authority", "img.test:443")]),
            ),
            &[Answer(405), Answer(400)],
        ),
        (
            "CONNECT with a path",
            without(":method", &[(":method", "CONNECT")]),
            &[Stream(PROTOCOL_ERROR), Answer(400), Answer(405)],
        ),
        (
            "OPTIONS *",
            headers(
                END_STREAM,
                1,
                &fields(&[
                    (":method", "OPTIONS"),
                    (":scheme", "https"),
                    (":authority", "img.test"),
                    (":path", "*"),
                ]),
            ),
            &[Answer(405)],
        ),
    ]);
}

#[test]
fn prefaces() {
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    let http1 = b"GET / HTTP/1.1\r\nHost: img.test\r\n\r\n";
    for (what, bytes) in [
        ("one in lower case", &*PREFACE.to_ascii_lowercase()),
        ("HTTP/1.1", http1),
    ] {
        let mut raw = Raw::silent(up.secure);
        raw.send(&[bytes, &frame(SETTINGS, 0, 0, &[])].concat());
        let found = raw.outcome();
        assert!(
            matches!(found, Connection(PROTOCOL_ERROR) | End),
            "{what}: {found:?}"
        );
        still_serves(&up, what);
    }
    // RFC 9113 section 3.4 wants SETTINGS first; hyper's HTTP/2 does not insist, and nothing hangs on it.
    let mut raw = Raw::silent(up.secure);
    raw.send(&[PREFACE, &frame(PING, 0, 0, &[0; 8]), &good()].concat());
    let found = raw.outcome();
    assert!(
        matches!(found, Connection(PROTOCOL_ERROR) | End | Answer(302)),
        "PING before SETTINGS: {found:?}"
    );
}
