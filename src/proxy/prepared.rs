//! One client's prepared statements.
//!
//! The unnamed statement outlives its transaction on a direct connection, so a client may bind to it long after its
//! server went to somebody else. Its Parse is therefore kept and sent again, ahead of the first Bind or Describe on a
//! server that did not get it from us; a client without one gets PostgreSQL's own error, because the unnamed statement
//! that another client left there is closed first. Named statements pin the session while any is open.

use std::collections::{HashSet, VecDeque};

use bytes::{BufMut, BytesMut};

use super::pipeline::{Failure, Owed};
use crate::pgwire::frontend as tag;

/// The unnamed statement longer than this pins the session instead of being kept.
pub(super) const KEEP_AT_MOST: usize = 16 * 1024;

/// The statements of one session.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// The Parse message that made the unnamed statement; empty when there is none.
    unnamed: Vec<u8>,
    /// The unnamed statement was too long to be kept: only the server has it, which the session keeps for that.
    in_server: bool,
    /// Parses of the unnamed statement whose answer is awaited, oldest first; empty for one that is not kept.
    parsing: VecDeque<Vec<u8>>,
    /// Buffers to use again, so that a Parse a query allocates nothing.
    spare: Vec<Vec<u8>>,
    /// This server got the unnamed statement (or lost it) by a message of this client.
    server_agrees: bool,
    /// The server has answered the message by which it agrees.
    confirmed: bool,
    /// Open named statements, as the server has answered.
    named: HashSet<Box<[u8]>>,
    /// Parses of named statements whose answer is awaited, oldest first.
    naming: VecDeque<Box<[u8]>>,
    /// Closes whose answer is awaited, oldest first; the empty name is the unnamed statement.
    closing: VecDeque<Box<[u8]>>,
}

impl Prepared {
    /// The session got another server.
    pub(super) fn on_server_changed(&mut self) {
        self.server_agrees = false;
        self.confirmed = false;
    }

    /// Whether any named statement is open, or may be in a moment.
    pub(super) fn any_named(&self) -> bool {
        !self.named.is_empty() || !self.naming.is_empty()
    }

    /// Whether this server's unnamed statement is this client's.
    #[inline]
    pub(super) fn server_agrees(&self) -> bool {
        self.server_agrees
    }

    /// A Parse of the unnamed statement is sent; `message` is the whole of it, or empty when it is too long to be kept.
    /// The session must stay with the server then.
    pub(super) fn on_parse_unnamed(&mut self, message: &[u8]) {
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(message);
        self.parsing.push_back(kept);
        self.server_agrees = true;
        self.confirmed = false;
    }

    /// A Sync is sent. What was sent before it and not answered yet may have been skipped, so what follows it must not
    /// take it for done.
    #[inline]
    pub(super) fn on_sync(&mut self) {
        self.server_agrees &= self.confirmed;
    }

    /// The server has answered a message of ours about the unnamed statement.
    pub(super) fn on_injected_done(&mut self) {
        self.confirmed = true;
    }

    /// A Parse of a named statement is sent.
    pub(super) fn on_parse_named(&mut self, name: &[u8]) {
        self.naming.push_back(name.into());
    }

    /// The server has parsed the oldest named statement.
    pub(super) fn on_named_parsed(&mut self) {
        self.named.extend(self.naming.pop_front());
    }

    /// A Close of a statement is sent.
    pub(super) fn on_close(&mut self, name: &[u8]) {
        self.closing.push_back(name.into());
        if name.is_empty() {
            // Whoever's it was, the server has none after this.
            self.server_agrees = true;
            self.confirmed = false;
        }
    }

    /// The unnamed statement is about to be used. What must go to the server first is appended to `ahead`.
    #[inline]
    pub(super) fn before_use(&mut self, ahead: &mut BytesMut) -> Option<Owed> {
        if self.server_agrees {
            return None;
        }
        self.confirmed = false;
        self.server_agrees = true;
        if self.in_server {
            return None;
        }
        if self.unnamed.is_empty() {
            ahead.put_u8(tag::CLOSE);
            ahead.put_i32(6);
            ahead.put_slice(b"S\0");
            return Some(Owed::CloseInjected);
        }
        ahead.put_slice(&self.unnamed);
        Some(Owed::ParseInjected)
    }

    /// The server has parsed the oldest unnamed statement.
    #[inline]
    pub(super) fn on_unnamed_parsed(&mut self) {
        self.confirmed = true;
        if let Some(parsed) = self.parsing.pop_front() {
            self.in_server = parsed.is_empty();
            let old = std::mem::replace(&mut self.unnamed, parsed);
            self.spare.push(old);
        }
    }

    /// The server has closed the oldest statement to be closed.
    pub(super) fn on_closed(&mut self) {
        match self.closing.pop_front() {
            Some(name) if name.is_empty() => self.forget_unnamed(),
            Some(name) => drop(self.named.remove(&name)),
            None => {}
        }
    }

    /// A simple Query drops the unnamed statement (PostgreSQL, `exec_simple_query`).
    #[inline]
    pub(super) fn on_simple_query(&mut self) {
        self.forget_unnamed();
    }

    #[inline]
    fn forget_unnamed(&mut self) {
        self.unnamed.clear();
        self.in_server = false;
    }

    /// An error took some messages with it.
    pub(super) fn on_failure(&mut self, failure: &Failure) {
        for dropped in self
            .parsing
            .drain(..failure.dropped_parses.min(self.parsing.len()))
        {
            self.spare.push(dropped);
        }
        self.naming
            .drain(..failure.dropped_named.min(self.naming.len()));
        self.closing
            .drain(..failure.dropped_closes.min(self.closing.len()));
        if failure.unnamed_lost {
            self.forget_unnamed();
        }
        // Which unnamed statement the server has now depends on where it began to skip: make sure at the next use.
        self.confirmed = false;
        self.server_agrees = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(dropped_parses: usize, unnamed_lost: bool) -> Failure {
        Failure {
            sent: None,
            unnamed_lost,
            dropped_parses,
            dropped_named: 0,
            dropped_closes: 0,
        }
    }

    #[test]
    fn a_kept_statement_is_sent_again_to_another_server() {
        let mut prepared = Prepared::default();
        let mut ahead = BytesMut::new();
        prepared.on_parse_unnamed(b"P....one");
        prepared.on_unnamed_parsed();
        assert_eq!(prepared.before_use(&mut ahead), None, "this server has it");
        prepared.on_server_changed();
        assert_eq!(prepared.before_use(&mut ahead), Some(Owed::ParseInjected));
        assert_eq!(&ahead[..], b"P....one");
        assert_eq!(prepared.before_use(&mut ahead), None, "once a server");
    }

    #[test]
    fn one_that_is_not_kept_is_left_where_it_is() {
        let mut prepared = Prepared::default();
        let mut ahead = BytesMut::new();
        prepared.on_parse_unnamed(b"");
        prepared.on_unnamed_parsed();
        assert_eq!(prepared.before_use(&mut ahead), None);
        prepared.on_failure(&failure(0, false));
        assert_eq!(prepared.before_use(&mut ahead), None, "it is still there");
        prepared.on_simple_query();
        prepared.on_failure(&failure(0, false));
        assert_eq!(prepared.before_use(&mut ahead), Some(Owed::CloseInjected));
    }

    #[test]
    fn without_one_another_clients_is_closed() {
        let mut prepared = Prepared::default();
        let mut ahead = BytesMut::new();
        assert_eq!(prepared.before_use(&mut ahead), Some(Owed::CloseInjected));
        assert_eq!(&ahead[..], b"C\0\0\0\x06S\0");
    }

    #[test]
    fn a_failed_parse_leaves_no_unnamed_statement() {
        let mut prepared = Prepared::default();
        prepared.on_parse_unnamed(b"one");
        prepared.on_unnamed_parsed();
        prepared.on_parse_unnamed(b"bad");
        prepared.on_failure(&failure(1, true));
        assert_eq!(
            prepared.before_use(&mut BytesMut::new()),
            Some(Owed::CloseInjected)
        );
    }

    #[test]
    fn a_skipped_parse_leaves_the_one_before() {
        let mut prepared = Prepared::default();
        prepared.on_parse_unnamed(b"one");
        prepared.on_unnamed_parsed();
        prepared.on_parse_unnamed(b"two");
        prepared.on_failure(&failure(1, false));
        let mut ahead = BytesMut::new();
        assert_eq!(prepared.before_use(&mut ahead), Some(Owed::ParseInjected));
        assert_eq!(&ahead[..], b"one");
    }

    #[test]
    fn named_statements_are_open_until_their_close_is_answered() {
        let mut prepared = Prepared::default();
        prepared.on_parse_named(b"s1");
        assert!(prepared.any_named(), "before it is answered");
        prepared.on_named_parsed();
        prepared.on_close(b"s1");
        assert!(prepared.any_named());
        prepared.on_closed();
        assert!(!prepared.any_named());
    }
    #[test]
    fn one_that_is_closed_and_parsed_again_at_once_is_open() {
        let mut prepared = Prepared::default();
        prepared.on_parse_named(b"s1");
        prepared.on_close(b"s1");
        prepared.on_parse_named(b"s1");
        prepared.on_named_parsed();
        prepared.on_closed();
        prepared.on_named_parsed();
        assert!(prepared.any_named());
    }
}
