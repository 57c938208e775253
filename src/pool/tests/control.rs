//! Pausing, resizing, reloading, invalidating and closing a pool in use.

use std::time::Duration;

use futures_util::{FutureExt as _, poll};
use tokio::time::{Instant, sleep};

use super::fake::{Order, assert_settled, plain, pool, take};
use crate::pool::{CheckoutError, CloseReason, Config, ConfigError, Outcome};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_pause_grants_nothing_and_waits_for_what_is_held() {
    let (pool, world) = pool(plain(2, 0));
    let mut taken = take(&pool, 2).await;
    let mut first = Box::pin(pool.checkout());
    assert!(poll!(&mut first).is_pending());
    let still_held = pool.pause_and_wait(SECOND).await.unwrap_err();
    assert_eq!((still_held.held, still_held.after), (2, SECOND));
    let mut pausing = Box::pin(pool.pause_and_wait(SECOND));
    assert!(poll!(&mut pausing).is_pending());
    taken.pop();
    assert!(poll!(&mut pausing).is_pending());
    assert!(
        poll!(&mut first).is_pending(),
        "a return passes no permit on"
    );
    taken.pop();
    pausing.await.unwrap();
    assert!(pool.status().paused);
    assert!(pool.try_checkout(Instant::now()).is_none());
    let mut second = Box::pin(pool.checkout());
    assert!(poll!(&mut second).is_pending());
    pool.resume();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((first.id, second.id), (2, 1), "in the order of asking");
    drop((first, second));
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_outlasts_the_timeout_is_named() {
    let (pool, world) = pool(plain(2, 0));
    pool.pause();
    let error = pool.checkout_within(SECOND).await.unwrap_err();
    assert!(
        matches!(error, CheckoutError::Paused { waited } if waited >= SECOND),
        "{error}"
    );
    assert_eq!(world.outcomes(Outcome::Paused), 1);
    pool.resume();
    drop(take(&pool, 2).await);
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_permit_given_to_a_waiter_that_left_does_not_get_through_a_pause() {
    let (pool, world) = pool(plain(1, 0));
    let conn = pool.checkout().await.unwrap();
    let mut waiting = Box::pin(pool.checkout());
    assert!(poll!(&mut waiting).is_pending());
    drop(conn);
    pool.pause();
    assert_eq!(pool.shared.gate.outstanding(), 1, "given, not yet seen");
    drop(waiting);
    assert_eq!(pool.shared.gate.outstanding(), 0);
    assert!(pool.try_checkout(Instant::now()).is_none());
    pool.pause_and_wait(Duration::ZERO).await.unwrap();
    pool.resume();
    pool.resume();
    let _one = pool.checkout().await.unwrap();
    assert!(
        pool.checkout().now_or_never().is_none(),
        "there is one permit, as before"
    );
    assert_settled(&pool, &world, 1);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_size_closes_idle_connections_now_and_others_as_they_return() {
    let (pool, world) = pool(plain(5, 0));
    let mut taken = take(&pool, 5).await;
    drop(taken.split_off(2));
    assert_eq!(pool.status().idle, 3);
    pool.resize(1, 0).unwrap();
    assert_eq!(world.closed(), [CloseReason::Idle; 2]);
    assert_settled(&pool, &world, 2);
    assert!(
        pool.checkout().now_or_never().is_none(),
        "two are out, one is allowed"
    );
    taken.pop();
    assert_eq!(world.closed().last(), Some(&CloseReason::Overflow));
    assert!(pool.checkout().now_or_never().is_none());
    taken.pop();
    let one = pool.checkout().await.unwrap();
    assert!(pool.checkout().now_or_never().is_none());
    drop(one);
    assert_eq!((pool.status().size, pool.status().idle), (1, 1));
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_larger_size_lets_waiters_in_at_once() {
    let (pool, world) = pool(plain(1, 0));
    let _held = pool.checkout().await.unwrap();
    let mut waiting = Box::pin(pool.checkout());
    assert!(poll!(&mut waiting).is_pending());
    pool.resize(1, 1).unwrap();
    drop(waiting.await.unwrap());
    pool.resize(3, -1).unwrap();
    assert_eq!((pool.status().size, pool.status().max_overflow), (3, -1));
    drop(take(&pool, 40).await);
    pool.resize(2, 0).unwrap();
    assert_eq!(pool.status().idle, 2);
    assert_settled(&pool, &world, 1);
}

#[tokio::test(start_paused = true)]
async fn a_resize_while_paused_holds_after_the_pause() {
    let (pool, world) = pool(plain(3, 0));
    let held = pool.checkout().await.unwrap();
    pool.pause();
    pool.resize(2, 0).unwrap();
    assert!(
        pool.try_checkout(Instant::now()).is_none() && pool.checkout().now_or_never().is_none()
    );
    pool.resume();
    let other = pool.checkout().await.unwrap();
    assert!(pool.checkout().now_or_never().is_none());
    drop((held, other));
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_all_it_may_or_nothing() {
    let config = plain(2, 0);
    let (pool, world) = pool(config);
    let fixed = pool
        .reload(Config {
            use_lifo: true,
            size: 7,
            ..config
        })
        .unwrap_err();
    assert_eq!(fixed, ConfigError::Fixed { key: "use_lifo" });
    assert_eq!(
        pool.resize(1, -2).unwrap_err(),
        ConfigError::MaxOverflow { max_overflow: -2 }
    );
    assert_eq!((pool.status().size, pool.status().max_overflow), (2, 0));
    let next = Config {
        size: 1,
        timeout: SECOND,
        connect_timeout: 2 * SECOND,
        ..config
    };
    pool.reload(next).unwrap();
    world.order_connects([Order::Hang]);
    let started = Instant::now();
    let connecting = pool.checkout();
    let waiting = async {
        sleep(SECOND / 2).await;
        pool.checkout().await
    };
    let (connecting, waiting) = tokio::join!(connecting, waiting);
    assert!(
        matches!(connecting, Err(CheckoutError::ConnectTimeout { after }) if after == 2 * SECOND)
    );
    assert!(matches!(
        waiting,
        Err(CheckoutError::Timeout { size: 1, .. })
    ));
    assert_eq!(started.elapsed().as_secs(), 2);
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_on_demand_closes_on_return_too() {
    let (pool, world) = pool(plain(3, 0));
    let mut taken = take(&pool, 2).await;
    taken.pop();
    pool.invalidate();
    assert_eq!((world.invalidations(), pool.status().idle), (1, 1));
    taken.pop();
    assert_eq!(world.closed(), [CloseReason::Invalidated]);
    assert_eq!(pool.checkout().await.unwrap().id, 3);
    assert_eq!(pool.checkout().await.unwrap().id, 3, "the new one stays");
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_refuses_and_closes_everything_in_time() {
    let (pool, world) = pool(plain(2, 0));
    let mut taken = take(&pool, 2).await;
    taken.pop();
    let other = pool.checkout().await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.checkout().await.map(drop) }
    });
    tokio::task::yield_now().await;
    drop(other);
    taken.push(pool.checkout_within(SECOND).await.unwrap());
    waiting.await.unwrap().unwrap();
    let waiting = pool.checkout();
    let (waiting, drained) = tokio::join!(waiting, pool.drain(SECOND));
    assert!(matches!(waiting, Err(CheckoutError::Closed)));
    assert_eq!(drained.unwrap_err().held, 2);
    let returns = async {
        sleep(SECOND / 2).await;
        taken.clear();
    };
    let (drained, ()) = tokio::join!(pool.drain(SECOND), returns);
    drained.unwrap();
    assert!(matches!(pool.checkout().await, Err(CheckoutError::Closed)));
    assert!(pool.try_checkout(Instant::now()).is_none() && pool.status().closed);
    assert_eq!(world.closed(), [CloseReason::Shutdown; 2]);
    pool.resume();
    assert!(
        matches!(pool.checkout().await, Err(CheckoutError::Closed)),
        "closed is for good"
    );
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn closing_closes_what_is_idle_at_once() {
    let (pool, world) = pool(plain(2, 0));
    drop(take(&pool, 2).await);
    pool.close();
    assert_eq!(
        (world.live(), world.closed()),
        (0, vec![CloseReason::Shutdown; 2])
    );
    drop(pool);
    assert_eq!(world.closed().len(), 2);
}

/// The control pool's manager fits, its checkouts can cross threads, and its errors tell their causes.
#[test]
fn the_postgres_manager_fits() {
    use crate::error::ClientError;
    use crate::pool::{Checkout, Pool, Unobserved};
    type Manager = bb8_postgres::PostgresConnectionManager<tokio_postgres::NoTls>;
    fn is_send<T: Send>(_: &T) {}
    fn is_client_error<T: ClientError>(_: &T) {}
    fn uses(pool: &Pool<Manager>) {
        is_send(&pool.checkout());
        let _: fn(&Checkout<Manager>) -> bool = |client| client.is_closed();
        let _: fn(CheckoutError<tokio_postgres::Error>) = |error| is_client_error(&error);
    }
    let manager = Manager::new(tokio_postgres::Config::new(), tokio_postgres::NoTls);
    let config = Config {
        size: 2,
        max_overflow: 0,
        ..Config::default()
    };
    let pool = Pool::new(manager, config, std::sync::Arc::new(Unobserved)).unwrap();
    uses(&pool);
    assert_eq!(pool.status().size, 2);
}
