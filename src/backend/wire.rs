//! Whole messages from and to a server, for everything that is not relayed.
//!
//! Received bytes land in a buffer that the connection owns, so a read that is dropped half-way loses nothing. A declared
//! length is judged before a single byte is reserved for it.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::{HangUp, ProtocolError};
use crate::tls::Stream;

/// Type byte and length word.
pub(super) const HEADER: usize = 5;
/// The most memory one message of the login, or one asynchronous message, may take. PostgreSQL's own are below 30,000 bytes
/// (libpq, `fe-connect.c`, refuses more before the login); a NOTIFY carries at most 8,000, a NOTICE what a function raises.
pub(super) const SMALL: usize = 256 * 1024;
/// How much is read at once.
const CHUNK: usize = 8 * 1024;

/// One message, without its header.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Bytes,
}

/// A server's socket and what was read from it but not used yet.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: Stream,
    pub(super) unread: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            unread: BytesMut::new(),
        }
    }

    /// Sends bytes. Not cancel-safe: dropped half-way, a part of them is out, and the connection is of no use any more.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), HangUp> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message whose length word is at most `limit`. Cancel-safe.
    pub(super) async fn receive(&mut self, limit: usize) -> Result<Message, HangUp> {
        loop {
            if let Some(message) = take_message(&mut self.unread, limit)? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// Reads what is there, at least a byte. Cancel-safe.
    pub(super) async fn fill(&mut self) -> Result<(), HangUp> {
        self.unread.reserve(CHUNK);
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(HangUp::Closed),
            _ => Ok(()),
        }
    }
}

/// The type and the length of the body of the message at the front of `bytes`, if its header is whole.
pub(super) fn peek(bytes: &[u8]) -> Result<Option<(u8, usize)>, ProtocolError> {
    let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    // The length counts its own four bytes, and is a signed number in PostgreSQL.
    match usize::try_from(length) {
        Ok(long) if (4..=i32::MAX as usize).contains(&long) => Ok(Some((tag, long - 4))),
        _ => Err(ProtocolError::BadLength { tag, length }),
    }
}

/// Takes the first message from the buffer if it is whole.
pub(super) fn take_message(
    buffer: &mut BytesMut,
    limit: usize,
) -> Result<Option<Message>, ProtocolError> {
    let Some((tag, body)) = peek(buffer)? else {
        return Ok(None);
    };
    if body + 4 > limit {
        let length = body as u32 + 4;
        return Err(ProtocolError::TooLong { tag, length, limit });
    }
    if buffer.len() < HEADER + body {
        return Ok(None);
    }
    buffer.advance(HEADER);
    let body = buffer.split_to(body).freeze();
    Ok(Some(Message { tag, body }))
}

/// Splits a NUL-terminated text off the front.
pub(super) fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = memchr::memchr(0, bytes)?;
    let text = &bytes[..end];
    *bytes = &bytes[end + 1..];
    Some(text)
}

/// Splits a 32-bit number off the front.
pub(super) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(i32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_taken_when_it_is_whole() {
        let mut buffer = BytesMut::from(&b"Z\0\0\0\x05"[..]);
        assert!(take_message(&mut buffer, SMALL).unwrap().is_none());
        buffer.extend_from_slice(b"IN");
        let message = take_message(&mut buffer, SMALL).unwrap().unwrap();
        assert_eq!((message.tag, &message.body[..]), (b'Z', &b"I"[..]));
        assert_eq!(&buffer[..], b"N");
    }

    #[test]
    fn lengths_are_judged_from_the_header_alone() {
        for length in [0_u32, 3, 0x8000_0000, u32::MAX] {
            let mut buffer = BytesMut::from(&b"D"[..]);
            buffer.extend_from_slice(&length.to_be_bytes());
            let error = take_message(&mut buffer, usize::MAX).unwrap_err();
            assert_eq!(error, ProtocolError::BadLength { tag: b'D', length });
        }
        let mut buffer = BytesMut::from(&b"D\x7f\xff\xff\xff"[..]);
        let error = take_message(&mut buffer, 100).unwrap_err();
        assert!(matches!(
            error,
            ProtocolError::TooLong {
                length: 0x7fff_ffff,
                ..
            }
        ));
        assert!(buffer.capacity() < 100);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take_message(&mut buffer, 32) {}
            let mut rest = &bytes[..];
            let _ = take_i32(&mut rest);
            let _ = take_text(&mut rest);
        }
    }
}
