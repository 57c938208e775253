//! The look at what a server sends: which reply it is, whether it is the client's, and when the server is done.

use std::sync::Arc;

use tokio::time::Instant;

use super::pipeline::{Failure, Reply};
use super::state::Ended;
use super::timing::End;
use super::traffic::{Hidden, Traffic};
use super::wording::{STALE_PLAN, own_name};
use crate::backend::{Server, TxStatus};
use crate::clients::{ClientGuard, ClientState};
use crate::metrics::{PinReason, PoolMetrics, ProxyMetrics, StatementMessage};
use crate::pgwire::{FrameError, HEADER, Header, backend, backend as tag};
use crate::query::SqlState;

/// What a server sent that makes no sense; its connection cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ServerJunk {
    /// The frame cannot be one.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A reply to nothing.
    #[error("unexpected message {tag:?} from the server", tag = char::from(*.0))]
    Unexpected(u8),
}

/// When the bytes came, and who is told what is found in them.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) now: Instant,
    pub(super) client: &'a ClientGuard,
    pub(super) pool: &'a Arc<PoolMetrics>,
    pub(super) proxy: &'a ProxyMetrics,
}

/// How far a scan came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scanned {
    /// To the end of what is there.
    All,
    /// To a ReadyForQuery with nothing owed: bytes after it are not looked at.
    Settled,
    /// To a FATAL error: the server is gone.
    Fatal,
}

impl Traffic {
    /// Looks at the server's bytes as far as they go and marks what may be passed to the client.
    ///
    /// # Errors
    /// [`ServerJunk`].
    pub(super) fn scan_server(
        &mut self,
        server: &mut Server,
        told: &Told<'_>,
    ) -> Result<Scanned, ServerJunk> {
        loop {
            if self.server_body > 0 && !self.pass_server_body(server) {
                return Ok(Scanned::All);
            }
            let bytes = &self.from_server.bytes()[self.to_client..];
            let Some(header) = Header::parse(bytes)? else {
                return Ok(Scanned::All);
            };
            let whole = header.total <= bytes.len();
            if !whole
                && looked_into(header.tag)
                && !(self.to_client == 0 && self.from_server.is_full())
            {
                return Ok(Scanned::All);
            }
            let reply = self.pipeline.on_server(header.tag);
            let hidden = hides(reply, header.tag);
            if hidden.is_none() {
                let simple = self.pipeline.answers_query();
                self.timing
                    .on_reply(header.tag, header.total, simple, told.now);
            }
            if header.tag == tag::PARAMETER_STATUS && self.keeps_from_client(header, server) {
                continue;
            }
            let instead = self.told_instead(reply, header, server);
            let scanned = self.on_reply(reply, header, server, told)?;
            if std::mem::take(&mut self.withheld) {
                self.hide(header, Hidden::Nothing, server);
                continue;
            }
            if let Some(hidden) = hidden {
                self.hide(header, hidden, server);
                continue;
            }
            // PostgreSQL says "due to user request", and no user did.
            if matches!(reply, Reply::StatementFailed(_))
                && whole
                && let Some(hint) = self.overdue.take()
                && error_field(self.message(header), b'C') == Some(b"57014")
            {
                self.gather_replies();
                super::limits::query_error(&mut self.own, &hint);
                self.from_server.consume(header.total);
            } else if let Some(instead) = instead {
                self.gather_replies();
                self.own.pass(&instead);
                self.from_server.consume(header.total);
            } else {
                let there = header.total.min(self.from_server.len() - self.to_client);
                self.to_client += there;
                self.server_body = header.total - there;
            }
            if scanned != Scanned::All {
                return Ok(scanned);
            }
        }
    }

    /// Passes more of a message that comes in pieces; false when the rest is still to come.
    fn pass_server_body(&mut self, server: &mut Server) -> bool {
        let there = self
            .server_body
            .min(self.from_server.len() - self.to_client);
        self.server_body -= there;
        match self.hidden {
            None => self.to_client += there,
            Some(hidden) => self.read_hidden(hidden, 0..there, server),
        }
        self.server_body == 0
    }

    /// Takes a message out that is not for the client, as far as it is there.
    fn hide(&mut self, header: Header, hidden: Hidden, server: &mut Server) {
        let there = header.total.min(self.from_server.len() - self.to_client);
        self.server_body = header.total - there;
        self.hidden = Some(hidden);
        self.read_hidden(hidden, HEADER..there, server);
    }

    /// Reads a piece of a hidden message, and takes it out with what stands before it.
    fn read_hidden(&mut self, hidden: Hidden, piece: std::ops::Range<usize>, server: &mut Server) {
        let bytes = &self.from_server.bytes()[self.to_client..];
        let (end, body) = (piece.end, &bytes[piece]);
        match hidden {
            Hidden::Parameters => self.sharing.reader.parameters(body),
            Hidden::Columns => self.sharing.reader.columns(body),
            Hidden::NoColumns | Hidden::Nothing => {}
        }
        self.from_server.cut(self.to_client, end);
        if self.server_body == 0 {
            self.hidden = None;
            if matches!(hidden, Hidden::Columns | Hidden::NoColumns) {
                self.on_described(server.copies());
            }
        }
    }

    /// An error that the client is told in other words than the server's.
    fn told_instead(&self, reply: Reply, header: Header, server: &mut Server) -> Option<Vec<u8>> {
        let Reply::StatementFailed(failure) = reply else {
            return None;
        };
        let whole = header.total <= self.from_server.len() - self.to_client;
        whole
            .then(|| self.in_clients_words(&failure, self.message(header), server.copies()))
            .flatten()
    }

    fn on_reply(
        &mut self,
        reply: Reply,
        header: Header,
        server: &mut Server,
        told: &Told<'_>,
    ) -> Result<Scanned, ServerJunk> {
        match reply {
            Reply::Pass => self.on_passed(header, server),
            Reply::Swallow | Reply::CopyParameters | Reply::CopyDescribed => {}
            Reply::UnnamedRestored => self.unnamed.on_restored(),
            Reply::UnnamedParsed => self.unnamed.on_parsed(),
            Reply::UnnamedClosed => self.unnamed.on_closed(),
            Reply::NamedParsed => {
                told.pool.statement(StatementMessage::ServerParse);
                self.names.on_answered();
            }
            Reply::SharedParsed => {
                told.pool.statement(StatementMessage::ServerParse);
                self.sharing.on_parsed();
                self.names.on_answered();
            }
            Reply::CopyParsed => {
                told.pool.statement(StatementMessage::ServerParse);
                self.sharing.on_parsed();
            }
            Reply::CopyClosed => self.sharing.on_closed(),
            Reply::StatementClosed => {
                self.names.on_answered();
                self.unpin_named();
            }
            Reply::StatementDone(sent) => {
                if header.tag == tag::COMMAND_COMPLETE {
                    self.on_command(header, server);
                } else {
                    self.state.on_done(None, server.parameters());
                }
                self.on_statement_done(sent, header, told);
            }
            Reply::Suspended(sent) => {
                self.state.on_suspended(server.parameters());
                self.timing
                    .on_end(sent, End::Suspended, self.pins.any(), (told.pool, told.now));
            }
            Reply::StatementFailed(failure) => {
                self.vacated = None;
                let message = self.message(header);
                let fatal = matches!(error_field(message, b'V'), Some(b"FATAL" | b"PANIC"));
                let sqlstate = match error_field(message, b'C').unwrap_or_default() {
                    b"26000" if failure.stale.is_some() => STALE_PLAN.as_bytes(),
                    sqlstate => sqlstate,
                };
                let state = SqlState::new(sqlstate);
                let lost = failure.stale.is_none()
                    && sqlstate == b"26000"
                    && own_name(message, server.copies()).is_some_and(|(_, number, _)| number > 0);
                told.proxy
                    .query_error(std::str::from_utf8(sqlstate).unwrap_or_default());
                self.phase = super::phase::Phase::Command;
                self.deallocating = None;
                self.state.on_failed(ended(&failure));
                self.unnamed.on_failure(&failure);
                self.on_statements_failed(&failure, server.copies());
                if lost {
                    // A function dropped it, or somebody by a name from a view: nothing is known of the others either.
                    server.copies().forget();
                }
                self.unpin_named();
                if let Some(sent) = failure.sent {
                    let end = End::Failed(&failure, state);
                    self.timing
                        .on_end(sent, end, self.pins.any(), (told.pool, told.now));
                }
                if fatal {
                    server.absorb(header.tag, self.message(header));
                    return Ok(Scanned::Fatal);
                }
            }
            Reply::CopyIn => self.on_copy_in(),
            Reply::Ready { executed, simple } => {
                return Ok(self.on_ready(executed, simple, header, server, told));
            }
            Reply::OwnDone => {
                let bytes = &self.from_server.bytes()[self.to_client..];
                let done = command_tag(&bytes[HEADER..header.total.min(bytes.len())]);
                self.state.on_examined(done);
            }
            Reply::OwnFailed => {
                if self.on_own_failed(header, server, told) {
                    return Ok(Scanned::Fatal);
                }
            }
            Reply::OwnReady => return Ok(self.on_ready(false, false, header, server, told)),
            Reply::Unexpected => return Err(ServerJunk::Unexpected(header.tag)),
        }
        Ok(Scanned::All)
    }

    /// A command was completed: what it leaves behind.
    fn on_command(&mut self, header: Header, server: &mut Server) {
        let bytes = &self.from_server.bytes()[self.to_client..];
        let command = command_tag(&bytes[HEADER..header.total.min(bytes.len())]);
        self.state.on_done(Some(command), server.parameters());
        let one_dropped = command == b"DEALLOCATE";
        let all_dropped = matches!(command, b"DISCARD ALL" | b"DEALLOCATE ALL");
        if one_dropped && let Some(name) = self.deallocating.take() {
            self.names.on_deallocated(&name);
        }
        if all_dropped {
            self.names.on_deallocated_all();
            server.copies().forget();
        }
        if one_dropped || all_dropped {
            self.unpin_named();
        }
    }

    /// The body of the message at the mark, as far as it is there.
    fn message(&self, header: Header) -> &[u8] {
        let bytes = &self.from_server.bytes()[self.to_client..];
        &bytes[HEADER..header.total.min(bytes.len())]
    }

    fn on_passed(&mut self, header: Header, server: &mut Server) {
        if header.tag == tag::PARAMETER_STATUS {
            let bytes = &self.from_server.bytes()[self.to_client..];
            server.absorb(header.tag, &bytes[HEADER..header.total.min(bytes.len())]);
            // Something changed a parameter behind our back: compare one by one at the next checkout.
            server.set_applied(0);
        }
    }

    fn unpin_named(&mut self) {
        if !self.names.any_native() {
            self.pins.unpin(PinReason::NamedStatement);
        }
    }

    fn on_statement_done(&mut self, sent: Instant, header: Header, told: &Told<'_>) {
        let bytes = &self.from_server.bytes()[self.to_client..];
        let command = command_tag(&bytes[HEADER..header.total.min(bytes.len())]);
        let command = (header.tag == tag::COMMAND_COMPLETE).then_some(command);
        self.timing.on_end(
            sent,
            End::Done(command),
            self.pins.any(),
            (told.pool, told.now),
        );
        self.vacated = None;
    }

    /// What a client does between two requests; with another one under way it is still active.
    fn rest(&self, told: &Told<'_>, state: ClientState) {
        if self.pipeline.is_empty() {
            told.client.set_state(state);
        } else {
            told.client.next_request(state == ClientState::Idle);
        }
    }

    fn on_ready(
        &mut self,
        executed: bool,
        simple: bool,
        header: Header,
        server: &mut Server,
        told: &Told<'_>,
    ) -> Scanned {
        let status = TxStatus::from_byte(self.message(header).first().copied().unwrap_or_default());
        server.set_status(status);
        self.failed = status == TxStatus::Failed;
        self.overdue = None;
        self.phase = super::phase::Phase::Command;
        if simple {
            self.unnamed.on_simple_query();
        }
        self.state
            .on_ready(status, simple, self.pipeline.is_empty());
        if self.pipeline.is_empty() {
            self.restore_login(status, server, told.now);
        }
        let quiet = self.pipeline.is_empty();
        let idle = status == TxStatus::Idle;
        let began = self
            .timing
            .on_ready(simple, quiet, idle, (told.pool, told.now));
        if !idle {
            self.rest(told, ClientState::IdleInTransaction);
            return Scanned::All;
        }
        if executed {
            let took = began.map(|began| told.now.saturating_duration_since(began));
            told.pool.transaction_finished(took.unwrap_or_default());
        }
        self.state.pin(&mut self.pins, told.pool);
        self.rest(told, ClientState::Idle);
        if self.settled() {
            Scanned::Settled
        } else {
            Scanned::All
        }
    }
}

/// What an error ended of what the session's state counts.
fn ended(failure: &Failure) -> Ended {
    match (failure.simple, failure.executing) {
        (true, _) => Ended::Query,
        (_, true) => Ended::Execute(failure.dropped_statements),
        _ => Ended::Other(failure.dropped_statements),
    }
}

/// Whether more than the header of this message is looked at.
fn looked_into(tag: u8) -> bool {
    matches!(
        tag,
        tag::COMMAND_COMPLETE | tag::ERROR | tag::READY_FOR_QUERY | tag::PARAMETER_STATUS
    )
}

/// Whether a reply is not for the client, and what is read from it.
fn hides(reply: Reply, tag: u8) -> Option<Hidden> {
    match reply {
        Reply::Swallow
        | Reply::UnnamedRestored
        | Reply::CopyParsed
        | Reply::CopyClosed
        | Reply::OwnDone => Some(Hidden::Nothing),
        Reply::CopyParameters => Some(Hidden::Parameters),
        Reply::CopyDescribed if tag == backend::NO_DATA => Some(Hidden::NoColumns),
        Reply::CopyDescribed => Some(Hidden::Columns),
        _ => None,
    }
}

fn command_tag(body: &[u8]) -> &[u8] {
    body.strip_suffix(&[0]).unwrap_or(body)
}

/// A field of an ErrorResponse, as far as it is there. `V` is the severity that is never translated, `C` the SQLSTATE.
pub(super) fn error_field(body: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = body;
    while let Some((&field, after)) = rest.split_first() {
        let (text, next) = crate::pgwire::cstr(after)?;
        if field == wanted {
            return Some(text);
        }
        rest = next;
    }
    None
}
