//! The look at what a client sends, while it has a server.
//!
//! Every message is noted in the pipeline before its bytes may go. Of most only the header is looked at; of Query and
//! Parse the text, of Parse, Bind, Describe and Close the statement's name.

use std::sync::Arc;

use tokio::time::Instant;

use super::databases;
use super::demand::DemandError;
use super::names::Entry;
use super::phase::{Phase, Request};
use super::pipeline::Owed;
use super::rewriting::statement_name;
use super::sharing::Noted;
use super::traffic::{Dropping, Traffic};
use super::unnamed::KEEP_AT_MOST;
use crate::backend::Server;
use crate::metrics::{PinReason, PoolMetrics, StatementMessage};
use crate::pgwire::{HEADER, Header, cstr, frontend};
use crate::query::Asked;
use crate::sql::{Dialect, deallocated, may_deallocate};

/// How far a look came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// To the end of what is there.
    All,
    /// To a message that must wait until what is marked was sent.
    SendFirst,
    /// To a message that must wait for an answer.
    Held,
}

impl Traffic {
    /// Looks at the client's bytes as far as they go and marks what may be sent.
    ///
    /// # Errors
    /// A message that may not come now. What was marked before it may still be sent.
    pub(super) fn scan_client(
        &mut self,
        now: Instant,
        metrics: &Arc<PoolMetrics>,
        server: &mut Server,
    ) -> Result<Looked, DemandError> {
        while !self.goodbye {
            if !self.pipeline.has_room() {
                return Ok(self.held());
            }
            if self.client_body > 0 && !self.pass_body() {
                break;
            }
            let bytes = &self.from_client.bytes()[self.to_server..];
            let Some(header) = Header::parse(bytes)? else {
                break;
            };
            if header.total > self.message_limit {
                let (length, limit) = (header.total, self.message_limit);
                return Err(DemandError::TooLong { length, limit });
            }
            let (phase, request) = self.phase.on_client(header.tag)?;
            if request == Request::Terminate {
                self.goodbye = true;
                break;
            }
            if header.total > bytes.len()
                && looked_into(request)
                && !(self.to_server == 0 && self.from_client.is_full())
            {
                break;
            }
            let rest = match self.note(request, header, now, metrics, server) {
                Noted::AsItIs => header.total,
                Noted::Rewritten(rest) => rest,
                Noted::Wait => return Ok(self.held()),
            };
            self.on_noted(request, header.total, now, metrics);
            self.phase = phase;
            self.touched = true;
            let there = rest.min(self.from_client.len() - self.to_server);
            self.to_server += there;
            self.client_body = rest - there;
        }
        Ok(Looked::All)
    }

    /// What is known of a text, or of the front of it, as this server reads it.
    #[inline]
    fn ask(&self, text: &[u8], server: &Server) -> Option<Asked> {
        self.timing.ask(text, || {
            let parameters = server.parameters();
            Dialect::reported(
                parameters.get("standard_conforming_strings"),
                parameters.get("client_encoding"),
            )
        })
    }

    /// A message was noted: its bytes are some statement's, and the client does not think any more.
    #[inline]
    fn on_noted(&mut self, request: Request, length: usize, came: Instant, metrics: &PoolMetrics) {
        match request {
            Request::Parse | Request::Bind | Request::Describe | Request::Close => {
                self.timing.on_received(length);
            }
            Request::CopyData | Request::CopyEnd => self.timing.on_copy_data(length),
            _ => {}
        }
        if let Some(idle) = self.timing.on_asked(came) {
            metrics.idle_in_transaction(idle);
        }
    }

    /// At a message that cannot be noted: with nothing to send it is an answer that is waited for.
    fn held(&self) -> Looked {
        if self.to_server > 0 || !self.ahead.is_empty() {
            Looked::SendFirst
        } else {
            Looked::Held
        }
    }

    /// Whether the client's goodbye stands behind what it has sent so far.
    pub(super) fn ends_with_goodbye(&self) -> bool {
        let mut rest = &self.from_client.bytes()[self.to_server..];
        while let Ok(Some(header)) = Header::parse(rest) {
            if header.tag == frontend::TERMINATE {
                return true;
            }
            rest = rest.get(header.total..).unwrap_or_default();
        }
        false
    }

    /// Marks more of a message that passes in pieces; false when the rest is still to come.
    fn pass_body(&mut self) -> bool {
        let bytes = &self.from_client.bytes()[self.to_server..];
        let there = self.client_body.min(bytes.len());
        let last = there == self.client_body;
        self.state.on_piece(&bytes[..there], last);
        self.to_server += there;
        self.client_body -= there;
        self.client_body == 0
    }

    /// Notes what a message will be answered with, and gives it the names that this server knows.
    fn note(
        &mut self,
        request: Request,
        header: Header,
        now: Instant,
        metrics: &Arc<PoolMetrics>,
        server: &mut Server,
    ) -> Noted {
        if self.pipeline.lacks_sync() && request != Request::Sync {
            // The server does not look at it.
            return Noted::AsItIs;
        }
        if self.must_wait_for_defaults(request) {
            return Noted::Wait;
        }
        self.give_back_due(request, header, now, server);
        let bytes = &self.from_client.bytes()[self.to_server..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        let owed = match request {
            Request::Query => {
                let drops = deallocated(body);
                if drops.is_some() && self.must_be_alone() {
                    return Noted::Wait;
                }
                let bytes = &self.from_client.bytes()[self.to_server..];
                let body = &bytes[HEADER..header.total.min(bytes.len())];
                if let Some(database) = databases::vacated(body) {
                    // One at a time: the one before is sent first.
                    if self.vacates.is_some() {
                        return Noted::Wait;
                    }
                    self.vacates = Some(database);
                }
                let whole = header.total <= bytes.len();
                let asked = self.ask(body, server);
                self.timing.on_query(asked, header.total);
                self.state.on_query(body, whole);
                if let Some(name) = drops {
                    return self.deallocate(name, header, now, server.copies());
                }
                Owed::Query
            }
            Request::Parse => return self.note_parse(header, now, metrics, server),
            Request::Bind | Request::Describe | Request::Close => {
                match request {
                    Request::Bind => self.state.on_bind(body),
                    Request::Close => self.state.on_close(body),
                    _ => {}
                }
                return self.note_use(request, header, now, metrics, server);
            }
            Request::Execute => {
                self.state.on_execute(body);
                self.timing.on_execute(body, header.total);
                return self.note_execute(header, now, server);
            }
            Request::Sync => {
                self.unnamed.on_sync();
                self.names.on_sync();
                self.state.on_sync();
                Owed::Sync
            }
            Request::FunctionCall => {
                self.state.on_function_call();
                Owed::FunctionCall
            }
            Request::CopyEnd => Owed::CopyEnd,
            Request::Flush | Request::CopyData | Request::Terminate => return Noted::AsItIs,
        };
        self.pipeline.on_client(owed, now);
        Noted::AsItIs
    }

    fn note_parse(
        &mut self,
        header: Header,
        now: Instant,
        metrics: &Arc<PoolMetrics>,
        server: &mut Server,
    ) -> Noted {
        let bytes = &self.from_client.bytes()[self.to_server..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        let named = cstr(body).map_or(body, |(name, _)| name);
        if !named.is_empty() && (!self.names.is_settled(named) || self.must_wait_for_drop()) {
            return Noted::Wait;
        }
        let bytes = &self.from_client.bytes()[self.to_server..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        let whole = header.total <= bytes.len();
        let (name, asked) = cstr(body).unwrap_or((body, &[]));
        if let Some(database) = databases::vacated(asked) {
            if self.vacates.is_some() {
                return Noted::Wait;
            }
            self.vacates = Some(database);
        }
        let drops = match name {
            b"" => cstr(asked).and_then(|(text, _)| deallocated(text)),
            _ => None,
        };
        if drops.is_some() && self.must_be_alone() {
            return Noted::Wait;
        }
        let bytes = &self.from_client.bytes()[self.to_server..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        let (name, asked) = cstr(body).unwrap_or((body, &[]));
        let text = if whole {
            cstr(asked).map_or(asked, |(text, _)| text)
        } else {
            asked
        };
        let asked_for = self.ask(text, server);
        self.state.on_parse(name, text, whole);
        self.timing.on_parse(asked_for.as_ref());
        if name.is_empty() {
            // One that is too long to be kept stays where it is, and the session with it.
            let kept = if whole && header.total <= KEEP_AT_MOST {
                &bytes[..header.total]
            } else {
                self.pins.pin(PinReason::LargeStatement, metrics);
                &[]
            };
            self.unnamed.on_parse(kept, asked_for);
            if let Some(name) = drops {
                return self.deallocate(name, header, now, server.copies());
            }
            self.pipeline.on_client(Owed::ParseUnnamed, now);
            return Noted::AsItIs;
        }
        metrics.statement(StatementMessage::ClientParse);
        if matches!(self.names.get(name), Some(Entry::Shared(_))) {
            return self.parse_taken(header, name.len(), now, server.copies());
        }
        if whole && self.can_share(asked) {
            return self.share_parse(header, name.len(), asked_for, now, server);
        }
        self.pins.pin(PinReason::NamedStatement, metrics);
        self.names.on_parse(name, Entry::Native(asked_for));
        self.pipeline.on_client(Owed::ParseNamed, now);
        Noted::AsItIs
    }

    fn note_use(
        &mut self,
        request: Request,
        header: Header,
        now: Instant,
        metrics: &PoolMetrics,
        server: &mut Server,
    ) -> Noted {
        let bytes = &self.from_client.bytes()[self.to_server..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        let owed = match (request, statement_name(request, body)) {
            (Request::Bind | Request::Describe, Some((_, b""))) => {
                if request == Request::Bind {
                    self.timing.on_bind(body, self.unnamed.asked());
                }
                if !self.prepare_unnamed(now) {
                    return Noted::Wait;
                }
                if request == Request::Bind {
                    if may_deallocate(self.unnamed.text()) {
                        self.dropping = Dropping::Sent;
                    }
                    Owed::Bind
                } else {
                    Owed::Describe
                }
            }
            (Request::Close, Some((_, b""))) => {
                self.unnamed.on_close();
                Owed::CloseUnnamed
            }
            (_, Some((_, name))) => {
                if request == Request::Bind {
                    let entry = self.names.get(name);
                    self.timing
                        .on_bind(body, entry.and_then(|entry| entry.asked()));
                }
                let noted = self.use_named(request, header, now, server.copies());
                if request == Request::Bind && noted != Noted::Wait {
                    metrics.statement(StatementMessage::Bind);
                }
                return noted;
            }
            (Request::Bind, None) => Owed::Bind,
            (Request::Describe, None) => Owed::Describe,
            (_, None) => Owed::Close,
        };
        self.pipeline.on_client(owed, now);
        Noted::AsItIs
    }

    /// Makes sure that the server has this client's unnamed statement. False when bytes must go out first, since what
    /// was sent before decides which statement there is.
    fn prepare_unnamed(&mut self, now: Instant) -> bool {
        if self.unnamed.server_agrees() {
            return true;
        }
        // What went before the last Sync or Query decides which statement there is; its answers are on the way.
        if self.pipeline.ready_owed() > 0 {
            return false;
        }
        self.gather();
        if let Some(owed) = self.unnamed.before_use(&mut self.ahead) {
            self.pipeline.on_client(owed, now);
        }
        true
    }
}

/// Whether more than the header of this message is looked at.
fn looked_into(request: Request) -> bool {
    matches!(
        request,
        Request::Query | Request::Parse | Request::Bind | Request::Describe | Request::Close
    )
}

impl Traffic {
    /// The server asked for COPY data.
    pub(super) fn on_copy_in(&mut self) {
        if self.pipeline.is_copying() {
            self.phase = Phase::CopyIn;
        }
    }
}
