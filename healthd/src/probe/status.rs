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
mod tests;
