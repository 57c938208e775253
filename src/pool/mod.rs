//! `Pool<M>`: the rules of SQLAlchemy's QueuePool over bb8 as store and hard cap.
//!
//! Knows neither PostgreSQL nor Prometheus. See `docs/pool.md` for the rules. One idea a file: `gate` says who may
//! have a connection, `shelf` keeps the idle ones, `checkout` is the way from one to the other, `lease` makes
//! sure that nothing is lost on it, `guard` is what a borrower holds.

mod budget;
mod checkout;
mod config;
mod entry;
mod error;
mod event;
mod gate;
mod gauges;
mod generation;
mod guard;
mod knobs;
mod lease;
mod outline;
mod room;
mod shared;
mod shelf;
mod slots;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use budget::Budget;
pub use checkout::Entered;
pub use config::{Config, ConfigError};
pub use error::{CheckoutError, StillHeld};
pub use event::{CloseReason, Observer, Outcome, PoolEvent, PrePing, Unobserved};
pub use guard::Checkout;
pub use room::Outside;
pub use status::Status;

use shared::Shared;

/// A pool of the connections of one manager. Clones are the same pool.
///
/// The manager's `connect` opens a connection, its `is_valid` is the ping, and its `has_broken` the look for a
/// hang-up that does not block: it is called before each checkout of an idle connection and at each return.
///
/// All but [`status`](Self::status) is to be called within a tokio runtime with time enabled.
pub struct Pool<M: bb8::ManageConnection> {
    shared: Arc<Shared<M>>,
}

impl<M: bb8::ManageConnection> Pool<M> {
    /// An empty pool. Nothing is opened before the first checkout.
    ///
    /// # Errors
    /// Sizes that contradict each other.
    pub fn new(
        manager: M,
        config: Config,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ConfigError> {
        let shape = config.shape()?;
        Ok(Self {
            shared: Arc::new(Shared::new(manager, config, shape, observer, None)),
        })
    }

    /// As [`new`](Self::new), one of several pools that share a limit on their connections. A checkout that has to wait
    /// for it waits within the same time as at the gate.
    ///
    /// # Errors
    /// Sizes that contradict each other.
    pub fn sharing(
        budget: &Budget,
        manager: M,
        config: Config,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ConfigError> {
        let shape = config.shape()?;
        let share = Some(budget.share());
        let shared = Arc::new(Shared::new(manager, config, shape, observer, share));
        if let Some(share) = &shared.share {
            let weak = Arc::downgrade(&shared);
            share.join(weak);
        }
        Ok(Self { shared })
    }

    /// Closes the connections that are idle now. How many that were.
    pub fn close_idle(&self) -> u32 {
        let closed = self.shared.shelf.shed(u32::MAX, &self.shared.gauges);
        self.shared.tell_closed(closed, CloseReason::Idle);
        closed
    }

    /// A connection, if a permit is free and the next idle connection can be used without a round trip.
    ///
    /// Otherwise `None`, and nothing has happened: nothing is counted, no connection was closed, the order is as it
    /// was. [`checkout`](Self::checkout) is what to call then.
    ///
    /// `now` is when the checkout began, which is this moment or a little earlier: the clock is not read again, and the
    /// checkout counts as having taken no time.
    pub fn try_checkout(&self, now: Instant) -> Option<Checkout<M>> {
        self.shared.try_checkout(now)
    }

    /// The first half of [`checkout`](Self::checkout): the wait at the gate, which is a small future.
    ///
    /// # Errors
    /// Those of a wait: timeout, paused, closed.
    pub async fn enter(&self) -> Result<Entered<M>, CheckoutError<M::Error>> {
        self.shared.enter(self.shared.knobs.timeout()).await
    }

    /// A connection, within the pool's timeout for the wait at the gate. See [`checkout_within`](Self::checkout_within).
    ///
    /// # Errors
    /// See [`CheckoutError`].
    pub async fn checkout(&self) -> Result<Checkout<M>, CheckoutError<M::Error>> {
        self.shared.checkout(self.shared.knobs.timeout()).await
    }

    /// A connection, with a limit of one's own for the wait at the gate.
    ///
    /// The limit covers that wait alone. A connect that is needed may take `connect_timeout` on top and a ping
    /// `pre_ping_timeout`. Dropping the future at any point leaves the pool as if it had not been called, but for a
    /// connection that was being pinged, which is closed.
    ///
    /// # Errors
    /// See [`CheckoutError`].
    pub async fn checkout_within(
        &self,
        limit: Duration,
    ) -> Result<Checkout<M>, CheckoutError<M::Error>> {
        self.shared.checkout(limit).await
    }

    /// Room for a connection that is opened outside the pool, in the limit that it shares with others. Waits for it as long as
    /// a checkout would; where no limit is shared it is had at once. Dropping the future leaves the queue in order.
    ///
    /// # Errors
    /// No room in time, or the pool was closed.
    pub async fn outside(&self) -> Result<Outside, CheckoutError<M::Error>> {
        self.shared.outside(self.shared.knobs.timeout()).await
    }

    /// The pool at this moment. Takes no lock and waits for nobody.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Grants nothing until [`resume`](Self::resume). Checkouts keep their places in the queue, up to their timeouts.
    pub fn pause(&self) {
        self.shared.gate.set_paused(true);
        self.shared.trim();
    }

    /// Pauses, and waits until no connection is held. The pool stays paused however this ends, or is dropped.
    ///
    /// # Errors
    /// Connections are still held after `limit`.
    pub async fn pause_and_wait(&self, limit: Duration) -> Result<(), StillHeld> {
        self.pause();
        self.shared.gate.emptied(limit).await
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.shared.gate.set_paused(false);
    }

    /// Changes the size. More room is there at once; less takes effect as connections come back, and idle ones beyond
    /// the new size are closed now.
    ///
    /// # Errors
    /// Sizes that contradict each other or the pool's ceiling; nothing has changed then.
    pub fn resize(&self, size: u32, max_overflow: i32) -> Result<(), ConfigError> {
        self.apply(|config| Config {
            size,
            max_overflow,
            ..*config
        })
    }

    /// Changes every setting that is not fixed for a pool's life, the size included.
    ///
    /// # Errors
    /// As [`resize`](Self::resize), or a fixed setting differs; nothing has changed then.
    pub fn reload(&self, config: Config) -> Result<(), ConfigError> {
        self.apply(|_| config)
    }

    /// Replaces every connection that is open now: an idle one at its next checkout, one in use when it comes back.
    pub fn invalidate(&self) {
        self.shared.keeper.generation.retire_all();
        self.shared.tell(PoolEvent::Invalidated);
    }

    /// Changes whenever connections that were open are declared stale, by a disconnect or by [`invalidate`](Self::invalidate).
    pub fn generation(&self) -> u64 {
        self.shared.keeper.generation.mark()
    }

    /// Ends the pool: checkouts waiting and to come fail, idle connections are closed, and those in use when they
    /// come back.
    pub fn close(&self) {
        self.shared.gate.close();
        if let Some(share) = &self.shared.share {
            share.wake_all();
        }
        let closed = self.shared.shelf.close(&self.shared.gauges);
        self.shared.tell_closed(closed, CloseReason::Shutdown);
    }

    /// Closes, and waits until no connection is held.
    ///
    /// # Errors
    /// Connections are still held after `limit`.
    pub async fn drain(&self, limit: Duration) -> Result<(), StillHeld> {
        self.close();
        self.shared.gate.emptied(limit).await
    }

    fn apply(&self, change: impl FnOnce(&Config) -> Config) -> Result<(), ConfigError> {
        let shared = &*self.shared;
        let mut config = shared.config.lock();
        let next = change(&config);
        config.allows(&next)?;
        let shape = next.shape()?;
        shared.knobs.set(&next);
        // Each number is shown while it holds: a larger one before anybody can make use of it.
        let grows = shape.limit >= config.shape()?.limit;
        if grows {
            shared.outline.set(&shape);
        }
        shared.gate.set_limit(shape.limit);
        let closed = shared.shelf.resize(shape.keep, &shared.gauges);
        shared.outline.set(&shape);
        *config = next;
        drop(config);
        shared.tell_closed(closed, CloseReason::Idle);
        Ok(())
    }
}

impl<M: bb8::ManageConnection> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M: bb8::ManageConnection> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
