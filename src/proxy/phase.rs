//! Which messages a client may send when. A pure state machine: no socket, no clock.
//!
//! Only what the proxy must know is told apart. Whether a Bind fits its statement, or an Execute its portal, is for
//! PostgreSQL to say.

use crate::pgwire::frontend as tag;

/// What the client is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// Any command may come.
    #[default]
    Command,
    /// The server asked for COPY data and the client has not ended it yet.
    CopyIn,
}

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Query: one reply, up to its ReadyForQuery.
    Query,
    /// Parse, with a name and a text.
    Parse,
    /// Bind of a portal to a statement.
    Bind,
    /// Describe of a statement or a portal.
    Describe,
    /// Execute of a portal.
    Execute,
    /// Close of a statement or a portal.
    Close,
    /// Flush: the client waits for what is owed so far.
    Flush,
    /// Sync: ends an implicit transaction, one ReadyForQuery.
    Sync,
    /// FunctionCall.
    FunctionCall,
    /// A piece of COPY data.
    CopyData,
    /// CopyDone or CopyFail.
    CopyEnd,
    /// The client says goodbye.
    Terminate,
}

/// A message that may not come now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    /// No such message exists, or it belongs to the login.
    #[error("invalid frontend message type {0}")]
    Unknown(u8),
    /// The message exists but not during COPY.
    #[error("unexpected message type 0x{0:02X} during COPY from stdin")]
    DuringCopy(u8),
}

impl Phase {
    /// What the message with this tag asks for.
    ///
    /// # Errors
    /// A pair that is not listed is a violation of the protocol by the client.
    #[inline]
    pub(super) fn on_client(self, message: u8) -> Result<(Phase, Request), Violation> {
        use Phase::{Command, CopyIn};
        let request = match message {
            tag::QUERY => Request::Query,
            tag::PARSE => Request::Parse,
            tag::BIND => Request::Bind,
            tag::DESCRIBE => Request::Describe,
            tag::EXECUTE => Request::Execute,
            tag::CLOSE => Request::Close,
            tag::FLUSH => Request::Flush,
            tag::SYNC => Request::Sync,
            tag::FUNCTION_CALL => Request::FunctionCall,
            tag::COPY_DATA => Request::CopyData,
            tag::COPY_DONE | tag::COPY_FAIL => Request::CopyEnd,
            tag::TERMINATE => Request::Terminate,
            _ => return Err(Violation::Unknown(message)),
        };
        match (self, request) {
            (CopyIn, Request::CopyEnd) => Ok((Command, request)),
            (CopyIn, Request::CopyData | Request::Flush | Request::Sync | Request::Terminate) => {
                Ok((CopyIn, request))
            }
            (CopyIn, _) => Err(Violation::DuringCopy(message)),
            (Command, _) => Ok((Command, request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_data_until_it_is_ended() {
        let copy = Phase::CopyIn;
        assert_eq!(copy.on_client(b'd'), Ok((Phase::CopyIn, Request::CopyData)));
        assert_eq!(copy.on_client(b'c'), Ok((Phase::Command, Request::CopyEnd)));
        assert_eq!(copy.on_client(b'f'), Ok((Phase::Command, Request::CopyEnd)));
        assert_eq!(copy.on_client(b'Q'), Err(Violation::DuringCopy(b'Q')));
    }

    #[test]
    fn what_is_no_message_is_a_violation_in_every_phase() {
        for byte in 0..=u8::MAX {
            let known = b"QPBDECHSFdcfX".contains(&byte);
            assert_eq!(Phase::Command.on_client(byte).is_ok(), known, "{byte}");
            assert!(known || Phase::CopyIn.on_client(byte).is_err(), "{byte}");
        }
    }
}
