//! The edge towards the world: who a client behind a proxy is, the access log, and restarts on a socket that somebody
//! else holds or two processes share.

#![allow(clippy::print_stdout, reason = "the figures are what the suite is for")]
use rustix::process::Signal;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tests::netns::Namespace;
use tests::process::{Process, binary};
use tests::tls::SecureUp;
use tests::up::{Up, write};
use tests::{START, client, eventually, port};

const FARM: &str =
    "[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = a.test\ncheck = off\n";

fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a socket");
    stream.write_all(bytes).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

const REQUEST: &str = "GET /x?q=1 HTTP/1.1\r\nHost: img.test\r\nConnection: close\r\n";

#[test]
fn only_a_trusted_proxy_speaks_for_its_clients() {
    let trusting = Up::start(&format!(
        "[global]\ntrusted_proxies = 127.0.0.0/8\nstats_allow = 192.0.2.0/24\n{FARM}"
    ));
    let with = |before: &str, fields: &str| {
        ask(
            trusting.address,
            format!("{before}{REQUEST}{fields}\r\n").as_bytes(),
        )
    };
    assert!(with("", "").contains("Location: http://a.test/x?q=1\r\n"));
    assert!(
        with("PROXY TCP4 192.0.2.7 192.0.2.1 5 80\r\n", "")
            .contains("Location: http://a.test/x?q=1\r\n")
    );
    assert!(with("PROXY TCP4 192.0.2.7 nonsense\r\n", "").starts_with("HTTP/1.1 400 "));
    assert!(
        with("", "X-Forwarded-Proto: https\r\n").contains("Location: https://a.test/x?q=1\r\n")
    );
    // Who may see the stats is asked of the client, not of the proxy.
    let stats = |before: &str, fields: &str| {
        ask(trusting.address, format!("{before}GET /stats.json HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n{fields}\r\n").as_bytes())
    };
    assert!(stats("PROXY TCP4 192.0.2.7 192.0.2.1 5 80\r\n", "").starts_with("HTTP/1.1 200 "));
    assert!(stats("", "X-Forwarded-For: 192.0.2.7\r\n").starts_with("HTTP/1.1 200 "));
    assert!(stats("", "X-Forwarded-For: 192.0.2.7, 6.6.6.6\r\n").starts_with("HTTP/1.1 403 "));
    assert!(stats("PROXY TCP4 6.6.6.6 192.0.2.1 5 80\r\n", "").starts_with("HTTP/1.1 403 "));
    // Somebody without a name is not the proxy, though it is a loopback address that may see them.
    let here = Up::start(&format!("[global]\ntrusted_proxies = 127.0.0.0/8\n{FARM}"));
    let nobody =
        b"PROXY UNKNOWN\r\nGET /stats.json HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n";
    assert!(ask(here.address, &nobody[15..]).starts_with("HTTP/1.1 200 "));
    assert!(ask(here.address, nobody).starts_with("HTTP/1.1 403 "));
    // A client that a PROXY header names is no proxy itself.
    assert!(
        stats(
            "PROXY TCP4 6.6.6.6 192.0.2.1 5 80\r\n",
            "X-Forwarded-For: 192.0.2.7\r\n"
        )
        .starts_with("HTTP/1.1 403 ")
    );
    // Several fields are one list, whatever stands before the request.
    assert!(
        stats(
            "\r\n",
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 6.6.6.6\r\n"
        )
        .starts_with("HTTP/1.1 403 ")
    );
    assert!(
        stats(
            "\r\n",
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 127.0.0.9\r\n"
        )
        .starts_with("HTTP/1.1 200 ")
    );

    // Who cannot be read is not taken for the proxy.
    let local = Up::start(&format!(
        "[global]\ntrusted_proxies = 127.0.0.0/8\nstats_allow = 127.0.0.0/8\n{FARM}"
    ));
    let stats = |fields: &[u8]| {
        let request = b"GET /stats.json HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n";
        ask(local.address, &[request, fields, b"\r\n"].concat())
    };
    assert!(stats(b"").starts_with("HTTP/1.1 200 "));
    for nobody in [&b"6.6.6.6, \xff"[..], b"unknown", b"", b"x, 127.0.0.2"] {
        assert!(
            stats(&[b"X-Forwarded-For: ", nobody, b"\r\n"].concat()).starts_with("HTTP/1.1 403 "),
            "{nobody:?}"
        );
    }

    let wary = Up::start(&format!("[global]\nstats_allow = 192.0.2.0/24\n{FARM}"));
    assert!(
        ask(
            wary.address,
            format!("PROXY TCP4 192.0.2.7 192.0.2.1 5 80\r\n{REQUEST}\r\n").as_bytes()
        )
        .starts_with("HTTP/1.1 400 ")
    );
    let lied = ask(
        wary.address,
        format!("{REQUEST}X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
            .as_bytes(),
    );
    assert!(lied.contains("Location: http://a.test/x?q=1\r\n"), "{lied}");
}

#[test]
fn a_trusted_proxy_tells_in_many_ways_that_its_client_came_over_https() {
    let up = Up::start(&format!("[global]\ntrusted_proxies = 127.0.0.0/8\n{FARM}"));
    let scheme = |before: &[u8], fields: &str| {
        let answer = ask(
            up.address,
            &[before, REQUEST.as_bytes(), fields.as_bytes(), b"\r\n"].concat(),
        );
        ["http", "https"]
            .into_iter()
            .find(|scheme| answer.contains(&format!("Location: {scheme}://a.test/x?q=1\r\n")))
            .unwrap_or("neither")
    };
    for (fields, expected) in [
        ("", "http"),
        ("X-Forwarded-Proto: https, http\r\n", "https"),
        ("X-Forwarded-Proto: http, https\r\n", "http"),
        (
            "x-forwarded-proto:HTTPS\r\nX-Forwarded-Proto: http\r\n",
            "https",
        ),
        ("X-Forwarded-Proto: gopher\r\n", "http"),
        (
            "Forwarded: for=192.0.2.7;Proto=\"https\", for=10.0.0.1;proto=http\r\n",
            "https",
        ),
        ("X-Forwarded-Ssl: On\r\n", "https"),
        ("Front-End-Https: on\r\n", "https"),
        ("X-Forwarded-Scheme: https\r\n", "https"),
        ("X-Url-Scheme: https\r\n", "https"),
        ("Front-End-Https: on\r\nX-Forwarded-Proto: http\r\n", "http"),
    ] {
        assert_eq!(scheme(b"", fields), expected, "{fields:?}");
    }
    // PROXY v2 with 192.0.2.7 as the client, and what else it tells.
    let header = |told: &[u8]| {
        let length = u16::try_from(12 + told.len()).expect("short").to_be_bytes();
        [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..],
            &length,
            &[192, 0, 2, 7, 192, 0, 2, 1, 0, 5, 1, 187],
            told,
        ]
        .concat()
    };
    let tls = |flags: u8| [&[0x20, 0, 5, flags][..], &[0; 4]].concat();
    assert_eq!(scheme(&header(b""), ""), "http");
    assert_eq!(scheme(&header(&tls(1)), ""), "https");
    assert_eq!(scheme(&header(&tls(0)), ""), "http");
    assert_eq!(
        scheme(
            &header(&[b"\x01\0\x02h2", &tls(7)[..], b"\x02\0\x08img.test"].concat()),
            ""
        ),
        "https"
    );
    assert_eq!(
        scheme(&header(&tls(1)), "X-Forwarded-Proto: http\r\n"),
        "https",
        "who is introduced is no proxy"
    );
    // Lengths that are not right, one after the other, and then a good request.
    for bad in [
        &tls(1)[..7],
        &[0x20, 0, 4, 1, 0, 0, 0],
        &[0x20, 0, 0],
        &[0x20],
        &[4, 0xff, 0xff],
        &[&tls(1)[..], &[0]].concat(),
    ] {
        assert!(
            ask(
                up.address,
                &[&header(bad), REQUEST.as_bytes(), b"\r\n"].concat()
            )
            .starts_with("HTTP/1.1 400 "),
            "{bad:?}"
        );
    }
    assert_eq!(scheme(&header(&tls(1)), ""), "https");
    up.end();

    let wary = Up::start(&format!("[global]\ntrusted_proxies = 192.0.2.0/24\n{FARM}"));
    let all = "X-Forwarded-Proto: https\r\nForwarded: proto=https\r\nX-Forwarded-Ssl: on\r\nFront-End-Https: on\r\n";
    assert!(
        ask(wary.address, format!("{REQUEST}{all}\r\n").as_bytes())
            .contains("Location: http://a.test/x?q=1\r\n")
    );
    assert!(
        ask(
            wary.address,
            &[&header(&tls(1)), REQUEST.as_bytes(), b"\r\n"].concat()
        )
        .starts_with("HTTP/1.1 400 ")
    );
    wary.end();
}

/// HAProxy in front: with TLS at the first port and without at the second, each with `server` behind it.
fn haproxy(directory: &Path, servers: &[String]) -> (Process, Vec<u16>) {
    let (certificate, key) = (
        std::fs::read(directory.join("a.pem")),
        std::fs::read(directory.join("a.key")),
    );
    write(
        directory,
        "both.pem",
        [certificate.expect("a certificate"), key.expect("its key")].concat(),
    );
    let mut text = "global\n maxconn 100\ndefaults\n timeout client 10s\n timeout server 10s\n timeout connect 5s\n".to_owned();
    let mut ports = Vec::new();
    for server in servers {
        for bind in ["ssl crt both.pem", ""] {
            let port = port::free();
            text += &format!(
                "listen l{port}\n mode tcp\n bind 127.0.0.1:{port} {bind}\n server s {server}\n"
            );
            ports.push(port);
        }
    }
    let mut command = Command::new("haproxy");
    command
        .args(["-db", "-f", &write(directory, "haproxy.cfg", text)])
        .current_dir(directory);
    let process = Process::spawn("haproxy", command);
    eventually!(
        START,
        ports
            .iter()
            .all(|&port| TcpStream::connect(("127.0.0.1", port)).is_ok()),
        "{}",
        process.lines().join("\n")
    );
    (process, ports)
}

#[test]
fn haproxy_tells_that_its_client_came_over_tls() {
    let up = SecureUp::start("trusted_proxies = 127.0.0.0/8", "", &[("a", "a.test")]);
    let servers = [
        format!("{} send-proxy-v2-ssl", up.plain),
        format!("{} send-proxy-v2", up.plain),
        format!("{} send-proxy-v2-ssl-cn", up.plain),
    ];
    let (haproxy, ports) = haproxy(up.directory.path(), &servers);
    let location = |port: u16, scheme: &str| {
        let resolve = format!("img.test:{port}:127.0.0.1");
        let url = format!("{scheme}://img.test:{port}/x");
        let output = Command::new("curl")
            .args([
                "-sk",
                "--http1.1",
                "-o",
                "/dev/null",
                "-w",
                "%{redirect_url}",
                "--resolve",
                &resolve,
                &url,
            ])
            .output();
        String::from_utf8_lossy(&output.expect("curl runs").stdout).into_owned()
    };
    let [over_tls, open, untold, _, named, _] = ports[..] else {
        unreachable!("two ports for each server")
    };
    assert_eq!(location(over_tls, "https"), "https://a.test/x");
    assert_eq!(location(open, "http"), "http://a.test/x");
    assert_eq!(location(named, "https"), "https://a.test/x");
    // What it does not tell nobody can know.
    assert_eq!(location(untold, "https"), "http://a.test/x");
    haproxy.terminate(START);
    tests::up::ends_well(up.process);
}

#[test]
fn an_address_holds_as_many_waiting_connections_as_it_may() {
    let up = Up::start(&format!(
        "[global]\nmaxconn_per_address = 3\nclient_timeout = 60s\n{FARM}"
    ));
    // Half a request: there is something to wait for.
    let half = || {
        let mut stream = TcpStream::connect(up.address).expect("it listens");
        stream.write_all(b"GET /x HTTP/1.1\r\n").expect("sent");
        stream.set_nonblocking(true).expect("a socket");
        stream
    };
    let is_open = |stream: &&TcpStream| {
        stream
            .peek(&mut [0; 1])
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    };
    let held: Vec<TcpStream> = (0..8).map(|_| half()).collect();
    eventually!(START, held.iter().filter(is_open).count() == 3);
    // A whole request waits for nothing.
    assert!(ask(up.address, format!("{REQUEST}\r\n").as_bytes()).starts_with("HTTP/1.1 302 "));
    assert_eq!(held.iter().filter(is_open).count(), 3);
    // More than one turn's worth is answered, and then there is nothing to wait for.
    let many = "GET /x HTTP/1.1\r\nHost: img.test\r\n\r\n".repeat(400);
    assert_eq!(
        ask(up.address, many.as_bytes())
            .matches("HTTP/1.1 302 ")
            .count(),
        400
    );
    // Whoever asks for ever and takes no answers has a moment: less than a connection that is written to.
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(up.address).expect("it listens");
                while stream.write_all(many.as_bytes()).is_ok() {}
            });
        }
    });
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "they held their places for {:?}",
        began.elapsed()
    );
    drop(held);
    eventually!(START, {
        let mut stream = half();
        stream.set_nonblocking(false).expect("a socket");
        stream
            .write_all(b"Host: img.test\r\nConnection: close\r\n\r\n")
            .is_ok()
            && stream.read(&mut [0; 1]).is_ok_and(|count| count == 1)
    });
    up.end();
}

#[test]
fn a_byte_of_another_request_is_no_place_for_ever() {
    let up = Up::start(&format!("[global]\nthreads = 1\nmaxconn = 100\n{FARM}"));
    let asks = "GET /x HTTP/1.1\r\nHost: img.test\r\n\r\n";
    let hold = |_| {
        let mut stream = TcpStream::connect(up.address).expect("it listens");
        stream
            .write_all(asks.as_bytes())
            .and_then(|()| stream.write_all(b"G"))
            .expect("sent");
        stream
    };
    let held: Vec<TcpStream> = (0..140).map(hold).collect();
    let began = Instant::now();
    assert!(ask(up.address, format!("{REQUEST}\r\n").as_bytes()).starts_with("HTTP/1.1 302 "));
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "answered after {:?}",
        began.elapsed()
    );
    drop(held);
    up.end();
}

#[test]
fn requests_are_logged_as_log_readers_know_them_and_the_file_can_be_moved() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (log, moved) = (
        directory.path().join("access.log"),
        directory.path().join("access.log.1"),
    );
    let global = format!(
        "[global]\ntrusted_proxies = 127.0.0.1\naccess_log = {}\nlog_ip = truncated\n",
        log.display()
    );
    let up = Up::start(&format!("{global}{FARM}"));
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    let fields =
        "X-Forwarded-For: 192.0.2.77\r\nReferer: http://r.test/\r\nUser-Agent: a\"b\r\n\r\n";
    ask(up.address, format!("{REQUEST}{fields}").as_bytes());
    eventually!(START, text().lines().count() == 1);
    let line = text();
    assert!(line.starts_with("192.0.2.0 - - ["), "{line}");
    let rest = "\"GET /x?q=1 HTTP/1.1\" 302 0 \"http://r.test/\" \"a\\x22b\" \"img.test\" \"img\" \"a\" \"http://a.test/x?q=1\" \"-\"\n";
    assert!(line.ends_with(rest), "{line}");
    ask(
        up.address,
        format!("{REQUEST}X-Forwarded-For: nobody\r\n\r\n").as_bytes(),
    );
    eventually!(
        START,
        text()
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("- - - ["))
    );
    std::fs::rename(&log, &moved).expect("moved");
    up.process.signal(Signal::USR1);
    // What is not understood is logged as well.
    eventually!(START, {
        ask(up.address, b"NONSENSE\x1b\r\n\r\n");
        text().contains("\"- NONSENSE\\x1b HTTP/1.1\" 400 ")
    });
    assert_eq!(client::get(up.address, "other.test", "/").status, 403);
    eventually!(
        START,
        text()
            .lines()
            .any(|line| line.contains("\"GET / HTTP/1.1\" 403 ")
                && line.ends_with("\"other.test\" \"-\" \"-\" \"-\" \"unknown-host\""))
    );
    // Pages made elsewhere, and what a proxy should not have said.
    let length = client::get(up.address, "other.test", "/stats.json?x")
        .body
        .len();
    eventually!(
        START,
        text().contains(&format!("\"GET /stats.json?x HTTP/1.1\" 200 {length} ")),
        "{}",
        text()
    );
    ask(up.address, b"PROXY TCP4 nobody\r\nGET / HTTP/1.1\r\n\r\n");
    eventually!(
        START,
        text().contains("\"- PROXY TCP4 nobody HTTP/1.1\" 400 "),
        "{}",
        text()
    );
    // What was answered last is written too.
    ask(
        up.address,
        b"GET /last HTTP/1.1\r\nHost: img.test\r\nConnection: close\r\n\r\n",
    );
    up.end();
    assert!(text().contains("\"GET /last HTTP/1.1\" 302 "), "{}", text());
}

#[test]
fn whoever_is_refused_is_told_why_in_the_log_and_on_the_stats() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for form in ["combined", "json"] {
        let log = directory.path().join(form);
        let up = Up::start(&format!(
            "[global]\nthreads = 1\naccess_log = {}\naccess_log_format = {form}\n{FARM}",
            log.display()
        ));
        let cases: &[(&[u8], u16, &str)] = &[
            (b"GET / HTTP/1.1\r\nHost: <b>evil.test\r\n\r\n", 400, "host"),
            (
                b"GET / HTTP/1.1\r\nHost: Evil.test\r\nConnection: close\r\n\r\n",
                403,
                "unknown-host",
            ),
            (b"GET / HTTP/1.1\r\n\r\n", 400, "no-host"),
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
                400,
                "two-hosts",
            ),
            (
                b"GET http://b.test/ HTTP/1.1\r\nHost: a\r\n\r\n",
                400,
                "other-host",
            ),
            (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
            (b"GET / HTTP/1.1\nHost: a\n\n", 400, "line-end"),
            (
                b"GET / HTTP/1.1\r\nHost: img.test\r\nX: a\x1b\r\n\r\n",
                400,
                "control-byte",
            ),
            (b"GET / HTTP/1.1\r\nHost : img.test\r\n\r\n", 400, "field"),
            (
                b"GET / HTTP/1.1\r\nHost: img.test\r\nTransfer-Encoding: gzip\r\n\r\n",
                400,
                "framing",
            ),
            (b"\"\\\x1b\xff\xc2\x9b\0\r\n\r\n", 400, "request-line"),
            (
                b"DELETE / HTTP/1.1\r\nHost: img.test\r\nConnection: close\r\n\r\n",
                405,
                "method",
            ),
            (b"GET / HTTP/3.0\r\nHost: img.test\r\n\r\n", 505, "version"),
        ];
        let lines = || {
            std::fs::read_to_string(&log)
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for (request, status, reason) in cases {
            assert!(
                ask(up.address, request).starts_with(&format!("HTTP/1.1 {status} ")),
                "{reason}"
            );
        }
        // One line each, however malformed, of one thread in the order in which they came.
        eventually!(START, lines().len() >= cases.len(), "{:#?}", lines());
        for (line, (_, status, reason)) in lines().into_iter().zip(cases) {
            assert!(!line.contains(char::is_control), "{line}");
            match form {
                "json" => {
                    let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                    assert_eq!(
                        (&read["status"], &read["reason"]),
                        (&(*status).into(), &(*reason).into()),
                        "{line}"
                    );
                }
                _ => {
                    assert!(
                        line.contains(&format!("\" {status} "))
                            && line.ends_with(&format!("\"{reason}\"")),
                        "{line}"
                    );
                    assert_eq!(line.matches('"').count(), 16, "{line}");
                }
            }
        }
        // Whose redirect is a redirect was refused nothing.
        ask(up.address, format!("{REQUEST}\r\n").as_bytes());
        eventually!(START, lines().len() == cases.len() + 1);
        let last = lines().pop().expect("a line");
        assert!(
            if form == "json" {
                !last.contains("reason")
            } else {
                last.ends_with("\"-\"")
            },
            "{last}"
        );
        (0..5).for_each(|_| drop(client::get(up.address, "EVIL.test", "/")));
        let most = || {
            let json: serde_json::Value =
                serde_json::from_slice(&client::get(up.address, "x.test", "/stats.json").body)
                    .expect("JSON");
            json["refused_hosts"][0].clone()
        };
        let evil = serde_json::json!({"host": "evil.test", "reason": "unknown-host", "count": 6});
        eventually!(START, most() == evil, "{}", most());
        let page = client::get(up.address, "x.test", "/stats").text();
        assert!(
            page.contains("<tr><th>evil.test<td>unknown-host<td class=n>6"),
            "{page}"
        );
        assert!(
            page.contains("&lt;b&gt;evil.test<td>host") && !page.contains("<b>evil"),
            "{page}"
        );
        up.end();
    }
}

/// Clients of every habit that note what goes wrong.
struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failed: mpsc::Receiver<String>,
    running: Vec<JoinHandle<()>>,
}

/// What a client did: the requests answered, and why the next one was not.
type Done = (u64, io::Result<()>);

impl Clients {
    fn start(address: SocketAddr) -> Self {
        type Habit = (&'static str, fn(SocketAddr) -> Done);
        let (once, kept): (Habit, Habit) = (("once", Self::once), ("kept", Self::kept));
        let (silent_first, pausing): (Habit, Habit) = (
            ("silent first", Self::silent_first),
            ("pausing", Self::pausing),
        );
        let (failures, failed) = mpsc::channel();
        let mut clients = Self {
            stop: Arc::default(),
            answered: Arc::default(),
            failed,
            running: Vec::new(),
        };
        for (name, habit) in [once, once, kept, kept, silent_first, silent_first, pausing] {
            let (stop, all, failures) = (
                clients.stop.clone(),
                clients.answered.clone(),
                failures.clone(),
            );
            clients.running.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let (answered, end) = habit(address);
                    all.fetch_add(answered, Ordering::Relaxed);
                    if let Err(why) = end {
                        failures
                            .send(format!("{name}, answer {answered}: {why}"))
                            .expect("the test listens");
                    }
                }
            }));
        }
        clients
    }

    /// Asks; whether the answer tells the client to leave.
    fn one(stream: &mut TcpStream, close: bool) -> io::Result<bool> {
        let fields = if close { "Connection: close\r\n" } else { "" };
        stream
            .write_all(format!("GET /x HTTP/1.1\r\nHost: img.test\r\n{fields}\r\n").as_bytes())?;
        let (mut buffer, mut filled) = ([0; 2048], 0);
        while !buffer[..filled].ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer[filled..])? {
                0 => return Err(io::Error::other(format!("the end after {filled} bytes"))),
                count => filled += count,
            }
        }
        if !buffer.starts_with(b"HTTP/1.1 302 ") {
            return Err(io::Error::other(String::from_utf8_lossy(&buffer[..filled])));
        }
        Ok(buffer[..filled]
            .windows(17)
            .any(|bytes| bytes == b"Connection: close"))
    }

    fn open(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A new connection for each request.
    fn once(address: SocketAddr) -> Done {
        Self::counted(Self::open(address).and_then(|mut stream| Self::one(&mut stream, true)))
    }

    /// Many requests on one connection, until it is told to leave.
    fn kept(address: SocketAddr) -> Done {
        Self::many(address, 200, Duration::ZERO)
    }

    /// The same, with pauses: a restart falls into one.
    fn pausing(address: SocketAddr) -> Done {
        Self::many(address, 10, Duration::from_millis(120))
    }

    fn many(address: SocketAddr, count: u64, pause: Duration) -> Done {
        let mut stream = match Self::open(address) {
            Ok(stream) => stream,
            Err(why) => return (0, Err(why)),
        };
        for done in 0..count {
            match Self::one(&mut stream, false) {
                Ok(false) => std::thread::sleep(pause),
                Ok(true) => return (done + 1, Ok(())),
                Err(why) => return (done, Err(why)),
            }
        }
        (count, Ok(()))
    }

    /// Connects, says nothing for half a second, then asks.
    fn silent_first(address: SocketAddr) -> Done {
        Self::counted(Self::open(address).and_then(|mut stream| {
            std::thread::sleep(Duration::from_millis(500));
            Self::one(&mut stream, true)
        }))
    }

    fn counted(answer: io::Result<bool>) -> Done {
        (u64::from(answer.is_ok()), answer.map(drop))
    }

    /// How many requests were answered, and what went wrong.
    fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.running
            .into_iter()
            .for_each(|client| client.join().expect("a client ends"));
        (
            self.answered.load(Ordering::Relaxed),
            self.failed.try_iter().collect(),
        )
    }
}

/// A `rbalancer up` on a socket passed to it as systemd does.
fn on_passed_socket(listener: &TcpListener, directory: &Path, file: &str) -> Process {
    let copy: OwnedFd = listener.try_clone().expect("a descriptor").into();
    // A shell puts the socket at descriptor 3 and names itself, which exec keeps.
    let script = format!(
        "exec 3<&{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"",
        copy.as_raw_fd()
    );
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).expect("inherited");
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(script)
        .arg(binary("rbalancer"))
        .args(["up", "-c", file])
        .current_dir(directory)
        .env("RUST_LOG", "info");
    let process = Process::spawn("rbalancer", command);
    drop(copy);
    process
}

fn rounds() -> usize {
    if std::env::var_os("RBALANCER_TESTS").is_some_and(|which| which == "full") {
        20
    } else {
        3
    }
}

#[test]
fn restarts_on_a_passed_socket_fail_no_request() {
    let (directory, listener) = (
        tempfile::tempdir().expect("a temporary directory"),
        port::listener(),
    );
    let address = port::address(&listener);
    let file = write(
        directory.path(),
        "rbalancer.conf",
        format!("[global]\nadmin_bind = off\ngrace = 5s\n{FARM}"),
    );
    let mut process = on_passed_socket(&listener, directory.path(), &file);
    process.wait_for_address(START);
    let clients = Clients::start(address);
    for _ in 0..rounds() {
        std::thread::sleep(Duration::from_millis(700));
        // What comes between the end of one and the start of the next waits in the socket.
        assert_eq!(process.terminate(START).code, Some(0));
        process = on_passed_socket(&listener, directory.path(), &file);
        process.wait_for_address(START);
    }
    let (answered, failed) = clients.end();
    println!(
        "passed socket: {} restarts, {answered} requests answered",
        rounds()
    );
    assert!(
        failed.is_empty() && answered > 1000,
        "{answered} answered; failed: {failed:#?}"
    );
    drop(listener);
}

/// What `deploy/systemd/rbalancer.sysctl` sets.
fn shipped_sysctl() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/rbalancer.sysctl");
    let text = std::fs::read_to_string(file).expect("the shipped file");
    let set: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.replace(' ', ""))
        .collect();
    assert_eq!(set, ["net.ipv4.tcp_migrate_req=1"]);
    set.concat()
}

#[test]
fn overlapping_restarts_fail_no_request() {
    let redis = tests::redis::RedisServer::forgetful();
    let directory = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(
        tests::world::apply(&redis, &directory, FARM.as_bytes()).code,
        Some(0)
    );
    // A network of its own, so that the setting is nobody else's.
    let host = Namespace::new();
    host.sysctl(&shipped_sysctl());
    let (listen, store) = (
        SocketAddr::new(host.address(100), 9998),
        format!("redis://{}", host.forward(redis.port())),
    );
    let start = || {
        let environment = [("RBALANCER_ADMIN_BIND", "off"), ("RBALANCER_GRACE", "5s")];
        let arguments = ["--redis", &store, "--listen", &listen.to_string()];
        let process = host.start(
            "rbalancer-redirector",
            directory.path(),
            &arguments,
            &environment,
        );
        process.wait_for_address(START);
        process.wait_for_line("new table", START);
        process
    };
    let mut process = start();
    let clients = Clients::start(listen);
    for _ in 0..rounds() {
        std::thread::sleep(Duration::from_millis(700));
        let next = start();
        assert_eq!(process.terminate(START).code, Some(0));
        process = next;
    }
    let (answered, failed) = clients.end();
    println!(
        "overlapping: {} restarts, {answered} requests answered",
        rounds()
    );
    assert!(
        failed.is_empty() && answered > 1000,
        "{answered} answered; failed: {failed:#?}"
    );
}
