//! One limit on the connections of several pools.
//!
//! A connection has a *room* from before it is opened until after it is closed. Who finds none free stands in one queue
//! with those of all other pools and gets the next room that comes free. Rooms come free by themselves seldom, since
//! pools keep what they have opened: so whoever joins the queue has an idle connection of another pool closed, and while
//! somebody of another pool is first in the queue, a connection that comes back is closed for it. First come, first
//! served, over all pools; a pool that is always busy cannot keep another from its turn.
//!
//! Nothing is asked on the way without a wait but for one load at each return.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The limit, shared by the pools that are made with it. Clones are the same limit.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    state: Mutex<State>,
    /// The length of the queue, so that a return looks at it without the lock.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// Rooms that are taken, granted ones included.
    taken: usize,
    next_id: u64,
    queue: VecDeque<Waiter>,
    members: Vec<(u64, Weak<dyn Member>)>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    member: u64,
    wake: Arc<Notify>,
}

/// A pool, as the others see it.
pub(super) trait Member: Send + Sync + std::fmt::Debug {
    /// Closes one idle connection, if there is one.
    fn shed(&self) -> bool;
}

/// One pool's part in the limit.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Inner>,
    member: u64,
}

/// The right to one connection that exists. Given to the first in the queue when dropped.
#[derive(Debug)]
pub(super) struct Room(Arc<Inner>);

/// A place in the queue. Left when dropped; a room that was granted goes on to the next.
#[derive(Debug)]
pub(super) struct Place<'a> {
    share: &'a Share,
    id: u64,
    wake: Arc<Notify>,
}

impl Budget {
    /// So many connections in all.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner {
            limit,
            state: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// A part for a pool that is being made.
    pub(super) fn share(&self) -> Share {
        Share {
            budget: self.0.clone(),
            member: self.0.state.lock().number(),
        }
    }

    /// Rooms that are taken, and those who wait for one.
    #[cfg(test)]
    pub(super) fn taken_and_waiting(&self) -> (usize, usize) {
        let state = self.0.state.lock();
        assert_eq!(state.queue.len(), self.0.waiting.load(SeqCst));
        (state.taken, state.queue.len())
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Share {
    /// The pool is made: others may ask it for room.
    pub(super) fn join(&self, member: Weak<dyn Member>) {
        let mut state = self.budget.state.lock();
        state
            .members
            .retain(|(_, member)| member.strong_count() > 0);
        state.members.push((self.member, member));
    }

    pub(super) fn limit(&self) -> usize {
        self.budget.limit
    }

    /// A room, if one is free and nobody waits for it.
    pub(super) fn room(&self) -> Option<Room> {
        let mut state = self.budget.state.lock();
        let free = state.queue.is_empty() && state.taken < self.budget.limit;
        free.then(|| {
            state.taken += 1;
            Room(self.budget.clone())
        })
    }

    /// Joins the queue, and has an idle connection of another pool closed.
    pub(super) fn queue(&self) -> Place<'_> {
        let wake = Arc::new(Notify::new());
        let mut state = self.budget.state.lock();
        let id = state.number();
        state.queue.push_back(Waiter {
            id,
            member: self.member,
            wake: wake.clone(),
        });
        self.budget.waiting.store(state.queue.len(), SeqCst);
        let others: Vec<_> = state
            .members
            .iter()
            .filter(|(member, _)| *member != self.member)
            .filter_map(|(_, member)| member.upgrade())
            .collect();
        drop(state);
        // Whatever else happens now, the place is left in order.
        let place = Place {
            share: self,
            id,
            wake,
        };
        // Not under the lock: what is closed gives its room back.
        others.iter().any(|member| member.shed());
        place
    }

    /// A connection of this pool came back and is idle. True if it must be closed for another pool, that waits first.
    pub(super) fn must_yield(&self) -> bool {
        if self.budget.waiting.load(SeqCst) == 0 {
            return false;
        }
        let state = self.budget.state.lock();
        match state.queue.front() {
            Some(first) if first.member == self.member => {
                first.wake.notify_one();
                false
            }
            // Where there is room it is only to be taken.
            Some(_) => state.taken >= self.budget.limit,
            None => false,
        }
    }

    /// Wakes all of this pool's that wait: it was closed.
    pub(super) fn wake_all(&self) {
        let state = self.budget.state.lock();
        let own = |waiter: &&Waiter| waiter.member == self.member;
        state
            .queue
            .iter()
            .filter(own)
            .for_each(|waiter| waiter.wake.notify_one());
    }
}

impl Place<'_> {
    /// The room, if this place is first and one is free.
    pub(super) fn try_take(&self) -> Option<Room> {
        let budget = &self.share.budget;
        let mut state = budget.state.lock();
        let first = state.queue.front()?.id == self.id;
        (first && state.taken < budget.limit).then(|| {
            state.taken += 1;
            Room(budget.clone())
        })
    }

    /// Waits until there may be a room, or an idle connection of the pool's own.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Inner {
    /// Wakes the first in the queue if there is room for it.
    fn wake_first(&self, state: &State) {
        if state.taken < self.limit
            && let Some(first) = state.queue.front()
        {
            first.wake.notify_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let budget = &self.share.budget;
        let mut state = budget.state.lock();
        state.queue.retain(|waiter| waiter.id != self.id);
        budget.waiting.store(state.queue.len(), SeqCst);
        budget.wake_first(&state);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.taken -= 1;
        self.0.wake_first(&state);
    }
}
