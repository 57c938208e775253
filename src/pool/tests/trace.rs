//! What SQLAlchemy's counters show, step by step.

use tokio::time::Instant;

use super::fake::{Fake, assert_settled, plain, pool, take};
use crate::pool::{CloseReason, Config, Pool};

/// `checkedin()`, `overflow()`, `checkedout()`.
fn counters(pool: &Pool<Fake>) -> (u32, i32, u32) {
    let status = pool.status();
    let overflow = status.live().cast_signed() - status.size.cast_signed();
    (status.idle, overflow, status.in_use)
}

#[tokio::test(start_paused = true)]
async fn the_first_to_come_back_are_kept_and_the_last_are_closed() {
    let (pool, world) = pool(plain(3, 2));
    assert_eq!(counters(&pool), (0, -3, 0));
    let mut taken = take(&pool, 5).await;
    assert_eq!(counters(&pool), (0, 2, 5));
    let mut seen = Vec::new();
    // The order of return differs from that of checkout: it is the return that counts.
    for index in [4, 1, 0, 0, 0] {
        drop(taken.remove(index));
        seen.push(counters(&pool));
    }
    assert_eq!(
        seen,
        [(1, 2, 4), (2, 2, 3), (3, 2, 2), (3, 1, 1), (3, 0, 0)]
    );
    assert_eq!(world.closed(), [CloseReason::Overflow; 2]);
    let ids: Vec<u32> = take(&pool, 3).await.iter().map(|conn| conn.id).collect();
    assert_eq!(ids, [5, 2, 1], "first returned, first out");
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lifo_pool_hands_out_what_came_back_last() {
    let (pool, _) = pool(Config {
        use_lifo: true,
        ..plain(3, 0)
    });
    let taken = take(&pool, 3).await;
    for conn in taken {
        drop(conn);
    }
    let ids: Vec<u32> = take(&pool, 3).await.iter().map(|conn| conn.id).collect();
    assert_eq!(ids, [3, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn no_limit_never_waits_and_still_keeps_only_size() {
    let (pool, world) = pool(plain(3, -1));
    let taken = take(&pool, 50).await;
    assert_eq!(counters(&pool), (0, 47, 50));
    drop(taken);
    assert_eq!(counters(&pool), (3, 0, 0));
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn size_zero_keeps_everything() {
    let (pool, world) = pool(plain(0, 0));
    drop(take(&pool, 20).await);
    assert_eq!(pool.status().idle, 20);
    assert!(world.closed().is_empty());
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_off_opens_and_closes_each_time() {
    let config = Config {
        enabled: false,
        pre_ping: true,
        ..plain(1, 0)
    };
    let (pool, world) = pool(config);
    assert!(pool.try_checkout(Instant::now()).is_none());
    let taken = take(&pool, 4).await;
    assert!(taken.iter().all(|conn| conn.fresh()));
    assert_eq!((pool.status().in_use, pool.status().idle), (4, 0));
    drop(taken);
    assert_eq!((pool.status().live(), world.live()), (0, 0));
    assert_eq!(world.closed(), [CloseReason::Overflow; 4]);
    assert_eq!(world.ping_calls(), 0, "every connection is fresh");
    assert_eq!(pool.shared.gate.outstanding(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_pool_tells_what_became_of_its_connections() {
    let (pool, world) = pool(plain(3, 0));
    let mut taken = take(&pool, 3).await;
    taken.truncate(1);
    drop(pool);
    assert_eq!(
        world.live(),
        3,
        "one is still out, and the pool lives as long"
    );
    drop(taken);
    assert_eq!(world.live(), 0);
    assert_eq!(world.closed(), [CloseReason::Idle; 3]);
}
