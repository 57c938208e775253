//! The look at what a client sends, while it has a server.
//!
//! Every message is noted in the pipeline before its bytes may go. Of most only the header is looked at; of Query and
//! Parse the text, of Parse, Bind, Describe and Close the statement's name.

use std::sync::Arc;
use std::time::Instant;

use super::databases;
use super::demand::DemandError;
use super::phase::{Phase, Request};
use super::pipeline::Owed;
use super::prepared::KEEP_AT_MOST;
use super::traffic::Traffic;
use crate::metrics::{PinReason, PoolMetrics};
use crate::pgwire::{HEADER, Header, cstr};
use crate::sql::{StateScan, StateWord, state_word};

/// How far a look came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// To the end of what is there.
    All,
    /// To a message that must wait until what is marked was sent.
    SendFirst,
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
    ) -> Result<Looked, DemandError> {
        while !self.goodbye {
            if self.client_body > 0 && !self.pass_body(metrics) {
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
            if !self.note(request, header, now, metrics) {
                // With nothing to send it is an answer that is waited for.
                let unsent = self.to_server > 0 || !self.ahead.is_empty();
                return Ok(if unsent {
                    Looked::SendFirst
                } else {
                    Looked::All
                });
            }
            self.phase = phase;
            self.touched = true;
            let there = header.total.min(self.from_client.len() - self.to_server);
            self.to_server += there;
            self.client_body = header.total - there;
        }
        Ok(Looked::All)
    }

    /// Marks more of a message that passes in pieces; false when the rest is still to come.
    fn pass_body(&mut self, metrics: &Arc<PoolMetrics>) -> bool {
        let bytes = &self.from_client.bytes()[self.to_server..];
        let there = self.client_body.min(bytes.len());
        if let Some(scan) = &mut self.text
            && let Some(word) = scan.feed(&bytes[..there])
        {
            self.pins.pin(reason(word), metrics);
        }
        self.to_server += there;
        self.client_body -= there;
        if self.client_body == 0 {
            self.text = None;
        }
        self.client_body == 0
    }

    /// Notes what a message will be answered with. False when something must be sent before it can be.
    fn note(
        &mut self,
        request: Request,
        header: Header,
        now: Instant,
        metrics: &Arc<PoolMetrics>,
    ) -> bool {
        let bytes = &self.from_client.bytes()[self.to_server..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        let whole = header.total <= bytes.len();
        let owed = match request {
            Request::Query => {
                self.vacates = databases::vacated(cstr(body).map_or(body, |(text, _)| text));
                look_at_text(body, whole, &mut self.text, &mut self.pins, metrics);
                Owed::Query
            }
            Request::Parse => {
                let (name, text) = cstr(body).unwrap_or((body, &[]));
                self.vacates = databases::vacated(cstr(text).map_or(text, |(text, _)| text));
                look_at_text(body, whole, &mut self.text, &mut self.pins, metrics);
                if !name.is_empty() {
                    if self.pipeline.on_client(Owed::ParseNamed, now) {
                        self.prepared.on_parse_named(name);
                        self.pins.pin(PinReason::NamedStatement, metrics);
                    }
                } else {
                    // One that is too long to be kept stays where it is, and the session with it.
                    let kept = if whole && header.total <= KEEP_AT_MOST {
                        &bytes[..header.total]
                    } else {
                        self.pins.pin(PinReason::LargeStatement, metrics);
                        &[]
                    };
                    if self.pipeline.on_client(Owed::ParseUnnamed, now) {
                        self.prepared.on_parse_unnamed(kept);
                    }
                }
                return true;
            }
            Request::Bind | Request::Describe if uses_unnamed(request, body) => {
                if !self.prepare_unnamed(now) {
                    return false;
                }
                if request == Request::Bind {
                    Owed::Bind
                } else {
                    Owed::Describe
                }
            }
            Request::Bind => Owed::Bind,
            Request::Describe => Owed::Describe,
            Request::Execute => Owed::Execute,
            Request::Close => return self.note_close(header, now),
            Request::Sync => {
                self.prepared.on_sync();
                Owed::Sync
            }
            Request::FunctionCall => {
                self.pins.pin(PinReason::FunctionCall, metrics);
                Owed::FunctionCall
            }
            Request::CopyEnd => Owed::CopyEnd,
            Request::Flush | Request::CopyData | Request::Terminate => return true,
        };
        self.pipeline.on_client(owed, now);
        true
    }

    /// Makes sure that the server has this client's unnamed statement. False when bytes must go out first, since what
    /// is put ahead goes before everything that is marked.
    fn prepare_unnamed(&mut self, now: Instant) -> bool {
        if self.prepared.server_agrees() {
            return true;
        }
        // What went before the last Sync or Query decides which statement there is; its answers are on the way.
        if self.to_server > 0 || !self.ahead.is_empty() || self.pipeline.ready_owed() > 0 {
            return false;
        }
        if let Some(owed) = self.prepared.before_use(&mut self.ahead)
            && !self.pipeline.on_client(owed, now)
        {
            // The server skips to a Sync: it would not look at ours either.
            self.ahead.clear();
        }
        true
    }

    fn note_close(&mut self, header: Header, now: Instant) -> bool {
        let bytes = &self.from_client.bytes()[self.to_server..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        match body.split_first() {
            Some((b'S', name)) => {
                let name = cstr(name).map_or(name, |(name, _)| name);
                if self.pipeline.on_client(Owed::CloseStatement, now) {
                    self.prepared.on_close(name);
                }
            }
            _ => drop(self.pipeline.on_client(Owed::Close, now)),
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

/// Whether a Bind or Describe is for the unnamed statement. A Bind names its portal first.
fn uses_unnamed(request: Request, body: &[u8]) -> bool {
    if request == Request::Bind {
        matches!(cstr(body), Some((_, statement)) if statement.first() == Some(&0))
    } else {
        body == b"S\0"
    }
}

fn look_at_text(
    body: &[u8],
    whole: bool,
    scan: &mut Option<StateScan>,
    pins: &mut super::pins::Pins,
    metrics: &Arc<PoolMetrics>,
) {
    let word = if whole {
        state_word(body)
    } else {
        scan.insert(StateScan::default()).feed(body)
    };
    if let Some(word) = word {
        pins.pin(reason(word), metrics);
    }
}

fn reason(word: StateWord) -> PinReason {
    match word {
        StateWord::SetConfig => PinReason::SetConfig,
        StateWord::AdvisoryLock => PinReason::AdvisoryLock,
        StateWord::IntoTemp => PinReason::TemporaryTable,
    }
}

impl Traffic {
    /// The server asked for COPY data.
    pub(super) fn on_copy_in(&mut self) {
        if self.pipeline.is_copying() {
            self.phase = Phase::CopyIn;
        }
    }
}
