//! Looking at an idle server without waiting: is it still there, and has it said something?
//!
//! A server that PostgreSQL ended while it lay in the pool has an error message and an end of file waiting in its socket.
//! Looking costs a system call only when the runtime's reactor has already seen the socket become readable.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::error::{HangUp, ProtocolError};
use super::server::Server;
use super::wire::{Message, SMALL, take_message};

/// Read per step. What comes here is short: a parameter, a notice, a goodbye.
const SCRATCH: usize = 1024;
/// The most taken in by one look, so that a server that never stops talking cannot hold the caller.
const MOST: usize = 2 * SMALL;

impl Server {
    /// Reads whatever has arrived, without waiting, and applies it. An error means that the connection is over, and stays:
    /// every later look gives it again.
    ///
    /// For a server that owes no reply. While it is busy the input belongs to whoever waits for the reply, so then this
    /// reads nothing and tells only what is known already.
    pub fn look(&mut self) -> Result<(), HangUp> {
        if let Some(known) = &self.broken {
            return Err(known.clone());
        }
        if self.busy {
            return Ok(());
        }
        let seen = self.read_and_apply();
        if let Err(hang_up) = &seen {
            self.mark_broken(hang_up.clone());
        }
        seen
    }

    fn read_and_apply(&mut self) -> Result<(), HangUp> {
        self.apply_unread()?;
        let mut taken = 0;
        while taken < MOST {
            match self.read_now()? {
                None => return Ok(()),
                Some(0) => return Err(HangUp::Closed),
                Some(read) => taken += read,
            }
            self.apply_unread()?;
        }
        Ok(())
    }

    /// Reads once, if there is something: the number of bytes, `None` if there is nothing now.
    fn read_now(&mut self) -> Result<Option<usize>, HangUp> {
        let mut scratch = [0; SCRATCH];
        let mut buffer = ReadBuf::new(&mut scratch);
        let read = {
            let stream = &mut self.wire.stream;
            let read = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer));
            // Outside tokio's budget: with it used up, a hang-up would look like silence.
            let read = pin!(tokio::task::coop::unconstrained(read));
            read.poll(&mut Context::from_waker(Waker::noop()))
        };
        match read {
            Poll::Pending => Ok(None),
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Ready(Ok(())) => {
                self.wire.unread.extend_from_slice(buffer.filled());
                Ok(Some(buffer.filled().len()))
            }
        }
    }

    fn apply_unread(&mut self) -> Result<(), HangUp> {
        while let Some(message) = take_message(&mut self.wire.unread, SMALL)? {
            self.apply_unasked(&message)?;
        }
        if self.wire.unread.is_empty() {
            // An idle server holds no buffer: there may be many.
            self.wire.unread = Default::default();
        }
        Ok(())
    }

    /// Applies a message that nobody asked for: the three that may come at any time, or the goodbye.
    pub(super) fn apply_unasked(&mut self, message: &Message) -> Result<(), HangUp> {
        let expected = "nothing, a notice, a notification or a parameter";
        match message.tag {
            b'S' | b'N' | b'A' | b'E' => self.absorb(message.tag, &message.body),
            tag => return Err(ProtocolError::Unexpected { tag, expected }.into()),
        }
        match (&self.broken, message.tag) {
            (Some(broken), _) => Err(broken.clone()),
            // An error without a request, and not fatal: whom does it answer?
            (None, b'E') => Err(ProtocolError::Unexpected {
                tag: b'E',
                expected,
            }
            .into()),
            (None, _) => Ok(()),
        }
    }
}
