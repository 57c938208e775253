//! A client's messages about statements by name, made into messages about the statements that its server has.
//!
//! Heads are rewritten, bodies pass as they are. What cannot be known before an answer comes is waited for.

use tokio::time::Instant;

use super::names::{Entry, SharedEntry};
use super::phase::Request;
use super::pipeline::Owed;
use super::sharing::{Given, Noted};
use super::traffic::{Dropping, Traffic};
use crate::backend::{Copies, Place, Server, Variant};
use crate::pgwire::{HEADER, Header, cstr, frontend};
use crate::query::Asked;
use crate::sql::may_deallocate;

/// Where a message names its statement.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// The message.
    header: Header,
    /// Where the name begins in the body.
    at: usize,
    /// The first byte after the name and its NUL, counted from the message's first.
    end: usize,
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

    /// Whether what is under way must be answered before a statement that drops one by SQL.
    pub(super) fn must_be_alone(&mut self) -> bool {
        if self.dropping == Dropping::No {
            self.dropping = Dropping::Sent;
        }
        let waits = self.must_wait_for_drop();
        waits || !self.pipeline.is_answered() && self.sharing.limits.is_some()
    }

    /// A Parse that can be shared, of a name of this length.
    pub(super) fn share_parse(
        &mut self,
        header: Header,
        name: usize,
        asked_for: Option<Asked>,
        now: Instant,
        server: &mut Server,
    ) -> Noted {
        self.gather();
        let body = &self.from_client.bytes()[HEADER..header.total];
        let (name, asked) = (Box::from(&body[..name]), &body[name + 1..]);
        let statement = self.sharing.statements.intern(asked, server.parameters());
        let given = Given::Asked(&name);
        let place = self.send_statement(statement.clone(), given, now, server.copies());
        self.names.on_parse(
            &name,
            Entry::Shared(SharedEntry {
                statement,
                variant: None,
                place: Some(place),
                used: 0,
                asked: asked_for,
            }),
        );
        self.from_client.consume(header.total);
        Noted::Rewritten(0)
    }

    /// A Parse of a name that is taken, of this length. PostgreSQL says so itself, after it has looked at the text: about a
    /// statement that is there to be met.
    pub(super) fn parse_taken(
        &mut self,
        header: Header,
        name: usize,
        now: Instant,
        copies: &mut Copies,
    ) -> Noted {
        let number = self.send_scratch(&[0, 0], now, copies);
        let name_bytes = &self.from_client.bytes()[HEADER..HEADER + name];
        self.names.on_parse_taken(name_bytes);
        let head = Head {
            header,
            at: 0,
            end: HEADER + name + 1,
        };
        self.rename(head, number, Owed::ParseNamed, now, copies)
    }

    /// A Bind or Describe of a named statement, or its Close.
    pub(super) fn use_named(
        &mut self,
        request: Request,
        header: Header,
        now: Instant,
        copies: &mut Copies,
    ) -> Noted {
        if self.must_wait_for_drop() {
            return Noted::Wait;
        }
        let bytes = &self.from_client.bytes()[self.to_server..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        let Some((at, name)) = statement_name(request, body) else {
            return Noted::AsItIs;
        };
        if !self.names.is_settled(name) {
            return Noted::Wait;
        }
        let head = Head {
            header,
            at,
            end: HEADER + at + name.len() + 1,
        };
        let owed = match request {
            Request::Bind => Owed::Bind,
            Request::Describe => Owed::Describe,
            _ => Owed::CloseStatement,
        };
        match self.names.get(name) {
            Some(Entry::Shared(_)) if owed == Owed::CloseStatement => {
                // The server keeps its copy, for others. Closing what is not there is answered all the same.
                self.names.on_close(name);
                self.gather();
                self.close_unwanted(now, copies);
                self.rename(head, 0, owed, now, copies)
            }
            Some(Entry::Shared(shared)) => match place_of(shared, copies) {
                Some(place) => {
                    shared.used = self.pipeline.next();
                    if request == Request::Bind && may_deallocate(shared.statement.asked()) {
                        self.dropping = Dropping::Sent;
                    }
                    self.rename(head, place.number(), owed, now, copies)
                }
                None => {
                    let (shared, name) = (shared.clone(), Box::from(name));
                    self.use_missing(head, owed, (name, shared), now, copies)
                }
            },
            // It is none of this client's: a name that nobody has says so.
            None if copies.is_name(name) => self.rename(head, 0, of_nothing(owed), now, copies),
            known => {
                // The server knows it by this name, or says that it does not.
                let owed = if known.is_none() {
                    of_nothing(owed)
                } else {
                    owed
                };
                if owed == Owed::CloseStatement {
                    self.names.on_close(name);
                }
                self.pipeline.on_client(owed, now);
                Noted::AsItIs
            }
        }
    }

    /// A Bind or Describe of a statement that this server lacks.
    fn use_missing(
        &mut self,
        head: Head,
        owed: Owed,
        (name, shared): (Box<[u8]>, SharedEntry),
        now: Instant,
        copies: &mut Copies,
    ) -> Noted {
        // Whether its transaction stands is on the way, or the statement itself is.
        if self.pipeline.ready_owed() > 0 || self.sharing.is_awaited() {
            return Noted::Wait;
        }
        let Some(variant) = shared.variant else {
            let given = Given::Undescribed(name);
            self.send_statement(shared.statement, given, now, copies);
            return Noted::Wait;
        };
        if self.failed && stands_in(owed, &variant) {
            // PostgreSQL parses no other in a failed transaction, and refuses a Bind of it as that of the statement itself.
            let number = self.send_scratch(variant.parameters(), now, copies);
            self.names.on_sent_as(name, number);
            return self.rename(head, number, owed, now, copies);
        }
        if self.sharing.stale != Some(variant.id()) {
            self.send_statement(shared.statement, Given::Known(variant), now, copies);
            return Noted::Wait;
        }
        self.sharing.stale = None;
        self.sharing.refused = Some(variant);
        let refused = match owed {
            Owed::Bind => Owed::BindStale,
            _ => Owed::DescribeStale,
        };
        self.rename(head, 0, refused, now, copies)
    }

    /// Sends the head of a message with another name in it; number 0 is one that nothing has.
    fn rename(
        &mut self,
        head: Head,
        number: u64,
        owed: Owed,
        now: Instant,
        copies: &Copies,
    ) -> Noted {
        self.gather();
        let before_name = &self.from_client.bytes()[HEADER..HEADER + head.at];
        let rest = head.header.total - head.end;
        self.ahead.message(head.header.tag, rest, |body| {
            body.extend_from_slice(before_name);
            copies.write_name(number, body);
            body.push(0);
        });
        self.pipeline.on_client(owed, now);
        self.from_client.consume(head.end);
        Noted::Rewritten(rest)
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
        let simple = header.tag == frontend::QUERY;
        let owed = if simple {
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
        let number = self.send_scratch(&[0, 0], now, copies);
        self.ahead.message(header.tag, 0, |body| {
            if !simple {
                body.push(0);
            }
            body.extend_from_slice(b"DEALLOCATE ");
            copies.write_name(number, body);
            body.push(0);
            if !simple {
                body.extend_from_slice(&[0, 0]);
            }
        });
        self.pipeline.on_client(owed, now);
        self.from_client.consume(header.total);
        Noted::Rewritten(0)
    }
}

/// Whether an empty statement answers this as the statement itself would in a failed transaction: it is none that ends the
/// transaction, and has no columns to look up.
fn stands_in(owed: Owed, variant: &Variant) -> bool {
    let text = variant.text().trim_ascii_start();
    let ends = [&b"rollback"[..], b"commit", b"end", b"abort", b"prepare"]
        .iter()
        .any(|word| {
            text.get(..word.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(word))
        });
    !ends && (owed == Owed::Bind || !variant.has_columns())
}

/// A Close of nothing is no change of names.
fn of_nothing(owed: Owed) -> Owed {
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
