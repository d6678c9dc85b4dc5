//! Requests that are no good: each is refused with the right status, and the next good one is answered.

use tests::client;
use tests::up::Up;

const CONFIGURATION: &str = "[global]\ncheck = off\n[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = http://a.test\n";

fn refused(up: &Up, bytes: &[u8], statuses: &[u16]) {
    let answer = client::raw(up.address, bytes);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    assert!(
        statuses.contains(&answer.status),
        "{shown:?} was answered {answer:?}, not one of {statuses:?}"
    );
    assert_eq!(answer.header("location"), None, "{shown:?}");
    assert_eq!(
        up.get("img.test", "/good").location(),
        "http://a.test/good",
        "after {shown:?}"
    );
}

#[test]
fn bad_requests_are_refused() {
    let up = Up::start(CONFIGURATION);
    let bad: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: img.test\r\nHost: img.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: img.test/x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user@img.test\r\n\r\n",
        b"GET x HTTP/1.1\r\nHost: img.test\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: img.test\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: img.test\r\n\r\n",
        b"GET http://other.test/ HTTP/1.1\r\nHost: img.test\r\n\r\n",
        b"GET http://user@img.test/ HTTP/1.1\r\nHost: img.test\r\n\r\n",
        b"GET ftp://img.test/ HTTP/1.1\r\nHost: img.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : img.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: img.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        b"nonsense\r\n\r\n",
    ];
    bad.iter().for_each(|bytes| refused(&up, bytes, &[400]));
    refused(
        &up,
        b"CONNECT img.test:80 HTTP/1.1\r\nHost: img.test:80\r\n\r\n",
        &[400, 405],
    );
    refused(
        &up,
        b"OPTIONS * HTTP/1.1\r\nHost: img.test\r\n\r\n",
        &[400, 405],
    );
}

#[test]
fn heads_that_are_too_long_are_refused() {
    let up = Up::start(CONFIGURATION);
    let long = "x".repeat(70_000);
    refused(
        &up,
        format!("GET /{long} HTTP/1.1\r\nHost: img.test\r\n\r\n").as_bytes(),
        &[414],
    );
    refused(
        &up,
        format!("GET / HTTP/1.1\r\nHost: img.test\r\nX: {long}\r\n\r\n").as_bytes(),
        &[431],
    );
}

#[test]
fn a_url_in_full_is_taken_when_it_names_the_host() {
    let up = Up::start(CONFIGURATION);
    let answer = client::raw(
        up.address,
        b"GET http://img.test/a?b HTTP/1.1\r\nHost: img.test\r\n\r\n",
    );
    assert_eq!(answer.location(), "http://a.test/a?b");
}

#[test]
fn headers_of_proxies_never_reach_a_location() {
    let up = Up::start(CONFIGURATION);
    let headers = [
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Proto", "ftp"),
        ("Forwarded", "host=evil.test"),
    ];
    assert_eq!(
        client::request(up.address, "GET", "img.test", "/", &headers).location(),
        "http://a.test/"
    );
}

#[test]
fn a_client_of_http_1_0_is_answered_and_let_go() {
    let up = Up::start(CONFIGURATION);
    let mut connection = client::Connection::open(up.address).expect("a connection");
    connection
        .send(b"GET /old HTTP/1.0\r\nHost: img.test\r\n\r\n")
        .expect("sent");
    assert_eq!(
        connection.answer(false).expect("an answer").location(),
        "http://a.test/old"
    );
    assert!(
        connection.answer(false).is_err(),
        "the connection is closed"
    );
}

#[test]
fn requests_sent_at_once_are_answered_in_order() {
    let up = Up::start(CONFIGURATION);
    let mut connection = client::Connection::open(up.address).expect("a connection");
    let requests: String = (0..20)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: img.test\r\n\r\n"))
        .collect();
    connection.send(requests.as_bytes()).expect("sent");
    for n in 0..20 {
        assert_eq!(
            connection.answer(false).expect("an answer").location(),
            format!("http://a.test/{n}")
        );
    }
}
