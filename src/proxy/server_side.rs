//! The look at what a server sends: which reply it is, whether it is the client's, and when the server is done.

use std::sync::Arc;
use std::time::Instant;

use super::pins::Pins;
use super::pipeline::Reply;
use super::traffic::Traffic;
use crate::backend::{Server, TxStatus};
use crate::clients::{ClientGuard, ClientState};
use crate::metrics::{Phase, PinReason, PoolMetrics, ProxyMetrics};
use crate::pgwire::{FrameError, HEADER, Header, backend as tag};

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
            if self.server_body > 0 {
                let there = self
                    .server_body
                    .min(self.from_server.len() - self.to_client);
                self.to_client += there;
                self.server_body -= there;
                if self.server_body > 0 {
                    return Ok(Scanned::All);
                }
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
            if self.first_reply.is_none() && !is_asynchronous(header.tag) {
                self.first_reply = Some(told.now);
            }
            let scanned = self.on_reply(reply, header, server, told)?;
            if reply == Reply::Swallow {
                self.from_server.cut(self.to_client, header.total);
                continue;
            }
            // PostgreSQL says "due to user request", and no user did.
            if matches!(reply, Reply::StatementFailed(_))
                && whole
                && let Some(hint) = self.overdue.take()
                && error_field(self.message(header), b'C') == Some(b"57014")
            {
                let before = &self.from_server.bytes()[..self.to_client];
                super::limits::query_error(self.own.pass(before), &hint);
                self.from_server.consume(self.to_client + header.total);
                self.to_client = 0;
                continue;
            }
            let there = header.total.min(self.from_server.len() - self.to_client);
            self.to_client += there;
            self.server_body = header.total - there;
            if scanned != Scanned::All {
                return Ok(scanned);
            }
        }
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
            Reply::Swallow => self.prepared.on_injected_done(),
            Reply::UnnamedParsed => self.prepared.on_unnamed_parsed(),
            Reply::NamedParsed => self.prepared.on_named_parsed(),
            Reply::StatementClosed => {
                self.prepared.on_closed();
                self.unpin_named();
            }
            Reply::StatementDone(sent) => {
                if header.tag == tag::COMMAND_COMPLETE
                    && let Some(reason) = Pins::of_tag(command_tag(self.message(header)))
                {
                    self.pins.pin(reason, told.pool);
                }
                self.on_statement_end(sent, true, told);
            }
            Reply::StatementFailed(failure) => {
                self.vacated = None;
                let message = self.message(header);
                let fatal = matches!(error_field(message, b'V'), Some(b"FATAL" | b"PANIC"));
                let sqlstate = error_field(message, b'C').unwrap_or_default();
                told.proxy
                    .query_error(std::str::from_utf8(sqlstate).unwrap_or_default());
                self.phase = super::phase::Phase::Command;
                self.prepared.on_failure(&failure);
                self.unpin_named();
                if let Some(sent) = failure.sent {
                    self.on_statement_end(sent, false, told);
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
            Reply::Unexpected => return Err(ServerJunk::Unexpected(header.tag)),
        }
        Ok(Scanned::All)
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
        if !self.prepared.any_named() {
            self.pins.unpin(PinReason::NamedStatement);
        }
    }

    fn on_statement_end(&mut self, sent: Instant, ok: bool, told: &Told<'_>) {
        self.vacated = None;
        let started = sent.max(self.last_done);
        // The wait for a server is a phase of its own, told by the pool.
        let running = started.max(self.leased);
        let first = self.first_reply.take().unwrap_or(told.now).max(running);
        told.pool.query_finished(
            told.now.saturating_duration_since(started).as_secs_f64(),
            ok,
        );
        told.pool
            .phase(Phase::Execute, first.saturating_duration_since(running));
        told.pool
            .phase(Phase::Transfer, told.now.saturating_duration_since(first));
        self.last_done = told.now;
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
        self.first_reply = None;
        self.overdue = None;
        self.phase = super::phase::Phase::Command;
        if simple {
            self.prepared.on_simple_query();
        }
        if status != TxStatus::Idle {
            self.rest(told, ClientState::IdleInTransaction);
            return Scanned::All;
        }
        if executed {
            told.pool.transaction_finished();
        }
        self.rest(told, ClientState::Idle);
        if self.settled() {
            Scanned::Settled
        } else {
            Scanned::All
        }
    }
}

/// Whether more than the header of this message is looked at.
fn looked_into(tag: u8) -> bool {
    matches!(
        tag,
        tag::COMMAND_COMPLETE | tag::ERROR | tag::READY_FOR_QUERY | tag::PARAMETER_STATUS
    )
}

/// Messages that a server may send at any time; they are no reply.
fn is_asynchronous(tag: u8) -> bool {
    matches!(tag, tag::NOTICE | tag::NOTIFICATION | tag::PARAMETER_STATUS)
}

fn command_tag(body: &[u8]) -> &[u8] {
    body.strip_suffix(&[0]).unwrap_or(body)
}

/// A field of an ErrorResponse, as far as it is there. `V` is the severity that is never translated, `C` the SQLSTATE.
fn error_field(body: &[u8], wanted: u8) -> Option<&[u8]> {
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
