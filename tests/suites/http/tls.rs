//! TLS on the public port: versions, certificates by name and their change, deadlines, and no way from https to http.
#![allow(clippy::panic, reason = "a test that cannot go on says why and fails")]

use rustix::process::Signal;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests::process::Process;
use tests::tls::{SecureUp, Secured, ask, certificate, client, configuration, http1};
use tests::up::{ends_well, write};
use tests::{START, client as plain, eventually};

const ANY_SCHEME: &[(&str, &str)] = &[("a", "a.test")];

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let up = SecureUp::start("", "", ANY_SCHEME);
    for version in [&TLS12, &TLS13] {
        let mut connection =
            Secured::open(up.secure, "img.test", client(&[version], &[])).expect("a handshake");
        assert_eq!(connection.0.conn.protocol_version(), Some(version.version));
        assert!(
            connection
                .head("/x?y")
                .expect("an answer")
                .contains("Location: https://a.test/x?y\r\n")
        );
    }
    let mut old = Command::new("openssl");
    old.args([
        "s_client",
        "-connect",
        &up.secure.to_string(),
        "-tls1_1",
        "-cipher",
        "ALL@SECLEVEL=0",
    ]);
    let output = old.stdin(Stdio::null()).output().expect("openssl runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("alert"), "{said}");
    assert!(ask(up.secure, "/").starts_with("HTTP/1.1 302"));
    ends_well(up.process);
}

#[test]
fn the_protocol_is_agreed_on_and_sessions_are_resumed() {
    let up = SecureUp::start("", "", ANY_SCHEME);
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let connection =
            Secured::open(up.secure, "img.test", client(&[&TLS13], offered)).expect("a handshake");
        assert_eq!(connection.0.conn.alpn_protocol(), agreed);
    }
    for version in [&TLS12, &TLS13] {
        let config = client(&[version], &["http/1.1"]);
        let kind = || {
            let mut connection =
                Secured::open(up.secure, "img.test", config.clone()).expect("a handshake");
            // TLS 1.3 sends its tickets behind the handshake.
            connection.head("/").expect("an answer");
            connection.0.conn.handshake_kind()
        };
        assert_eq!(kind(), Some(HandshakeKind::Full));
        // Which thread answers is up to the kernel: each resumes what any other began.
        (0..8).for_each(|_| assert_eq!(kind(), Some(HandshakeKind::Resumed), "{version:?}"));
    }
}

#[test]
fn the_name_asked_for_chooses_the_certificate() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let first = certificate(directory.path(), "a", &["img.test"]);
    let second = certificate(directory.path(), "b", &["other.test", "*.cdn.test"]);
    let up = SecureUp::start_in(
        directory,
        "tls_cert = a.pem, b.pem\ntls_key = a.key, b.key",
        "",
        ANY_SCHEME,
    );
    for (host, expected) in [
        ("img.test", &first),
        ("OTHER.test", &second),
        ("x.cdn.test", &second),
        ("unknown.test", &first),
    ] {
        let connection = Secured::open(up.secure, host, http1()).expect("a handshake");
        assert!(
            connection.certificate() == *expected,
            "{host} was shown the wrong certificate"
        );
    }
}

#[test]
fn a_proxy_names_its_client_before_the_handshake() {
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 5 443\r\n";
    let trusting = SecureUp::start(
        "trusted_proxies = 127.0.0.0/8\nstats_allow = 192.0.2.0/24",
        "",
        ANY_SCHEME,
    );
    for alpn in [&["http/1.1"][..], &["h2"]] {
        let connection =
            Secured::open_behind(trusting.secure, HEADER, "img.test", client(&[&TLS13], alpn))
                .expect("a handshake");
        assert_eq!(
            connection.0.conn.alpn_protocol(),
            alpn.first().map(|name| name.as_bytes())
        );
    }
    let stats = |before: &[u8]| {
        let mut connection = Secured::open_behind(trusting.secure, before, "img.test", http1())
            .expect("a handshake");
        connection
            .head("/stats.json")
            .expect("an answer")
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(stats(HEADER), "HTTP/1.1 200 OK");
    assert_eq!(stats(b""), "HTTP/1.1 302 Found");
    assert!(
        Secured::open_behind(
            trusting.secure,
            b"PROXY TCP4 nonsense\r\n",
            "img.test",
            http1()
        )
        .is_err()
    );
    let wary = SecureUp::start("", "", ANY_SCHEME);
    assert!(Secured::open_behind(wary.secure, HEADER, "img.test", http1()).is_err());
    assert!(ask(wary.secure, "/").starts_with("HTTP/1.1 302"));
}

#[test]
fn half_an_introduction_and_the_end_hold_nobody_up() {
    let up = SecureUp::start(
        "trusted_proxies = 127.0.0.0/8\nthreads = 1\nclient_timeout = 60s",
        "",
        ANY_SCHEME,
    );
    for half in [&b"P"[..], b"PROXY TCP4 1", b"\r\n\r\n\0"] {
        let mut stream = TcpStream::connect(up.secure).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        stream.write_all(half).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("ended");
        // At once, not by the deadline: nothing more can come. What was not read resets the connection.
        let ended = stream.read(&mut [0; 1]);
        assert!(
            !ended
                .as_ref()
                .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
            "{half:?}: {ended:?}"
        );
        assert!(
            ask(up.secure, "/").starts_with("HTTP/1.1 302"),
            "after {half:?}"
        );
    }
    ends_well(up.process);
}

#[test]
fn a_connection_is_kept_and_requests_sent_at_once_are_answered_in_order() {
    let up = SecureUp::start("", "", ANY_SCHEME);
    let mut connection = Secured::open(up.secure, "img.test", http1()).expect("a handshake");
    (0..5).for_each(|n| {
        assert!(
            connection
                .head(&format!("/{n}"))
                .expect("an answer")
                .contains(&format!("https://a.test/{n}\r\n"))
        );
    });
    // More than one record holds, and more answers than fit into a turn's output.
    let requests: String = (0..3000)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: img.test\r\n\r\n"))
        .collect();
    connection.0.write_all(requests.as_bytes()).expect("sent");
    for n in 0..3000 {
        assert!(
            connection
                .read_head()
                .expect("an answer")
                .contains(&format!("https://a.test/{n}\r\n")),
            "{n}"
        );
    }
    connection
        .0
        .write_all(b"GET / HTTP/1.1\r\nHost: img.test\r\nConnection: close\r\n\r\n")
        .expect("sent");
    assert!(
        connection
            .read_head()
            .expect("an answer")
            .contains("Connection: close\r\n")
    );
    assert!(
        connection.0.read(&mut [0]).is_ok_and(|count| count == 0),
        "the end comes with a close of the session"
    );
    let mut bad = Secured::open(up.secure, "img.test", http1()).expect("a handshake");
    bad.0
        .write_all(b"GET / HTTP/1.1\r\nHost : img.test\r\n\r\n")
        .expect("sent");
    assert!(
        bad.read_head()
            .expect("an answer")
            .starts_with("HTTP/1.1 400")
    );
}

#[test]
fn who_ends_is_still_answered_what_it_asked() {
    let up = SecureUp::start("", "", ANY_SCHEME);
    let mut connection = Secured::open(up.secure, "img.test", http1()).expect("a handshake");
    let requests: String = (0..300)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: img.test\r\n\r\n"))
        .collect();
    connection.0.write_all(requests.as_bytes()).expect("sent");
    connection.0.conn.send_close_notify();
    connection.0.flush().expect("sent");
    connection
        .0
        .sock
        .shutdown(std::net::Shutdown::Write)
        .expect("a socket");
    for n in 0..300 {
        assert!(
            connection
                .read_head()
                .expect("an answer")
                .contains(&format!("https://a.test/{n}\r\n")),
            "{n}"
        );
    }
}

#[test]
fn handshakes_that_stall_end_by_the_deadline_and_hold_nobody_up() {
    let up = SecureUp::start("client_timeout = 1s", "", ANY_SCHEME);
    let begun = [
        &b""[..],
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff],
    ];
    for bytes in begun {
        let started = Instant::now();
        let mut stream = TcpStream::connect(up.secure).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(8)))
            .expect("a timeout");
        stream.write_all(bytes).expect("sent");
        assert!(
            ask(up.secure, "/").starts_with("HTTP/1.1 302"),
            "while another one stalls"
        );
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(
            ended.is_ok() || started.elapsed() < Duration::from_secs(7),
            "{bytes:?}: {ended:?} after {:?}",
            started.elapsed()
        );
        assert!(
            started.elapsed() < Duration::from_secs(7),
            "{bytes:?} was kept for {:?}",
            started.elapsed()
        );
    }
    // A handshake that grows by a byte at a time has the same deadline.
    let (mut slow, started) = (
        TcpStream::connect(up.secure).expect("a connection"),
        Instant::now(),
    );
    slow.write_all(b"\x16\x03\x01\x10\x00").expect("sent");
    eventually!(
        Duration::from_secs(7),
        slow.write_all(b"\x01").is_err(),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        plain::get(up.plain, "img.test", "/").location(),
        "http://a.test/"
    );
}

/// Clients that have said hello and say nothing more.
fn half_way(address: std::net::SocketAddr, count: usize) -> Vec<TcpStream> {
    let name = rustls::pki_types::ServerName::try_from("img.test").expect("a name");
    let mut session = rustls::ClientConnection::new(http1(), name).expect("a client");
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("a hello");
    let client = |_| {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        stream.write_all(&hello).expect("sent");
        stream
    };
    (0..count).map(client).collect()
}

#[test]
fn clients_that_stop_half_way_cost_nothing() {
    let up = SecureUp::start("client_timeout = 60s\nthreads = 1", "", ANY_SCHEME);
    let mut clients = half_way(up.secure, 50);
    clients
        .iter_mut()
        .for_each(|stream| assert!(stream.read(&mut [0; 1]).is_ok_and(|count| count == 1)));
    let before = up.process.cpu();
    std::thread::sleep(Duration::from_secs(1));
    let used = up.process.cpu() - before;
    assert!(used < Duration::from_millis(300), "{used:?} of a second");
}

#[test]
fn more_handshakes_than_can_be_done_are_done_one_after_the_other() {
    const CLIENTS: usize = 3500;
    // A quarter of a second: far less than all of them take.
    let up = SecureUp::start("client_timeout = 200ms\nthreads = 1", "", ANY_SCHEME);
    let mut clients = half_way(up.secure, CLIENTS);
    let answered = clients
        .iter_mut()
        .filter_map(|stream| stream.read(&mut [0; 1]).ok())
        .filter(|count| *count == 1)
        .count();
    assert!(answered >= CLIENTS * 19 / 20, "{answered} of {CLIENTS}");
    assert!(ask(up.secure, "/").starts_with("HTTP/1.1 302"));
}

#[test]
fn certificates_change_under_load_without_a_failure() {
    let up = SecureUp::start("", "", ANY_SCHEME);
    let (stop, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (stop, asked, address) = (stop.clone(), asked.clone(), up.secure);
            std::thread::spawn(move || {
                let mut held = Secured::open(address, "img.test", http1()).expect("a handshake");
                while !stop.load(Ordering::Relaxed) {
                    assert!(ask(address, "/").starts_with("HTTP/1.1 302"));
                    assert!(
                        held.head("/")
                            .is_ok_and(|head| head.starts_with("HTTP/1.1 302")),
                        "a connection was dropped"
                    );
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let shown = || {
        Secured::open(up.secure, "img.test", http1())
            .expect("a handshake")
            .certificate()
    };
    let old = shown();
    // Half of a pair changes nothing.
    let kept = std::fs::read(up.directory.path().join("a.key")).expect("the key");
    let new = certificate(up.directory.path(), "a", &["img.test"]);
    let key = std::fs::read(up.directory.path().join("a.key")).expect("the key");
    write(up.directory.path(), "a.key", kept);
    up.process.signal(Signal::HUP);
    up.process.wait_for_line(
        "keeping the certificates in use: a.key is not the key of a.pem",
        START,
    );
    assert!(shown() == old, "a pair that does not match was used");
    // The other half: seen without being told.
    write(up.directory.path(), "a.key", key);
    eventually!(Duration::from_secs(5), shown() == new);
    // Told, it is seen at once.
    let newest = certificate(up.directory.path(), "a", &["img.test"]);
    up.process.signal(Signal::HUP);
    eventually!(Duration::from_secs(5), shown() == newest);
    write(up.directory.path(), "a.pem", "nothing");
    up.process
        .wait_for_line("a.pem holds no certificate", START);
    assert!(shown() == newest);
    stop.store(true, Ordering::Relaxed);
    clients
        .into_iter()
        .for_each(|client| client.join().expect("no request failed"));
    assert!(asked.load(Ordering::Relaxed) > 10);
    ends_well(up.process);
}

#[test]
fn a_bad_pair_is_no_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    certificate(directory.path(), "a", &["img.test"]);
    certificate(directory.path(), "b", &["img.test"]);
    for (global, words) in [
        (
            "tls_cert = a.pem\ntls_key = b.key",
            "b.key: is not the key of a.pem: name the key it was made with",
        ),
        (
            "tls_cert = none.pem\ntls_key = a.key",
            "none.pem: cannot be read",
        ),
        (
            "tls_cert = a.pem, b.pem\ntls_key = a.key",
            "tls_cert: names 2 certificates, tls_key 1 keys",
        ),
        ("tls_key = a.key", "tls_key: is of no use without tls_cert"),
        (
            "acme_url = acme.test",
            "acme_url: `acme.test` has no scheme",
        ),
    ] {
        let file = write(
            directory.path(),
            "rbalancer.conf",
            configuration(global, "", ANY_SCHEME),
        );
        for command in [&["check", &file][..], &["up", "-c", &file]] {
            Process::start("rbalancer", directory.path(), command, &[])
                .wait(START)
                .expect(78, &[words]);
        }
    }
}

#[test]
fn https_is_never_sent_to_http_unless_that_is_allowed() {
    let servers = &[
        ("a", "http://a.test"),
        ("b", "b.test"),
        ("c", "https://c.test"),
    ];
    let up = SecureUp::start("balance = roundrobin", "", servers);
    let (mut of_https, mut of_http) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let head = ask(up.secure, "/");
        of_https.extend(
            head.lines()
                .filter_map(|line| line.strip_prefix("Location: ").map(str::to_owned)),
        );
        of_http.push(plain::get(up.plain, "img.test", "/").location());
    }
    let count = |all: &[String], url: &str| all.iter().filter(|held| *held == url).count();
    assert_eq!(
        (
            count(&of_https, "https://b.test/"),
            count(&of_https, "https://c.test/")
        ),
        (3, 3),
        "{of_https:?}"
    );
    assert_eq!(
        ["http://a.test/", "http://b.test/", "https://c.test/"].map(|url| count(&of_http, url)),
        [2, 2, 2],
        "{of_http:?}"
    );

    let off = SecureUp::start(
        "",
        "",
        &[("a", "http://a.test"), ("b", "b.test\nenable = off")],
    );
    let mut connection = Secured::open(off.secure, "img.test", http1()).expect("a handshake");
    assert!(
        connection
            .head("/")
            .expect("an answer")
            .starts_with("HTTP/1.1 503")
    );
    let mut body = [0; 8];
    connection.0.read_exact(&mut body).expect("a body");
    assert_eq!(&body, b"no serve");
    assert_eq!(
        plain::get(off.plain, "img.test", "/").location(),
        "http://a.test/"
    );

    let allowed = SecureUp::start("allow_downgrade = on", "", &[("a", "http://a.test")]);
    assert!(ask(allowed.secure, "/x").contains("Location: http://a.test/x\r\n"));
}

#[test]
fn a_farm_no_https_client_could_use_is_refused_with_its_line() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    certificate(directory.path(), "a", &["img.test"]);
    let text = configuration(
        "tls_cert = a.pem\ntls_key = a.key",
        "",
        &[("a", "http://a.test")],
    );
    let line = text
        .lines()
        .position(|line| line == "[img]")
        .expect("the farm")
        + 1;
    let file = write(directory.path(), "rbalancer.conf", text);
    let ended = Process::start("rbalancer", directory.path(), &["check", &file], &[]).wait(START);
    ended.expect(
        78,
        &[
            &format!("{file}:{line}: farm [img] has no server for clients over TLS"),
            "allow_downgrade = on",
        ],
    );
}

#[test]
fn challenges_go_to_the_acme_url_and_nowhere_else() {
    let up = SecureUp::start("acme_url = http://acme.test:8080", "", ANY_SCHEME);
    let path = "/.well-known/acme-challenge/Tok-en_1";
    assert_eq!(
        plain::get(up.plain, "img.test", path).location(),
        format!("http://acme.test:8080{path}")
    );
    assert!(ask(up.secure, path).contains(&format!("Location: http://acme.test:8080{path}\r\n")));
    for other in [
        "/.well-known/acme-challenge/",
        "/.well-known/acme-challenge/../x",
        "/.well-known/acme-challenge//evil.test",
    ] {
        assert_eq!(
            plain::get(up.plain, "img.test", other).location(),
            format!("http://a.test{other}")
        );
    }
    assert_eq!(plain::get(up.plain, "unknown.test", path).status, 403);
}

#[test]
fn a_drain_answers_what_is_open() {
    let up = SecureUp::start("", "", ANY_SCHEME);
    let mut connection = Secured::open(up.secure, "img.test", http1()).expect("a handshake");
    connection.head("/").expect("an answer");
    up.process.signal(Signal::TERM);
    up.process.wait_for_line("ending after TERM", START);
    let last = connection.head("/last").expect("an answer while it drains");
    assert!(last.contains("https://a.test/last\r\n"), "{last}");
    eventually!(
        START,
        connection
            .head("/")
            .map_or(true, |head| head.contains("Connection: close"))
    );
    assert!(connection.is_ended());
    assert_eq!(up.process.wait(START).code, Some(0));
}

#[test]
fn the_expiry_of_each_certificate_is_shown() {
    let up = SecureUp::start("admin_bind = 127.0.0.1:0", "", ANY_SCHEME);
    let line = up.process.wait_for_line("admin pages on ", START);
    let admin = line
        .rsplit(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    let text = plain::get(admin, "localhost", "/metrics").text();
    assert!(
        text.contains("rbalancer_tls_certificate_expiry_seconds{file=\"a.pem\"} "),
        "{text}"
    );
    eventually!(
        START,
        plain::get(up.plain, "localhost", "/stats")
            .text()
            .contains("certificate ends in ")
    );
}
