//! Waiting: its order, its limit, its errors; and connects, which happen in the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use futures_util::{FutureExt as _, poll};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::fake::{Order, assert_settled, plain, pool, take};
use crate::pool::{CheckoutError, CloseReason, Config, Outcome, PoolEvent};

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_the_order_of_asking() {
    let (pool, world) = pool(plain(1, 1));
    let taken = take(&pool, 2).await;
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (waiting, served) = (pool.clone(), Arc::clone(&served));
        tasks.push(tokio::spawn(async move {
            let conn = waiting.checkout().await.unwrap();
            served.lock().push(number);
            sleep(Duration::from_millis(1)).await;
            drop(conn);
        }));
        tokio::task::yield_now().await;
    }
    assert_eq!(pool.status().waiting, 20);
    drop(taken);
    assert!(
        pool.try_checkout(Instant::now()).is_none(),
        "a newcomer overtakes nobody"
    );
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*served.lock(), (0..20).collect::<Vec<_>>());
    assert_eq!(world.outcomes(Outcome::Waited), 20);
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_one_deadline_with_sqlalchemys_words() {
    let config = Config {
        timeout: Duration::from_millis(300),
        ..plain(3, 2)
    };
    let (pool, world) = pool(config);
    let taken = take(&pool, 5).await;
    let started = Instant::now();
    let error = pool.checkout().await.unwrap_err();
    assert_eq!(started.elapsed().as_millis(), 300);
    assert_eq!(
        error.to_string(),
        "QueuePool limit of size 3 overflow 2 reached, connection timed out, timeout 0.30"
    );
    let error = pool.checkout_within(Duration::ZERO).await.unwrap_err();
    assert!(matches!(
        error,
        CheckoutError::Timeout {
            size: 3,
            overflow: 2,
            ..
        }
    ));
    assert_eq!(world.outcomes(Outcome::Timeout), 2);
    assert_settled(&pool, &world, 5);
    drop(taken);
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_connect_fails_its_caller_at_once_and_frees_the_permit() {
    let (pool, world) = pool(plain(1, 0));
    world.order_connects([Order::Fail]);
    let started = Instant::now();
    let error = pool.checkout().await.unwrap_err();
    let CheckoutError::Connect(cause) = error else {
        panic!("{error}")
    };
    assert_eq!(cause.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(world.connect_calls(), 1, "one attempt");
    assert_settled(&pool, &world, 0);
    drop(pool.checkout().await.unwrap());
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_connect_wakes_the_next_waiter() {
    let (pool, world) = pool(plain(1, 0));
    world.order_connects([Order::Hang]);
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { pool.checkout().await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(pool.status().connecting, 1);
    let second = pool.checkout();
    let (first, second) = tokio::join!(first, second);
    let error = first.unwrap().unwrap_err();
    assert!(
        matches!(error, CheckoutError::ConnectTimeout { after } if after == Duration::from_secs(10))
    );
    assert_eq!(second.unwrap().id, 2);
    assert_eq!(world.outcomes(Outcome::ConnectError), 1);
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_ends_while_others_are_idle_hands_out_its_own_connection() {
    let (pool, world) = pool(plain(3, 0));
    let taken = take(&pool, 2).await;
    world.order_connects([Order::Polls(2)]);
    let mut connecting = Box::pin(pool.checkout());
    assert!(poll!(&mut connecting).is_pending());
    drop(taken);
    let third = connecting.await.unwrap();
    assert_eq!((third.id, third.fresh()), (3, true));
    let ids: Vec<u32> = take(&pool, 2).await.iter().map(|conn| conn.id).collect();
    assert_eq!(ids, [1, 2], "the order of the idle ones is as it was");
    assert_settled(&pool, &world, 1);
}

#[tokio::test(start_paused = true)]
async fn the_connection_is_gone_before_its_permit_is_free() {
    let (pool, world) = pool(plain(0, 0));
    let seen = Arc::new(AtomicU32::new(0));
    let mut conn = pool.checkout().await.unwrap();
    let (watched, recorded) = (pool.clone(), Arc::clone(&seen));
    world.at_close(move || recorded.store(watched.shared.gate.outstanding(), SeqCst));
    conn.discard_on_drop(CloseReason::ClientAbort);
    drop(conn);
    assert_eq!(seen.load(SeqCst), 1);
    assert_eq!(pool.shared.gate.outstanding(), 0);
    world.at_close(|| ());
}

#[tokio::test(start_paused = true)]
async fn the_fast_path_has_no_effect_unless_it_succeeds() {
    let (pool, world) = pool(Config {
        pre_ping: true,
        ..plain(2, 0)
    });
    assert!(
        pool.try_checkout(Instant::now()).is_none(),
        "nothing is idle"
    );
    drop(take(&pool, 2).await);
    let before = world.events.lock().len();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(
        pool.try_checkout(Instant::now()).is_none(),
        "it would need a ping"
    );
    assert_eq!(world.events.lock().len(), before);
    assert_eq!(world.ping_calls(), 0);
    assert_eq!(
        pool.checkout().await.unwrap().id,
        1,
        "the order is as it was"
    );
    pool.checkout().await.unwrap();
    let quick = pool.try_checkout(Instant::now()).unwrap();
    assert_eq!((quick.id, quick.fresh()), (1, false));
    quick.kill();
    drop(quick);
    assert_eq!(world.closed(), [CloseReason::Broken]);
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_wait_and_use_are_shown_while_they_last() {
    let (pool, _) = pool(plain(1, 0));
    let conn = pool.checkout().await.unwrap();
    tokio::time::advance(Duration::from_secs(3)).await;
    let mut waiting = Box::pin(pool.checkout());
    assert!((&mut waiting).now_or_never().is_none());
    tokio::time::advance(Duration::from_secs(2)).await;
    let status = pool.status();
    assert_eq!(
        (status.oldest_use.as_secs(), status.oldest_wait.as_secs()),
        (5, 2)
    );
    assert_eq!(conn.held().as_secs(), 5);
    drop(waiting);
    drop(conn);
    let status = pool.status();
    assert_eq!(
        (status.oldest_use, status.oldest_wait),
        (Duration::ZERO, Duration::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn events_carry_the_times_they_tell_of() {
    let (pool, world) = pool(plain(1, 0));
    world.order_connects([Order::Slow(Duration::from_millis(70))]);
    let first = pool.checkout().await.unwrap();
    let returns = async {
        sleep(Duration::from_millis(200)).await;
        drop(first);
    };
    let (second, ()) = tokio::join!(pool.checkout(), returns);
    drop(second);
    let ms = Duration::from_millis;
    let expected = [
        PoolEvent::Connected {
            took: ms(70),
            ok: true,
        },
        PoolEvent::CheckedOut {
            outcome: Outcome::Direct,
            took: ms(70),
        },
        PoolEvent::WaitStarted,
        PoolEvent::Returned { held: ms(200) },
        PoolEvent::WaitEnded { waited: ms(200) },
        PoolEvent::CheckedOut {
            outcome: Outcome::Waited,
            took: ms(200),
        },
        PoolEvent::Returned { held: ms(0) },
    ];
    // Timers tick in whole milliseconds, one of which may be begun already.
    let rounded = |event: &PoolEvent| {
        let floor = |time: Duration| ms(time.as_millis() as u64 / 10 * 10);
        match *event {
            PoolEvent::Connected { took, ok } => PoolEvent::Connected {
                took: floor(took),
                ok,
            },
            PoolEvent::CheckedOut { outcome, took } => PoolEvent::CheckedOut {
                outcome,
                took: floor(took),
            },
            PoolEvent::WaitEnded { waited } => PoolEvent::WaitEnded {
                waited: floor(waited),
            },
            PoolEvent::Returned { held } => PoolEvent::Returned { held: floor(held) },
            other => other,
        }
    };
    let told: Vec<PoolEvent> = world.events.lock().iter().map(rounded).collect();
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_for_a_waiter_is_no_overflow() {
    let (pool, world) = pool(plain(1, 1));
    let taken = take(&pool, 2).await;
    let mut waiter = Box::pin(pool.checkout());
    assert!(poll!(&mut waiter).is_pending());
    // Both come back before the waiter gets to run, as in one turn of an event loop.
    drop(taken);
    assert_eq!(world.closed(), []);
    let status = pool.status();
    assert_eq!(
        (status.idle, status.in_use),
        (1, 1),
        "one is as good as taken"
    );
    let conn = waiter.await.unwrap();
    let status = pool.status();
    assert_eq!((status.idle, status.in_use), (1, 1));
    drop(conn);
    assert_eq!(world.closed(), [CloseReason::Overflow], "now nobody waits");
    assert_settled(&pool, &world, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_for_a_waiter_that_gave_up_is_overflow_again() {
    let (pool, world) = pool(plain(1, 2));
    let taken = take(&pool, 3).await;
    let (mut one, mut two) = (Box::pin(pool.checkout()), Box::pin(pool.checkout()));
    assert!(poll!(&mut one).is_pending());
    assert!(poll!(&mut two).is_pending());
    drop(taken);
    assert_eq!(world.closed(), []);
    drop(one);
    assert_eq!(world.closed(), [CloseReason::Overflow]);
    drop(two.await.unwrap());
    assert_eq!(world.closed(), [CloseReason::Overflow; 2]);
    assert_eq!(pool.status().idle, 1);
    assert_settled(&pool, &world, 0);
}
