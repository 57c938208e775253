//! Message frames: a tag byte, a length, a body.

/// Bytes of a message header: the tag and the four bytes of length.
pub const HEADER: usize = 5;

/// Tags of the messages that a client sends.
pub mod frontend {
    #![allow(
        missing_docs,
        reason = "the names are those of the protocol's documentation"
    )]
    pub const BIND: u8 = b'B';
    pub const CLOSE: u8 = b'C';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_FAIL: u8 = b'f';
    pub const DESCRIBE: u8 = b'D';
    pub const EXECUTE: u8 = b'E';
    pub const FLUSH: u8 = b'H';
    pub const FUNCTION_CALL: u8 = b'F';
    pub const PARSE: u8 = b'P';
    pub const PASSWORD: u8 = b'p';
    pub const QUERY: u8 = b'Q';
    pub const SYNC: u8 = b'S';
    pub const TERMINATE: u8 = b'X';
}

/// Tags of the messages that a server sends.
pub mod backend {
    #![allow(
        missing_docs,
        reason = "the names are those of the protocol's documentation"
    )]
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH: u8 = b'W';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_IN: u8 = b'G';
    pub const COPY_OUT: u8 = b'H';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY: u8 = b'I';
    pub const ERROR: u8 = b'E';
    pub const FUNCTION_RESULT: u8 = b'V';
    pub const NO_DATA: u8 = b'n';
    pub const NOTICE: u8 = b'N';
    pub const NOTIFICATION: u8 = b'A';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const READY_FOR_QUERY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// The head of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which message.
    pub tag: u8,
    /// Bytes of the whole message, header included.
    pub total: usize,
}

/// A frame that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field counts itself, so it is at least four.
    #[error("message {tag:?} declares an impossible length of {declared} bytes", tag = char::from(*tag))]
    Length {
        /// The message's tag.
        tag: u8,
        /// What its length field says.
        declared: i32,
    },
    /// Longer than this kind of message may be.
    #[error("message {tag:?} declares {declared} bytes, the limit is {limit}", tag = char::from(*tag))]
    TooLong {
        /// The message's tag.
        tag: u8,
        /// What its length field says.
        declared: usize,
        /// What is allowed.
        limit: usize,
    },
}

impl Header {
    /// Reads a header from the start of `bytes`; `None` when fewer than [`HEADER`] bytes are there.
    ///
    /// # Errors
    /// A declared length below four. Nothing is reserved by the declared length, so a large one is no error here.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some([tag, a, b, c, d]) = bytes.first_chunk::<HEADER>().copied() else {
            return Ok(None);
        };
        let declared = i32::from_be_bytes([a, b, c, d]);
        match usize::try_from(declared) {
            Ok(length) if length >= 4 => Ok(Some(Self {
                tag,
                total: length + 1,
            })),
            _ => Err(FrameError::Length { tag, declared }),
        }
    }

    /// Refuses a message longer than `limit` bytes.
    ///
    /// # Errors
    /// [`FrameError::TooLong`].
    pub fn at_most(self, limit: usize) -> Result<Self, FrameError> {
        if self.total > limit {
            return Err(FrameError::TooLong {
                tag: self.tag,
                declared: self.total,
                limit,
            });
        }
        Ok(self)
    }
}

/// Splits a NUL-terminated string off the front: the string without its NUL, and the rest. `None` without a NUL.
#[inline]
pub fn cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_needs_five_bytes() {
        assert_eq!(Header::parse(b"Q\0\0\0"), Ok(None));
        assert_eq!(
            Header::parse(b"Q\0\0\0\x04"),
            Ok(Some(Header {
                tag: b'Q',
                total: 5
            }))
        );
    }

    #[test]
    fn impossible_lengths_are_errors() {
        assert_eq!(
            Header::parse(b"Q\0\0\0\x03"),
            Err(FrameError::Length {
                tag: b'Q',
                declared: 3
            })
        );
        assert_eq!(
            Header::parse(b"Q\xff\xff\xff\xff"),
            Err(FrameError::Length {
                tag: b'Q',
                declared: -1
            })
        );
    }

    #[test]
    fn a_string_ends_at_its_nul() {
        assert_eq!(cstr(b"ab\0c"), Some((&b"ab"[..], &b"c"[..])));
        assert_eq!(cstr(b"ab"), None);
    }
}
