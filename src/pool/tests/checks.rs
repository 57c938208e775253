//! What is checked before an idle connection is handed out, and what follows from it.

use std::time::Duration;

use tokio::time::{Instant, advance, sleep};

use super::fake::{Order, assert_settled, pinging, plain, pool, take};
use crate::pool::{CheckoutError, CloseReason, Config, Outcome, PrePing};

#[tokio::test(start_paused = true)]
async fn a_connection_is_replaced_only_when_strictly_older_than_recycle() {
    let config = Config {
        recycle: Some(Duration::from_secs(60)),
        ..plain(1, 0)
    };
    let (pool, world) = pool(config);
    drop(pool.checkout().await.unwrap());
    advance(Duration::from_secs(60)).await;
    assert_eq!(
        pool.checkout().await.unwrap().id,
        1,
        "exactly as old is not older"
    );
    advance(Duration::from_nanos(1)).await;
    assert!(pool.try_checkout(Instant::now()).is_none());
    assert_eq!(pool.checkout().await.unwrap().id, 2);
    assert_eq!(world.closed(), [CloseReason::Recycle]);
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn age_counts_from_before_the_connect_and_is_not_looked_at_on_return() {
    let config = Config {
        recycle: Some(Duration::from_secs(3)),
        ..plain(1, 0)
    };
    let (pool, world) = pool(config);
    world.order_connects([Order::Slow(Duration::from_secs(4))]);
    let conn = pool.checkout().await.unwrap();
    advance(Duration::from_secs(100)).await;
    drop(conn);
    assert!(world.closed().is_empty(), "an aged connection stays");
    assert_eq!(pool.checkout().await.unwrap().id, 2);
}

#[tokio::test(start_paused = true)]
async fn recycle_of_zero_replaces_once_any_time_has_passed() {
    let (pool, _) = pool(Config {
        recycle: Some(Duration::ZERO),
        ..plain(1, 0)
    });
    drop(pool.checkout().await.unwrap());
    assert_eq!(pool.checkout().await.unwrap().id, 1);
    advance(Duration::from_nanos(1)).await;
    assert_eq!(pool.checkout().await.unwrap().id, 2);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_connection_is_not_pinged_and_a_used_one_is() {
    let (pool, world) = pool(pinging(1, 0));
    drop(pool.checkout().await.unwrap());
    assert_eq!(world.ping_calls(), 0);
    drop(pool.checkout().await.unwrap());
    assert_eq!((world.ping_calls(), world.pre_pings(PrePing::Ok)), (1, 1));
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn the_round_trip_is_made_after_the_grace_only() {
    let config = Config {
        pre_ping_after: Duration::from_secs(1),
        ..pinging(1, 0)
    };
    let (pool, world) = pool(config);
    drop(pool.checkout().await.unwrap());
    advance(Duration::from_millis(999)).await;
    drop(pool.checkout().await.unwrap());
    assert_eq!(
        (world.ping_calls(), world.pre_pings(PrePing::Skipped)),
        (0, 1)
    );
    advance(Duration::from_secs(1)).await;
    drop(pool.checkout().await.unwrap());
    assert_eq!(world.ping_calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_is_seen_without_a_round_trip() {
    let config = Config {
        pre_ping_after: Duration::MAX,
        ..pinging(1, 0)
    };
    let (pool, world) = pool(config);
    let conn = pool.checkout().await.unwrap();
    let dead = std::sync::Arc::clone(&conn.dead);
    drop(conn);
    dead.store(true, std::sync::atomic::Ordering::SeqCst);
    let conn = pool.checkout().await.unwrap();
    assert_eq!((conn.id, conn.fresh()), (2, true));
    assert_eq!(world.ping_calls(), 0);
    assert_eq!(
        (world.pre_pings(PrePing::Hangup), world.closed()),
        (1, vec![CloseReason::Broken])
    );
    assert_settled(&pool, &world, 1);
}

#[tokio::test(start_paused = true)]
async fn one_dead_connection_replaces_its_generation_without_pings() {
    let (pool, world) = pool(pinging(3, 0));
    let mut taken = take(&pool, 3).await;
    let third = taken.pop().unwrap();
    drop(taken);
    world.order_pings([Order::Die]);
    let first = pool.checkout().await.unwrap();
    assert_eq!(
        (first.id, world.ping_calls(), world.invalidations()),
        (4, 1, 1)
    );
    let second = pool.checkout().await.unwrap();
    assert_eq!(
        (second.id, world.ping_calls()),
        (5, 1),
        "healthy, idle, replaced without a ping"
    );
    drop(third);
    assert_eq!(
        pool.status().idle,
        1,
        "the one that was out is kept on return"
    );
    let third = pool.checkout().await.unwrap();
    assert_eq!(
        (third.id, world.ping_calls()),
        (6, 1),
        "and replaced at its next checkout"
    );
    assert_eq!(
        world.closed(),
        [
            CloseReason::PingFailed,
            CloseReason::Invalidated,
            CloseReason::Invalidated
        ]
    );
    drop((first, second, third));
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn later_deaths_of_an_old_generation_spare_the_new_one() {
    let (pool, world) = pool(plain(3, 0));
    let mut taken = take(&pool, 3).await;
    taken[0].invalidate_pool();
    drop(taken.remove(0));
    let young = pool.checkout().await.unwrap();
    taken[0].invalidate_pool();
    assert_eq!(world.invalidations(), 1);
    drop(taken);
    drop(young);
    let reused = take(&pool, 2).await;
    assert!(
        reused.iter().any(|conn| conn.id == 4),
        "the young one was spared"
    );
    assert_eq!(
        world.closed(),
        [
            CloseReason::Broken,
            CloseReason::Broken,
            CloseReason::Invalidated
        ]
    );
    assert_settled(&pool, &world, 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_being_opened_during_an_invalidation_is_replaced_once() {
    let (pool, world) = pool(plain(1, 0));
    world.order_connects([Order::Slow(Duration::from_secs(2))]);
    let invalidate = async {
        sleep(Duration::from_secs(1)).await;
        pool.shared.disconnected(0);
    };
    let (conn, ()) = tokio::join!(pool.checkout(), invalidate);
    drop(conn);
    assert_eq!(pool.checkout().await.unwrap().id, 2);
    assert_eq!(pool.checkout().await.unwrap().id, 2);
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_ping_of_a_live_connection_is_raised_and_closes_it_alone() {
    let (pool, world) = pool(pinging(2, 0));
    drop(take(&pool, 2).await);
    world.order_pings([Order::Fail]);
    let error = pool.checkout().await.unwrap_err();
    assert!(matches!(error, CheckoutError::Ping(_)), "{error}");
    assert_eq!(
        (world.invalidations(), world.closed()),
        (0, vec![CloseReason::PingFailed])
    );
    assert_eq!(pool.checkout().await.unwrap().id, 2);
    assert_eq!(world.outcomes(Outcome::PingError), 1);
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_ping_ends_and_its_connection_is_never_handed_out() {
    let (pool, world) = pool(pinging(1, 0));
    drop(pool.checkout().await.unwrap());
    world.order_pings([Order::Hang]);
    let started = tokio::time::Instant::now();
    let error = pool.checkout().await.unwrap_err();
    assert!(matches!(error, CheckoutError::PingTimeout), "{error}");
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(pool.checkout().await.unwrap().id, 2);
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_replaced_twice_and_then_given_up() {
    let (pool, world) = pool(pinging(1, 0));
    drop(pool.checkout().await.unwrap());
    world.order_pings([Order::Die]);
    world.order_connects([Order::Stillborn, Order::Stillborn]);
    let error = pool.checkout().await.unwrap_err();
    assert!(matches!(error, CheckoutError::Dead), "{error}");
    assert_eq!(
        (world.ping_calls(), world.connect_calls()),
        (1, 3),
        "no loop"
    );
    assert_settled(&pool, &world, 0);
    world.order_connects([Order::Fail]);
    assert!(matches!(
        pool.checkout().await,
        Err(CheckoutError::Connect(_))
    ));
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_reconnect_leaves_nothing_behind_that_counts_as_idle() {
    let (pool, world) = pool(pinging(2, 0));
    drop(take(&pool, 2).await);
    world.order_pings([Order::Die]);
    world.order_connects([Order::Fail]);
    assert!(matches!(
        pool.checkout().await,
        Err(CheckoutError::Connect(_))
    ));
    assert_eq!(pool.status().idle, 1, "an empty slot is not a connection");
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_borrower_marks_is_closed_for_its_reason_and_what_it_unmarks_is_kept() {
    let (pool, world) = pool(plain(2, 0));
    let mut taken = take(&pool, 2).await;
    taken[0].discard_on_drop(CloseReason::ResetFailed);
    taken[1].discard_on_drop(CloseReason::ClientAbort);
    taken[1].keep_on_drop();
    drop(taken);
    assert_eq!(world.closed(), [CloseReason::ResetFailed]);
    assert_settled(&pool, &world, 0);
}
