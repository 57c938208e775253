//! What all clones of a pool share, and how a connection comes back.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::budget::{Member, Share};
use super::config::{Config, Shape};
use super::entry::{Entry, Keeper};
use super::event::{CloseReason, Observer, PoolEvent};
use super::gate::Gate;
use super::gauges::Gauges;
use super::knobs::Knobs;
use super::lease::Held;
use super::outline::Outline;
use super::shelf::{Pooled, Shelf, Taken};
use super::slots::Slots;
use super::status::Status;

/// A pool's insides.
pub(super) struct Shared<M: bb8::ManageConnection> {
    pub(super) keeper: Arc<Keeper<M>>,
    pub(super) gate: Gate,
    pub(super) shelf: Shelf<M>,
    pub(super) gauges: Gauges,
    pub(super) knobs: Knobs,
    /// Starts of the waits going on; those of the uses are in `keeper`.
    pub(super) waits: Arc<Slots>,
    pub(super) outline: Outline,
    /// Whether connections are pooled at all.
    pub(super) enabled: bool,
    observer: Arc<dyn Observer>,
    /// Its part in a limit over several pools.
    pub(super) share: Option<Share>,
    /// What the pool was last told. Held while that is applied, so that two reloads do not mix.
    pub(super) config: Mutex<Config>,
}

impl<M: bb8::ManageConnection> Shared<M> {
    pub(super) fn new(
        manager: M,
        config: Config,
        shape: Shape,
        observer: Arc<dyn Observer>,
        share: Option<Share>,
    ) -> Self {
        let keeper = Arc::new(Keeper {
            manager,
            generation: Default::default(),
            uses: Slots::new(),
        });
        Self {
            gate: Gate::new(shape.limit),
            shelf: Shelf::new(
                Arc::clone(&keeper),
                shape.keep,
                config.ceiling,
                config.use_lifo,
            ),
            gauges: Gauges::default(),
            knobs: Knobs::new(&config),
            waits: Slots::new(),
            outline: Outline::new(&shape),
            enabled: config.enabled,
            observer,
            share,
            config: Mutex::new(config),
            keeper,
        }
    }

    pub(super) fn tell(&self, event: PoolEvent) {
        self.observer.on_event(event);
    }

    /// What cannot happen did; the caller goes on another way.
    pub(super) fn bug(&self, what: &'static str) {
        tracing::error!(what, "a pool's invariant does not hold");
        self.tell(PoolEvent::Bug { what });
    }

    /// The next idle connection, if there is one.
    pub(super) fn take(&self) -> Option<Held<M>> {
        match self.shelf.take(&self.gauges) {
            Taken::Found(pooled) => Some(Held::Pooled(pooled)),
            Taken::Empty => None,
            Taken::Missing => {
                self.bug("a connection counted as idle was not there");
                None
            }
        }
    }

    /// The user's own look at a connection.
    pub(super) fn is_broken(&self, entry: &mut Entry<M::Connection>) -> bool {
        self.keeper.manager.has_broken(&mut entry.conn)
    }

    /// A dead connection was found: those of its age are not to be trusted.
    pub(super) fn disconnected(&self, born: u64) {
        if self.keeper.generation.disconnected(born) {
            self.tell(PoolEvent::Invalidated);
        }
    }

    /// Takes a connection back that its borrower is done with.
    pub(super) fn give_back(&self, held: Held<M>) {
        let mut pooled = match held {
            Held::Pooled(pooled) => pooled,
            // Nothing is kept where pooling is off, as if the pool were full.
            Held::Dedicated(entry) => {
                let reason = entry.discard.unwrap_or(CloseReason::Overflow);
                return self.close(Held::Dedicated(entry), reason);
            }
        };
        if pooled.discard.is_none() {
            pooled.discard = self.unfit(&mut pooled);
        }
        match self.shelf.put(pooled, &self.gauges, || self.expected()) {
            Err((reason, pooled)) => self.close(Held::Pooled(pooled), reason),
            Ok(()) => self.yield_idle(),
        }
    }

    /// Asked when a connection lies on the shelf, so that who joins the queue either sees it there or is seen here.
    fn yield_idle(&self) {
        if self.share.as_ref().is_some_and(Share::must_yield) {
            self.shed();
        }
    }

    /// Closes a connection that somebody holds.
    pub(super) fn close(&self, held: Held<M>, reason: CloseReason) {
        match held {
            Held::Pooled(mut pooled) => {
                pooled.discard = Some(reason);
                drop(pooled);
            }
            Held::Dedicated(entry) => drop(entry),
        }
        self.gauges.closed();
        self.tell(PoolEvent::Closed { reason });
    }

    /// How many are about to take an idle connection: all who wait, unless none is granted.
    fn expected(&self) -> u32 {
        if self.gate.is_paused() {
            0
        } else {
            self.gauges.waiting()
        }
    }

    /// Fewer are expected than were: what was kept for them is overflow now.
    pub(super) fn trim(&self) {
        let closed = self.shelf.trim(&self.gauges, || self.expected());
        self.tell_closed(closed, CloseReason::Overflow);
    }

    /// Tells of connections that were closed while they were idle.
    pub(super) fn tell_closed(&self, count: u32, reason: CloseReason) {
        for _ in 0..count {
            self.tell(PoolEvent::Closed { reason });
        }
    }

    pub(super) fn status(&self) -> Status {
        let now = Instant::now();
        let counts = self.gauges.counts();
        let (size, max_overflow) = self.outline.get();
        // Beyond the size they are kept for those who wait, and as good as in their hands. Size 0 keeps all.
        let idle = match size {
            0 => counts.idle,
            size => counts.idle.min(size),
        };
        let in_use = counts.live - idle;
        Status {
            size,
            max_overflow,
            idle,
            in_use,
            connecting: counts.connecting,
            pinging: self.gauges.pinging(),
            waiting: self.gauges.waiting(),
            permits_in_use: in_use + counts.connecting,
            oldest_wait: self.waits.oldest(now),
            oldest_use: self.keeper.uses.oldest(now),
            paused: self.gate.is_paused(),
            closed: self.gate.is_closed(),
        }
    }

    /// Why a returned connection cannot be kept, whatever room there is.
    fn unfit(&self, pooled: &mut Pooled<M>) -> Option<CloseReason> {
        if self.is_broken(pooled) {
            Some(CloseReason::Broken)
        } else if self.keeper.generation.is_retired(pooled.born) {
            Some(CloseReason::Invalidated)
        } else {
            None
        }
    }
}

impl<M: bb8::ManageConnection> Member for Shared<M> {
    fn shed(&self) -> bool {
        let closed = self.shelf.shed(1, &self.gauges);
        self.tell_closed(closed, CloseReason::Idle);
        closed > 0
    }
}

impl<M: bb8::ManageConnection> std::fmt::Debug for Shared<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl<M: bb8::ManageConnection> Drop for Shared<M> {
    /// Nobody holds a connection any more; bb8 closes the idle ones after this.
    fn drop(&mut self) {
        let reason = if self.gate.is_closed() {
            CloseReason::Shutdown
        } else {
            CloseReason::Idle
        };
        self.tell_closed(self.gauges.counts().idle, reason);
    }
}
