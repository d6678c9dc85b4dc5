//! What the kernel had no room for of a connection's answers: bytes of its own, and a file that is shared by all who
//! ask for it.

use bytes::Bytes;

/// Answers on their way: `bytes`, then `file`, from `at` on.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    bytes: Vec<u8>,
    file: Bytes,
    at: usize,
}

impl SendQueue {
    /// Adds bytes; a file comes after all of them.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds the file.
    pub(crate) fn add_file(&mut self, file: Bytes) {
        self.file = file;
    }

    /// What is to be sent next; empty: nothing more.
    pub(crate) fn next(&self) -> &[u8] {
        match self.bytes.get(self.at..) {
            Some(bytes) if !bytes.is_empty() => bytes,
            _ => &self.file[self.at - self.bytes.len()..],
        }
    }

    /// `count` bytes of it were sent.
    pub(crate) fn sent(&mut self, count: usize) {
        self.at += count;
    }

    /// Bytes that are its own.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_before_the_file_however_little_is_taken() {
        let mut unsent = SendQueue::default();
        assert!(unsent.next().is_empty());
        unsent.add(b"he");
        unsent.add(b"ad");
        unsent.add_file(Bytes::from_static(b"file"));
        let mut all = Vec::new();
        while let Some(&byte) = unsent.next().first() {
            all.push(byte);
            unsent.sent(1);
        }
        assert_eq!(all, b"headfile");
    }
}
