//! Who may have a connection: a queue of permits in the order of asking.
//!
//! A tokio semaphore serves its waiters in order and lets nobody overtake them. What it lacks is taking permits away
//! that are out: lowering the limit, pausing and closing leave a *surplus*, and each permit that comes back while
//! there is one is swallowed instead of passed on. A paused gate is one whose target is zero, so waiters keep their
//! places through a pause, and "nothing is held any more" is "no surplus is left".

use std::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Relaxed, SeqCst},
    fence,
};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::StillHeld;

/// The gate. Whoever got a permit must [`release`](Gate::release) it, once.
#[derive(Debug)]
pub(super) struct Gate {
    permits: Semaphore,
    limits: Mutex<Limits>,
    /// A copy of `limits.surplus`, so that a release without one takes no lock.
    surplus: AtomicU32,
    paused: AtomicBool,
    /// Woken when the surplus becomes zero.
    emptied: Notify,
}

#[derive(Debug)]
struct Limits {
    /// What the gate grants while it is open.
    limit: u32,
    paused: bool,
    closed: bool,
    /// What it grants now: `limit`, or zero.
    target: u32,
    /// Permits that are out beyond `target`.
    surplus: u32,
}

/// Why the gate let nobody through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Timeout,
    Closed,
}

impl Gate {
    pub(super) fn new(limit: u32) -> Self {
        let limits = Limits {
            limit,
            paused: false,
            closed: false,
            target: limit,
            surplus: 0,
        };
        Self {
            permits: Semaphore::new(limit as usize),
            limits: Mutex::new(limits),
            surplus: AtomicU32::new(0),
            paused: AtomicBool::new(false),
            emptied: Notify::new(),
        }
    }

    /// A permit, if one is free and nobody waits for it.
    pub(super) fn try_acquire(&self) -> bool {
        self.permits
            .try_acquire()
            .map(|permit| permit.forget())
            .is_ok()
    }

    /// A permit, in the order of asking. Dropped at any point, it leaves nothing behind.
    pub(super) async fn acquire(&self, limit: Duration) -> Result<(), Refused> {
        // Declared first, so dropped last: a permit given to a waiter that went away is back in the semaphore by then.
        let _reclaim = Reclaim(self);
        match timeout(limit, self.permits.acquire()).await {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(())
            }
            Ok(Err(_)) => Err(Refused::Closed),
            Err(_) => Err(Refused::Timeout),
        }
    }

    /// Gives a permit back: to the first waiter, or to nobody where there is a surplus.
    pub(super) fn release(&self) {
        if self.surplus.load(SeqCst) > 0 && self.swallow() {
            return;
        }
        self.permits.add_permits(1);
        // With the fence in `apply`: either this sees its surplus, or it sees this permit.
        fence(SeqCst);
        self.reclaim();
    }

    /// Changes the limit. A lower one takes effect as permits come back.
    pub(super) fn set_limit(&self, limit: u32) {
        self.apply(|limits| limits.limit = limit);
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
        self.apply(|limits| limits.paused = paused);
    }

    /// For good: waiters and newcomers are refused.
    pub(super) fn close(&self) {
        self.apply(|limits| limits.closed = true);
        self.permits.close();
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }

    /// Waits until a paused or closed gate has every permit back.
    pub(super) async fn emptied(&self, limit: Duration) -> Result<(), StillHeld> {
        let deadline = Instant::now().checked_add(limit);
        loop {
            let emptied = self.emptied.notified();
            let held = self.limits.lock().surplus;
            if held == 0 {
                return Ok(());
            }
            match deadline {
                None => emptied.await,
                Some(deadline) => {
                    let late = timeout_at(deadline, emptied).await.is_err();
                    let held = self.limits.lock().surplus;
                    if late && held > 0 {
                        return Err(StillHeld { held, after: limit });
                    }
                }
            }
        }
    }

    fn apply(&self, change: impl FnOnce(&mut Limits)) {
        let mut limits = self.limits.lock();
        let issued = limits.target + limits.surplus;
        change(&mut limits);
        limits.target = if limits.paused || limits.closed {
            0
        } else {
            limits.limit
        };
        limits.surplus = issued.saturating_sub(limits.target);
        self.surplus.store(limits.surplus, SeqCst);
        let missing = limits.target.saturating_sub(issued);
        fence(SeqCst);
        self.take_back(&mut limits);
        drop(limits);
        self.permits.add_permits(missing as usize);
    }

    /// Keeps one permit of the surplus from going on. Whether there was one.
    fn swallow(&self) -> bool {
        let mut limits = self.limits.lock();
        if limits.surplus == 0 {
            return false;
        }
        limits.surplus -= 1;
        self.surplus.store(limits.surplus, SeqCst);
        self.tell_if_empty(&limits);
        true
    }

    /// Takes permits that lie in the semaphore although there is a surplus.
    fn reclaim(&self) {
        if self.surplus.load(SeqCst) > 0 {
            self.take_back(&mut self.limits.lock());
        }
    }

    fn take_back(&self, limits: &mut Limits) {
        if limits.surplus > 0 {
            limits.surplus -= self.permits.forget_permits(limits.surplus as usize) as u32;
            self.surplus.store(limits.surplus, SeqCst);
            self.tell_if_empty(limits);
        }
    }

    fn tell_if_empty(&self, limits: &Limits) {
        if limits.surplus == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// Permits that are out: held, or given to a waiter that has not run yet.
    #[cfg(test)]
    pub(super) fn outstanding(&self) -> u32 {
        let limits = self.limits.lock();
        limits.target + limits.surplus - self.permits.available_permits() as u32
    }
}

struct Reclaim<'a>(&'a Gate);

impl Drop for Reclaim<'_> {
    fn drop(&mut self) {
        self.0.reclaim();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Both sides arrive, then both go on at nearly the same instant.
    fn meet(arrived: &AtomicUsize, round: usize) {
        arrived.fetch_add(1, SeqCst);
        while arrived.load(SeqCst) < 2 * round {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_release_at_the_moment_of_a_pause_is_never_forgotten() {
        const ROUNDS: usize = 10_000;
        let (gate, arrived) = (Gate::new(1), AtomicUsize::new(0));
        // Counted and not asserted there: a panic would leave the other thread waiting.
        let mut forgotten = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    assert!(gate.try_acquire());
                    meet(&arrived, 3 * round + 1);
                    gate.release();
                    meet(&arrived, 3 * round + 2);
                    meet(&arrived, 3 * round + 3);
                }
            });
            for round in 0..ROUNDS {
                meet(&arrived, 3 * round + 1);
                gate.set_paused(true);
                meet(&arrived, 3 * round + 2);
                let open = gate.try_acquire();
                forgotten += usize::from(open || gate.outstanding() > 0);
                if open {
                    gate.release();
                }
                gate.set_paused(false);
                meet(&arrived, 3 * round + 3);
            }
        });
        assert_eq!(forgotten, 0, "of {ROUNDS}");
    }
}
