//! What the bytes of a client without a server ask for.
//!
//! A server is taken late: only when the client waits for an answer, that is after a Query, a FunctionCall, a Sync, a
//! Flush, or when the buffer can hold no more. A Sync alone, a Flush alone and what is left of a failed COPY need no server.

use super::phase::{Phase, Request, Violation};
use crate::pgwire::{FrameError, Header, Inbox};

/// What to do with the front of the client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Nothing yet: more bytes are needed.
    More,
    /// A server.
    Server,
    /// This message alone, of this many bytes, which needs no server.
    Local(Local, usize),
    /// The client says goodbye, or will not wait for what came before.
    Goodbye,
}

/// A message that is answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Local {
    /// A Sync with nothing before it: ReadyForQuery.
    Sync,
    /// A message without an answer: Flush, or what follows a COPY that failed (PostgreSQL ignores it too).
    Ignored,
}

/// Looks at the bytes without changing anything. Messages are walked by their headers.
///
/// # Errors
/// The first message is none, or its length is impossible.
pub(super) fn demand(inbox: &Inbox) -> Result<Demand, DemandError> {
    let bytes = inbox.bytes();
    let mut at = 0;
    while let Some(header) = Header::parse(&bytes[at..])? {
        let (_, request) = Phase::Command.on_client(header.tag)?;
        match request {
            Request::Sync if at == 0 => return Ok(Demand::Local(Local::Sync, header.total)),
            Request::Flush | Request::CopyData | Request::CopyEnd if at == 0 => {
                return Ok(Demand::Local(Local::Ignored, header.total));
            }
            Request::Terminate => return Ok(Demand::Goodbye),
            // A message that is still coming takes a server only when the buffer cannot hold the rest of it.
            _ if at + header.total > bytes.len() => break,
            Request::Query | Request::FunctionCall | Request::Sync | Request::Flush => {
                return Ok(Demand::Server);
            }
            Request::CopyData | Request::CopyEnd => return Ok(Demand::Server),
            Request::Parse
            | Request::Bind
            | Request::Describe
            | Request::Execute
            | Request::Close => {}
        }
        at += header.total;
    }
    Ok(if inbox.is_full() {
        Demand::Server
    } else {
        Demand::More
    })
}

/// Bytes that are no message a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DemandError {
    /// The message may not come now.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The frame cannot be one.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The message is longer than ours may be.
    #[error("message of {length} bytes is too long")]
    TooLong {
        /// The message's length, its header included.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn of(bytes: &[u8]) -> Result<Demand, DemandError> {
        let mut inbox = Inbox::default();
        let mut source = bytes;
        let mut cx = Context::from_waker(Waker::noop());
        while !source.is_empty() && !inbox.is_full() {
            let _ = inbox.poll_fill(&mut cx, &mut source);
        }
        demand(&inbox)
    }

    #[test]
    fn a_server_is_wanted_when_the_client_waits_for_an_answer() {
        assert_eq!(of(b"P\0\0\0\x08\0\0\0\0"), Ok(Demand::More));
        assert_eq!(of(b"P\0\0\0\x08\0\0\0\0S\0\0\0\x04"), Ok(Demand::Server));
        assert_eq!(of(b"P\0\0\0\x08\0\0\0\0H\0\0\0\x04"), Ok(Demand::Server));
        assert_eq!(of(b"Q\0\0\x10"), Ok(Demand::More));
        assert_eq!(of(b"Q\0\0\x10\0sel"), Ok(Demand::More));
        assert_eq!(of(b"Q\0\0\0\x06;\0"), Ok(Demand::Server));
        assert_eq!(
            of(&[&b"P\0\x10\0\0"[..], &vec![b'x'; Inbox::CAPACITY]].concat()),
            Ok(Demand::Server)
        );
    }

    #[test]
    fn what_needs_no_server_takes_none() {
        assert_eq!(of(b"S\0\0\0\x04Q"), Ok(Demand::Local(Local::Sync, 5)));
        assert_eq!(of(b"d\0\0\0\x08abcd"), Ok(Demand::Local(Local::Ignored, 9)));
        assert_eq!(of(b"X\0\0\0\x04"), Ok(Demand::Goodbye));
        assert_eq!(of(b"B\0\0\0\x04X\0\0\0\x04"), Ok(Demand::Goodbye));
    }

    #[test]
    fn junk_is_refused() {
        assert!(of(b"?\0\0\0\x04").is_err());
        assert!(of(b"Q\0\0\0\0").is_err());
    }
}
