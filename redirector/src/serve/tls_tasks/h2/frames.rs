//! How far a client is within the frames it sends (RFC 9113 sections 3.4, 4.1 and 4.3): whether it owes the rest of
//! one, or of a head. hyper tells nobody.

/// The length of what every client says first.
const PREFACE: usize = 24;

/// The length of a frame's own head.
const HEAD: usize = 9;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Where a client is.
#[derive(Debug)]
pub(super) struct Frames {
    /// Whether anything came.
    begun: bool,
    /// The head of the next frame, as far as it came.
    head: [u8; HEAD],
    have: usize,
    /// Bytes of the payload, or of the preface, still to come.
    left: usize,
    /// Whether more frames belong to a head that has begun.
    open: bool,
}

impl Frames {
    /// A client that has said nothing yet.
    pub(super) fn new() -> Self {
        Self {
            begun: false,
            head: [0; HEAD],
            have: 0,
            left: PREFACE,
            open: false,
        }
    }

    /// Whether it has begun something that it has not ended.
    pub(super) fn owes(&self) -> bool {
        self.begun && (self.left > 0 || self.have > 0 || self.open)
    }

    /// Goes on by `bytes`. Whether nothing was owed anywhere in them.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        self.begun |= !bytes.is_empty();
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = self.left.min(bytes.len());
                (self.left, bytes) = (self.left - count, &bytes[count..]);
            } else {
                let count = (HEAD - self.have).min(bytes.len());
                self.head[self.have..self.have + count].copy_from_slice(&bytes[..count]);
                (self.have, bytes) = (self.have + count, &bytes[count..]);
                if self.have == HEAD {
                    self.begin();
                }
            }
            ended |= !self.owes();
        }
        ended
    }

    /// The head of a frame is whole: its payload follows.
    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        (self.have, self.left) = (0, u32::from_be_bytes([0, high, middle, low]) as usize);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.open = flags & END_HEADERS == 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        [
            &u32::try_from(length).expect("short").to_be_bytes()[1..],
            &[kind, flags, 0, 0, 0, 1],
            &vec![0; length],
        ]
        .concat()
    }

    #[test]
    fn a_frame_or_head_that_has_begun_is_owed_however_it_is_cut() {
        let settings = frame(4, 0, 0);
        let said = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
            &settings,
            &frame(HEADERS, 0, 5),
            &frame(CONTINUATION, 4, 2),
        ]
        .concat();
        let whole = [PREFACE, PREFACE + HEAD, said.len()];
        let mut frames = Frames::new();
        assert!(!frames.owes(), "it may think before it says anything");
        for (at, byte) in said.iter().enumerate() {
            let ended = frames.take(&[*byte]);
            assert_eq!(
                (ended, frames.owes()),
                (whole.contains(&(at + 1)), !whole.contains(&(at + 1))),
                "after {at}"
            );
        }
        let mut frames = Frames::new();
        assert!(frames.take(&said) && !frames.owes());
        assert!(
            !frames.take(&frame(HEADERS, 0, 3)) && frames.owes(),
            "a head without its end"
        );
    }
}
