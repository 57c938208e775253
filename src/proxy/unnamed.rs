//! One client's unnamed statement.
//!
//! It outlives its transaction on a direct connection, so a client may bind to it long after its
//! server went to somebody else. Its Parse is therefore kept and sent again, ahead of the first Bind or Describe on a
//! server that did not get it from us; a client without one gets PostgreSQL's own error, because the unnamed statement
//! that another client left there is closed first.

use std::collections::VecDeque;

use super::pipeline::{Failure, Owed};
use crate::pgwire::{HEADER, Outbox, frontend};
use crate::query::Asked;

/// The unnamed statement longer than this pins the session instead of being kept.
pub(super) const KEEP_AT_MOST: usize = 16 * 1024;

/// The unnamed statement of one session.
#[derive(Debug, Default)]
pub(super) struct Unnamed {
    /// The Parse message that made it; empty when there is none.
    kept: Vec<u8>,
    /// The unnamed statement was too long to be kept: only the server has it, which the session keeps for that.
    in_server: bool,
    /// What its text is.
    asked: Option<Asked>,
    /// Parses of the unnamed statement whose answer is awaited, oldest first.
    parsing: VecDeque<Parsing>,
    /// Buffers to use again, so that a Parse a query allocates nothing.
    spare: Vec<Vec<u8>>,
    /// This server has carried out a message of this client about it: whatever it has or has not since, is this client's.
    ours: bool,
    /// Such a message was sent in this batch. What follows it in the batch is carried out after it, or not at all.
    sent: bool,
}

/// A Parse that is not answered.
#[derive(Debug)]
struct Parsing {
    /// The message; empty for one that is not kept.
    message: Vec<u8>,
    asked: Option<Asked>,
}

impl Unnamed {
    /// The session got another server.
    pub(super) fn on_server_changed(&mut self) {
        self.ours = false;
        self.sent = false;
    }

    /// Whether this server's unnamed statement is this client's.
    #[inline]
    pub(super) fn server_agrees(&self) -> bool {
        self.ours || self.sent
    }

    /// A Parse of the unnamed statement is sent; `message` is the whole of it, or empty when it is too long to be kept.
    /// The session must stay with the server then.
    pub(super) fn on_parse(&mut self, message: &[u8], asked: Option<Asked>) {
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(message);
        self.parsing.push_back(Parsing {
            message: kept,
            asked,
        });
        self.sent = true;
    }

    /// The text that a Bind sent now would find, as far as it is kept.
    pub(super) fn text(&self) -> &[u8] {
        let coming = self.parsing.back();
        let message = coming.map_or(&self.kept, |parsing| &parsing.message);
        // A header, and the NUL of the empty name.
        message.get(HEADER + 1..).unwrap_or_default()
    }

    /// What is known of that text.
    #[inline]
    pub(super) fn asked(&self) -> Option<&Asked> {
        let coming = self.parsing.back();
        coming.map_or(self.asked.as_ref(), |parsing| parsing.asked.as_ref())
    }

    /// A Sync is sent. What was sent before it and not answered yet may have been skipped, so what follows it must not
    /// take it for done.
    #[inline]
    pub(super) fn on_sync(&mut self) {
        self.sent = false;
    }

    /// The server has answered a message of ours about it.
    pub(super) fn on_restored(&mut self) {
        self.ours = true;
    }

    /// A Close of it is sent: whoever's it was, the server has none after this.
    pub(super) fn on_close(&mut self) {
        self.sent = true;
    }

    /// The unnamed statement is about to be used. What must go to the server first is appended to `ahead`.
    #[inline]
    pub(super) fn before_use(&mut self, ahead: &mut Outbox) -> Option<Owed> {
        if self.server_agrees() {
            return None;
        }
        self.sent = true;
        if self.in_server {
            return None;
        }
        if self.kept.is_empty() {
            ahead.message(frontend::CLOSE, 0, |body| body.extend_from_slice(b"S\0"));
            return Some(Owed::CloseInjected);
        }
        ahead.extend(&self.kept);
        Some(Owed::ParseInjected)
    }

    /// The server has parsed the oldest unnamed statement.
    #[inline]
    pub(super) fn on_parsed(&mut self) {
        self.ours = true;
        if let Some(parsed) = self.parsing.pop_front() {
            self.in_server = parsed.message.is_empty();
            self.asked = parsed.asked;
            let old = std::mem::replace(&mut self.kept, parsed.message);
            self.spare.push(old);
        }
    }

    /// The server has closed it.
    pub(super) fn on_closed(&mut self) {
        self.forget();
    }

    /// A simple Query drops the unnamed statement (PostgreSQL, `exec_simple_query`).
    #[inline]
    pub(super) fn on_simple_query(&mut self) {
        self.forget();
    }

    #[inline]
    fn forget(&mut self) {
        self.ours = true;
        self.kept.clear();
        self.asked = None;
        self.in_server = false;
    }

    /// An error took some messages with it.
    pub(super) fn on_failure(&mut self, failure: &Failure) {
        for dropped in self
            .parsing
            .drain(..failure.dropped_parses.min(self.parsing.len()))
        {
            self.spare.push(dropped.message);
        }
        if failure.unnamed_lost {
            self.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(dropped_parses: usize, unnamed_lost: bool) -> Failure {
        Failure {
            unnamed_lost,
            dropped_parses,
            ..Failure::default()
        }
    }

    #[test]
    fn a_kept_statement_is_sent_again_to_another_server() {
        let mut unnamed = Unnamed::default();
        let mut ahead = Outbox::default();
        unnamed.on_parse(b"P....one", None);
        unnamed.on_parsed();
        assert_eq!(unnamed.before_use(&mut ahead), None, "this server has it");
        unnamed.on_server_changed();
        assert_eq!(unnamed.before_use(&mut ahead), Some(Owed::ParseInjected));
        assert_eq!(ahead.bytes(), b"P....one");
        assert_eq!(unnamed.before_use(&mut ahead), None, "once a server");
    }

    #[test]
    fn one_that_is_not_kept_is_left_where_it_is() {
        let mut unnamed = Unnamed::default();
        let mut ahead = Outbox::default();
        unnamed.on_parse(b"", None);
        unnamed.on_parsed();
        assert_eq!(unnamed.before_use(&mut ahead), None);
        unnamed.on_failure(&failure(0, false));
        assert_eq!(unnamed.before_use(&mut ahead), None, "it is still there");
        unnamed.on_simple_query();
        unnamed.on_server_changed();
        assert_eq!(unnamed.before_use(&mut ahead), Some(Owed::CloseInjected));
    }

    #[test]
    fn a_server_that_got_it_once_is_not_given_it_again() {
        let mut unnamed = Unnamed::default();
        let mut ahead = Outbox::default();
        unnamed.on_parse(b"P....one", None);
        unnamed.on_sync();
        assert!(!unnamed.server_agrees(), "it may be skipped");
        unnamed.on_parsed();
        assert!(unnamed.server_agrees(), "it was not");
        unnamed.on_simple_query();
        assert_eq!(unnamed.before_use(&mut ahead), None, "it has none now");
    }

    #[test]
    fn without_one_another_clients_is_closed() {
        let mut unnamed = Unnamed::default();
        let mut ahead = Outbox::default();
        assert_eq!(unnamed.before_use(&mut ahead), Some(Owed::CloseInjected));
        assert_eq!(ahead.bytes(), b"C\0\0\0\x06S\0");
    }

    #[test]
    fn a_failed_parse_leaves_no_unnamed_statement() {
        let mut unnamed = Unnamed::default();
        unnamed.on_parse(b"one", None);
        unnamed.on_parsed();
        unnamed.on_parse(b"bad", None);
        unnamed.on_failure(&failure(1, true));
        assert_eq!(unnamed.before_use(&mut Outbox::default()), None);
        unnamed.on_server_changed();
        assert_eq!(
            unnamed.before_use(&mut Outbox::default()),
            Some(Owed::CloseInjected)
        );
    }

    #[test]
    fn a_skipped_parse_leaves_the_one_before() {
        let mut unnamed = Unnamed::default();
        unnamed.on_parse(b"one", None);
        unnamed.on_parsed();
        unnamed.on_parse(b"two", None);
        unnamed.on_failure(&failure(1, false));
        unnamed.on_server_changed();
        let mut ahead = Outbox::default();
        assert_eq!(unnamed.before_use(&mut ahead), Some(Owed::ParseInjected));
        assert_eq!(ahead.bytes(), b"one");
    }
}
