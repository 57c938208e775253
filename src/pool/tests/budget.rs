//! One limit over several pools.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::yield_now;

use super::fake::{Fake, Order, World, assert_settled, pinging, plain, sharing, take};
use crate::pool::{Budget, CheckoutError, CloseReason, Config, Pool};

const SECOND: Duration = Duration::from_secs(1);

/// A pool and its world.
type Member = (Pool<Fake>, Arc<World>);

/// Two pools under one limit, each with a world of its own.
fn two(limit: usize, config: Config) -> (Budget, [Member; 2]) {
    let budget = Budget::new(limit);
    let pools = [(), ()].map(|()| {
        let world = Arc::<World>::default();
        (sharing(&budget, config, &world), world)
    });
    (budget, pools)
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_of_another_pool_makes_room() {
    let (budget, [(a, world_a), (b, world_b)]) = two(2, plain(2, 0));
    drop(take(&a, 2).await);
    assert_eq!((a.status().idle, budget.taken_and_waiting()), (2, (2, 0)));
    let held = tokio::time::timeout(SECOND, b.checkout())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(world_a.closed(), [CloseReason::Idle]);
    assert_eq!((a.status().idle, budget.taken_and_waiting()), (1, (2, 0)));
    assert_settled(&a, &world_a, 0);
    assert_settled(&b, &world_b, 1);
    drop(held);
    drop((a, b));
    assert_eq!(budget.taken_and_waiting(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pool_takes_its_own_connection_when_it_comes_back() {
    let (budget, [(a, world), _other]) = two(1, plain(3, 0));
    let first = a.checkout().await.unwrap();
    let mut waiting = Box::pin(a.checkout());
    assert!(poll!(&mut waiting).is_pending());
    assert_eq!(budget.taken_and_waiting(), (1, 1));
    drop(first);
    drop(waiting.await.unwrap());
    assert_eq!((world.connect_calls(), world.closed().len()), (1, 0));
    assert_settled(&a, &world, 0);
    assert_eq!(budget.taken_and_waiting(), (1, 0));
}

/// A pool whose clients come again at once, more than it has connections for, does not keep another from its turn.
#[tokio::test(start_paused = true)]
async fn a_busy_pool_does_not_starve_another() {
    let (_budget, [(a, world_a), (b, world_b)]) = two(2, plain(2, 0));
    let busy = (0..6).map(|_| {
        let a = a.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                let held = match a.try_checkout(tokio::time::Instant::now()) {
                    Some(held) => held,
                    None => a.checkout().await.unwrap(),
                };
                tokio::time::sleep(Duration::from_millis(10)).await;
                drop(held);
            }
        })
    });
    let busy: Vec<_> = busy.collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..20 {
        // Two are out for ten milliseconds each: the next that comes back is for this one.
        let limit = Duration::from_millis(11);
        let held = tokio::time::timeout(limit, b.checkout()).await;
        drop(held.expect("its turn").unwrap());
        // Taken away again by who waits in the other pool.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    join_all(busy).await;
    assert_settled(&a, &world_a, 0);
    assert_settled(&b, &world_b, 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_room_ends_within_the_pools_timeout() {
    let (budget, [(a, _world_a), (b, world_b)]) = two(1, plain(1, 0));
    let held = a.checkout().await.unwrap();
    let started = tokio::time::Instant::now();
    let error = b.checkout_within(3 * SECOND).await.unwrap_err();
    assert!(
        matches!(error, CheckoutError::NoRoom { limit: 1, .. }),
        "{error}"
    );
    assert_eq!(started.elapsed(), 3 * SECOND);
    assert_settled(&b, &world_b, 0);
    assert_eq!(budget.taken_and_waiting(), (1, 0));
    // The wait at the gate and the one for room share the time.
    let mut first = Box::pin(b.checkout_within(2 * SECOND));
    assert!(poll!(&mut first).is_pending());
    let second = b.checkout_within(3 * SECOND);
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, Err(CheckoutError::NoRoom { .. })));
    assert!(matches!(second, Err(CheckoutError::NoRoom { .. })));
    assert_eq!(started.elapsed(), 6 * SECOND);
    drop(held);
    drop(b.checkout_within(SECOND).await.unwrap());
    assert_settled(&b, &world_b, 0);
}

/// A connection outside the pool takes its turn in the same queue, and has even its own pool's idle ones closed.
#[tokio::test(start_paused = true)]
async fn a_connection_outside_the_pools_has_a_room_too() {
    let (budget, [(a, world), (b, _)]) = two(2, plain(2, 0));
    drop(take(&a, 2).await);
    let outside = a.outside().await.unwrap();
    assert_eq!(world.closed(), [CloseReason::Idle]);
    assert_eq!((a.status().idle, budget.taken_and_waiting()), (1, (2, 0)));
    let held = a.checkout().await.unwrap();
    let refused = b.outside().await.unwrap_err();
    assert!(
        matches!(refused, CheckoutError::NoRoom { limit: 2, .. }),
        "{refused:?}"
    );
    // Waits that are given up leave the queue in order, whether their room was made or not.
    let mut waiting = Box::pin(b.outside());
    assert!(poll!(&mut waiting).is_pending());
    assert_eq!(
        (b.status().waiting, budget.taken_and_waiting()),
        (1, (2, 1))
    );
    drop(waiting);
    assert_eq!(
        (b.status().waiting, budget.taken_and_waiting()),
        (0, (2, 0))
    );
    let mut waiting = Box::pin(b.outside());
    assert!(poll!(&mut waiting).is_pending());
    drop((outside, waiting));
    assert_eq!(budget.taken_and_waiting(), (1, 0));
    // What comes back to its pool is closed for it, too.
    let rest = b.outside().await.unwrap();
    let mut waiting = Box::pin(a.outside());
    assert!(poll!(&mut waiting).is_pending());
    drop(held);
    let last = waiting.await.unwrap();
    assert_eq!((a.status().idle, budget.taken_and_waiting()), (0, (2, 0)));
    drop((rest, last));
    assert_eq!(budget.taken_and_waiting(), (0, 0));
    // Room or not, a closed pool opens nothing more.
    a.close();
    let refused = a.outside().await.unwrap_err();
    assert!(matches!(refused, CheckoutError::Closed), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_ends_its_waits() {
    let (budget, [(a, _world_a), (b, world_b)]) = two(1, plain(1, 0));
    let _held = a.checkout().await.unwrap();
    let mut waiting = Box::pin(b.checkout());
    assert!(poll!(&mut waiting).is_pending());
    b.close();
    let ended = tokio::time::timeout(SECOND, waiting).await.unwrap();
    assert!(matches!(ended, Err(CheckoutError::Closed)));
    assert_eq!(budget.taken_and_waiting(), (1, 0));
    assert_settled(&b, &world_b, 0);
}

/// What is replaced keeps its room; what fails to open gives it back.
#[tokio::test(start_paused = true)]
async fn a_room_lasts_as_long_as_its_connection() {
    let (budget, [(a, world), (b, _world_b)]) = two(1, pinging(1, 0));
    world.order_connects([Order::Fail]);
    assert!(a.checkout().await.is_err());
    assert_eq!(budget.taken_and_waiting(), (0, 0));
    drop(a.checkout().await.unwrap());
    world.order_pings([Order::Die]);
    let held = a.checkout().await.unwrap();
    let mut waiting = Box::pin(b.checkout());
    assert!(poll!(&mut waiting).is_pending());
    assert_eq!(
        (world.connect_calls(), budget.taken_and_waiting()),
        (3, (1, 1))
    );
    held.kill();
    drop(held);
    drop(waiting.await.unwrap());
    assert_eq!(budget.taken_and_waiting(), (1, 0));
    assert_settled(&a, &world, 0);
}

/// Without pooling every connection is its checkout's own, and has its room all the same.
#[tokio::test(start_paused = true)]
async fn connections_that_are_not_kept_count_too() {
    let config = Config {
        enabled: false,
        ..plain(2, 0)
    };
    let (budget, [(a, _world_a), (b, world_b)]) = two(1, config);
    let held = a.checkout().await.unwrap();
    let mut waiting = Box::pin(b.checkout());
    assert!(poll!(&mut waiting).is_pending());
    drop(held);
    drop(waiting.await.unwrap());
    assert_eq!((budget.taken_and_waiting(), world_b.live()), ((0, 0), 0));
}

/// A checkout that waits for room, dropped after every number of polls, before and after the room was made.
#[tokio::test(start_paused = true)]
async fn a_wait_for_room_can_be_dropped_anywhere() {
    for made in [false, true] {
        for polls in 0..6 {
            let (budget, [(a, world_a), (b, world_b)]) = two(1, plain(1, 0));
            let held = a.checkout().await.unwrap();
            world_b.order_connects([Order::Polls(2)]);
            let mut waiting = Box::pin(b.checkout());
            assert!(poll!(&mut waiting).is_pending());
            let mut held = Some(held);
            if made {
                held = None;
            }
            for _ in 0..polls {
                if poll!(&mut waiting).is_ready() {
                    break;
                }
                yield_now().await;
            }
            drop(waiting);
            assert_settled(&b, &world_b, 0);
            assert_settled(&a, &world_a, u32::from(held.is_some()));
            let (taken, queued) = budget.taken_and_waiting();
            assert_eq!((taken, queued), (world_a.live() + world_b.live(), 0));
            drop(held);
            world_b.connects.lock().clear();
            let next = tokio::time::timeout(SECOND, b.checkout()).await;
            drop(next.expect("nobody is in the way").unwrap());
        }
    }
}

/// Many tasks on many pools, with connects and pings that fail and waits that are given up: never more connections than
/// allowed, and nobody stuck.
#[tokio::test(start_paused = true)]
async fn random_use_of_many_pools_stays_within_the_limit() {
    let seed: u64 = rand::random();
    let (budget, world) = (Budget::new(5), Arc::<World>::default());
    let pools: Vec<_> = (0..4)
        .map(|number| match number % 2 {
            0 => sharing(&budget, plain(3, 1), &world),
            _ => sharing(&budget, pinging(2, 2), &world),
        })
        .collect();
    let tasks = (0..60_u64).map(|number| {
        let (pools, world) = (pools.clone(), world.clone());
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed.wrapping_add(number));
            let mut served = 0;
            for _ in 0..100 {
                let pool = &pools[random.random_range(0..pools.len())];
                match random.random_range(0..20) {
                    0 => world.order_connects([Order::Fail]),
                    1 => world.order_pings([Order::Die]),
                    2 => world.order_connects([Order::Slow(Duration::from_millis(5))]),
                    _ => {}
                }
                let patience = Duration::from_millis(random.random_range(1..2_000));
                if let Ok(Ok(held)) = tokio::time::timeout(patience, pool.checkout()).await {
                    served += 1;
                    let busy = random.random_range(0..10);
                    tokio::time::sleep(Duration::from_millis(busy)).await;
                    if random.random_bool(0.05) {
                        held.kill();
                    }
                }
            }
            served
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let served: u32 = join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    assert!(served > 2_000, "{served} served, seed {seed}");
    assert!(world.peak() <= 5, "{} at once, seed {seed}", world.peak());
    assert_eq!(world.bugs(), 0, "seed {seed}");
    assert_eq!(budget.taken_and_waiting(), (world.live(), 0), "seed {seed}");
    drop(pools);
    assert_eq!((budget.taken_and_waiting(), world.live()), ((0, 0), 0));
}
