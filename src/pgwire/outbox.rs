//! Bytes of our own that wait to be sent to one side of a session.
//!
//! Like the input buffers they hold no memory while there are none: a session that waits costs nothing here.

use std::cell::Cell;
use std::fmt;

/// Storage larger than this is not kept for the next session.
const KEPT: usize = 16 * 1024;

thread_local! {
    /// The storage that was given back last.
    static LAST: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that wait.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// How many of them were sent.
    sent: usize,
}

impl Outbox {
    /// The bytes to send.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Whether there is nothing to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends bytes as they are.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.storage().extend_from_slice(bytes);
    }

    /// Appends a message: its tag, its length, and the body that `fill` writes, of which `beyond` bytes are still to be
    /// appended or sent by other means.
    pub fn message(&mut self, tag: u8, beyond: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        let bytes = self.storage();
        bytes.push(tag);
        let length_at = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        fill(bytes);
        let length = u32::try_from(bytes.len() - length_at + beyond).unwrap_or(u32::MAX);
        bytes[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Forgets the first `count` bytes, which were sent.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.bytes.len() {
            self.clear();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        let mut storage = std::mem::take(&mut self.bytes);
        self.sent = 0;
        if (1..=KEPT).contains(&storage.capacity()) {
            storage.clear();
            let _ = LAST.try_with(|last| last.set(storage));
        }
    }

    fn storage(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = LAST.try_with(Cell::take).unwrap_or_default();
        }
        &mut self.bytes
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The content may hold literals: only its size is shown.
        write!(f, "Outbox({} bytes)", self.bytes().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves_and_what_comes_by_other_means() {
        let mut outbox = Outbox::default();
        outbox.message(b'B', 3, |body| body.extend_from_slice(b"ab"));
        assert_eq!(outbox.bytes(), b"B\0\0\0\x09ab");
        outbox.consume(5);
        assert_eq!(outbox.bytes(), b"ab");
        outbox.consume(2);
        assert!(outbox.is_empty());
        outbox.extend(b"next");
        assert_eq!(outbox.bytes(), b"next");
    }
}
