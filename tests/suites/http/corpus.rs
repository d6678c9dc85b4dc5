//! Every raw request of the corpus: the exact answers and what becomes of the connection, over real sockets and, cut
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on says why and fails"
)]
//! at every place, through the connection itself.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redirector::protocol::context::ThreadContext;
use std::io::{self, Read};
use std::net::TcpStream;
use tests::corpus::{Case, End, Expected, cases};
use tests::up::Up;
use tests::{client, scripted, traffic};

const CONFIGURATION: &str = "[global]\ncheck = off\n[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = http://a.test\n";
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: img.test\r\n\r\n";

/// The answers in `bytes`, each a head and the body its length names; a HEAD's answers have no bodies here.
fn answers(mut bytes: &[u8], name: &str) -> Vec<Expected> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("{name}: half an answer: {bytes:?}"));
        let (head, rest) = bytes.split_at(end + 4);
        let field = |wanted: &[u8]| {
            head.split(|&byte| byte == b'\n')
                .find_map(|line| line.strip_prefix(wanted))
                .map(<[u8]>::trim_ascii)
        };
        let number = |text: &[u8]| {
            String::from_utf8_lossy(text)
                .parse::<usize>()
                .unwrap_or_else(|_| panic!("{name}: {head:?}"))
        };
        let location = field(b"Location: ").map(|all| {
            all.strip_prefix(b"http://a.test")
                .unwrap_or_else(|| {
                    panic!("{name}: Location leads to {}", String::from_utf8_lossy(all))
                })
                .to_vec()
        });
        all.push((number(&head[9..12]) as u16, location));
        bytes = &rest[field(b"Content-Length: ").map_or(0, number)..];
    }
    all
}

#[test]
fn every_request_gets_exactly_its_answers_over_real_sockets() {
    let up = Up::start(CONFIGURATION);
    let cases = cases();
    assert!(cases.len() >= 120, "only {} cases", cases.len());
    let mut lost = 0;
    for case in cases.iter().filter(|case| case.end != End::Wait) {
        let mut stream = TcpStream::connect(up.address).expect("a connection");
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(10)))
            .expect("a socket");
        let more = if case.end == End::Open { NEXT } else { b"" };
        // A refusal may close the connection before everything is sent.
        let _ = io::Write::write_all(&mut stream, &[&case.bytes, more].concat());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut got = Vec::new();
        if let Err(error) = stream.read_to_end(&mut got) {
            println!("{}: {error}", case.name);
            lost += 1;
        }
        let mut expected = case.answers.clone();
        if case.end == End::Open {
            expected.push((302, Some(b"/next".to_vec())));
        }
        assert_eq!(answers(&got, &case.name), expected, "{}", case.name);
    }
    assert_eq!(lost, 0, "answers were lost to a reset");
    // Nothing of all that harmed anybody else.
    assert_eq!(traffic::load(up.address, "img.test", 200, 4).total(), 200);
    assert_eq!(
        client::get(up.address, "img.test", "/x").location(),
        "http://a.test/x"
    );
}

fn answered(pieces: &[&[u8]], context: &mut ThreadContext, name: &str) -> (Vec<Expected>, End) {
    let (sent, end) = scripted::say(pieces, context);
    (answers(&sent, name), end)
}

/// Places to cut at: all of a short request, some of a long one.
fn cuts(case: &Case) -> Vec<usize> {
    let all = 1..case.bytes.len();
    if all.len() <= 600 {
        all.collect()
    } else {
        all.clone()
            .step_by(all.len() / 40)
            .chain([case.bytes.len() - 1])
            .collect()
    }
}

#[test]
fn no_cut_changes_an_answer() {
    let mut context = scripted::context();
    let (mut made, mut wrong) = (0, Vec::new());
    for case in cases() {
        let expected = (case.answers.clone(), case.end);
        let whole = answered(&[&case.bytes], &mut context, &case.name);
        if whole != expected {
            wrong.push(format!("{}: {whole:?}, not {expected:?}", case.name));
            continue;
        }
        for cut in cuts(&case) {
            let (first, second) = case.bytes.split_at(cut);
            assert_eq!(
                answered(&[first, second], &mut context, &case.name),
                expected,
                "{} cut at {cut}",
                case.name
            );
            made += 1;
        }
        if case.bytes.len() <= 600 {
            let pieces: Vec<&[u8]> = case.bytes.chunks(1).collect();
            assert_eq!(
                answered(&pieces, &mut context, &case.name),
                expected,
                "{} byte by byte",
                case.name
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(made > 5_000, "{made} cuts");
}

/// What may stand in a target, though nobody should trust it.
const TARGETS: &[&[u8]] = &[
    b"/",
    b"//",
    b"\\",
    b"http://",
    b"https:",
    b"img.test",
    b"evil.test",
    b"@",
    b":",
    b"?",
    b"%0d%0a",
    b"%00",
    b"..",
    b"a",
    b"\xff",
    b"\xe2\x80\xa8",
    b"javascript:",
    b"[::1]",
    b"*",
    b";",
    b"%2f%2fevil.test",
];

/// What may stand among fields, the same.
const FIELDS: &[&[u8]] = &[
    b"X-Forwarded-Host: evil.test\r\n",
    b"Location: http://evil.test\r\n",
    b"Connection: close\r\n",
    b"Content-Length: 0\r\n",
    b"Forwarded: host=evil.test\r\n",
    b"Referer: http://evil.test/\r\n",
    b"X-Original-URL: //evil.test\r\n",
    b"X: \xff\t\r\n",
];

/// What breaks a request, or ought to.
const BREAKS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b"\0",
    b"#",
    b"Host: evil.test\r\n",
    b"host:evil.test\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"GET /x HTTP/1.1\r\nHost: img.test\r\n\r\n",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"http://evil.test",
    b"\r\nLocation: http://evil.test\r\n",
];

/// A request made of such pieces.
fn hostile(rng: &mut SmallRng) -> Vec<u8> {
    let mut bytes = if rng.random_ratio(4, 5) {
        b"GET /".to_vec()
    } else {
        b"GET ".to_vec()
    };
    let mut some = |kind: &[&[u8]], most: usize, bytes: &mut Vec<u8>| {
        for _ in 0..rng.random_range(0..=most) {
            match rng.random_range(0..24) {
                0 => bytes.push(rng.random()),
                1 => bytes.extend(BREAKS[rng.random_range(0..BREAKS.len())]),
                _ => bytes.extend(kind[rng.random_range(0..kind.len())]),
            }
        }
    };
    some(TARGETS, 6, &mut bytes);
    bytes.extend(b" HTTP/1.1\r\n");
    some(FIELDS, 2, &mut bytes);
    bytes.extend(b"Host: img.test\r\n");
    some(FIELDS, 2, &mut bytes);
    bytes.extend(b"\r\n");
    bytes
}

/// Every Location in `sent` leads to the configured server, and nothing else of it looks like one.
fn stays_home(sent: &[u8], request: &[u8]) -> usize {
    let mut found = 0;
    for line in sent
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii_end)
    {
        if line.len() >= 9 && line[..9].eq_ignore_ascii_case(b"location:") {
            assert!(
                line.starts_with(b"Location: http://a.test/"),
                "{} by {}",
                line.escape_ascii(),
                request.escape_ascii()
            );
            found += 1;
        }
    }
    found
}

fn many(short: usize, full: usize) -> usize {
    if std::env::var_os("RBALANCER_TESTS").is_some_and(|which| which == "full") {
        full
    } else {
        short
    }
}

#[test]
fn no_bytes_lead_a_client_away_from_the_configured_server() {
    let (mut context, mut rng) = (scripted::context(), SmallRng::from_rng(&mut rand::rng()));
    let (requests, mut redirects) = (many(100_000, 10_000_000), 0);
    for _ in 0..requests {
        let request = hostile(&mut rng);
        redirects += stays_home(&scripted::say(&[&request], &mut context).0, &request);
    }
    println!(
        "{requests} requests through head, answer and connection: {redirects} redirects, all to the configured server"
    );
    assert!(
        redirects > requests / 5,
        "only {redirects} of {requests} were redirected: the property was hardly tried"
    );
}

#[test]
fn no_bytes_over_real_sockets_lead_a_client_away_or_harm_the_server() {
    let up = Up::start(CONFIGURATION);
    let (connections, threads) = (many(4_000, 1_000_000), 2);
    let ask = |_| {
        let address = up.address;
        std::thread::spawn(move || {
            let (mut rng, mut redirects) = (SmallRng::from_rng(&mut rand::rng()), 0);
            for _ in 0..connections / threads {
                let request = hostile(&mut rng);
                let mut stream = TcpStream::connect(address).expect("a connection");
                stream
                    .set_read_timeout(Some(std::time::Duration::from_secs(20)))
                    .expect("a socket");
                io::Write::write_all(&mut stream, &request)
                    .expect("a short request is taken whole");
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let mut sent = Vec::new();
                stream
                    .read_to_end(&mut sent)
                    .unwrap_or_else(|error| panic!("{error} by {}", request.escape_ascii()));
                redirects += stays_home(&sent, &request);
            }
            redirects
        })
    };
    let asking: Vec<_> = (0..threads).map(ask).collect();
    let redirects: usize = asking
        .into_iter()
        .map(|thread| thread.join().expect("no request broke the property"))
        .sum();
    println!("{connections} connections: {redirects} redirects, all to the configured server");
    assert!(
        redirects > connections / 5,
        "only {redirects} of {connections} were redirected"
    );
    up.end();
}
