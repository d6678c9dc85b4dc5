//! HTTP/2 frame by frame: a client that sends frames as it likes and sees each frame that comes back.

pub mod outcome;

use crate::tls::{Secured, client};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

/// What a client says first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types of RFC 9113 section 6.
pub mod kind {
    #![allow(missing_docs, reason = "named as in the RFC")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Nothing more comes on the stream.
pub const END_STREAM: u8 = 1;
/// The field block ends here.
pub const END_HEADERS: u8 = 4;
/// The payload is padded.
pub const PADDED: u8 = 8;
/// A priority stands before the field block.
pub const PRIORITIZED: u8 = 0x20;
/// Of SETTINGS and PING: an answer.
pub const ACK: u8 = 1;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short payload")
        .to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A whole request, or the begin of one with a body.
pub fn headers(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flags | END_HEADERS, stream, block)
}

/// SETTINGS of one.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(
        kind::SETTINGS,
        0,
        0,
        &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat(),
    )
}

/// WINDOW_UPDATE.
pub fn update(stream: u32, by: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

/// Literals without indexing, without Huffman (RFC 7541 section 6.2.2).
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        [
            &[u8::try_from(text.len()).expect("below 127")][..],
            text.as_bytes(),
        ]
        .concat()
    };
    fields
        .iter()
        .flat_map(|(name, value)| [&[0][..], &text(name), &text(value)].concat())
        .collect()
}

/// The field block of a good `GET`.
pub fn get(path: &str) -> Vec<u8> {
    fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "img.test"),
        (":path", path),
    ])
}

/// A frame that came: type, flags, stream, payload.
pub type Frame = (u8, u8, u32, Vec<u8>);

/// The client.
#[derive(Debug)]
pub struct Raw(pub Secured);

impl Raw {
    /// Connects, and says the preface and empty settings.
    pub fn open(address: SocketAddr) -> Self {
        let mut raw = Self::silent(address);
        raw.send(PREFACE);
        raw.send(&frame(kind::SETTINGS, 0, 0, &[]));
        raw
    }

    /// Connects and says nothing.
    pub fn silent(address: SocketAddr) -> Self {
        Self(
            Secured::open(address, "img.test", client(rustls::ALL_VERSIONS, &["h2"]))
                .expect("a handshake"),
        )
    }

    /// Sends; false once the server takes no more.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.0.write_all(bytes).is_ok()
    }

    /// The next frame; none at the end. Fails when nothing comes for long.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.fill(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.fill(&mut payload)?;
        Some((
            head[3],
            head[4],
            u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff,
            payload,
        ))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Option<()> {
        let read = self.0.0.read_exact(buffer);
        let silent = read.as_ref().is_err_and(|error| {
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        });
        assert!(
            !silent,
            "the server neither says anything nor ends the connection"
        );
        read.ok()
    }

    /// Reads on until a frame of `kind` for `stream`; its payload. None if the connection ended before.
    pub fn until(&mut self, kind: u8, stream: u32) -> Option<Vec<u8>> {
        loop {
            let (found, _, on, payload) = self.next_frame()?;
            if (found, on) == (kind, stream) {
                return Some(payload);
            }
        }
    }
}

/// The status at the begin of an answer's field block; it is the first answer of its connection, so that nothing is
/// taken from the dynamic table.
pub fn status(block: &[u8]) -> u16 {
    // RFC 7541 appendix A, entries 8 to 14.
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        // An update of the table's size may come first, in several bytes where five bits are too few.
        [0x3f, rest @ ..] => {
            status(&rest[rest.iter().take_while(|byte| **byte >= 0x80).count() + 1..])
        }
        [first, rest @ ..] if first & 0xe0 == 0x20 => status(rest),
        [first @ 0x88..=0x8e, ..] => INDEXED[usize::from(first - 0x88)],
        [0x48 | 0x08 | 0x18, 3, digits @ ..] => digits
            .iter()
            .take(3)
            .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')),
        [0x48 | 0x08 | 0x18, length, digits @ ..] if length & 0x80 != 0 => huffman_number(digits),
        _ => panic!("an answer that does not begin with its status: {block:?}"),
    }
}

/// Three digits by the code of RFC 7541 appendix B: five bits for 0 to 2, six for the others.
fn huffman_number(bytes: &[u8]) -> u16 {
    let bits: Vec<u16> = bytes
        .iter()
        .take(3)
        .flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1)))
        .collect();
    let number = |bits: &[u16]| bits.iter().fold(0, |sum, bit| sum * 2 + bit);
    let (mut at, mut sum) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        let (digit, length) = if short <= 2 {
            (short, 5)
        } else {
            (number(&bits[at..at + 6]) - 0x16, 6)
        };
        (sum, at) = (sum * 10 + digit, at + length);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_each_of_its_forms() {
        // RFC 7541 appendix C.5 and C.6.
        assert_eq!(status(&[0x48, 3, b'3', b'0', b'2']), 302);
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), 307);
        assert_eq!(status(&[0x3f, 0xe1, 0x1f, 0x8c]), 400);
    }
}
