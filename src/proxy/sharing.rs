//! Named statements in transaction pooling: any server can be given any client's statement.
//!
//! Three tables: what a statement is ([`Statement`](crate::backend::Statement), shared by all clients of a pool), what a
//! client's names stand for ([`Names`](super::names::Names)), and which statements a server has, under names of its own
//! ([`Copies`]). Parse, Bind, Describe and Close are rewritten from the one to the other. A client's Parse always goes to
//! a server, so its errors and its effects are PostgreSQL's own. Where a Bind meets a server without the statement, a
//! Parse of ours goes first, and the Bind waits until the server has described what it made of it: if that is not what
//! the client knows, because the schema has changed since, the client gets the error that PostgreSQL gives for a cached
//! plan, as on a direct connection.
//!
//! Here is what goes to a server on our own account, and what comes of it; [`rewriting`](super::rewriting) is what becomes of
//! the client's messages.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::names::Entry;
use super::pipeline::{Failure, Owed};
use super::traffic::{Dropping, Traffic};
use crate::backend::{Copies, Place, Statement, Statements, Variant};
use crate::pgwire::{DescriptionReader, frontend};

/// How many statements are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementLimits {
    /// On each server; 0 shares nothing, so that a named statement keeps its server.
    pub server: usize,
    /// Names of each client; statements beyond keep the client's server.
    pub client: usize,
}

/// What a session knows of shared statements beyond its names.
#[derive(Debug)]
pub(super) struct Sharing {
    /// `None` where the client keeps its server anyway: its names go as they are.
    pub(super) limits: Option<StatementLimits>,
    pub(super) statements: Statements,
    /// Statements that the server was sent and has not described yet, oldest first.
    coming: VecDeque<Coming>,
    /// Closes of ours that are not answered, oldest first.
    closing: VecDeque<u64>,
    /// Reads the description of the oldest coming.
    pub(super) reader: DescriptionReader,
    /// The variant that a client wanted and that cannot be had any more.
    pub(super) stale: Option<u64>,
    /// The variant whose use was refused for that last.
    pub(super) refused: Option<Arc<Variant>>,
}

/// A statement on its way to the server.
#[derive(Debug)]
struct Coming {
    place: Place,
    statement: Arc<Statement>,
    /// The name that is to stand for it.
    name: Option<Box<[u8]>>,
    /// What a client knows it as.
    wanted: Option<u64>,
    /// It was sent by us, and a message of the client's waits for it.
    awaited: bool,
    parsed: bool,
}

/// A statement that a server is to be given.
#[derive(Debug)]
pub(super) enum Given<'a> {
    /// A client's Parse of this name.
    Asked(&'a [u8]),
    /// What a client knows the statement as, for a message that waits.
    Known(Arc<Variant>),
    /// The statement of this name, which no server has described yet, for a message that waits.
    Undescribed(Box<[u8]>),
}

/// What became of a message that was to be noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It goes as it is.
    AsItIs,
    /// Its head was rewritten and taken off the buffer; this many bytes of it follow as they are.
    Rewritten(usize),
    /// It cannot be noted before what was sent is answered.
    Wait,
}

impl Sharing {
    /// With `limits`, or without sharing.
    pub(super) fn new(limits: Option<StatementLimits>, statements: Statements) -> Self {
        Self {
            limits: limits.filter(|limits| limits.server > 0),
            statements,
            coming: VecDeque::new(),
            closing: VecDeque::new(),
            reader: DescriptionReader::default(),
            stale: None,
            refused: None,
        }
    }

    /// Whether everything of ours is answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.coming.is_empty() && self.closing.is_empty()
    }

    /// Whether a message of the client's waits for a statement of ours.
    pub(super) fn is_awaited(&self) -> bool {
        self.coming.iter().any(|coming| coming.awaited)
    }

    /// A statement of ours was parsed.
    pub(super) fn on_parsed(&mut self) {
        if let Some(coming) = self.coming.iter_mut().find(|coming| !coming.parsed) {
            coming.parsed = true;
        }
    }

    /// A Close of ours was answered.
    pub(super) fn on_closed(&mut self) {
        self.closing.pop_front();
    }
}

impl Traffic {
    /// Gives the server a statement to keep, and has it described.
    pub(super) fn send_statement(
        &mut self,
        statement: Arc<Statement>,
        given: Given<'_>,
        now: Instant,
        copies: &mut Copies,
    ) -> Place {
        self.gather();
        let limit = self.sharing.limits.map_or(0, |limits| limits.server);
        let place = copies.open(limit);
        // One that had to make room is among them.
        self.close_unwanted(now, copies);
        let awaited = !matches!(given, Given::Asked(_));
        let (name, wanted) = match given {
            Given::Asked(name) => (Some(name.into()), None),
            Given::Known(variant) => (None, Some(variant)),
            Given::Undescribed(name) => (Some(name), None),
        };
        let parts = match &wanted {
            Some(variant) => [variant.text(), variant.parameters()],
            None => [statement.asked(), &b""[..]],
        };
        let parse = if awaited {
            Owed::ParseCopy
        } else {
            Owed::ParseShared
        };
        self.send_parse(parse, place.number(), parts, now, copies);
        self.send_about(Owed::DescribeCopy, place.number(), now, copies);
        if awaited {
            self.ahead.message(frontend::FLUSH, 0, |_| {});
        }
        self.sharing.coming.push_back(Coming {
            place,
            statement,
            name,
            wanted: wanted.map(|variant| variant.id()),
            awaited,
            parsed: false,
        });
        place
    }

    /// Gives the server an empty statement, which it parses whatever state it is in, for one use. Returns its number.
    pub(super) fn send_scratch(
        &mut self,
        parameters: &[u8],
        now: Instant,
        copies: &mut Copies,
    ) -> u64 {
        self.gather();
        self.close_unwanted(now, copies);
        let number = copies.scratch();
        self.send_parse(Owed::ParseScratch, number, [b"\0", parameters], now, copies);
        // It is closed with whatever is closed next; that nobody may be left to do so is no harm.
        copies.leave(number);
        number
    }

    /// Closes what the server need not keep, now that there is something to say to it. What is marked was gathered.
    pub(super) fn close_unwanted(&mut self, now: Instant, copies: &mut Copies) {
        while let Some(number) = copies.take_unwanted() {
            self.send_about(Owed::CloseCopy, number, now, copies);
            self.sharing.closing.push_back(number);
        }
    }

    fn send_parse(
        &mut self,
        owed: Owed,
        number: u64,
        parts: [&[u8]; 2],
        now: Instant,
        copies: &Copies,
    ) {
        self.ahead.message(frontend::PARSE, 0, |body| {
            copies.write_name(number, body);
            body.push(0);
            body.extend_from_slice(parts[0]);
            body.extend_from_slice(parts[1]);
        });
        self.pipeline.on_client(owed, now);
    }

    /// A Describe or Close of a statement of ours.
    fn send_about(&mut self, owed: Owed, number: u64, now: Instant, copies: &Copies) {
        let tag = match owed {
            Owed::DescribeCopy => frontend::DESCRIBE,
            _ => frontend::CLOSE,
        };
        self.ahead.message(tag, 0, |body| {
            body.push(b'S');
            copies.write_name(number, body);
            body.push(0);
        });
        self.pipeline.on_client(owed, now);
    }

    /// The server has described the oldest statement that is coming.
    pub(super) fn on_described(&mut self, copies: &mut Copies) {
        let description = self.sharing.reader.finish();
        let Some(coming) = self.sharing.coming.pop_front() else {
            return;
        };
        let variant = coming.statement.variant(description);
        let place = copies.described(coming.place, &variant);
        if coming.wanted.is_some_and(|wanted| wanted != variant.id()) {
            self.sharing.stale = coming.wanted;
        }
        if let Some(name) = coming.name {
            if let Some(Entry::Shared(shared)) = self.names.get(&name)
                && Arc::ptr_eq(&shared.statement, &coming.statement)
            {
                shared.variant = Some(variant);
                shared.place = Some(place);
            }
            if place != coming.place {
                self.names.on_sent_as(name, coming.place.number());
            }
        }
    }

    /// An error took some messages about statements with it.
    pub(super) fn on_statements_failed(&mut self, failure: &Failure, copies: &mut Copies) {
        let sharing = &mut self.sharing;
        let dropped = failure.dropped_copies.min(sharing.coming.len());
        for coming in sharing.coming.drain(..dropped) {
            copies.failed(coming.place, coming.parsed);
        }
        let dropped = failure.dropped_copy_closes.min(sharing.closing.len());
        for number in sharing.closing.drain(..dropped) {
            copies.leave(number);
        }
        sharing.reader = DescriptionReader::default();
        // Of an earlier batch it says nothing about this one, but a Flush of ours went with that.
        self.dropping = match self.dropping {
            _ if self.pipeline.lacks_sync() => Dropping::No,
            Dropping::Flushed => Dropping::Sent,
            other => other,
        };
        self.names.on_dropped(failure.dropped_names);
    }
}
