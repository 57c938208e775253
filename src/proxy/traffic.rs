//! The bytes of one session in both directions, and what is known about them.
//!
//! Messages are looked at where they lie, in the input buffers, and passed on from there: `to_server` and `to_client`
//! say how much of each buffer may go. The two scans ([`client_side`](super::client_side),
//! [`server_side`](super::server_side)) move those marks; [`relay`](super::relay) moves the bytes.

use std::time::Instant;

use bytes::BytesMut;

use super::phase::Phase;
use super::pins::Pins;
use super::pipeline::Pipeline;
use super::prepared::Prepared;
use crate::cluster::Vacated;
use crate::pgwire::{Inbox, Replies};
use crate::sql::StateScan;

/// One session's traffic.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Bytes from the client.
    pub(super) from_client: Inbox,
    /// How many of them may go to the server.
    pub(super) to_server: usize,
    /// Bytes of the client's current message beyond those marks, and the look at its text.
    pub(super) client_body: usize,
    /// The look at the text of a statement that passes in pieces.
    pub(super) text: Option<StateScan>,
    /// Bytes of ours that go to the server before the client's.
    pub(super) ahead: BytesMut,
    /// The client said goodbye behind what was scanned.
    pub(super) goodbye: bool,
    /// Bytes from the server.
    pub(super) from_server: Inbox,
    /// How many of them may go to the client.
    pub(super) to_client: usize,
    /// Bytes of the server's current message beyond those marks.
    pub(super) server_body: usize,
    /// Replies of ours that go to the client before the server's.
    pub(super) own: Replies,
    /// What the client is in the middle of.
    pub(super) phase: Phase,
    /// What the server owes.
    pub(super) pipeline: Pipeline,
    /// The client's prepared statements.
    pub(super) prepared: Prepared,
    /// Why the server stays.
    pub(super) pins: Pins,
    /// When the first byte of the current statement's reply came.
    pub(super) first_reply: Option<Instant>,
    /// When the last statement ended: the next one of a pipeline starts then at the earliest.
    pub(super) last_done: Instant,
    /// When the session got its server.
    pub(super) leased: Instant,
    /// A statement was run on this lease, so the server may have changed.
    pub(super) touched: bool,
    /// How long a message of the client may be.
    pub(super) message_limit: usize,
    /// The request that runs was cancelled for its time; what its client can do about it.
    pub(super) overdue: Option<String>,
    /// A database that the statement at the mark needs to itself.
    pub(super) vacates: Option<String>,
    /// It is kept free until that statement has ended.
    pub(super) vacated: Option<Vacated>,
}

impl Traffic {
    /// A session that has read `from_client` so far.
    pub(super) fn new(from_client: Inbox) -> Self {
        Self {
            from_client,
            to_server: 0,
            client_body: 0,
            text: None,
            ahead: BytesMut::new(),
            goodbye: false,
            from_server: Inbox::default(),
            to_client: 0,
            server_body: 0,
            own: Replies::default(),
            phase: Phase::Command,
            pipeline: Pipeline::default(),
            prepared: Prepared::default(),
            pins: Pins::default(),
            first_reply: None,
            last_done: Instant::now(),
            leased: Instant::now(),
            touched: false,
            message_limit: usize::MAX,
            overdue: None,
            vacates: None,
            vacated: None,
        }
    }

    /// Another server from now on.
    pub(super) fn on_server_changed(&mut self, leased: Instant) {
        self.leased = leased;
        self.prepared.on_server_changed();
        self.first_reply = None;
        self.touched = false;
    }

    /// Whether every request was answered and nothing waits to go to the server.
    #[inline]
    pub(super) fn settled(&self) -> bool {
        self.pipeline.is_empty() && self.is_sent()
    }

    /// Whether nothing waits to go to the server.
    #[inline]
    pub(super) fn is_sent(&self) -> bool {
        self.to_server == 0 && self.client_body == 0 && self.ahead.is_empty()
    }
}
