//! The idle connections: bb8 as store, and one mutex that makes "look at the count, then take or put" a single step.
//!
//! The mutex is never held across an await, while a connection is looked at, or while an observer is told. Taking
//! from bb8 is an `async fn` that is ready at once when something is idle, which the count says. Only resizing and
//! closing drop connections under it, so that the cap holds for them, too.

use std::sync::Arc;

use futures_util::FutureExt as _;
use parking_lot::{Mutex, MutexGuard};

use super::entry::{Entry, Keeper, Stored};
use super::event::CloseReason;
use super::gauges::Gauges;

/// An entry out of bb8; dropped, it goes back, or is closed if it is to be discarded.
pub(super) type Pooled<M> = bb8::PooledConnection<'static, Stored<M>>;

/// bb8's own wait is never used; it only must not be zero.
const UNUSED_WAIT: std::time::Duration = std::time::Duration::from_secs(3600);

/// The store and its mutex.
#[derive(Debug)]
pub(super) struct Shelf<M: bb8::ManageConnection> {
    store: bb8::Pool<Stored<M>>,
    room: Mutex<Room>,
    lifo: bool,
}

/// How many connections may lie here.
#[derive(Debug)]
struct Room {
    keep: u32,
    closed: bool,
}

/// What bb8 stores of `M`'s.
type Stock<M> = Box<Entry<<M as bb8::ManageConnection>::Connection>>;

/// What [`Shelf::take`] found.
pub(super) enum Taken<M: bb8::ManageConnection> {
    Found(Pooled<M>),
    Empty,
    /// The count promised a connection that bb8 did not have: a bug. The count is corrected.
    Missing,
}

impl<M: bb8::ManageConnection> Shelf<M> {
    pub(super) fn new(keeper: Arc<Keeper<M>>, keep: u32, ceiling: u32, lifo: bool) -> Self {
        let strategy = if lifo {
            bb8::QueueStrategy::Lifo
        } else {
            bb8::QueueStrategy::Fifo
        };
        let store = bb8::Pool::builder()
            .max_size(ceiling)
            .min_idle(None)
            .test_on_check_out(false)
            .max_lifetime(None)
            .idle_timeout(None)
            .retry_connection(false)
            .connection_timeout(UNUSED_WAIT)
            .queue_strategy(strategy)
            .build_unchecked(Stored(keeper));
        Self {
            store,
            room: Mutex::new(Room {
                keep,
                closed: false,
            }),
            lifo,
        }
    }

    /// Opens a connection in the caller's task; it is not in the store yet.
    pub(super) async fn connect(&self) -> Result<Stock<M>, M::Error> {
        self.store.dedicated_connection().await
    }

    /// Takes the next idle connection.
    pub(super) fn take(&self, gauges: &Gauges) -> Taken<M> {
        let _room = self.room.lock();
        if gauges.counts().idle == 0 {
            return Taken::Empty;
        }
        match self.pop() {
            Some(pooled) => {
                gauges.taken();
                Taken::Found(pooled)
            }
            None => {
                gauges.evicted();
                Taken::Missing
            }
        }
    }

    /// Puts a new connection under bb8's roof and hands the same one out. The entry comes back if bb8 has no room
    /// for it, nothing if bb8 lost it.
    pub(super) fn admit(
        &self,
        entry: Stock<M>,
        gauges: &Gauges,
    ) -> Result<Pooled<M>, Option<Stock<M>>> {
        let room = self.room.lock();
        let others = self.set_aside(&room, gauges);
        let added = self.store.add(entry);
        let admitted = match added {
            Ok(()) => self.pop().ok_or(None),
            Err(bb8::AddError::Broken(entry) | bb8::AddError::NoCapacity(entry)) => {
                Err(Some(entry))
            }
        };
        drop(others);
        admitted
    }

    /// Puts a connection back where it was taken from, at the front.
    pub(super) fn put_first(&self, pooled: Pooled<M>, gauges: &Gauges) {
        let room = self.room.lock();
        let others = self.set_aside(&room, gauges);
        gauges.shelved();
        drop(pooled);
        drop(others);
    }

    /// Puts a connection back; or says why it must be closed instead, and returns it so that this happens outside the
    /// mutex.
    ///
    /// `expected` of the idle ones are about to be taken and are no overflow; it is asked under the mutex, so that
    /// whoever lowers it and then calls [`trim`](Self::trim) leaves none behind.
    pub(super) fn put(
        &self,
        pooled: Pooled<M>,
        gauges: &Gauges,
        expected: impl FnOnce() -> u32,
    ) -> Result<(), (CloseReason, Pooled<M>)> {
        let room = self.room.lock();
        let refusal = match pooled.discard {
            Some(reason) => Some(reason),
            None if room.closed => Some(CloseReason::Shutdown),
            None if gauges.counts().idle >= room.keep => (gauges.counts().idle
                >= room.keep.saturating_add(expected()))
            .then_some(CloseReason::Overflow),
            None => None,
        };
        match refusal {
            Some(reason) => Err((reason, pooled)),
            None => {
                gauges.shelved();
                drop(pooled);
                Ok(())
            }
        }
    }

    /// Changes how many may lie here, and closes those that no longer may. How many that were.
    #[must_use]
    pub(super) fn resize(&self, keep: u32, gauges: &Gauges) -> u32 {
        let mut room = self.room.lock();
        room.keep = keep;
        self.evict(&room, keep, CloseReason::Idle, gauges)
    }

    /// Closes so many of the idle ones, the next to be handed out first. How many that were.
    #[must_use]
    pub(super) fn shed(&self, count: u32, gauges: &Gauges) -> u32 {
        let room = self.room.lock();
        let keep = gauges.counts().idle.saturating_sub(count);
        self.evict(&room, keep, CloseReason::Idle, gauges)
    }

    /// Closes what was kept for somebody who does not take it any more. How many that were.
    #[must_use]
    pub(super) fn trim(&self, gauges: &Gauges, expected: impl FnOnce() -> u32) -> u32 {
        let room = self.room.lock();
        let keep = room.keep.saturating_add(expected());
        self.evict(&room, keep, CloseReason::Overflow, gauges)
    }

    /// Keeps nothing from now on. How many were closed.
    #[must_use]
    pub(super) fn close(&self, gauges: &Gauges) -> u32 {
        let mut room = self.room.lock();
        room.closed = true;
        self.evict(&room, 0, CloseReason::Shutdown, gauges)
    }

    fn evict(
        &self,
        _room: &MutexGuard<'_, Room>,
        keep: u32,
        reason: CloseReason,
        gauges: &Gauges,
    ) -> u32 {
        let mut closed = 0;
        while gauges.counts().idle > keep {
            if let Some(mut pooled) = self.pop() {
                pooled.discard = Some(reason);
                closed += 1;
            }
            gauges.evicted();
        }
        closed
    }

    /// In a FIFO store what is put in comes out last, so all others are taken out first; dropping them, in order,
    /// puts them back behind. Rare (a connect that ends while others are idle, a fast path given up), and
    /// microseconds long.
    fn set_aside(&self, _room: &MutexGuard<'_, Room>, gauges: &Gauges) -> Vec<Pooled<M>> {
        if self.lifo {
            return Vec::new();
        }
        (0..gauges.counts().idle)
            .map_while(|_| self.pop())
            .collect()
    }

    /// bb8's own counts: all, and idle.
    #[cfg(test)]
    pub(super) fn stored(&self) -> (u32, u32) {
        let state = self.store.state();
        (state.connections, state.idle_connections)
    }

    /// bb8's `get`, which does not wait when something is idle. Only under the mutex, and only then.
    fn pop(&self) -> Option<Pooled<M>> {
        self.store.get_owned().now_or_never()?.ok()
    }
}
