//! A permit, and the connection it is for. Dropping them in any state loses nothing.

use std::sync::Arc;

use super::budget::Room;
use super::entry::Entry;
use super::event::CloseReason;
use super::shared::Shared;
use super::shelf::Pooled;

/// The right to one connection. Given back when dropped.
pub(super) struct Permit<M: bb8::ManageConnection> {
    shared: Arc<Shared<M>>,
}

impl<M: bb8::ManageConnection> Permit<M> {
    /// Of a permit that the gate has granted.
    pub(super) fn granted(shared: &Arc<Shared<M>>) -> Self {
        Self {
            shared: Arc::clone(shared),
        }
    }
}

impl<M: bb8::ManageConnection> Drop for Permit<M> {
    fn drop(&mut self) {
        self.shared.gate.release();
    }
}

/// Where a connection lives.
pub(super) enum Held<M: bb8::ManageConnection> {
    /// In bb8.
    Pooled(Pooled<M>),
    /// Nowhere else: pooling is off.
    Dedicated(Box<Entry<M::Connection>>),
}

/// A permit with its connection, once it has one.
///
/// The permit is a field, so it drops after `Drop::drop` has put the connection back or closed it. The other way
/// round, the next checkout could open a connection while this one is still there: one more than permits.
pub(super) struct Lease<M: bb8::ManageConnection> {
    held: Option<Held<M>>,
    permit: Permit<M>,
}

impl<M: bb8::ManageConnection> Lease<M> {
    pub(super) fn new(permit: Permit<M>) -> Self {
        Self { held: None, permit }
    }

    pub(super) fn shared(&self) -> &Shared<M> {
        &self.permit.shared
    }

    /// Holds a connection from now on. There is none before: see [`close`](Self::close).
    pub(super) fn hold(&mut self, held: Held<M>) {
        self.held = Some(held);
    }

    /// Whether it holds a connection.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Closes the connection and keeps the permit, and its room for the one that takes its place.
    pub(super) fn close(&mut self, reason: CloseReason) -> Option<Room> {
        let mut held = self.held.take()?;
        let room = match &mut held {
            Held::Pooled(pooled) => pooled.room.take(),
            Held::Dedicated(entry) => entry.room.take(),
        };
        self.shared().close(held, reason);
        room
    }

    /// Gives the connection back to where it was taken from, as if it never had been.
    pub(super) fn untake(mut self) {
        match self.held.take() {
            Some(Held::Pooled(pooled)) => {
                let shared = self.shared();
                shared.shelf.put_first(pooled, &shared.gauges);
            }
            other => self.held = other,
        }
    }

    pub(super) fn entry(&self) -> &Entry<M::Connection> {
        match self
            .held
            .as_ref()
            .expect("a lease is asked for its connection while it has one")
        {
            Held::Pooled(pooled) => pooled,
            Held::Dedicated(entry) => entry,
        }
    }

    pub(super) fn entry_mut(&mut self) -> &mut Entry<M::Connection> {
        match self
            .held
            .as_mut()
            .expect("a lease is asked for its connection while it has one")
        {
            Held::Pooled(pooled) => pooled,
            Held::Dedicated(entry) => entry,
        }
    }
}

impl<M: bb8::ManageConnection> Drop for Lease<M> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.shared().give_back(held);
        }
    }
}
