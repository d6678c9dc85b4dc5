//! HTTP/2 on the TLS port: the same answers as HTTP/1, an end that loses nothing, and clients that abuse the
//! protocol, frame by frame: the process stays up and small, and others are served meanwhile.

use rustix::process::Signal;
use std::io::Write;
use std::process::Command;
use std::time::Duration;
use tests::h2::kind::{
    CONTINUATION, DATA, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use tests::h2::{END_HEADERS, END_STREAM, Raw, fields, frame, get};
use tests::tls::{SecureUp, Secured, ask, client};
use tests::up::ends_well;
use tests::{START, eventually};

const SERVERS: &[(&str, &str)] = &[("a", "a.test")];

fn resident_kib(up: &SecureUp) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", up.process.id()))
        .expect("a running process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

/// Runs `abuse`; others are served while and after it, and the process does not grow by more than 64 MiB.
fn survives(up: &SecureUp, what: &str, abuse: impl FnOnce(&mut Raw)) {
    let before = resident_kib(up);
    let mut raw = Raw::open(up.secure);
    abuse(&mut raw);
    assert!(
        ask(up.secure, "/").starts_with("HTTP/1.1 302"),
        "during {what}"
    );
    let mut other = Raw::open(up.secure);
    other.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/good")));
    assert!(
        other.until(HEADERS, 1).is_some(),
        "another connection during {what}"
    );
    let grown = resident_kib(up).saturating_sub(before);
    assert!(grown < 64 * 1024, "{what}: grew by {grown} KiB");
}

fn curl(up: &SecureUp, arguments: &[&str]) -> String {
    let resolve = format!("img.test:{}:127.0.0.1", up.secure.port());
    let output = Command::new("curl")
        .args(["-sk", "--http2", "--resolve", &resolve, "-D-"])
        .args(arguments)
        .output();
    String::from_utf8_lossy(&output.expect("curl runs").stdout).into_owned()
}

#[test]
fn answers_are_those_of_http_1() {
    let up = SecureUp::start("", "", SERVERS);
    let url = format!(
        "https://img.test:{}/caf%C3%A9/..//x?y=%2f",
        up.secure.port()
    );
    let answer = curl(&up, &["--path-as-is", &url]);
    assert!(
        answer.starts_with("HTTP/2 302")
            && answer.contains("location: https://a.test/caf%C3%A9/..//x?y=%2f\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("cache-control: no-store\r\n") && answer.contains("content-length: 0\r\n"),
        "{answer}"
    );
    let answer = curl(&up, &["-H", "Host: unknown.test", &url]);
    assert!(
        answer.starts_with("HTTP/2 403") && answer.ends_with("no farm answers for this host\n"),
        "{answer}"
    );
    let answer = curl(&up, &["-X", "DELETE", &url]);
    assert!(
        answer.starts_with("HTTP/2 405") && answer.contains("allow: GET, HEAD\r\n"),
        "{answer}"
    );
    assert!(curl(&up, &["-I", &url]).starts_with("HTTP/2 302"));
    // A refusal of HEAD is a head alone (RFC 9110 section 9.3.2), or the client takes it for broken.
    for (host, path, status) in [
        ("img.test", "a".repeat(9000), 414),
        ("a@b", String::new(), 400),
    ] {
        let answer = curl(
            &up,
            &[
                "-I",
                "-H",
                &format!("Host: {host}"),
                &format!("https://img.test:{}/{path}", up.secure.port()),
            ],
        );
        assert!(
            answer.starts_with(&format!("HTTP/2 {status}")),
            "{host}: {answer}"
        );
    }
    let stats = format!("https://img.test:{}/stats.json", up.secure.port());
    assert!(curl(&up, &[&stats]).starts_with("HTTP/2 200"));
    // Counted like any other.
    let redirects = || tests::stats::Stats::of(up.plain).redirects();
    eventually!(START, redirects() >= 2, "{}", redirects());
    ends_well(up.process);
}

#[test]
fn a_request_has_as_many_fields_as_max_fields_says_over_either_protocol() {
    for (global, most) in [
        ("", 100),
        ("max_fields = 256", 256),
        ("max_fields = 20", 20),
    ] {
        let up = SecureUp::start(global, "", SERVERS);
        let http1 = |count: usize| {
            let mut request = b"GET /x HTTP/1.1\r\nHost: img.test\r\n".to_vec();
            (1..count).for_each(|number| request.extend(format!("X-{number}: y\r\n").bytes()));
            tests::client::raw(up.plain, &[&request[..], b"\r\n"].concat()).status
        };
        assert_eq!((http1(most), http1(most + 1)), (302, 431), "{global:?}");
        let http2 = |count: usize| {
            let mut raw = Raw::open(up.secure);
            let more: Vec<String> = (0..count).map(|number| format!("x-{number}")).collect();
            let block: Vec<u8> = more
                .iter()
                .flat_map(|name| fields(&[(name, "y")]))
                .collect();
            raw.send(&frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                &[get("/x"), block].concat(),
            ));
            tests::h2::status(&raw.until(HEADERS, 1).expect("an answer"))
        };
        assert_eq!((http2(most), http2(most + 1)), (302, 431), "{global:?}");
        assert!(ask(up.secure, "/").starts_with("HTTP/1.1 302"));
        ends_well(up.process);
    }
}

#[test]
fn a_trusted_proxy_speaks_for_the_client_of_each_request() {
    let up = SecureUp::start(
        "trusted_proxies = 127.0.0.0/8\nstats_allow = 192.0.2.0/24\naccess_log = access.log",
        "",
        SERVERS,
    );
    let url = |path: &str| format!("https://img.test:{}{path}", up.secure.port());
    let status = |fields: &[&str]| {
        let fields: Vec<&str> = fields.iter().flat_map(|field| ["-H", field]).collect();
        curl(&up, &[&fields[..], &[&url("/stats.json")]].concat())
            .lines()
            .next()
            .unwrap_or_default()
            .trim_end()
            .to_owned()
    };
    assert_eq!(status(&["X-Forwarded-For: 192.0.2.7"]), "HTTP/2 200");
    assert_eq!(
        status(&["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.7"]),
        "HTTP/2 200"
    );
    for nobody in [
        &[][..],
        &["X-Forwarded-For: 192.0.2.7, 6.6.6.6"],
        &["X-Forwarded-For: 192.0.2.7", "X-Forwarded-For: x"],
    ] {
        assert_eq!(status(nobody), "HTTP/2 302", "{nobody:?}");
    }
    let answer = curl(&up, &["-H", "X-Forwarded-Proto: http", &url("/x")]);
    assert!(answer.contains("location: http://a.test/x\r\n"), "{answer}");
    for (field, scheme) in [
        ("X-Forwarded-Proto: http, https", "http"),
        ("X-Forwarded-Proto: https, http", "https"),
        ("Forwarded: for=192.0.2.7;proto=http", "http"),
        ("X-Forwarded-Ssl: off", "http"),
    ] {
        let answer = curl(&up, &["-H", field, &url("/x")]);
        assert!(
            answer.contains(&format!("location: {scheme}://a.test/x\r\n")),
            "{field}: {answer}"
        );
    }
    let log =
        || std::fs::read_to_string(up.directory.path().join("access.log")).unwrap_or_default();
    eventually!(
        START,
        log().lines().any(|line| line.starts_with("192.0.2.7 ")
            && line.contains("\"GET /stats.json HTTP/2.0\" 200 ")),
        "{}",
        log()
    );
}

#[test]
fn a_head_that_stops_is_left_by_the_deadline_and_one_who_waits_is_not() {
    let up = SecureUp::start("client_timeout = 1s", "", SERVERS);
    let mut waiting = Raw::open(up.secure);
    let begun = [
        frame(HEADERS, END_STREAM, 1, &get("/x")),
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/x"))[..20].to_vec(),
    ];
    for begun in begun {
        let mut raw = Raw::open(up.secure);
        raw.send(&begun);
        // It fails when nothing comes for 20 s; keepalive_timeout is 65 s.
        while raw.next_frame().is_some() {}
    }
    waiting.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/good")));
    assert!(waiting.until(HEADERS, 1).is_some());
    ends_well(up.process);
}

#[test]
fn requests_no_one_can_trust_are_refused_one_by_one() {
    let up = SecureUp::start("", "", SERVERS);
    let mut raw = Raw::open(up.secure);
    let start = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
    let cases: &[&[(&str, &str)]] = &[
        &[(":authority", "img.test"), ("host", "evil.test")],
        &[],
        &[(":authority", "a@img.test")],
    ];
    for (index, more) in cases.iter().enumerate() {
        let stream = u32::try_from(2 * index + 1).expect("small");
        raw.send(&frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &fields(&[&start[..], more].concat()),
        ));
        // The status is the first field: 400 is the static table's twelfth entry (RFC 7541 appendix A).
        loop {
            match raw.next_frame().expect("the connection stays") {
                (HEADERS, _, on, block) if on == stream => {
                    break assert_eq!(block[0], 0x8c, "{more:?}");
                }
                (RST_STREAM, _, on, _) if on == stream => break,
                _ => {}
            }
        }
    }
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 99, &get("/good")));
    assert!(raw.until(HEADERS, 99).is_some());
}

#[test]
fn a_drain_says_goaway_and_answers_what_came_before() {
    let up = SecureUp::start("", "", SERVERS);
    let mut raw = Raw::open(up.secure);
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/first")));
    assert!(raw.until(HEADERS, 1).is_some());
    up.process.signal(Signal::TERM);
    let mut answered = false;
    raw.send(&frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        3,
        &get("/second"),
    ));
    let mut goaway = false;
    while let Some((kind, flags, on, payload)) = raw.next_frame() {
        answered |= (kind, on) == (HEADERS, 3);
        goaway |= kind == GOAWAY;
        if kind == PING && flags == 0 {
            raw.send(&frame(PING, 1, 0, &payload));
        }
    }
    assert!(answered && goaway, "answered: {answered}, GOAWAY: {goaway}");
    assert_eq!(up.process.wait(START).code, Some(0));
}

#[test]
fn a_farm_that_keeps_no_connection_says_goaway() {
    let up = SecureUp::start("", "keepalive = off", SERVERS);
    let mut raw = Raw::open(up.secure);
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/")));
    // The farewell may overtake the answer.
    let (mut answered, mut goaway) = (false, false);
    while !(answered && goaway) {
        let (kind, _, on, _) = raw.next_frame().expect("the answer, and GOAWAY");
        answered |= (kind, on) == (HEADERS, 1);
        goaway |= kind == GOAWAY;
    }
}

#[test]
fn floods_are_survived() {
    let up = SecureUp::start("", "", SERVERS);
    survives(&up, "rapid reset", |raw| {
        for stream in (1..20_000).step_by(2) {
            let cancelled = [
                frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/")),
                frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ];
            if !raw.send(&cancelled.concat()) {
                break;
            }
        }
    });
    survives(&up, "ping flood", |raw| {
        let pings = frame(PING, 0, 0, &[7; 8]).repeat(1000);
        (0..100).all(|_| raw.send(&pings));
    });
    survives(&up, "settings flood", |raw| {
        let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(1000);
        (0..50).all(|_| raw.send(&settings));
    });
    survives(&up, "CONTINUATION flood", |raw| {
        raw.send(&frame(HEADERS, END_STREAM, 1, &get("/")));
        let more = frame(
            CONTINUATION,
            0,
            1,
            &fields(&[("x", &"y".repeat(100))]).repeat(100),
        );
        (0..2000).all(|_| raw.send(&more));
    });
    survives(&up, "empty DATA", |raw| {
        raw.send(&frame(HEADERS, END_HEADERS, 1, &get("/")));
        let data = frame(DATA, 0, 1, &[]).repeat(1000);
        (0..50).all(|_| raw.send(&data));
    });
    survives(&up, "streams never read", |raw| {
        raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
        for stream in (1..2001).step_by(2) {
            if !raw.send(&frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                stream,
                &get("/stats"),
            )) {
                break;
            }
        }
    });
    ends_well(up.process);
}

#[test]
fn broken_frames_end_their_connection_only() {
    let up = SecureUp::start("client_timeout = 1s\nkeepalive_timeout = 3s", "", SERVERS);
    survives(&up, "an oversized header list", |raw| {
        let block = [get("/"), fields(&[("x", &"y".repeat(100))]).repeat(155)].concat();
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
        // 431 is in no table: it is spelled out.
        let answer = raw.until(HEADERS, 1).expect("an answer");
        assert!(
            answer.windows(3).any(|digits| digits == b"431")
                || answer.windows(3).any(|huffman| huffman == b"\x69\x90\xff"),
            "{answer:?}"
        );
    });
    survives(&up, "a window that overflows", |raw| {
        raw.send(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes()).repeat(2));
        assert!(raw.until(GOAWAY, 0).is_some());
    });
    survives(&up, "a stream used again", |raw| {
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/")));
        assert!(raw.until(HEADERS, 1).is_some());
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/")));
        let refused = std::iter::from_fn(|| raw.next_frame())
            .any(|(kind, ..)| matches!(kind, GOAWAY | RST_STREAM));
        assert!(refused, "a second request on a closed stream was taken");
    });
    survives(&up, "a frame that is too large", |raw| {
        raw.send(&[0xff, 0xff, 0xff, HEADERS, 0, 0, 0, 0, 1]);
        while raw.next_frame().is_some() {}
    });
    survives(&up, "a bad preface", |_| {
        let mut bad = Secured::open(up.secure, "img.test", client(rustls::ALL_VERSIONS, &["h2"]))
            .expect("a handshake");
        bad.0
            .write_all(b"GET / HTTP/1.1\r\nHost: img.test\r\n\r\n")
            .expect("sent");
        assert!(bad.is_ended());
    });
    survives(&up, "a client that says nothing", |_| {
        let mut silent =
            Secured::open(up.secure, "img.test", client(rustls::ALL_VERSIONS, &["h2"]))
                .expect("a handshake");
        let started = std::time::Instant::now();
        assert!(
            silent.is_ended() && started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
    });
}
