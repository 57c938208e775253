//! Every public async function, dropped after every number of polls.

use std::future::Future;
use std::time::Duration;

use futures_util::poll;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::fake::{Fake, Order, World, assert_settled, pinging, plain, pool, take};
use crate::pool::{Config, Outcome, Pool};

/// Polls this often, and drops. `true` if it had ended by then.
async fn drop_after<F: Future>(polls: usize, future: F) -> bool {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if poll!(&mut future).is_ready() {
            return true;
        }
        yield_now().await;
    }
    false
}

/// Drops `checkout` after 0, 1, 2 … polls, on a new pool each time, until it ends; each time all must be as before.
async fn cancelled_everywhere(config: Config, prepare: impl AsyncFn(&Pool<Fake>, &World)) -> usize {
    for polls in 0.. {
        let (pool, world) = pool(config);
        prepare(&pool, &world).await;
        let done = drop_after(polls, pool.checkout()).await;
        assert_settled(&pool, &world, 0);
        let cancelled = world.outcomes(Outcome::Cancelled);
        assert_eq!(
            cancelled,
            usize::from(!done && polls > 0),
            "after {polls} polls"
        );
        let limit = (config.size + config.max_overflow.unsigned_abs()) as usize;
        world.connects.lock().clear();
        world.pings.lock().clear();
        let all = take(&pool, limit).await;
        assert!(
            all.iter().all(|conn| !conn.half_pinged),
            "after {polls} polls"
        );
        assert!(pool.try_checkout(Instant::now()).is_none());
        drop(all);
        assert_settled(&pool, &world, 0);
        if done {
            return polls;
        }
    }
    unreachable!("it ends at last")
}

#[tokio::test(start_paused = true)]
async fn a_checkout_that_connects_can_be_dropped_anywhere() {
    let polls = cancelled_everywhere(plain(2, 1), async |_, world| {
        world.order_connects([Order::Polls(4)]);
    });
    assert_eq!(polls.await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_checkout_that_pings_can_be_dropped_anywhere() {
    let polls = cancelled_everywhere(pinging(2, 0), async |pool, world| {
        drop(take(pool, 2).await);
        world.order_pings([Order::Polls(4)]);
    });
    assert_eq!(polls.await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_checkout_that_replaces_a_dead_connection_can_be_dropped_anywhere() {
    let polls = cancelled_everywhere(pinging(2, 0), async |pool, world| {
        drop(take(pool, 2).await);
        world.order_pings([Order::Die]);
        world.order_connects([Order::Stillborn, Order::Polls(3)]);
    });
    assert_eq!(polls.await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_checkout_that_recycles_can_be_dropped_anywhere() {
    let config = Config {
        recycle: Some(Duration::from_secs(1)),
        ..plain(1, 0)
    };
    let polls = cancelled_everywhere(config, async |pool, world| {
        drop(pool.checkout().await.unwrap());
        tokio::time::advance(Duration::from_secs(2)).await;
        world.order_connects([Order::Polls(3)]);
    });
    assert_eq!(polls.await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_checkout_can_be_dropped_before_and_after_its_permit_is_given() {
    for polls in 0..6 {
        for given in [false, true] {
            let (pool, world) = pool(plain(1, 0));
            let conn = pool.checkout().await.unwrap();
            let mut waiting = Box::pin(pool.checkout_within(Duration::from_secs(9)));
            for _ in 0..polls {
                assert!(poll!(&mut waiting).is_pending());
            }
            assert_eq!(pool.status().waiting, u32::from(polls > 0));
            let conn = (!given).then_some(conn);
            drop(waiting);
            assert_settled(&pool, &world, u32::from(!given));
            assert_eq!(world.outcomes(Outcome::Cancelled), usize::from(polls > 0));
            drop(conn);
            drop(pool.checkout().await.unwrap());
            assert_settled(&pool, &world, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_pause_can_be_dropped_anywhere() {
    for polls in 0..5 {
        let (pool, world) = pool(plain(2, 0));
        let held = pool.checkout().await.unwrap();
        assert!(!drop_after(polls, pool.pause_and_wait(Duration::from_secs(9))).await);
        assert_eq!(pool.status().paused, polls > 0);
        pool.resume();
        let other = pool.checkout().await.unwrap();
        assert!(pool.try_checkout(Instant::now()).is_none());
        drop((held, other));
        assert_settled(&pool, &world, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_can_be_dropped_anywhere() {
    for polls in 0..5 {
        let (pool, world) = pool(plain(2, 0));
        let mut taken = take(&pool, 2).await;
        taken.pop();
        assert!(!drop_after(polls, pool.drain(Duration::from_secs(9))).await);
        assert_settled(&pool, &world, 1);
        taken.pop();
        pool.drain(Duration::ZERO).await.unwrap();
        assert_eq!(world.live(), 0);
        assert_settled(&pool, &world, 0);
    }
}
