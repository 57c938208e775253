//! The bytes of one session in both directions, and what is known about them.
//!
//! Messages are looked at where they lie, in the input buffers, and passed on from there: `to_server` and `to_client`
//! say how much of each buffer may go. The two scans ([`client_side`](super::client_side),
//! [`server_side`](super::server_side)) move those marks; [`relay`](super::relay) moves the bytes.

use tokio::time::Instant;

use super::names::Names;
use super::phase::Phase;
use super::pins::Pins;
use super::pipeline::Pipeline;
use super::sharing::Sharing;
use super::state::State;
use super::timing::Timing;
use super::unnamed::Unnamed;
use crate::backend::Lease;
use crate::cluster::Vacated;
use crate::pgwire::{Inbox, Outbox, Replies};

/// One session's traffic.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Bytes from the client.
    pub(super) from_client: Inbox,
    /// How many of them may go to the server.
    pub(super) to_server: usize,
    /// Bytes of the client's current message beyond those marks, and the look at its text.
    pub(super) client_body: usize,
    /// Bytes of ours that go to the server before the client's.
    pub(super) ahead: Outbox,
    /// The client said goodbye behind what was scanned.
    pub(super) goodbye: bool,
    /// Bytes from the server.
    pub(super) from_server: Inbox,
    /// How many of them may go to the client.
    pub(super) to_client: usize,
    /// Bytes of the server's current message beyond those marks.
    pub(super) server_body: usize,
    /// That message is not for the client: what is read from it.
    pub(super) hidden: Option<Hidden>,
    /// Replies of ours that go to the client before the server's.
    pub(super) own: Replies,
    /// What the client is in the middle of.
    pub(super) phase: Phase,
    /// The last ReadyForQuery was of a failed transaction.
    pub(super) failed: bool,
    /// What the server owes.
    pub(super) pipeline: Pipeline,
    /// The client's unnamed statement.
    pub(super) unnamed: Unnamed,
    /// The client's named statements.
    pub(super) names: Names,
    /// The name that a statement of SQL is about to drop.
    pub(super) deallocating: Option<Vec<u8>>,
    /// Something was sent that may drop statements by SQL.
    pub(super) dropping: Dropping,
    /// How they are given to servers.
    pub(super) sharing: Sharing,
    /// The ReadyForQuery at the mark is told to the client later.
    pub(super) withheld: bool,
    /// What statements do to the session.
    pub(super) state: State,
    /// Why the server stays.
    pub(super) pins: Pins,
    /// Which statement is under way, and since when.
    pub(super) timing: Timing,
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

/// Whether something was sent that may drop statements by SQL and is not answered. What a name stands for is not known then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropping {
    /// Nothing.
    No,
    /// It was sent.
    Sent,
    /// And a Flush of ours after it, so that its answer comes.
    Flushed,
}

/// A message of the server's that passes in pieces, and not to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    /// The parameters of a statement that is shared.
    Parameters,
    /// Its columns.
    Columns,
    /// That it has none.
    NoColumns,
    /// What nothing is read from.
    Nothing,
}

impl Traffic {
    /// A session that has read nothing so far.
    pub(super) fn new(sharing: Sharing) -> Self {
        Self {
            from_client: Inbox::default(),
            to_server: 0,
            client_body: 0,
            ahead: Outbox::default(),
            goodbye: false,
            from_server: Inbox::default(),
            to_client: 0,
            server_body: 0,
            hidden: None,
            own: Replies::default(),
            phase: Phase::Command,
            failed: false,
            pipeline: Pipeline::default(),
            unnamed: Unnamed::default(),
            names: Names::default(),
            deallocating: None,
            dropping: Dropping::No,
            sharing,
            withheld: false,
            state: State::default(),
            pins: Pins::default(),
            timing: Timing::new(),
            touched: false,
            message_limit: usize::MAX,
            overdue: None,
            vacates: None,
            vacated: None,
        }
    }

    /// Another server from now on.
    pub(super) fn on_server_changed(&mut self, leased: Instant, lease: &Lease) {
        let pid = lease.server_ref().process_id();
        self.timing
            .on_server_changed(leased, pid, lease.connect_time());
        self.unnamed.on_server_changed();
        self.names.on_server_changed();
        self.failed = false;
        self.touched = false;
    }

    /// Moves what is marked to where our own bytes wait, so that more of ours can follow.
    pub(super) fn gather(&mut self) {
        let marked = &self.from_client.bytes()[..self.to_server];
        if !marked.is_empty() {
            self.ahead.extend(marked);
            self.from_client.consume(self.to_server);
            self.to_server = 0;
        }
    }

    /// Moves what is marked for the client to where our own replies wait, so that more of ours can follow.
    pub(super) fn gather_replies(&mut self) {
        let marked = &self.from_server.bytes()[..self.to_client];
        if !marked.is_empty() {
            self.own.pass(marked);
            self.from_server.consume(self.to_client);
            self.to_client = 0;
        }
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
