//! The input buffer of one side of a session.
//!
//! A session that waits holds no memory: storage comes from a per-thread stock when bytes are about to be read, and goes
//! back when all of them were passed on. Ten thousand idle clients so share a handful of buffers. The storage never
//! grows: a message that does not fit is passed on in pieces.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of one buffer. One read of this size serves many small messages or a piece of a large result; larger ones
/// gained nothing measurable and cost cache.
const CAPACITY: usize = 32 * 1024;

/// Buffers kept per thread for the next reader; more than are ever busy at once on a thread that keeps up.
const STOCK: usize = 64;

thread_local! {
    /// The buffer that was given back last. A poll that finds nothing takes it and gives it back, so this is the path
    /// that counts.
    static LAST: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    /// The others.
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read and not yet passed on.
#[derive(Default)]
pub struct Inbox {
    storage: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// The largest message that can be looked at whole.
    pub const CAPACITY: usize = CAPACITY;

    /// The bytes that wait here.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.storage {
            Some(storage) => &storage[self.start..self.end],
            None => &[],
        }
    }

    /// How many bytes wait here.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing waits here.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether a read could add nothing.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() == CAPACITY
    }

    /// Reads once into the free space. `Ready(Ok(0))` is the end of the stream.
    ///
    /// Dropping the caller loses nothing: what was read is here. A full inbox reads nothing and stays pending without
    /// registering a wake-up, so the caller must have another reason to be woken (it is about to pass bytes on).
    pub fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<usize>> {
        if self.is_full() {
            return Poll::Pending;
        }
        let storage = self.storage.get_or_insert_with(take);
        if self.start > 0 && (self.start == self.end || self.end == CAPACITY) {
            storage.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut space = ReadBuf::new(&mut storage[self.end..]);
        let polled = Pin::new(from).poll_read(cx, &mut space);
        let read = space.filled().len();
        self.end += read;
        if self.is_empty() {
            self.release();
        }
        ready!(polled)?;
        Poll::Ready(Ok(read))
    }

    /// Forgets the first `count` bytes.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += count;
        if self.start == self.end {
            self.release();
        }
    }

    /// Cuts `count` bytes out at `offset`, closing the gap. For the rare reply that is not for the client.
    pub fn cut(&mut self, offset: usize, count: usize) {
        if let Some(storage) = &mut self.storage {
            let gap = self.start + offset;
            storage.copy_within(self.start..gap, self.start + count);
        }
        self.consume(count);
    }

    /// Forgets everything after the first `count` bytes and returns it.
    pub fn split_off(&mut self, count: usize) -> Vec<u8> {
        let rest = self.bytes()[count..].to_vec();
        self.end = self.start + count;
        if self.is_empty() {
            self.release();
        }
        rest
    }

    fn release(&mut self) {
        self.start = 0;
        self.end = 0;
        if let Some(storage) = self.storage.take()
            && let Some(previous) = LAST.replace(Some(storage))
        {
            FREE.with_borrow_mut(|free| {
                if free.len() < STOCK {
                    free.push(previous);
                }
            });
        }
    }
}

fn take() -> Box<[u8]> {
    LAST.take()
        .or_else(|| FREE.with_borrow_mut(Vec::pop))
        .unwrap_or_else(|| vec![0; CAPACITY].into_boxed_slice())
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // A thread that is ending has no stock any more; `release` would panic then.
        if self.storage.is_some() && FREE.try_with(|_| ()).is_ok() && LAST.try_with(|_| ()).is_ok()
        {
            self.release();
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The content may hold literals and passwords: only its size is shown.
        write!(f, "Inbox({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn filled(bytes: &[u8]) -> Inbox {
        let mut inbox = Inbox::default();
        let mut source = bytes;
        let mut cx = Context::from_waker(Waker::noop());
        while !source.is_empty() {
            assert!(matches!(
                inbox.poll_fill(&mut cx, &mut source),
                Poll::Ready(Ok(1..))
            ));
        }
        inbox
    }

    #[test]
    fn an_empty_inbox_holds_no_memory() {
        let mut inbox = filled(b"abc");
        assert!(inbox.storage.is_some());
        inbox.consume(3);
        assert!(inbox.storage.is_none());
    }

    #[test]
    fn a_reply_can_be_cut_out_of_the_middle() {
        let mut inbox = filled(b"abcXXdef");
        inbox.cut(3, 2);
        assert_eq!(inbox.bytes(), b"abcdef");
    }

    #[test]
    fn what_came_too_early_can_be_split_off() {
        let mut inbox = filled(b"abcdef");
        assert_eq!(inbox.split_off(4), b"ef");
        assert_eq!(inbox.bytes(), b"abcd");
    }

    #[test]
    fn a_full_inbox_reads_no_more_and_space_comes_back() {
        let mut inbox = filled(&[7; CAPACITY]);
        let mut more: &[u8] = b"z";
        let mut cx = Context::from_waker(Waker::noop());
        assert!(inbox.is_full());
        assert!(inbox.poll_fill(&mut cx, &mut more).is_pending());
        inbox.consume(1);
        assert!(matches!(
            inbox.poll_fill(&mut cx, &mut more),
            Poll::Ready(Ok(1))
        ));
        assert_eq!(inbox.bytes().last(), Some(&b'z'));
        assert_eq!(inbox.len(), CAPACITY);
    }

    #[test]
    fn the_end_of_the_stream_is_zero_bytes() {
        let mut inbox = Inbox::default();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(
            inbox.poll_fill(&mut cx, &mut tokio::io::empty()),
            Poll::Ready(Ok(0))
        ));
    }
}
