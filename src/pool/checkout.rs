//! How a connection is got: gate, then an idle connection that passes its checks or a new one.
//!
//! Every step can be dropped at its await. What is held then is a [`Lease`], and before the first ping byte is sent
//! its connection is marked for closing, so a half-read answer is never handed to anybody.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::budget::Room;
use super::entry::Entry;
use super::error::CheckoutError;
use super::event::{CloseReason, Outcome, PoolEvent, PrePing};
use super::gate::Refused;
use super::guard::Checkout;
use super::lease::{Held, Lease, Permit};
use super::room::Found;
use super::shared::Shared;

/// How often a dead connection is replaced before the checkout fails, as often as SQLAlchemy does.
const REPLACEMENTS: u32 = 2;

/// What a look at an idle connection says.
enum Verdict {
    /// Hand it out.
    Ready,
    /// Hand it out: it was used a moment ago, so there is no need of a round trip.
    ReadyUnpinged,
    /// Hand it out if it answers.
    Ping,
    /// Replace it.
    Stale(CloseReason),
    /// Replace it: its peer is gone.
    HungUp,
}

impl<M: bb8::ManageConnection> Shared<M> {
    pub(super) fn try_checkout(self: &Arc<Self>, now: Instant) -> Option<Checkout<M>> {
        if !self.gate.try_acquire() {
            return None;
        }
        let permit = Permit::granted(self);
        if self.knobs.pre_ping() && self.knobs.pre_ping_after().is_zero() {
            return None;
        }
        let mut lease = Lease::new(permit);
        lease.hold(self.take()?);
        if !self.is_ready(lease.entry_mut(), now) {
            lease.untake();
            return None;
        }
        let checkout = Checkout::new(lease, now);
        self.tell(PoolEvent::CheckedOut {
            outcome: Outcome::Direct,
            took: Duration::ZERO,
        });
        Some(checkout)
    }

    pub(super) async fn checkout(
        self: &Arc<Self>,
        limit: Duration,
    ) -> Result<Checkout<M>, CheckoutError<M::Error>> {
        self.enter(limit).await?.finish().await
    }

    /// Through the gate, after waiting for it if need be.
    pub(super) async fn enter(
        self: &Arc<Self>,
        limit: Duration,
    ) -> Result<Entered<M>, CheckoutError<M::Error>> {
        let mut call = Call::start(self);
        match self.pass(limit, call.started).await {
            Ok((outcome, now)) => Ok(Entered {
                lease: Lease::new(Permit::granted(self)),
                call,
                outcome,
                now,
                limit,
            }),
            Err(error) => {
                call.outcome = error.outcome();
                Err(error)
            }
        }
    }

    /// On success the caller owns a permit, since the moment that is returned.
    async fn pass(
        &self,
        limit: Duration,
        started: Instant,
    ) -> Result<(Outcome, Instant), CheckoutError<M::Error>> {
        if self.gate.is_closed() {
            return Err(CheckoutError::Closed);
        }
        if self.gate.try_acquire() {
            return Ok((Outcome::Direct, started));
        }
        let mut waiting = Waiting::start(self, started);
        let refused = self.gate.acquire(limit).await;
        let now = Instant::now();
        waiting.granted = refused.is_ok();
        waiting.ended = Some(now);
        drop(waiting);
        let waited = now.saturating_duration_since(started);
        match refused {
            Ok(()) => Ok((Outcome::Waited, now)),
            Err(Refused::Closed) => Err(CheckoutError::Closed),
            Err(Refused::Timeout) if self.gate.is_paused() => Err(CheckoutError::Paused { waited }),
            Err(Refused::Timeout) => Err(self.timed_out(waited)),
        }
    }

    /// Whether an idle connection can be handed out without a round trip.
    fn is_ready(&self, entry: &mut Entry<M::Connection>, now: Instant) -> bool {
        match self.inspect(entry, now) {
            Verdict::Ready => true,
            Verdict::ReadyUnpinged => {
                self.tell_ping(PrePing::Skipped);
                true
            }
            Verdict::Ping | Verdict::Stale(_) | Verdict::HungUp => false,
        }
    }

    fn timed_out(&self, waited: Duration) -> CheckoutError<M::Error> {
        let (size, _) = self.outline.get();
        let counts = self.gauges.counts();
        let overflow = (counts.live + counts.connecting).cast_signed() - size.cast_signed();
        CheckoutError::Timeout {
            size,
            overflow,
            waited,
        }
    }

    /// Gives a lease its connection: the next idle one, if it stands its checks, or a new one.
    /// Whether there was a wait, for room in a limit over several pools.
    async fn fill(
        &self,
        lease: &mut Lease<M>,
        started: Instant,
        limit: Duration,
    ) -> Result<bool, CheckoutError<M::Error>> {
        let mut waited = false;
        if !lease.is_held() {
            match self.take() {
                Some(held) => lease.hold(held),
                None => match self.room(started, limit).await? {
                    Found::Room(room) => {
                        self.connect(lease, room).await?;
                        return Ok(false);
                    }
                    Found::Waited(None, room) => {
                        self.connect(lease, room).await?;
                        return Ok(true);
                    }
                    Found::Waited(Some(held), _) => {
                        waited = true;
                        lease.hold(held);
                    }
                },
            }
        }
        self.check(lease).await?;
        Ok(waited)
    }

    /// Brings the lease's idle connection, or one in its place, to where it can be handed out.
    async fn check(&self, lease: &mut Lease<M>) -> Result<(), CheckoutError<M::Error>> {
        let reason = match self.inspect(lease.entry_mut(), Instant::now()) {
            Verdict::Ready => return Ok(()),
            Verdict::ReadyUnpinged => {
                self.tell_ping(PrePing::Skipped);
                return Ok(());
            }
            Verdict::Stale(reason) => {
                let room = lease.close(reason);
                return self.connect(lease, room).await;
            }
            Verdict::HungUp => {
                self.tell_ping(PrePing::Hangup);
                CloseReason::Broken
            }
            Verdict::Ping => match self.ping(lease).await? {
                true => return Ok(()),
                false => CloseReason::PingFailed,
            },
        };
        self.replace(lease, reason).await
    }

    /// Puts a new connection in the place of a dead one. A server that just hung up may do so again, so the new one
    /// is looked at, too.
    async fn replace(
        &self,
        lease: &mut Lease<M>,
        mut reason: CloseReason,
    ) -> Result<(), CheckoutError<M::Error>> {
        for _ in 0..REPLACEMENTS {
            self.disconnected(lease.entry().born);
            let room = lease.close(reason);
            self.connect(lease, room).await?;
            if !self.is_broken(lease.entry_mut()) {
                return Ok(());
            }
            self.tell_ping(PrePing::Hangup);
            reason = CloseReason::Broken;
        }
        lease.close(reason);
        Err(CheckoutError::Dead)
    }

    /// The checks of a checkout that need no round trip, in SQLAlchemy's order.
    fn inspect(&self, entry: &mut Entry<M::Connection>, now: Instant) -> Verdict {
        if now.saturating_duration_since(entry.created_at) > self.knobs.recycle() {
            return Verdict::Stale(CloseReason::Recycle);
        }
        if self.keeper.generation.is_stale(entry.born) {
            return Verdict::Stale(CloseReason::Invalidated);
        }
        if !self.knobs.pre_ping() {
            return Verdict::Ready;
        }
        if self.is_broken(entry) {
            return Verdict::HungUp;
        }
        if now.saturating_duration_since(entry.idle_since) >= self.knobs.pre_ping_after() {
            return Verdict::Ping;
        }
        Verdict::ReadyUnpinged
    }

    /// A round trip. `false` says that the connection is dead; an error, that it is alive and refused, or did not
    /// answer in time without being known to be dead.
    async fn ping(&self, lease: &mut Lease<M>) -> Result<bool, CheckoutError<M::Error>> {
        let entry = lease.entry_mut();
        // What is dropped during the ping is closed: its answer is still under way.
        entry.discard = Some(CloseReason::ClientAbort);
        let pinging = self.gauges.start_pinging();
        let limit = self.knobs.pre_ping_timeout();
        let answer = timeout(limit, self.keeper.manager.is_valid(&mut entry.conn)).await;
        drop(pinging);
        let error = match answer {
            Ok(Ok(())) => {
                entry.discard = None;
                self.tell_ping(PrePing::Ok);
                return Ok(true);
            }
            Ok(Err(error)) => CheckoutError::Ping(error),
            Err(_) => CheckoutError::PingTimeout,
        };
        entry.discard = Some(CloseReason::PingFailed);
        self.tell_ping(PrePing::Failed);
        if self.is_broken(lease.entry_mut()) {
            Ok(false)
        } else {
            Err(error)
        }
    }

    /// Opens a connection in the caller's task, so that the caller gets the real error, at once.
    async fn connect(
        &self,
        lease: &mut Lease<M>,
        room: Option<Room>,
    ) -> Result<(), CheckoutError<M::Error>> {
        let connecting = Connecting::start(self);
        let limit = self.knobs.connect_timeout();
        let mut entry = match timeout(limit, self.shelf.connect()).await {
            Ok(Ok(entry)) => entry,
            Ok(Err(error)) => return Err(CheckoutError::Connect(error)),
            Err(_) => return Err(CheckoutError::ConnectTimeout { after: limit }),
        };
        connecting.succeeded();
        entry.room = room;
        lease.hold(self.house(entry)?);
        Ok(())
    }

    /// Where a new connection lives from now on.
    fn house(&self, entry: Box<Entry<M::Connection>>) -> Result<Held<M>, CheckoutError<M::Error>> {
        if !self.enabled {
            return Ok(Held::Dedicated(entry));
        }
        match self.shelf.admit(entry, &self.gauges) {
            Ok(pooled) => Ok(Held::Pooled(pooled)),
            Err(Some(entry)) => {
                self.bug("bb8 had no room for a connection that the gate had admitted");
                Ok(Held::Dedicated(entry))
            }
            Err(None) => {
                self.bug("bb8 did not give back the connection it was given");
                self.gauges.closed();
                Err(CheckoutError::Dead)
            }
        }
    }

    fn tell_ping(&self, outcome: PrePing) {
        self.tell(PoolEvent::PrePing { outcome });
    }
}

/// A permit, and what is left of the checkout that it is for. Dropped, it is a cancelled checkout.
///
/// Declared in this order, so that the permit is back before the end is told.
pub struct Entered<M: bb8::ManageConnection> {
    lease: Lease<M>,
    call: Call<M>,
    outcome: Outcome,
    now: Instant,
    /// For the waits of this checkout together.
    limit: Duration,
}

impl<M: bb8::ManageConnection> Entered<M> {
    /// The connection, if the next idle one can be used without a round trip. Otherwise what is left, to be
    /// [finished](Self::finish).
    ///
    /// # Errors
    /// A connection must be opened or tried first; that takes a while, and is a future of some size.
    #[expect(
        clippy::result_large_err,
        reason = "the error is what is left to do, and goes no further than to its caller"
    )]
    pub fn finish_now(mut self) -> Result<(Checkout<M>, Instant), Self> {
        let shared = Arc::clone(&self.call.shared);
        let Some(held) = shared.take() else {
            return Err(self);
        };
        self.lease.hold(held);
        if !shared.is_ready(self.lease.entry_mut(), self.now) {
            return Err(self);
        }
        let Self {
            lease,
            mut call,
            outcome,
            now,
            limit: _,
        } = self;
        call.outcome = outcome;
        call.ended = Some(now);
        Ok((Checkout::new(lease, now), now))
    }

    /// The connection, opened or tried as need be.
    ///
    /// # Errors
    /// See [`CheckoutError`].
    pub async fn finish(mut self) -> Result<Checkout<M>, CheckoutError<M::Error>> {
        let shared = Arc::clone(&self.call.shared);
        let filled = shared.fill(&mut self.lease, self.call.started, self.limit);
        match filled.await {
            Ok(true) => self.outcome = Outcome::Waited,
            Ok(false) => {}
            Err(error) => {
                self.call.outcome = error.outcome();
                return Err(error);
            }
        }
        let Self {
            lease,
            mut call,
            outcome,
            ..
        } = self;
        call.outcome = outcome;
        Ok(Checkout::new(lease, Instant::now()))
    }
}

impl<M: bb8::ManageConnection> std::fmt::Debug for Entered<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}

/// One call of `checkout`, told when it ends, however it does. Cancelled unless it got to say otherwise.
struct Call<M: bb8::ManageConnection> {
    shared: Arc<Shared<M>>,
    started: Instant,
    outcome: Outcome,
    /// When it ended, if that was looked at.
    ended: Option<Instant>,
}

impl<M: bb8::ManageConnection> Call<M> {
    fn start(shared: &Arc<Shared<M>>) -> Self {
        Self {
            shared: Arc::clone(shared),
            started: Instant::now(),
            outcome: Outcome::Cancelled,
            ended: None,
        }
    }
}

impl<M: bb8::ManageConnection> Drop for Call<M> {
    fn drop(&mut self) {
        let ended = self.ended.unwrap_or_else(Instant::now);
        self.shared.tell(PoolEvent::CheckedOut {
            outcome: self.outcome,
            took: ended.saturating_duration_since(self.started),
        });
    }
}

/// One wait at the gate; counted, and in the table of waits, while alive.
pub(super) struct Waiting<'a, M: bb8::ManageConnection> {
    shared: &'a Shared<M>,
    started: Instant,
    pub(super) granted: bool,
    /// When it ended, if that was looked at.
    ended: Option<Instant>,
    counted: Option<super::gauges::Counted<'a>>,
    _slot: super::slots::Slot,
}

impl<'a, M: bb8::ManageConnection> Waiting<'a, M> {
    pub(super) fn start(shared: &'a Shared<M>, started: Instant) -> Self {
        let slot = shared.waits.claim();
        slot.start(started);
        shared.tell(PoolEvent::WaitStarted);
        Self {
            shared,
            started,
            granted: false,
            ended: None,
            counted: Some(shared.gauges.start_waiting()),
            _slot: slot,
        }
    }
}

impl<M: bb8::ManageConnection> Drop for Waiting<'_, M> {
    fn drop(&mut self) {
        self.counted = None;
        let ended = self.ended.unwrap_or_else(Instant::now);
        self.shared.tell(PoolEvent::WaitEnded {
            waited: ended.saturating_duration_since(self.started),
        });
        if !self.granted {
            self.shared.trim();
        }
    }
}

/// One connect; counted while alive, and failed unless it got to say otherwise.
struct Connecting<'a, M: bb8::ManageConnection> {
    shared: &'a Shared<M>,
    started: Instant,
    ok: bool,
}

impl<'a, M: bb8::ManageConnection> Connecting<'a, M> {
    fn start(shared: &'a Shared<M>) -> Self {
        shared.gauges.connect_started();
        Self {
            shared,
            started: Instant::now(),
            ok: false,
        }
    }

    fn succeeded(mut self) {
        self.ok = true;
    }
}

impl<M: bb8::ManageConnection> Drop for Connecting<'_, M> {
    fn drop(&mut self) {
        match self.ok {
            true => self.shared.gauges.connected(),
            false => self.shared.gauges.connect_failed(),
        }
        self.shared.tell(PoolEvent::Connected {
            took: self.started.elapsed(),
            ok: self.ok,
        });
    }
}
