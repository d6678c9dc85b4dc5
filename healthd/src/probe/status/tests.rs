//! Tests of [`super`].

use super::*;
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<Option<u16>, NotHttp> {
    StatusReader::default().take(bytes)
}

#[test]
fn a_status_line_alone_decides() {
    for (answer, status) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], 200),
        (b"HTTP/1.1 200 \r\n", 200),
        (b"HTTP/1.1 200\r\n", 200),
        (b"HTTP/1.0 204 No Content\n", 204),
        (b"HTTP/1.7 302 Found\r\n", 302),
        (b"HTTP/2.0 200 OK\r\n", 200),
        (b"HTTP/1.1  200\tOK\r\n", 200),
        (b"HTTP/1.1 200 \xfcbel\x01\0\r\n", 200),
        (b"\r\n\r\nHTTP/1.1 503 Busy\r\n", 503),
        (b"HTTP/1.1 999 Denied\r\n", 999),
        (b"HTTP/1.1 200 OK\r\nX-A: 1\r\n folded\r\nSet-Cookie: a=\x01\r\n: no name\r\nno colon", 200),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.1 103 Early Hints\nLink: </a>\n folded\n\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 404 No\n", 404),
        (b"HTTP/1.1 101 Switching Protocols\r\n", 101),
    ] {
        assert_eq!(read(answer), Ok(Some(status)), "{}", answer.escape_ascii());
    }
}

#[test]
fn without_the_end_of_the_line_there_is_no_status_yet() {
    for answer in [
        &b""[..],
        b"\r",
        b"HTTP/1.1 200 OK\r",
        b"HTTP/1.1 2",
        b"HTTP/1.1 100 Continue\r\nX: HTTP/1.1 200 OK\r\n",
    ] {
        assert_eq!(read(answer), Ok(None), "{}", answer.escape_ascii());
    }
}

#[test]
fn what_is_no_http_is_told_at_once_and_shown() {
    for answer in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"J\0\0\0\n8.0.34",
        b"http/1.1 200 OK\r\n",
        b"HTTP/2 200 OK\r\n",
        b"HTTP/0.9 200 OK\r\n",
        b"HTTP/1.1\r\n",
        b"HTTP/1.1200 OK\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 099 OK\r\n",
        b"HTTP/1.1 OK\r\n",
        b"ICY 200 OK\r\n",
        b"\r\r",
        b"<html>",
    ] {
        let refused = read(answer).expect_err(&answer.escape_ascii().to_string());
        assert!(matches!(refused, NotHttp::Begins(_)), "{refused}");
    }
    assert_eq!(
        read(b"SSH-2.0-x\r\n").expect_err("no HTTP").to_string(),
        "not HTTP: the answer begins with `SSH-2.0-x\\r\\n`"
    );
    assert!(
        read(b"\x15\x03\x01\0\x02\x02\x46")
            .expect_err("no HTTP")
            .to_string()
            .contains("check_scheme = https")
    );
    assert_eq!(read(&b"\n".repeat(MOST + 1)), Err(NotHttp::Endless));
    assert_eq!(
        read(&[&b"HTTP/1.1 200 "[..], &b"x".repeat(MOST)].concat()),
        Err(NotHttp::Endless)
    );
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_give_the_same_and_never_panic(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
        good in any::<bool>(),
        size in 1_usize..50,
    ) {
        let bytes = if good { [b"HTTP/1.1 103 Early\r\n", &bytes[..], b"\r\n\r\nHTTP/1.1 200 OK\r\n"].concat() } else { bytes };
        let mut reader = StatusReader::default();
        let pieces = bytes.chunks(size).map(|piece| reader.take(piece)).find(|outcome| *outcome != Ok(None)).unwrap_or(Ok(None));
        match (read(&bytes), pieces) {
            // What is shown of something else depends on what had arrived.
            (Err(NotHttp::Begins(_)), Err(NotHttp::Begins(_))) => {}
            (whole, pieces) => prop_assert_eq!(whole, pieces),
        }
    }
}
