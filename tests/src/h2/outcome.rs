//! What comes of frames that break the rules: an answer, the end of a stream or of the connection, by its error.

use super::kind::{GOAWAY, HEADERS, RST_STREAM};
use super::{END_STREAM, Raw, get, headers, status};
use crate::tls::SecureUp;

/// Error codes of RFC 9113 section 7.
pub mod code {
    #![allow(missing_docs, reason = "named as in the RFC")]
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// What comes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The first answer on any stream.
    Answer(u16),
    /// One stream ends with an error.
    Stream(u32),
    /// The connection ends with an error.
    Connection(u32),
    /// The connection ends without a word.
    End,
}

impl Raw {
    /// Reads on until something comes of what was sent.
    pub fn outcome(&mut self) -> Outcome {
        loop {
            match self.next_frame() {
                Some((HEADERS, _, _, block)) => return Outcome::Answer(status(&block)),
                Some((RST_STREAM, _, _, payload)) if error(&payload) != 0 => {
                    return Outcome::Stream(error(&payload));
                }
                // Without an error it announces an end and ends nothing.
                Some((GOAWAY, _, _, payload)) if error(&payload[4..]) != 0 => {
                    return Outcome::Connection(error(&payload[4..]));
                }
                Some(_) => {}
                None => return Outcome::End,
            }
        }
    }
}

/// The error code that four bytes are.
pub fn error(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// A good request on a new connection is answered, and nothing panicked.
pub fn still_serves(up: &SecureUp, after: &str) {
    let mut good = Raw::open(up.secure);
    good.send(&headers(END_STREAM, 1, &get("/good")));
    assert_eq!(good.outcome(), Outcome::Answer(302), "after {after}");
    let lines = up.process.lines();
    assert!(
        !lines.iter().any(|line| line.contains("panicked")),
        "after {after}:\n{}",
        lines.join("\n")
    );
}
