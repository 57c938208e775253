//! Named statements in transaction pooling: any server can be given any client's statement.
//!
//! Three tables: what a statement is ([`Statement`](crate::backend::Statement), shared by all clients of a pool), what a
//! client's names stand for ([`Names`](super::names::Names)), and which statements a server has, under names of its own
//! ([`Copies`]). Parse, Bind, Describe and Close are rewritten from the one to the other. A client's Parse always goes to
//! a server, so its errors and its effects are PostgreSQL's own. Where a Bind meets a server without the statement, a
//! Parse of ours goes first, and the Bind waits until the server has described what it made of it: if that is not what
//! the client knows, because the schema has changed since, the client gets the error that PostgreSQL gives for a cached
//! plan, as on a direct connection.

use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::Instant;

use super::names::{Entry, SharedEntry};
use super::phase::Request;
use super::pipeline::{Failure, Owed};
use super::traffic::{Dropping, Traffic};
use crate::backend::{Copies, Place, Server, Statement, Statements, Variant};
use crate::pgwire::{DescriptionReader, HEADER, Header, Outbox, cstr, frontend};
use crate::sql::may_deallocate;

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
    limits: Option<StatementLimits>,
    statements: Statements,
    /// Statements that the server was sent and has not described yet, oldest first.
    coming: VecDeque<Coming>,
    /// Closes of ours that are not answered, oldest first.
    closing: VecDeque<u64>,
    /// Reads the description of the oldest coming.
    pub(super) reader: DescriptionReader,
    /// The variant that a client wanted and that cannot be had any more.
    stale: Option<u64>,
    /// How often a shared statement was used.
    uses: u64,
    /// The variant whose use was refused for that last.
    pub(super) refused: Option<Arc<Variant>>,
}

/// A statement on its way to the server.
#[derive(Debug)]
struct Coming {
    place: Place,
    statement: Arc<Statement>,
    /// The name that the client gives it.
    name: Option<Box<[u8]>>,
    /// What a client knows it as.
    wanted: Option<u64>,
    /// It was sent by us, and a message of the client's waits for it.
    awaited: bool,
    parsed: bool,
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
            uses: 0,
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

/// The statement's name in a Bind, or in a Describe or Close of a statement: where it begins in the body, and itself.
pub(super) fn statement_name(request: Request, body: &[u8]) -> Option<(usize, &[u8])> {
    if request == Request::Bind {
        let (portal, rest) = cstr(body)?;
        let (name, _) = cstr(rest)?;
        return Some((portal.len() + 1, name));
    }
    let name = body.strip_prefix(b"S")?;
    cstr(name).map(|(name, _)| (1, name))
}

/// Whether this is the end of a Parse: a text, and as many types as it says.
fn is_whole(asked: &[u8]) -> bool {
    let Some((_, types)) = cstr(asked) else {
        return false;
    };
    types
        .split_first_chunk()
        .is_some_and(|(count, types)| types.len() == 4 * usize::from(u16::from_be_bytes(*count)))
}

fn write_parse(ahead: &mut Outbox, copies: &Copies, number: u64, parts: [&[u8]; 2]) {
    ahead.message(frontend::PARSE, 0, |body| {
        copies.write_name(number, body);
        body.push(0);
        body.extend_from_slice(parts[0]);
        body.extend_from_slice(parts[1]);
    });
}

fn write_about(ahead: &mut Outbox, tag: u8, copies: &Copies, number: u64) {
    ahead.message(tag, 0, |body| {
        body.push(b'S');
        copies.write_name(number, body);
        body.push(0);
    });
}

impl Traffic {
    /// Whether this Parse of a name, which is there as a whole, can be shared.
    pub(super) fn can_share(&self, asked: &[u8]) -> bool {
        self.sharing
            .limits
            .is_some_and(|limits| self.names.len() < limits.client)
            && is_whole(asked)
    }

    /// Whether a name cannot be looked up before an answer: what is under way may drop it by SQL.
    pub(super) fn must_wait_for_drop(&mut self) -> bool {
        if self.pipeline.is_answered() || self.sharing.limits.is_none() {
            self.dropping = Dropping::No;
            return false;
        }
        if self.dropping == Dropping::Sent {
            self.gather();
            self.ahead.message(frontend::FLUSH, 0, |_| {});
            self.dropping = Dropping::Flushed;
        }
        self.dropping == Dropping::Flushed || self.pipeline.has_query()
    }

    /// A Parse that can be shared.
    pub(super) fn share_parse(
        &mut self,
        header: Header,
        now: Instant,
        server: &mut Server,
    ) -> Noted {
        self.gather();
        let message = &self.from_client.bytes()[..header.total];
        let Some((name, asked)) = cstr(&message[HEADER..]) else {
            return Noted::AsItIs;
        };
        let statement = self.sharing.statements.intern(asked, server.parameters());
        let copies = server.copies();
        let limit = self.sharing.limits.map_or(0, |limits| limits.server);
        let place = copies.open(limit);
        close_unwanted(
            &mut self.sharing,
            &mut self.ahead,
            &mut self.pipeline,
            copies,
            now,
        );
        write_parse(&mut self.ahead, copies, place.number(), [asked, b""]);
        self.pipeline.on_client(Owed::ParseShared, now);
        write_about(&mut self.ahead, frontend::DESCRIBE, copies, place.number());
        self.pipeline.on_client(Owed::DescribeCopy, now);
        self.sharing.coming.push_back(Coming {
            place,
            statement: statement.clone(),
            name: Some(name.into()),
            wanted: None,
            awaited: false,
            parsed: false,
        });
        self.names.on_parse(
            name,
            Entry::Shared(SharedEntry {
                statement,
                variant: None,
                place: Some(place),
                used: 0,
            }),
        );
        self.from_client.consume(header.total);
        Noted::Rewritten(0)
    }

    /// A Parse of a name that is taken. PostgreSQL says so itself, after it has looked at the text: about a statement that
    /// is there to be met.
    pub(super) fn parse_taken(
        &mut self,
        header: Header,
        now: Instant,
        copies: &mut Copies,
    ) -> Noted {
        self.gather();
        close_unwanted(
            &mut self.sharing,
            &mut self.ahead,
            &mut self.pipeline,
            copies,
            now,
        );
        let bytes = self.from_client.bytes();
        let Some((name, _)) = cstr(&bytes[HEADER..header.total.min(bytes.len())]) else {
            return Noted::AsItIs;
        };
        let number = copies.scratch();
        write_parse(&mut self.ahead, copies, number, [b"\0", &[0, 0]]);
        self.pipeline.on_client(Owed::ParseScratch, now);
        let head = HEADER + name.len() + 1;
        self.ahead
            .message(frontend::PARSE, header.total - head, |body| {
                copies.write_name(number, body);
                body.push(0);
            });
        self.pipeline.on_client(Owed::ParseNamed, now);
        self.names.on_parse_taken(name);
        copies.leave(number);
        self.from_client.consume(head);
        Noted::Rewritten(header.total - head)
    }

    /// A Bind or Describe of a named statement, or its Close.
    pub(super) fn use_named(
        &mut self,
        request: Request,
        header: Header,
        now: Instant,
        copies: &mut Copies,
    ) -> Noted {
        let bytes = &self.from_client.bytes()[self.to_server..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        let Some((_, name)) = statement_name(request, body) else {
            return Noted::AsItIs;
        };
        if !self.names.is_settled(name) || self.must_wait_for_drop() {
            return Noted::Wait;
        }
        let bytes = &self.from_client.bytes()[self.to_server..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        let Some((at, name)) = statement_name(request, body) else {
            return Noted::AsItIs;
        };
        let head = HEADER + at + name.len() + 1;
        let mut owed = match request {
            Request::Bind => Owed::Bind,
            Request::Describe => Owed::Describe,
            _ => Owed::CloseStatement,
        };
        let mut number = 0;
        let Some(Entry::Shared(shared)) = self.names.get(name) else {
            if copies.is_name(name) {
                // It is none of this client's: a name that nobody has says so.
                owed = unjournalled(owed);
                return self.rename(header, at, head, (0, owed), now, copies);
            }
            // The server knows it by this name, or says that it does not.
            if request == Request::Close {
                if self.names.get(name).is_some() {
                    self.names.on_close(name);
                } else {
                    owed = unjournalled(owed);
                }
            }
            self.pipeline.on_client(owed, now);
            return Noted::AsItIs;
        };
        if request == Request::Close {
            // The server keeps its copy, for others. Closing what is not there is answered all the same.
            self.names.on_close(name);
        } else if let Some(place) = place_of(shared, copies) {
            number = place.number();
            self.sharing.uses += 1;
            shared.used = self.sharing.uses;
            if request == Request::Bind && may_deallocate(shared.statement.asked()) {
                self.dropping = Dropping::Sent;
            }
        } else {
            let wanted = shared.variant.clone();
            let id = wanted.as_ref().map(|variant| variant.id());
            if self.pipeline.ready_owed() > 0 {
                // Whether its transaction stands is on the way.
                return Noted::Wait;
            }
            if let Some(variant) = &wanted
                && self.failed
                && stands_in(request, variant)
            {
                let (variant, name) = (variant.clone(), Box::from(name));
                number = self.stand_in(&variant, name, now, copies);
                return self.rename(header, at, head, (number, owed), now, copies);
            }
            if id.is_none() || self.sharing.stale != id {
                let (statement, name) = (shared.statement.clone(), Box::from(name));
                return self.send_copy(statement, wanted, name, now, copies);
            }
            self.sharing.stale = None;
            self.sharing.refused = wanted;
            owed = match request {
                Request::Bind => Owed::BindStale,
                _ => Owed::DescribeStale,
            };
        }
        self.gather();
        if request == Request::Close {
            close_unwanted(
                &mut self.sharing,
                &mut self.ahead,
                &mut self.pipeline,
                copies,
                now,
            );
        }
        self.rename(header, at, head, (number, owed), now, copies)
    }

    /// Sends the head of a message, of which the name begins `at` in the body and `head` is the end, with another name.
    fn rename(
        &mut self,
        header: Header,
        at: usize,
        head: usize,
        (number, owed): (u64, Owed),
        now: Instant,
        copies: &Copies,
    ) -> Noted {
        self.gather();
        let before_name = &self.from_client.bytes()[HEADER..HEADER + at];
        self.ahead.message(header.tag, header.total - head, |body| {
            body.extend_from_slice(before_name);
            copies.write_name(number, body);
            body.push(0);
        });
        self.pipeline.on_client(owed, now);
        self.from_client.consume(head);
        Noted::Rewritten(header.total - head)
    }

    /// A Query, or a Parse of the unnamed statement, that drops a named one by SQL. The server is given one to drop, so
    /// that its answer is its own and others keep theirs.
    pub(super) fn deallocate(
        &mut self,
        name: Vec<u8>,
        header: Header,
        now: Instant,
        copies: &mut Copies,
    ) -> Noted {
        let owed = if header.tag == frontend::QUERY {
            Owed::Query
        } else {
            Owed::ParseUnnamed
        };
        // A name of the server's own is not the client's to drop: others use it.
        let shared =
            copies.is_name(&name) || matches!(self.names.get(&name), Some(Entry::Shared(_)));
        self.deallocating = Some(name);
        if !shared {
            self.pipeline.on_client(owed, now);
            return Noted::AsItIs;
        }
        self.gather();
        close_unwanted(
            &mut self.sharing,
            &mut self.ahead,
            &mut self.pipeline,
            copies,
            now,
        );
        let number = copies.scratch();
        write_parse(&mut self.ahead, copies, number, [b"\0", &[0, 0]]);
        self.pipeline.on_client(Owed::ParseScratch, now);
        self.ahead.message(header.tag, 0, |body| {
            if owed == Owed::ParseUnnamed {
                body.push(0);
            }
            body.extend_from_slice(b"DEALLOCATE ");
            copies.write_name(number, body);
            body.push(0);
            if owed == Owed::ParseUnnamed {
                body.extend_from_slice(&[0, 0]);
            }
        });
        self.pipeline.on_client(owed, now);
        // It is still there if this fails.
        copies.leave(number);
        self.from_client.consume(header.total);
        Noted::Rewritten(0)
    }

    /// Whether what is under way must be answered before a statement that drops one by SQL.
    pub(super) fn must_be_alone(&mut self) -> bool {
        if self.dropping == Dropping::No {
            self.dropping = Dropping::Sent;
        }
        let waits = self.must_wait_for_drop();
        waits || !self.pipeline.is_answered() && self.sharing.limits.is_some()
    }

    /// Gives the server an empty statement with the same parameters, in a failed transaction, where PostgreSQL parses no other:
    /// a Bind of it is refused as that of the statement itself would be. Returns its number.
    fn stand_in(
        &mut self,
        variant: &Variant,
        name: Box<[u8]>,
        now: Instant,
        copies: &mut Copies,
    ) -> u64 {
        self.gather();
        let number = copies.scratch();
        write_parse(
            &mut self.ahead,
            copies,
            number,
            [b"\0", variant.parameters()],
        );
        self.pipeline.on_client(Owed::ParseScratch, now);
        copies.leave(number);
        self.names.on_sent_as(name, number);
        number
    }

    /// Gives the server a statement that it lacks; the message that needs it waits.
    fn send_copy(
        &mut self,
        statement: Arc<Statement>,
        wanted: Option<Arc<Variant>>,
        name: Box<[u8]>,
        now: Instant,
        copies: &mut Copies,
    ) -> Noted {
        if self.sharing.is_awaited() {
            return Noted::Wait;
        }
        self.gather();
        let limit = self.sharing.limits.map_or(0, |limits| limits.server);
        let place = copies.open(limit);
        close_unwanted(
            &mut self.sharing,
            &mut self.ahead,
            &mut self.pipeline,
            copies,
            now,
        );
        let parts = match &wanted {
            Some(variant) => [variant.text(), variant.parameters()],
            None => [statement.asked(), &b""[..]],
        };
        write_parse(&mut self.ahead, copies, place.number(), parts);
        self.pipeline.on_client(Owed::ParseCopy, now);
        write_about(&mut self.ahead, frontend::DESCRIBE, copies, place.number());
        self.pipeline.on_client(Owed::DescribeCopy, now);
        self.ahead.message(frontend::FLUSH, 0, |_| {});
        self.sharing.coming.push_back(Coming {
            place,
            statement,
            name: wanted.is_none().then_some(name),
            wanted: wanted.map(|variant| variant.id()),
            awaited: true,
            parsed: false,
        });
        Noted::Wait
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

/// Whether an empty statement answers this as the statement itself would in a failed transaction: it is none that ends the
/// transaction, and has no columns to look up.
fn stands_in(request: Request, variant: &Variant) -> bool {
    let text = variant.text().trim_ascii_start();
    let ends = [&b"rollback"[..], b"commit", b"end", b"abort", b"prepare"]
        .iter()
        .any(|word| {
            text.get(..word.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(word))
        });
    !ends && (request == Request::Bind || !variant.has_columns())
}

/// A Close of nothing is no change of names.
fn unjournalled(owed: Owed) -> Owed {
    match owed {
        Owed::CloseStatement => Owed::Close,
        other => other,
    }
}

/// Where this server has the statement.
fn place_of(shared: &mut SharedEntry, copies: &mut Copies) -> Option<Place> {
    if let Some(place) = shared.place
        && copies.touch(place)
    {
        return Some(place);
    }
    shared.place = copies.find(shared.variant.as_ref()?);
    shared.place
}

/// Closes what the server need not keep, now that there is something to say to it.
fn close_unwanted(
    sharing: &mut Sharing,
    ahead: &mut Outbox,
    pipeline: &mut super::pipeline::Pipeline,
    copies: &mut Copies,
    now: Instant,
) {
    while let Some(number) = copies.take_unwanted() {
        write_about(ahead, frontend::CLOSE, copies, number);
        pipeline.on_client(Owed::CloseCopy, now);
        sharing.closing.push_back(number);
    }
}
