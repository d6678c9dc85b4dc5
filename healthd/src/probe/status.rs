//! The status of an answer, read from its status line alone. Pure: bytes come in as they arrive.
//!
//! A reader of its own, because HTTP libraries hand out a status only after the whole head has pleased them. A folded
//! field, a control byte in a cookie or a hundred fields are no reason to send nobody to a server that every client can
//! read: whoever takes the answer decides what to make of its fields, a probe asks for the status.

use std::fmt;

/// As much as is read of what comes before the status: interim answers, empty lines, a long reason phrase.
const MOST: usize = 64 * 1024;

/// What every status line begins with (RFC 9112 section 2.3: the name is case-sensitive).
const NAME: &[u8] = b"HTTP/";

/// As much of a line as is looked at: the version, the status and some blanks between.
const LOOKED_AT: usize = 64;

/// As much of something else as is shown.
const SHOWN: usize = 40;

/// Reads one answer up to the end of its status line.
#[derive(Debug, Default)]
pub(crate) struct StatusReader {
    at: At,
    /// The first bytes of the line, without its end.
    line: Vec<u8>,
    read: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the status line, or in an empty line before it.
    #[default]
    Status,
    /// In the fields of an interim answer.
    Fields,
}

/// Why what came is no answer in HTTP/1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotHttp {
    /// Something else, which begins like this.
    Begins(Vec<u8>),
    /// Nothing but interim answers, or a line without an end.
    Endless,
}

impl fmt::Display for NotHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // RFC 8446 section 5.1: the types of a record, an alert or a handshake, and the version.
            Self::Begins(bytes) if matches!(bytes[..], [0x15 | 0x16, 3, ..]) => f.write_str(
                "not HTTP but TLS: an https:// domain or check_scheme = https asks over TLS",
            ),
            Self::Begins(bytes) => write!(
                f,
                "not HTTP: the answer begins with `{}`",
                bytes.escape_ascii()
            ),
            Self::Endless => write!(f, "no status within the first {} KB", MOST / 1024),
        }
    }
}

impl std::error::Error for NotHttp {}

impl StatusReader {
    /// Takes in what has arrived; the final status as soon as its line has ended (RFC 9112 section 4), whatever follows.
    /// Interim answers (RFC 9110 section 15.2) are passed over; 101 is final, for nobody asked to switch.
    ///
    /// # Errors
    /// When it is no answer in HTTP/1.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Option<u16>, NotHttp> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.read += 1;
            if self.read > MOST {
                return Err(NotHttp::Endless);
            }
            // RFC 9112 section 2.2: a line feed alone ends a line too.
            if byte != b'\n' {
                if self.line.len() < LOOKED_AT {
                    self.line.push(byte);
                }
                if self.at == At::Status && !may_begin(&self.line) {
                    return Err(self.begins(&bytes[index + 1..]));
                }
                continue;
            }
            match (self.at, is_empty(&self.line)) {
                (At::Fields, true) => self.at = At::Status,
                (At::Fields, false) | (At::Status, true) => {}
                (At::Status, false) => match status(&self.line) {
                    Some(100 | 102..=199) => self.at = At::Fields,
                    Some(status) => return Ok(Some(status)),
                    None => return Err(self.begins(&bytes[index..])),
                },
            }
            self.line.clear();
        }
        Ok(None)
    }

    fn begins(&self, rest: &[u8]) -> NotHttp {
        NotHttp::Begins(self.line.iter().chain(rest).take(SHOWN).copied().collect())
    }
}

fn is_empty(line: &[u8]) -> bool {
    matches!(line, [] | [b'\r'])
}

/// Whether a status line, or an empty one before it, may begin with `line`: what is something else is known at once.
fn may_begin(line: &[u8]) -> bool {
    is_empty(line) || line.iter().zip(NAME).all(|(byte, name)| byte == name)
}

/// The status of a status line: `HTTP/` and a version, blanks, three digits, and the end or a blank. What follows is for
/// people, and may be missing with its blank. RFC 9112 section 4 lets a recipient take several blanks, of any kind, for
/// one. A version that was never asked for is an odd answer that clients take all the same.
fn status(line: &[u8]) -> Option<u16> {
    let [b'1'..=b'9', b'.', b'0'..=b'9', rest @ ..] = line.strip_prefix(NAME)? else {
        return None;
    };
    let code = rest.trim_ascii_start();
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = code else {
        return None;
    };
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    let digit = |byte: &u8| u16::from(byte - b'0');
    (code.len() < line.len() - NAME.len() - 3 && ends)
        .then(|| digit(a) * 100 + digit(b) * 10 + digit(c))
}

#[cfg(test)]
mod tests {
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
}
