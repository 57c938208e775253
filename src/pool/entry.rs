//! What bb8 stores, and the manager it stores it with.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::budget::Room;
use super::event::CloseReason;
use super::generation::Generation;
use super::slots::{Slot, Slots};

/// A connection and what the pool knows about it. Boxed in bb8, so that moving it about costs a pointer.
#[derive(Debug)]
pub(super) struct Entry<C> {
    pub(super) conn: C,
    /// Its number on the pool's logical clock, drawn before the connect.
    pub(super) born: u64,
    /// From just before the connect, as SQLAlchemy counts a connection's age.
    pub(super) created_at: Instant,
    /// How long the connect took.
    pub(super) connect_time: Duration,
    /// When it last came back; its creation before that.
    pub(super) idle_since: Instant,
    /// Not handed out and returned yet.
    pub(super) fresh: bool,
    /// It will be closed instead of kept, for this reason.
    pub(super) discard: Option<CloseReason>,
    /// Where the start of its use is recorded.
    pub(super) used: Slot,
    /// Its part of a limit over several pools; behind the connection, so that it outlives it.
    pub(super) room: Option<Room>,
}

/// The user's manager with what a new [`Entry`] needs.
#[derive(Debug)]
pub(super) struct Keeper<M> {
    pub(super) manager: M,
    pub(super) generation: Generation,
    pub(super) uses: Arc<Slots>,
}

/// The manager bb8 is built with. Its `has_broken` reads one flag: bb8 asks it under the pool's mutex, where the
/// user's own look, which may read from a socket, has no place.
#[derive(Debug)]
pub(super) struct Stored<M>(pub(super) Arc<Keeper<M>>);

impl<M: bb8::ManageConnection> bb8::ManageConnection for Stored<M> {
    type Connection = Box<Entry<M::Connection>>;
    type Error = M::Error;

    async fn connect(&self) -> Result<Self::Connection, Self::Error> {
        let born = self.0.generation.birth();
        let created_at = Instant::now();
        let conn = self.0.manager.connect().await?;
        Ok(Box::new(Entry {
            conn,
            born,
            created_at,
            connect_time: created_at.elapsed(),
            idle_since: created_at,
            fresh: true,
            discard: None,
            used: self.0.uses.claim(),
            room: None,
        }))
    }

    async fn is_valid(&self, entry: &mut Self::Connection) -> Result<(), Self::Error> {
        self.0.manager.is_valid(&mut entry.conn).await
    }

    fn has_broken(&self, entry: &mut Self::Connection) -> bool {
        entry.discard.is_some()
    }
}
