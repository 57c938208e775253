//! Everything that happens in a pool, as one typed stream.
//!
//! Metrics, history and tests implement [`Observer`]. An observer is called in the path of a checkout: it must not
//! block, lock what a scrape holds, or call back into the pool.

use std::time::Duration;

/// Who is told what happens in a pool.
pub trait Observer: Send + Sync + 'static {
    /// One thing that happened.
    fn on_event(&self, event: PoolEvent);
}

/// An observer that looks away, for pools nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn on_event(&self, _event: PoolEvent) {}
}

/// One thing that happened in a pool. Copyable and without text, so that telling it costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolEvent {
    /// A checkout began to wait at the gate: every permit is in use, or the pool is paused.
    WaitStarted,
    /// That wait ended, however it did. Follows each `WaitStarted` exactly once.
    WaitEnded {
        /// From `WaitStarted` to now.
        waited: Duration,
    },
    /// A checkout ended. Exactly one for each call, cancelled ones included.
    CheckedOut {
        /// How it ended.
        outcome: Outcome,
        /// From the call to now: gate, connect and ping together.
        took: Duration,
    },
    /// A connection came back. Follows each successful checkout exactly once.
    Returned {
        /// From checkout to return.
        held: Duration,
    },
    /// A connect ended.
    Connected {
        /// How long it took, successful or not.
        took: Duration,
        /// Whether a connection was made.
        ok: bool,
    },
    /// A connection was closed.
    Closed {
        /// Why.
        reason: CloseReason,
    },
    /// An idle connection was looked at before it was handed out.
    PrePing {
        /// What was found.
        outcome: PrePing,
    },
    /// The pool's generation moved on: connections older than now are replaced at their next checkout.
    Invalidated,
    /// An operation that cannot fail by construction did. Counted and logged; the checkout went on another way.
    Bug {
        /// Which invariant.
        what: &'static str,
    },
}

/// How a checkout ended; the label `outcome` of `poolwatch_pool_checkouts_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A connection, without waiting at the gate.
    Direct,
    /// A connection, after a wait.
    Waited,
    /// No permit came free in time.
    Timeout,
    /// A connection could not be opened.
    ConnectError,
    /// A live connection refused the ping, or the second replacement was dead too.
    PingError,
    /// The caller went away.
    Cancelled,
    /// The pool stayed paused until the timeout.
    Paused,
    /// The pool was closed.
    Closed,
}

impl Outcome {
    /// All outcomes, for registering every series at start.
    pub const ALL: [Outcome; 8] = [
        Outcome::Direct,
        Outcome::Waited,
        Outcome::Timeout,
        Outcome::ConnectError,
        Outcome::PingError,
        Outcome::Cancelled,
        Outcome::Paused,
        Outcome::Closed,
    ];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Direct => "direct",
            Outcome::Waited => "waited",
            Outcome::Timeout => "timeout",
            Outcome::ConnectError => "connect_error",
            Outcome::PingError => "ping_error",
            Outcome::Cancelled => "cancelled",
            Outcome::Paused => "paused",
            Outcome::Closed => "closed",
        }
    }
}

/// Why a connection was closed; the label `reason` of `poolwatch_pool_connections_closed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// It came back while `size` connections were idle already (pool-semantics §1.5).
    Overflow,
    /// Older than `recycle` at checkout.
    Recycle,
    /// Older than the pool's generation.
    Invalidated,
    /// The ping before a checkout failed.
    PingFailed,
    /// The transport broke, or the server said it would close.
    Broken,
    /// It could not be brought back to a clean state.
    ResetFailed,
    /// Its client left in the middle of something.
    ClientAbort,
    /// Idle and not wanted: a pool made smaller or dropped.
    Idle,
    /// The pool was closed.
    Shutdown,
}

impl CloseReason {
    /// All reasons, for registering every series at start.
    pub const ALL: [CloseReason; 9] = [
        CloseReason::Overflow,
        CloseReason::Recycle,
        CloseReason::Invalidated,
        CloseReason::PingFailed,
        CloseReason::Broken,
        CloseReason::ResetFailed,
        CloseReason::ClientAbort,
        CloseReason::Idle,
        CloseReason::Shutdown,
    ];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            CloseReason::Overflow => "overflow",
            CloseReason::Recycle => "recycle",
            CloseReason::Invalidated => "invalidated",
            CloseReason::PingFailed => "ping_failed",
            CloseReason::Broken => "broken",
            CloseReason::ResetFailed => "reset_failed",
            CloseReason::ClientAbort => "client_abort",
            CloseReason::Idle => "idle",
            CloseReason::Shutdown => "shutdown",
        }
    }
}

/// What the look at an idle connection found; the label `outcome` of `poolwatch_pool_pre_pings_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrePing {
    /// A round trip succeeded.
    Ok,
    /// The socket had been hung up; no round trip was made.
    Hangup,
    /// A round trip failed.
    Failed,
    /// Used a moment ago (`pre_ping_after`), so the socket alone was looked at.
    Skipped,
}

impl PrePing {
    /// All outcomes, for registering every series at start.
    pub const ALL: [PrePing; 4] = [
        PrePing::Ok,
        PrePing::Hangup,
        PrePing::Failed,
        PrePing::Skipped,
    ];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            PrePing::Ok => "ok",
            PrePing::Hangup => "hangup",
            PrePing::Failed => "failed",
            PrePing::Skipped => "skipped",
        }
    }
}
