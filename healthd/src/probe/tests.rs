//! Probes against real sockets.

use super::*;
use common::model::check::Method;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that answers each connection with the next of `answers`, and what it was asked.
async fn server(at: &str, answers: Vec<&'static str>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((at, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    tokio::spawn(async move {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            log.lock()
                .expect("no panic")
                .push(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
            if answer.is_empty() {
                // Silent, but there.
                std::future::pending::<()>().await;
            }
        }
    });
    (port, asked)
}

fn check(host: &str, port: u16) -> Check {
    let json = serde_json::json!({"scheme": "http", "host": host, "port": port, "method": "HEAD", "uri": "/ok", "expect": "200-399",
        "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1000, "rise": 2, "fall": 3});
    serde_json::from_value(json).expect("valid check")
}

async fn probe(check: &Check) -> Evidence {
    Prober::new().probe(check).await
}

#[tokio::test]
async fn a_status_decides_and_a_redirect_is_not_followed() {
    for (answer, expected) in [
        (
            "HTTP/1.1 200 OK\r\n\r\n",
            Evidence::Success("HTTP 200".into()),
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
            Evidence::Success("HTTP 302".into()),
        ),
        (
            "HTTP/1.1 503 Busy\r\n\r\n",
            Evidence::Hard("HTTP 503".into()),
        ),
    ] {
        let (port, asked) = server("127.0.0.1", vec![answer]).await;
        assert_eq!(probe(&check("127.0.0.1", port)).await, expected);
        let request = asked.lock().expect("no panic")[0].to_ascii_lowercase();
        assert!(
            request.starts_with("head /ok http/1.1\r\n")
                && request.contains("user-agent: rbalancer-healthd/"),
            "{request}"
        );
        assert_eq!(request.matches("host:").count(), 1, "{request}");
    }
}

#[tokio::test]
async fn a_server_without_head_is_asked_for_one_byte() {
    let (port, asked) = server(
        "127.0.0.1",
        vec!["HTTP/1.1 405 No\r\n\r\n", "HTTP/1.1 206 Part\r\n\r\n"],
    )
    .await;
    assert_eq!(
        probe(&check("127.0.0.1", port)).await,
        Evidence::Success("HTTP 206".into())
    );
    let request = asked.lock().expect("no panic")[1].to_ascii_lowercase();
    assert!(
        request.starts_with("get /ok") && request.contains("range: bytes=0-0"),
        "{request}"
    );
}

/// What a probe by `method` for a status among `expect` makes of a server that gives `answers`, and what it asked.
async fn asked_for(
    method: Method,
    expect: &str,
    answers: Vec<&'static str>,
) -> (Evidence, Vec<String>) {
    let (port, asked) = server("127.0.0.1", answers).await;
    let expect = expect.parse().expect("statuses");
    let evidence = probe(&Check {
        method,
        expect,
        ..check("127.0.0.1", port)
    })
    .await;
    let way = |request: &String| {
        let range = if request
            .to_ascii_lowercase()
            .contains("\r\nrange: bytes=0-0\r\n")
        {
            " of a byte"
        } else {
            ""
        };
        format!("{}{range}", request.split(' ').next().unwrap_or_default())
    };
    let asked = asked.lock().expect("no panic").iter().map(way).collect();
    (evidence, asked)
}

#[tokio::test]
async fn what_the_probe_asked_for_on_its_own_is_not_held_against_the_server() {
    const PART: &str = "HTTP/1.1 206 Partial Content\r\n\r\n";
    const WHOLE: &str = "HTTP/1.1 200 OK\r\n\r\n";
    const EMPTY: &str = "HTTP/1.1 416 Range Not Satisfiable\r\n\r\n";
    const NO_HEAD: &str = "HTTP/1.1 405 Method Not Allowed\r\n\r\n";
    const BUSY: &str = "HTTP/1.1 503 Busy\r\n\r\n";
    const OFTEN: &str = "HTTP/1.1 429 Too Many Requests\r\n\r\n";
    const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\n\r\n";
    let (head, byte, all) = ("HEAD", "GET of a byte", "GET");
    let good = |status: u16| Evidence::Success(format!("HTTP {status}"));
    let bad = |status: u16| Evidence::Hard(format!("HTTP {status}"));
    for (method, expect, answers, evidence, asked) in [
        (Method::Get, "200", vec![PART], good(206), vec![byte]),
        (Method::Get, "200,204", vec![PART], good(206), vec![byte]),
        (Method::Get, "206", vec![PART], good(206), vec![byte]),
        (Method::Get, "204", vec![PART], bad(206), vec![byte]),
        (Method::Get, "200", vec![WHOLE], good(200), vec![byte]),
        (
            Method::Get,
            "200",
            vec![EMPTY, WHOLE],
            good(200),
            vec![byte, all],
        ),
        (
            Method::Get,
            "200-499",
            vec![EMPTY, BUSY],
            bad(503),
            vec![byte, all],
        ),
        (
            Method::Get,
            "200-399",
            vec![REFUSED, WHOLE],
            good(200),
            vec![byte, all],
        ),
        (
            Method::Get,
            "200-399",
            vec![REFUSED, REFUSED],
            bad(403),
            vec![byte, all],
        ),
        (Method::Get, "403", vec![REFUSED], good(403), vec![byte]),
        (Method::Get, "200", vec![OFTEN], bad(429), vec![byte]),
        (Method::Get, "200", vec![BUSY], bad(503), vec![byte]),
        (
            Method::Head,
            "200",
            vec![NO_HEAD, PART],
            good(206),
            vec![head, byte],
        ),
        (
            Method::Head,
            "200",
            vec![NO_HEAD, EMPTY, WHOLE],
            good(200),
            vec![head, byte, all],
        ),
        (
            Method::Head,
            "200-499",
            vec![NO_HEAD, BUSY],
            bad(503),
            vec![head, byte],
        ),
        (Method::Head, "405", vec![NO_HEAD], good(405), vec![head]),
        (Method::Head, "206", vec![WHOLE], bad(200), vec![head]),
    ] {
        let told = format!("{method:?} {expect} {answers:?}");
        assert_eq!(
            asked_for(method, expect, answers).await,
            (evidence, asked.into_iter().map(str::to_owned).collect()),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_head_that_clients_take_is_a_probes_too() {
    let many: &'static str = format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        "X-Field: value\r\n".repeat(3000)
    )
    .leak();
    for answer in [
        "HTTP/1.1 200 OK\r\nX-Folded: one\r\n two\r\n\r\n",
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=\u{1}\0\r\n\r\n",
        "HTTP/1.1 200 OK\nServer: lines end early\n\n",
        "HTTP/1.0 200\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        many,
    ] {
        let (port, _) = server("127.0.0.1", vec![answer]).await;
        assert_eq!(
            probe(&check("127.0.0.1", port)).await,
            Evidence::Success("HTTP 200".into()),
            "{answer:.80}"
        );
    }
    let (port, _) = server("127.0.0.1", vec!["SSH-2.0-OpenSSH_9.2\r\n"]).await;
    let evidence = probe(&check("127.0.0.1", port)).await;
    assert!(
        matches!(&evidence, Evidence::Hard(why) if why.contains("not HTTP:") && why.contains("SSH-2.0")),
        "{evidence:?}"
    );
}

#[tokio::test]
async fn an_answer_in_many_pieces_is_read_and_one_that_breaks_off_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        for answer in [
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 O",
        ] {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            let _ = stream.set_nodelay(true);
            let _ = stream.read(&mut [0; 4096]).await;
            for piece in answer.as_bytes().chunks(1) {
                let _ = stream.write_all(piece).await;
                tokio::task::yield_now().await;
            }
        }
    });
    assert_eq!(
        probe(&check("127.0.0.1", port)).await,
        Evidence::Success("HTTP 200".into())
    );
    assert_eq!(
        probe(&check("127.0.0.1", port)).await,
        Evidence::Hard("connection closed before an answer".into())
    );
}

#[tokio::test]
async fn a_server_that_speaks_before_it_is_asked_has_answered() {
    for (early, evidence) in [
        (
            "HTTP/1.1 200 OK\r\n\r\n",
            Evidence::Success("HTTP 200".into()),
        ),
        // So a server that is full: every client hears no.
        (
            "HTTP/1.0 503 Busy\r\n\r\n",
            Evidence::Hard("HTTP 503".into()),
        ),
        (
            "HTTP/1.1 408 Request Timeout\r\n\r\n",
            Evidence::Hard("HTTP 408".into()),
        ),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let speaking = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a probe");
            std::io::Write::write_all(&mut stream, early.as_bytes()).expect("written");
            // Closed without reading: the question is answered by a reset.
        });
        assert_eq!(probe(&check("127.0.0.1", port)).await, evidence);
        speaking.join().expect("no panic");
    }
}

#[tokio::test]
async fn failures_are_told_apart() {
    let closed = {
        std::net::TcpListener::bind("127.0.0.1:0")
            .expect("free")
            .local_addr()
            .expect("bound")
            .port()
    };
    assert_eq!(
        probe(&check("127.0.0.1", closed)).await,
        Evidence::Hard("connection refused".into())
    );
    let (silent, _) = server("127.0.0.1", vec![""]).await;
    assert_eq!(
        probe(&check("127.0.0.1", silent)).await,
        Evidence::Soft("timed out after 1s".into())
    );
    let unknown = probe(&check("no-such-name.invalid", 80)).await;
    assert!(
        matches!(&unknown, Evidence::Nothing(why) if why.starts_with("name does not resolve")),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn ipv6_literals_and_check_addr_are_probed() {
    if let Ok(free) = std::net::TcpListener::bind("[::1]:0") {
        drop(free);
        let (port, _) = server("::1", vec!["HTTP/1.1 200 OK\r\n\r\n"]).await;
        assert_eq!(
            probe(&check("[::1]", port)).await,
            Evidence::Success("HTTP 200".into())
        );
    }
    let (port, asked) = server("127.0.0.1", vec!["HTTP/1.1 200 OK\r\n\r\n"]).await;
    let elsewhere = Check {
        addr: Some(format!("127.0.0.1:{port}").parse().expect("valid")),
        ..check("no-such-name.invalid", 8080)
    };
    assert_eq!(
        probe(&elsewhere).await,
        Evidence::Success("HTTP 200".into())
    );
    assert!(
        asked.lock().expect("no panic")[0]
            .to_ascii_lowercase()
            .contains("host: no-such-name.invalid:8080\r\n")
    );
}

#[test]
fn trouble_of_our_own_is_no_evidence() {
    let of = |code| from_io(&std::io::Error::from_raw_os_error(code));
    // EPERM, ENOMEM, EACCES, ENFILE, EMFILE, EADDRNOTAVAIL, ENETDOWN, ENETUNREACH, ENOBUFS
    for code in [1, 12, 13, 23, 24, 99, 100, 101, 105] {
        assert!(
            matches!(of(code), Some(Evidence::Nothing(_))),
            "{code}: {:?}",
            of(code)
        );
    }
    // ETIMEDOUT, EHOSTUNREACH, EIO
    for code in [110, 113, 5] {
        assert!(
            matches!(of(code), Some(Evidence::Soft(_))),
            "{code}: {:?}",
            of(code)
        );
    }
    // EPIPE, ECONNABORTED, ECONNRESET, ECONNREFUSED
    for code in [32, 103, 104, 111] {
        assert!(
            matches!(of(code), Some(Evidence::Hard(_))),
            "{code}: {:?}",
            of(code)
        );
    }
}

#[test]
fn a_certificate_is_soft_evidence_and_an_alert_is_hard() {
    let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
    assert!(matches!(from_tls(&expired), Evidence::Soft(_)));
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
    assert!(matches!(from_tls(&alert), Evidence::Hard(_)));
    assert!(matches!(
        from_tls(&rustls::Error::FailedToGetRandomBytes),
        Evidence::Nothing(_)
    ));
    assert!(matches!(
        from_tls(&rustls::Error::General("x".into())),
        Evidence::Soft(_)
    ));
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_hard_evidence() {
    let (port, _) = server("127.0.0.1", vec!["HTTP/1.1 400 Bad\r\n\r\n"]).await;
    let https = Check {
        scheme: Scheme::Https,
        tls_verify: false,
        ..check("127.0.0.1", port)
    };
    let evidence = probe(&https).await;
    assert!(
        matches!(&evidence, Evidence::Hard(why) if why.starts_with("TLS: ")),
        "{evidence:?}"
    );
}

#[tokio::test]
async fn a_resolver_that_hangs_is_no_evidence() {
    let prober = Prober::new();
    drop(
        prober
            .lookup
            .ask("hung.invalid", |_| std::future::pending()),
    );
    for scheme in [Scheme::Http, Scheme::Https] {
        let evidence = prober
            .probe(&Check {
                scheme,
                ..check("hung.invalid", 80)
            })
            .await;
        assert!(
            matches!(&evidence, Evidence::Nothing(why) if why.contains("resolve")),
            "{evidence:?}"
        );
    }
}

/// A server over TLS with a certificate for `names`, which answers 200; its port, and the certificate.
async fn secure_server(names: &[&str]) -> (u16, rustls::pki_types::CertificateDer<'static>) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (certificate, key) = (
        made.cert.der().clone(),
        made.signing_key.serialize_der().try_into().expect("a key"),
    );
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions");
    let config = config
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        }
    });
    (port, certificate)
}

#[tokio::test]
async fn a_certificate_carries_the_servers_name_whatever_address_is_asked() {
    let (port, certificate) = secure_server(&["img.test", "192.0.2.9"]).await;
    let prober = Prober {
        tls: ProbeTls::trusting(certificate),
        ..Prober::new()
    };
    let there = |host: &str| {
        let addr = Some(format!("127.0.0.1:{port}").parse().expect("an address"));
        Check {
            scheme: Scheme::Https,
            addr,
            ..check(host, 443)
        }
    };
    for host in ["img.test", "192.0.2.9"] {
        assert_eq!(
            prober.probe(&there(host)).await,
            Evidence::Success("HTTP 200".into()),
            "{host}"
        );
    }
    for host in ["other.test", "192.0.2.8"] {
        let evidence = prober.probe(&there(host)).await;
        assert!(
            matches!(&evidence, Evidence::Soft(why) if why.starts_with("certificate: ")),
            "{host}: {evidence:?}"
        );
        assert_eq!(
            prober
                .probe(&Check {
                    tls_verify: false,
                    ..there(host)
                })
                .await,
            Evidence::Success("HTTP 200".into())
        );
    }
    let unknown = Prober::new().probe(&there("img.test")).await;
    assert!(
        matches!(unknown, Evidence::Soft(_) | Evidence::Nothing(_)),
        "{unknown:?}"
    );
}
