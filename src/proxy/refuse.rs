//! Skipping a request that could not be served.
//!
//! A Query is answered by an error and ReadyForQuery. Of the extended protocol everything up to the next Sync is skipped,
//! as PostgreSQL does after an error, and the Sync is answered.

use super::demand::DemandError;
use super::phase::{Phase, Request};
use super::session::Session;
use crate::pgwire::{Header, Inbox};

/// What is left to skip.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    /// The request's end has not been seen yet.
    active: bool,
    /// Bytes of a message that was only partly there.
    body: usize,
}

impl Refusal {
    /// The request at the front of the buffer is refused.
    pub(super) fn start(&mut self) {
        self.active = true;
    }

    /// Whether something is still to be skipped.
    pub(super) fn is_active(&self) -> bool {
        self.active || self.body > 0
    }

    /// Forgets a message of this length, as far as it is there and the rest when it comes.
    pub(super) fn discard(&mut self, inbox: &mut Inbox, length: usize) {
        let there = length.min(inbox.len());
        inbox.consume(there);
        self.body += length - there;
    }
}

impl Session {
    /// Skips what is there of a refused request. True when its end was reached and answered.
    pub(super) fn skip_refused(&mut self) -> Result<bool, DemandError> {
        let Session {
            refusal, traffic, ..
        } = self;
        loop {
            if refusal.body > 0 {
                let pending = std::mem::take(&mut refusal.body);
                refusal.discard(&mut traffic.from_client, pending);
            }
            if !refusal.active || refusal.body > 0 {
                return Ok(false);
            }
            let Some(header) = Header::parse(traffic.from_client.bytes())? else {
                return Ok(false);
            };
            let (_, request) = Phase::Command.on_client(header.tag)?;
            if request == Request::Terminate {
                refusal.active = false;
                return Ok(false);
            }
            refusal.discard(&mut traffic.from_client, header.total);
            if matches!(
                request,
                Request::Query | Request::FunctionCall | Request::Sync
            ) {
                refusal.active = false;
                traffic.own.ready_for_query(b'I');
                return Ok(true);
            }
        }
    }
}
