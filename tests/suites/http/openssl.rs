//! TLS as OpenSSL sees it: versions, ciphers, protocols, sessions, names, renegotiation; and certificates that change
//! under a load of new connections.
#![allow(clippy::print_stdout, reason = "the figures are what the suite is for")]

use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::process::Process;
use tests::scenario::Scale;
use tests::tls::{SecureUp, ask, certificate};
use tests::up::ends_well;

const SERVERS: &[(&str, &str)] = &[("a", "a.test")];
const REQUEST: &str = "GET /x HTTP/1.1\r\nHost: img.test\r\nConnection: close\r\n\r\n";

/// What `openssl s_client` said, and whether it was content; it sends `input` and reads to the end.
fn s_client(address: SocketAddr, input: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("timeout");
    command
        .args([
            "20",
            "openssl",
            "s_client",
            "-connect",
            &address.to_string(),
        ])
        .args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    // One that was refused may be gone already.
    let _ = child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes());
    let output = child.wait_with_output().expect("openssl ends");
    (
        output.status.success(),
        [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat(),
    )
}

#[test]
fn versions_protocols_and_ciphers() {
    let up = SecureUp::start("", "", SERVERS);
    for old in ["-tls1", "-tls1_1"] {
        let (good, said) = s_client(up.secure, "", &[old, "-cipher", "ALL:@SECLEVEL=0"]);
        let refused = ["alert protocol version", "alert handshake failure"];
        assert!(
            !good && refused.iter().any(|words| said.contains(words)),
            "{old}: {said}"
        );
    }
    for (version, words) in [
        ("-tls1_2", "New, TLSv1.2, Cipher is ECDHE-ECDSA-"),
        ("-tls1_3", "New, TLSv1.3, Cipher is TLS_"),
    ] {
        let (good, said) = s_client(up.secure, REQUEST, &[version, "-ign_eof"]);
        assert!(
            good && said.contains(words) && said.contains("Location: https://a.test/x"),
            "{version}: {said}"
        );
        assert!(said.contains("Compression: NONE"), "{version}: {said}");
    }
    for (offered, agreed) in [
        ("h2,http/1.1", "ALPN protocol: h2"),
        ("http/1.1", "ALPN protocol: http/1.1"),
    ] {
        let (good, said) = s_client(up.secure, "", &["-alpn", offered]);
        assert!(good && said.contains(agreed), "{offered}: {said}");
    }
    let (good, said) = s_client(up.secure, "", &["-alpn", "spdy/3"]);
    assert!(
        !good && said.contains("alert no application protocol"),
        "{said}"
    );
    let (good, said) = s_client(up.secure, "", &[]);
    assert!(good && said.contains("No ALPN negotiated"), "{said}");
    // Lists that hold what should be gone; what OpenSSL does not offer itself any more is offered below.
    for list in [
        "kRSA", "aNULL", "eNULL", "kDHE", "SHA1", "SHA256", "CAMELLIA",
    ] {
        let (good, said) = s_client(
            up.secure,
            "",
            &[
                "-tls1_2",
                "-cipher",
                &format!("{list}:!AESGCM:!CHACHA20:@SECLEVEL=0"),
            ],
        );
        assert!(
            !good && said.contains("alert handshake failure"),
            "{list}: {said}"
        );
    }
    ends_well(up.process);
}

/// A hello of TLS 1.2 that offers `suites` and everything else a client may wish.
fn hello(suites: &[u16]) -> Vec<u8> {
    let sized = |bytes: Vec<u8>| {
        [
            &u16::try_from(bytes.len()).expect("short").to_be_bytes()[..],
            &bytes,
        ]
        .concat()
    };
    let numbers = |all: &[u16]| {
        all.iter()
            .flat_map(|number| number.to_be_bytes())
            .collect::<Vec<u8>>()
    };
    let extension = |kind: u16, body: Vec<u8>| [&kind.to_be_bytes()[..], &sized(body)].concat();
    let extensions = [
        extension(0, sized([&[0][..], &sized(b"img.test".to_vec())].concat())),
        extension(10, sized(numbers(&[29, 23, 24]))),
        extension(11, vec![1, 0]),
        extension(
            13,
            sized(numbers(&[0x0403, 0x0503, 0x0804, 0x0401, 0x0201, 0x0203])),
        ),
    ];
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &sized(numbers(suites)),
        &[1, 0],
        &sized(extensions.concat()),
    ]
    .concat();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [
        &[0x16, 3, 1][..],
        &sized([&[1][..], &length[1..], &body].concat()),
    ]
    .concat()
}

/// The suite the server takes of those offered; none if it refuses with a fatal `handshake_failure`.
fn chosen(address: SocketAddr, suites: &[u16]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a socket");
    stream.write_all(&hello(suites)).expect("sent");
    let mut head = [0; 7];
    stream.read_exact(&mut head).expect("an answer");
    if head[0] == 0x15 {
        assert_eq!(head[5..], [2, 40], "an alert, but another one");
        return None;
    }
    // ServerHello: its head, the version and 32 random bytes stand before the session.
    let mut hello = [0; 2 + 2 + 32 + 1];
    stream.read_exact(&mut hello).expect("a hello");
    let mut rest = vec![0; usize::from(hello[36]) + 2];
    stream.read_exact(&mut rest).expect("a suite");
    Some(u16::from_be_bytes([
        rest[rest.len() - 2],
        rest[rest.len() - 1],
    ]))
}

#[test]
fn of_all_suites_of_tls_1_2_only_those_without_a_known_weakness_are_taken() {
    let up = SecureUp::start("", "", SERVERS);
    // ECDHE with ECDSA (the key's kind) and AES-GCM or ChaCha20-Poly1305.
    let good = [0xc02b, 0xc02c, 0xcca9];
    for suite in good {
        assert_eq!(chosen(up.secure, &[suite]), Some(suite), "{suite:#x}");
    }
    let weak = [
        ("NULL", 0x0002),
        ("EXPORT", 0x0003),
        ("RC4", 0x0005),
        ("3DES", 0x000a),
        ("CBC", 0xc009),
        ("CBC, SHA-256", 0xc023),
    ];
    for (what, suite) in weak {
        assert_eq!(chosen(up.secure, &[suite]), None, "{what}");
    }
    // Everything else that was ever registered, and what was not.
    let others: Vec<u16> = [
        0x0000..=0x00ff,
        0xc000..=0xc0ff,
        0xcc00..=0xccff,
        0x5600..=0x5600,
    ]
    .into_iter()
    .flatten()
    .filter(|suite| !good.contains(suite))
    .collect();
    for some in others.chunks(100) {
        // The fallback signal is no suite: it asks for another alert.
        let some: Vec<u16> = some
            .iter()
            .copied()
            .filter(|suite| *suite != 0x5600)
            .collect();
        if !some.is_empty() {
            assert_eq!(
                chosen(up.secure, &some),
                None,
                "{:#x} to {:#x}",
                some[0],
                some[some.len() - 1]
            );
        }
    }
    assert!(ask(up.secure, "/").starts_with("HTTP/1.1 302"));
}

#[test]
fn sessions_are_resumed_and_nothing_is_negotiated_twice() {
    let up = SecureUp::start("", "", SERVERS);
    let (good, said) = s_client(up.secure, "", &["-tls1_2", "-reconnect"]);
    assert!(
        good && said.matches("Reused, TLSv1.2").count() == 5,
        "{said}"
    );
    let session = up.directory.path().join("session.pem");
    let session = session.to_str().expect("a path in UTF-8");
    for version in ["-tls1_2", "-tls1_3"] {
        let (good, said) = s_client(
            up.secure,
            REQUEST,
            &[version, "-ign_eof", "-sess_out", session],
        );
        assert!(good && said.contains("New, TLSv1"), "{version}: {said}");
        let (good, said) = s_client(
            up.secure,
            REQUEST,
            &[version, "-ign_eof", "-sess_in", session],
        );
        assert!(
            good && said.contains("Reused, TLSv1") && said.contains("302 Found"),
            "{version}: {said}"
        );
    }
    // Nothing is taken before the handshake is over: such requests could be sent twice by somebody else.
    assert!(
        !s_client(
            up.secure,
            REQUEST,
            &["-tls1_3", "-ign_eof", "-sess_in", session]
        )
        .1
        .contains("Early data was accepted")
    );
    // `R` alone on a line asks for another handshake; the request behind it is never answered.
    let (_, said) = s_client(up.secure, "R\n", &["-tls1_2"]);
    assert!(said.contains("RENEGOTIATING"), "{said}");
    let refused = [
        "no renegotiation",
        "alert unexpected message",
        "unexpected eof",
        "alert handshake failure",
    ];
    assert!(refused.iter().any(|words| said.contains(words)), "{said}");
    assert!(ask(up.secure, "/").starts_with("HTTP/1.1 302"));
    ends_well(up.process);
}

#[test]
fn the_name_asked_for_chooses_the_certificate() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    certificate(directory.path(), "a", &["img.test"]);
    certificate(directory.path(), "b", &["other.test"]);
    let up = SecureUp::start_in(
        directory,
        "tls_cert = a.pem, b.pem\ntls_key = a.key, b.key",
        "",
        SERVERS,
    );
    for (name, file) in [
        ("img.test", "a.pem"),
        ("other.test", "b.pem"),
        ("unknown.test", "a.pem"),
    ] {
        let shown = s_client(up.secure, "", &["-servername", name]).1;
        let held =
            std::fs::read_to_string(up.directory.path().join(file)).expect("the certificate");
        let line = held.lines().nth(3).expect("a line of it");
        assert!(shown.contains(line), "{name}: {shown}");
    }
    let (_, unnamed) = s_client(up.secure, "", &["-noservername"]);
    assert!(unnamed.contains("BEGIN CERTIFICATE"), "{unnamed}");
}

#[test]
fn certificates_change_under_load_without_a_failed_request() {
    let up = SecureUp::start("", "", SERVERS);
    let (count, changes) = (
        Scale::asked().pick(4000, 100_000u64),
        Scale::asked().pick(3, 50),
    );
    let mut load = Command::new("h2load");
    // Ten requests on each connection, so that handshakes go on all the time.
    load.args([
        "--h1",
        "-n",
        &count.to_string(),
        "-c",
        &(count / 10).to_string(),
        "-r",
        &(count / 20).to_string(),
    ]);
    load.arg(format!("--connect-to={}", up.secure))
        .arg(format!("https://img.test:{}/img/a.jpg", up.secure.port()));
    let mut load = Process::spawn("h2load", load);
    let mut made = 0;
    while load.is_running() && made < changes {
        certificate(up.directory.path(), "a", &["img.test"]);
        up.process.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(300));
        made += 1;
    }
    let ended = load.wait(Duration::from_secs(120));
    let used = up
        .process
        .lines()
        .iter()
        .filter(|line| line.contains("new certificates are in use"))
        .count();
    println!(
        "{count} requests over {} connections, {used} changes of the certificate seen",
        count / 10
    );
    assert!(
        used >= 2,
        "{used} of {made} changes were seen:\n{}",
        up.process.lines().join("\n")
    );
    ended.expect(
        0,
        &[
            &format!("{count} succeeded, 0 failed, 0 errored, 0 timeout"),
            &format!("{count} 3xx"),
        ],
    );
    ends_well(up.process);
}
