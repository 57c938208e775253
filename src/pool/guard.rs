//! What a borrower has in hand.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tokio::time::Instant;

use super::event::{CloseReason, PoolEvent};
use super::lease::Lease;

/// A connection checked out of a pool; dropped, it goes back or is closed.
///
/// It does not borrow from the pool and may go to another task. Whoever leaves a connection in a state that the next
/// borrower must not see arms [`discard_on_drop`](Self::discard_on_drop) before that and disarms it after.
pub struct Checkout<M: bb8::ManageConnection> {
    lease: Lease<M>,
    since: Instant,
}

impl<M: bb8::ManageConnection> Checkout<M> {
    pub(super) fn new(lease: Lease<M>, since: Instant) -> Self {
        lease.entry().used.start(since);
        Self { lease, since }
    }

    /// When dropped, it is closed, for this reason, and not kept. The latest call counts.
    pub fn discard_on_drop(&mut self, why: CloseReason) {
        self.lease.entry_mut().discard = Some(why);
    }

    /// Takes [`discard_on_drop`](Self::discard_on_drop) back.
    pub fn keep_on_drop(&mut self) {
        self.lease.entry_mut().discard = None;
    }

    /// Whether this checkout opened the connection.
    pub fn fresh(&self) -> bool {
        self.lease.entry().fresh
    }

    /// How long opening the connection took, where this checkout opened it.
    pub fn connect_time(&self) -> Duration {
        let entry = self.lease.entry();
        if entry.fresh {
            entry.connect_time
        } else {
            Duration::ZERO
        }
    }

    /// For how long it has been out.
    pub fn held(&self) -> Duration {
        self.since.elapsed()
    }

    /// The connection turned out to be dead: it is closed when dropped ([`CloseReason::Broken`]), and connections
    /// that were opened before now are replaced at their next checkout, unless a younger generation exists already.
    pub fn invalidate_pool(&mut self) {
        self.discard_on_drop(CloseReason::Broken);
        self.lease.shared().disconnected(self.lease.entry().born);
    }
}

impl<M: bb8::ManageConnection> Deref for Checkout<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.lease.entry().conn
    }
}

impl<M: bb8::ManageConnection> DerefMut for Checkout<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.lease.entry_mut().conn
    }
}

impl<M: bb8::ManageConnection> Drop for Checkout<M> {
    fn drop(&mut self) {
        let now = Instant::now();
        let entry = self.lease.entry_mut();
        entry.idle_since = now;
        entry.fresh = false;
        entry.used.stop();
        let held = now.saturating_duration_since(self.since);
        self.lease.shared().tell(PoolEvent::Returned { held });
    }
}

impl<M: bb8::ManageConnection> fmt::Debug for Checkout<M>
where
    M::Connection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkout")
            .field("connection", &**self)
            .field("fresh", &self.fresh())
            .field("held", &self.held())
            .finish()
    }
}
