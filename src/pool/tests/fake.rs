//! A manager whose connections are numbers, and an observer that remembers.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;

use crate::pool::{
    Budget, Checkout, CloseReason, Config, Observer, Outcome, Pool, PoolEvent, PrePing,
};

/// What the next connect or ping does; without an order it succeeds at once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Fails; a ping leaves the connection alive.
    Fail,
    /// A ping finds the connection dead.
    Die,
    /// Takes this long, then succeeds.
    Slow(Duration),
    /// Never ends.
    Hang,
    /// Succeeds after this many polls.
    Polls(u32),
    /// A connect succeeds, but the connection is dead on arrival.
    Stillborn,
}

/// What all parts of one fake share with its test.
#[derive(Default)]
pub(super) struct World {
    pub(super) connects: Mutex<VecDeque<Order>>,
    pub(super) pings: Mutex<VecDeque<Order>>,
    pub(super) connect_calls: AtomicU32,
    pub(super) ping_calls: AtomicU32,
    /// Connections that exist, and the most that ever did.
    pub(super) live: AtomicUsize,
    pub(super) peak: AtomicUsize,
    pub(super) events: Mutex<Vec<PoolEvent>>,
    at_close: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl World {
    pub(super) fn order_connects(&self, orders: impl IntoIterator<Item = Order>) {
        self.connects.lock().extend(orders);
    }

    pub(super) fn order_pings(&self, orders: impl IntoIterator<Item = Order>) {
        self.pings.lock().extend(orders);
    }

    /// What happens from now on whenever a connection is closed.
    pub(super) fn at_close(&self, hook: impl Fn() + Send + 'static) {
        *self.at_close.lock() = Some(Box::new(hook));
    }

    pub(super) fn connect_calls(&self) -> u32 {
        self.connect_calls.load(SeqCst)
    }

    pub(super) fn ping_calls(&self) -> u32 {
        self.ping_calls.load(SeqCst)
    }

    pub(super) fn live(&self) -> usize {
        self.live.load(SeqCst)
    }

    pub(super) fn peak(&self) -> usize {
        self.peak.load(SeqCst)
    }

    pub(super) fn count(&self, wanted: impl Fn(&PoolEvent) -> bool) -> usize {
        self.events
            .lock()
            .iter()
            .filter(|event| wanted(event))
            .count()
    }

    pub(super) fn outcomes(&self, wanted: Outcome) -> usize {
        self.count(
            |event| matches!(event, PoolEvent::CheckedOut { outcome, .. } if *outcome == wanted),
        )
    }

    pub(super) fn pre_pings(&self, wanted: PrePing) -> usize {
        self.count(|event| matches!(event, PoolEvent::PrePing { outcome } if *outcome == wanted))
    }

    pub(super) fn invalidations(&self) -> usize {
        self.count(|event| *event == PoolEvent::Invalidated)
    }

    pub(super) fn bugs(&self) -> usize {
        self.count(|event| matches!(event, PoolEvent::Bug { .. }))
    }

    /// Why connections were closed, in order.
    pub(super) fn closed(&self) -> Vec<CloseReason> {
        let events = self.events.lock();
        let reasons = events.iter().filter_map(|event| match event {
            PoolEvent::Closed { reason } => Some(*reason),
            _ => None,
        });
        reasons.collect()
    }
}

/// Tells a [`World`]; a type of its own because the world is shared with the test.
struct Memory(Arc<World>);

impl Observer for Memory {
    fn on_event(&self, event: PoolEvent) {
        self.0.events.lock().push(event);
    }
}

/// A connection.
pub(super) struct Conn {
    /// 1 for the first that was opened, and so on.
    pub(super) id: u32,
    /// Set by a test to hang it up.
    pub(super) dead: Arc<AtomicBool>,
    /// A ping has begun and not ended.
    pub(super) half_pinged: bool,
    world: Arc<World>,
}

impl Conn {
    pub(super) fn kill(&self) {
        self.dead.store(true, SeqCst);
    }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conn({})", self.id)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.world.live.fetch_sub(1, SeqCst);
        if let Some(hook) = &*self.world.at_close.lock() {
            hook();
        }
    }
}

/// The manager.
pub(super) struct Fake(Arc<World>);

async fn follow(order: Option<Order>) -> io::Result<()> {
    match order {
        None | Some(Order::Stillborn) => Ok(()),
        Some(Order::Fail | Order::Die) => Err(io::ErrorKind::ConnectionRefused.into()),
        Some(Order::Hang) => std::future::pending().await,
        Some(Order::Slow(time)) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
        Some(Order::Polls(polls)) => {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    }
}

impl bb8::ManageConnection for Fake {
    type Connection = Conn;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Conn> {
        let id = self.0.connect_calls.fetch_add(1, SeqCst) + 1;
        let order = self.0.connects.lock().pop_front();
        follow(order).await?;
        let live = self.0.live.fetch_add(1, SeqCst) + 1;
        self.0.peak.fetch_max(live, SeqCst);
        let dead = Arc::new(AtomicBool::new(matches!(order, Some(Order::Stillborn))));
        Ok(Conn {
            id,
            dead,
            half_pinged: false,
            world: Arc::clone(&self.0),
        })
    }

    async fn is_valid(&self, conn: &mut Conn) -> io::Result<()> {
        self.0.ping_calls.fetch_add(1, SeqCst);
        let order = self.0.pings.lock().pop_front();
        assert!(
            !conn.half_pinged,
            "a connection with an unread answer was used again"
        );
        conn.half_pinged = true;
        let answer = follow(order).await;
        conn.half_pinged = false;
        if matches!(order, Some(Order::Die)) {
            conn.kill();
        }
        answer
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        conn.dead.load(SeqCst)
    }
}

/// A pool over a world of its own.
pub(super) fn pool(config: Config) -> (Pool<Fake>, Arc<World>) {
    let world = Arc::new(World::default());
    let observer = Arc::new(Memory(Arc::clone(&world)));
    let pool = Pool::new(Fake(Arc::clone(&world)), config, observer).unwrap();
    (pool, world)
}

/// A pool that shares a limit, over this world.
pub(super) fn sharing(budget: &Budget, config: Config, world: &Arc<World>) -> Pool<Fake> {
    let observer = Arc::new(Memory(Arc::clone(world)));
    Pool::sharing(budget, Fake(Arc::clone(world)), config, observer).unwrap()
}

/// SQLAlchemy's rules and nothing of ours: no recycle, no ping.
pub(super) fn plain(size: u32, max_overflow: i32) -> Config {
    Config {
        size,
        max_overflow,
        recycle: None,
        pre_ping: false,
        ..Config::default()
    }
}

/// As [`plain`], with a ping at every checkout.
pub(super) fn pinging(size: u32, max_overflow: i32) -> Config {
    Config {
        pre_ping: true,
        pre_ping_after: Duration::ZERO,
        ..plain(size, max_overflow)
    }
}

/// Takes `count` connections.
pub(super) async fn take(pool: &Pool<Fake>, count: usize) -> Vec<Checkout<Fake>> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(pool.checkout().await.unwrap());
    }
    taken
}

/// What holds whenever nobody is inside a call: no gauge is left over, and what the pool says exists does.
pub(super) fn assert_settled(pool: &Pool<Fake>, world: &World, held: u32) {
    let status = pool.status();
    assert_eq!(status.waiting, 0, "{status:?}");
    assert_eq!(status.connecting, 0, "{status:?}");
    assert_eq!(status.pinging, 0, "{status:?}");
    assert_eq!(status.in_use, held, "{status:?}");
    assert_eq!(pool.shared.gate.outstanding(), held, "permits: {status:?}");
    assert_eq!(status.live() as usize, world.live(), "{status:?}");
    assert_eq!(
        pool.shared.shelf.stored(),
        (status.live(), status.idle),
        "bb8's own count"
    );
    assert_eq!(world.bugs(), 0);
    let started = world.count(|event| *event == PoolEvent::WaitStarted);
    let ended = world.count(|event| matches!(event, PoolEvent::WaitEnded { .. }));
    assert_eq!(started, ended, "each wait ends once");
    let opened = world.count(|event| matches!(event, PoolEvent::Connected { ok: true, .. }));
    assert_eq!(
        opened - world.closed().len(),
        world.live(),
        "opened - closed = live"
    );
    let out = world.outcomes(Outcome::Direct) + world.outcomes(Outcome::Waited);
    let back = world.count(|event| matches!(event, PoolEvent::Returned { .. }));
    assert_eq!(out - back, held as usize, "checkouts = returns + held");
}
