//! The replies a server still owes, in order.
//!
//! Every message that was passed to the server and will be answered stands in a queue; each reply takes off what it
//! answers. So it is known at every moment whether a reply belongs to the client or to a message of our own, which
//! statement it ends, and whether the server is done: nothing owed, ReadyForQuery idle.
//!
//! After an error in the extended protocol a server skips everything up to the next Sync (PostgreSQL,
//! `src/backend/tcop/postgres.c`, `ignore_till_sync`): what it skips is taken off the queue without a reply, and what
//! is sent before that Sync is never queued. During COPY FROM STDIN it ignores Sync and Flush
//! (`src/backend/commands/copyfromparse.c`, `CopyGetData`).

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::pgwire::backend as tag;

/// Messages that may be unanswered at once; each answer has at least five bytes, and PostgreSQL sends when 8 KiB are full.
const UNANSWERED: usize = 4096;

/// A message whose answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// Parse of the unnamed statement.
    ParseUnnamed,
    /// Parse of a named statement that goes to the server as it is.
    ParseNamed,
    /// Parse of a named statement that is shared: under a name of the server's own.
    ParseShared,
    /// A Parse of ours of the unnamed statement, put before a Bind on a server that does not have it.
    ParseInjected,
    /// A Parse of ours of a shared statement that this server does not have.
    ParseCopy,
    /// A Parse of ours that cannot fail, of a statement that is there to be dropped.
    ParseScratch,
    /// A Describe of ours of what was parsed for sharing; answered by ParameterDescription, then as a Describe is.
    DescribeCopy,
    /// Bind.
    Bind,
    /// Describe; answered by RowDescription or NoData.
    Describe,
    /// Bind of a statement that no server has: PostgreSQL is to refuse it.
    BindStale,
    /// Describe of such a statement.
    DescribeStale,
    /// Close of a named statement.
    CloseStatement,
    /// Close of the unnamed statement.
    CloseUnnamed,
    /// Close of a portal.
    Close,
    /// A Close of ours, so that another client's unnamed statement is not met.
    CloseInjected,
    /// A Close of ours of a shared statement that the server need not keep.
    CloseCopy,
    /// Execute; one statement.
    Execute,
    /// Query; any number of statements, then ReadyForQuery.
    Query,
    /// A Query of ours, behind an answer whose ReadyForQuery the client gets when this is answered.
    OwnQuery,
    /// Parse, Bind, Execute and two Closes of ours, of which so many Closes are not answered.
    OwnBatch(u8),
    /// FunctionCall, then ReadyForQuery.
    FunctionCall,
    /// Sync; ReadyForQuery.
    Sync,
    /// CopyDone or CopyFail; no answer of its own.
    CopyEnd,
}

impl Owed {
    /// Whether its answer ends with ReadyForQuery.
    #[inline]
    fn ends_ready(self) -> bool {
        matches!(
            self,
            Owed::Query | Owed::Sync | Owed::FunctionCall | Owed::OwnQuery
        )
    }
}

/// What a reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// Nothing but to pass it on.
    Pass,
    /// It answers a message of ours: the client never sees it.
    Swallow,
    /// The server's unnamed statement is this client's again. The client never sees it.
    UnnamedRestored,
    /// A Parse of the unnamed statement succeeded.
    UnnamedParsed,
    /// A Parse of a named statement succeeded.
    NamedParsed,
    /// A Parse of a shared statement succeeded, which is for the client to know.
    SharedParsed,
    /// A Parse of a shared statement succeeded that the client knows nothing of.
    CopyParsed,
    /// The parameters of a statement that is shared. The client never sees them.
    CopyParameters,
    /// The columns of a statement that is shared, or that it has none. The client never sees them.
    CopyDescribed,
    /// A shared statement was closed. The client never sees it.
    CopyClosed,
    /// A named statement was closed.
    StatementClosed,
    /// The unnamed statement was closed.
    UnnamedClosed,
    /// A statement ended well; it was sent at this moment.
    StatementDone(Instant),
    /// A statement gave some of its rows; the Execute that asked for them was sent at this moment.
    Suspended(Instant),
    /// A statement failed.
    StatementFailed(Failure),
    /// A statement of a Query of ours ended well. The client never sees it.
    OwnDone,
    /// A Query of ours failed.
    OwnFailed,
    /// A Query of ours is answered.
    OwnReady,
    /// The server asks for COPY data.
    CopyIn,
    /// ReadyForQuery that ends the answer to a message.
    Ready {
        /// Whether at least one statement was executed since the last one.
        executed: bool,
        /// Whether it ends a simple Query, which drops the unnamed statement.
        simple: bool,
    },
    /// Nothing was owed that this could answer.
    Unexpected,
}

/// What an ErrorResponse took with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Failure {
    /// When the failed message was sent; `None` when nothing was owed (the server speaks of itself).
    pub(super) sent: Option<Instant>,
    /// Whether it was the Parse of the unnamed statement, ours or the client's: the server has none now.
    pub(super) unnamed_lost: bool,
    /// Unnamed Parses that the server never looked at, the failed one included.
    pub(super) dropped_parses: usize,
    /// Parses and Closes of named statements that the server never looked at, the failed one included.
    pub(super) dropped_names: usize,
    /// Shared statements that were to be described and were not.
    pub(super) dropped_copies: usize,
    /// Queries and Executes that the server never looked at, the failed one included.
    pub(super) dropped_statements: usize,
    /// What failed is an Execute.
    pub(super) executing: bool,
    /// What failed is a Query.
    pub(super) simple: bool,
    /// Closes of shared statements that the server never looked at.
    pub(super) dropped_copy_closes: usize,
    /// What failed was to fail, because the statement is not what the client knows any more.
    pub(super) stale: Option<Stale>,
    /// What failed is a Parse of a name.
    pub(super) naming: bool,
    /// What failed, as [`Pipeline::next`] numbered it.
    pub(super) number: u64,
}

/// What failed because it was to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    /// A Bind.
    Bind,
    /// A Describe, which PostgreSQL answers in part.
    Describe,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    owed: VecDeque<(Owed, Instant)>,
    /// How many were owed before these.
    taken: u64,
    /// The server skips everything until a Sync that was not sent yet.
    skipping: bool,
    /// The server takes COPY data, and the end of it was not sent yet.
    copying: bool,
    /// The statement under way is a COPY FROM STDIN.
    in_copy: bool,
    /// A statement was executed since the last ReadyForQuery.
    executed: bool,
    /// A batch of the extended protocol was begun, and the Sync that ends it was not sent yet.
    unsynced: bool,
    /// How many of what is owed end with ReadyForQuery, and how many of those are simple Queries: asked for every message.
    ready: usize,
    queries: usize,
}

impl Pipeline {
    /// Whether nothing is owed.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.owed.is_empty() && !self.skipping
    }

    /// Whether the server takes COPY data whose end was not sent yet.
    pub(super) fn is_copying(&self) -> bool {
        self.copying
    }

    /// Whether nothing more will come of what was sent so far, whether or not the batch was ended.
    pub(super) fn is_answered(&self) -> bool {
        self.owed.is_empty()
    }

    /// Whether the server skips everything until a Sync that was not sent yet.
    #[inline]
    pub(super) fn lacks_sync(&self) -> bool {
        self.skipping
    }

    /// Whether a batch was begun that is neither ended nor failed: its implicit transaction is open, though the last
    /// ReadyForQuery does not say so, and a Sync would commit it.
    pub(super) fn is_open(&self) -> bool {
        self.unsynced && !self.skipping
    }

    /// ReadyForQuery messages still to come.
    #[inline]
    pub(super) fn ready_owed(&self) -> usize {
        self.ready
    }

    /// Whether more may be sent before an answer. So many answers fill PostgreSQL's own buffer, so some are on the way
    /// whatever the client does, and a client that never reads cannot make this grow.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.owed.len() < UNANSWERED
    }

    /// Whether what is answered now is a Query.
    #[inline]
    pub(super) fn answers_query(&self) -> bool {
        matches!(self.owed.front(), Some((Owed::Query, _)))
    }

    /// Whether a Query is not answered.
    #[inline]
    pub(super) fn has_query(&self) -> bool {
        self.queries > 0
    }

    /// The number of what will be owed next. (Syncs that a COPY has PostgreSQL ignore are not counted after all.)
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.taken + self.owed.len() as u64 + 1
    }

    #[inline]
    fn push(&mut self, message: Owed, sent: Instant) {
        self.ready += usize::from(message.ends_ready());
        self.queries += usize::from(message == Owed::Query);
        self.owed.push_back((message, sent));
    }

    #[inline]
    fn pop(&mut self) -> Option<(Owed, Instant)> {
        let popped = self.owed.pop_front()?;
        self.taken += 1;
        self.ready -= usize::from(popped.0.ends_ready());
        self.queries -= usize::from(popped.0 == Owed::Query);
        Some(popped)
    }

    /// A message was passed to the server. Returns whether the server will look at it.
    #[inline]
    pub(super) fn on_client(&mut self, message: Owed, sent: Instant) -> bool {
        match message {
            Owed::Sync if self.copying => return false,
            Owed::Sync => {
                self.skipping = false;
                self.unsynced = false;
            }
            Owed::CopyEnd => {
                self.copying = false;
                // The COPY it ends has failed and was answered: PostgreSQL ignores it, and so it must not wait here.
                if !self
                    .owed
                    .iter()
                    .any(|(owed, _)| matches!(owed, Owed::Query | Owed::Execute))
                {
                    return false;
                }
            }
            _ if self.skipping => return false,
            Owed::Query | Owed::FunctionCall | Owed::OwnQuery => self.unsynced = false,
            _ => self.unsynced = true,
        }
        self.push(message, sent);
        true
    }

    /// A message came from the server. `E` with severity FATAL goes to the client like any other and changes nothing
    /// here: the connection is over.
    #[inline]
    pub(super) fn on_server(&mut self, message: u8) -> Reply {
        match self.owed.front_mut() {
            Some((Owed::OwnQuery, _)) => return self.own_answered(message),
            Some((Owed::OwnBatch(closes), _)) if !matches!(message, tag::ERROR) => {
                *closes -= u8::from(message == tag::CLOSE_COMPLETE);
                let over = *closes == 0;
                if matches!(message, tag::NOTIFICATION | tag::PARAMETER_STATUS) {
                    return Reply::Pass;
                }
                if over {
                    self.pop();
                }
                return Reply::Swallow;
            }
            _ => {}
        }
        match message {
            tag::DATA_ROW | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_OUT | tag::COPY_BOTH => {
                Reply::Pass
            }
            tag::NOTICE | tag::NOTIFICATION | tag::PARAMETER_STATUS => Reply::Pass,
            tag::PARAMETER_DESCRIPTION if self.head() == Some(Owed::DescribeCopy) => {
                Reply::CopyParameters
            }
            tag::PARAMETER_DESCRIPTION => Reply::Pass,
            tag::FUNCTION_RESULT => {
                self.executed = true;
                Reply::Pass
            }
            tag::ROW_DESCRIPTION | tag::NO_DATA if self.take(Owed::DescribeCopy) => {
                Reply::CopyDescribed
            }
            tag::ROW_DESCRIPTION | tag::NO_DATA => {
                self.take(Owed::Describe);
                Reply::Pass
            }
            tag::PARSE_COMPLETE => self.parsed(),
            tag::BIND_COMPLETE => self.expect(Owed::Bind),
            tag::CLOSE_COMPLETE => self.closed(),
            tag::COMMAND_COMPLETE | tag::EMPTY_QUERY => self.statement_done(),
            tag::PORTAL_SUSPENDED => match self.head() {
                Some(Owed::Execute) => self
                    .pop()
                    .map_or(Reply::Unexpected, |(_, sent)| Reply::Suspended(sent)),
                _ => Reply::Unexpected,
            },
            tag::COPY_IN => self.copy_in(),
            tag::ERROR => self.failed(),
            tag::READY_FOR_QUERY => self.ready(),
            _ => Reply::Unexpected,
        }
    }

    /// A message came while a Query of ours is answered. What it says of its own is not the client's.
    fn own_answered(&mut self, message: u8) -> Reply {
        match message {
            tag::NOTIFICATION | tag::PARAMETER_STATUS => Reply::Pass,
            tag::READY_FOR_QUERY => {
                self.pop();
                Reply::OwnReady
            }
            tag::ERROR => Reply::OwnFailed,
            tag::COMMAND_COMPLETE => Reply::OwnDone,
            _ => Reply::Swallow,
        }
    }

    /// The oldest thing owed that has an answer of its own.
    fn head(&mut self) -> Option<Owed> {
        while let Some((Owed::CopyEnd, _)) = self.owed.front() {
            self.pop();
        }
        self.owed.front().map(|(owed, _)| *owed)
    }

    /// Takes the head off if it is this.
    fn take(&mut self, owed: Owed) -> bool {
        let found = self.head() == Some(owed);
        if found {
            self.pop();
        }
        found
    }

    fn expect(&mut self, owed: Owed) -> Reply {
        if self.take(owed) {
            Reply::Pass
        } else {
            Reply::Unexpected
        }
    }

    fn parsed(&mut self) -> Reply {
        let reply = match self.head() {
            Some(Owed::ParseUnnamed) => Reply::UnnamedParsed,
            Some(Owed::ParseNamed) => Reply::NamedParsed,
            Some(Owed::ParseShared) => Reply::SharedParsed,
            Some(Owed::ParseCopy) => Reply::CopyParsed,
            Some(Owed::ParseInjected) => Reply::UnnamedRestored,
            Some(Owed::ParseScratch) => Reply::Swallow,
            _ => return Reply::Unexpected,
        };
        self.pop();
        reply
    }

    fn closed(&mut self) -> Reply {
        let reply = match self.head() {
            Some(Owed::CloseStatement) => Reply::StatementClosed,
            Some(Owed::CloseUnnamed) => Reply::UnnamedClosed,
            Some(Owed::Close) => Reply::Pass,
            Some(Owed::CloseInjected) => Reply::UnnamedRestored,
            Some(Owed::CloseCopy) => Reply::CopyClosed,
            _ => return Reply::Unexpected,
        };
        self.pop();
        reply
    }

    fn statement_done(&mut self) -> Reply {
        match self.head() {
            Some(Owed::Query) => {
                // The next COPY of the same Query has an end of its own.
                if std::mem::take(&mut self.in_copy)
                    && matches!(self.owed.get(1), Some((Owed::CopyEnd, _)))
                {
                    self.owed.remove(1);
                }
            }
            Some(Owed::Execute) => {
                self.in_copy = false;
                self.executed = true;
                return self
                    .pop()
                    .map_or(Reply::Unexpected, |(_, sent)| Reply::StatementDone(sent));
            }
            _ => return Reply::Unexpected,
        }
        self.executed = true;
        self.owed
            .front()
            .map_or(Reply::Unexpected, |(_, sent)| Reply::StatementDone(*sent))
    }

    fn copy_in(&mut self) -> Reply {
        let head = self.head();
        if !matches!(head, Some(Owed::Query | Owed::Execute)) {
            return Reply::Unexpected;
        }
        // Syncs that are under way already reach the server inside the COPY and are ignored there.
        let end = self
            .owed
            .iter()
            .position(|(owed, _)| *owed == Owed::CopyEnd);
        self.copying = end.is_none();
        self.in_copy = true;
        let end = end.unwrap_or(self.owed.len());
        let (mut at, before) = (0, self.owed.len());
        self.owed.retain(|(owed, _)| {
            let ignored = at < end && *owed == Owed::Sync;
            at += 1;
            !ignored
        });
        self.ready -= before - self.owed.len();
        self.unsynced |= head == Some(Owed::Execute) && self.ready_owed() == 0;
        Reply::CopyIn
    }

    fn failed(&mut self) -> Reply {
        self.copying = false;
        self.in_copy = false;
        let head = self.head();
        let sent = self.owed.front().map(|(_, sent)| *sent);
        let mut failure = Failure {
            sent,
            unnamed_lost: matches!(head, Some(Owed::ParseUnnamed | Owed::ParseInjected)),
            stale: match head {
                Some(Owed::BindStale) => Some(Stale::Bind),
                Some(Owed::DescribeStale) => Some(Stale::Describe),
                _ => None,
            },
            executing: head == Some(Owed::Execute),
            simple: head == Some(Owed::Query),
            naming: matches!(head, Some(Owed::ParseNamed | Owed::ParseShared)),
            number: self.taken + 1,
            ..Failure::default()
        };
        match head {
            None | Some(Owed::Sync) => {}
            Some(Owed::Query | Owed::FunctionCall) => self.executed = true,
            Some(owed) => {
                self.executed |= owed == Owed::Execute;
                self.skip_to_sync(&mut failure);
            }
        }
        Reply::StatementFailed(failure)
    }

    fn skip_to_sync(&mut self, failure: &mut Failure) {
        while let Some((owed, _)) = self.owed.front() {
            match owed {
                Owed::Sync => return,
                Owed::ParseUnnamed => failure.dropped_parses += 1,
                Owed::ParseNamed | Owed::ParseShared | Owed::CloseStatement => {
                    failure.dropped_names += 1;
                }
                Owed::DescribeCopy => failure.dropped_copies += 1,
                Owed::CloseCopy => failure.dropped_copy_closes += 1,
                Owed::Execute | Owed::Query => failure.dropped_statements += 1,
                _ => {}
            }
            self.pop();
        }
        self.skipping = true;
    }

    fn ready(&mut self) -> Reply {
        let simple = match self.head() {
            Some(Owed::Query) => true,
            Some(Owed::Sync | Owed::FunctionCall) => false,
            _ => return Reply::Unexpected,
        };
        self.pop();
        // A COPY that failed leaves its end behind it, without an answer.
        self.head();
        self.copying = false;
        Reply::Ready {
            executed: std::mem::take(&mut self.executed),
            simple,
        }
    }
}

#[cfg(test)]
mod tests;
