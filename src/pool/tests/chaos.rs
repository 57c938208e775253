//! Many tasks, real threads, random failures: the bounds hold at every moment and nothing is left over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::fake::{Fake, Order, World, assert_settled, pinging, plain, pool};
use crate::pool::{CheckoutError, CloseReason, Config, Pool};

/// What a run of this test is repeated with.
fn seed() -> u64 {
    let seed = match std::env::var("POOLWATCH_TEST_SEED") {
        Ok(given) => given.parse().expect("a seed is a number"),
        Err(_) => rand::random(),
    };
    println!("POOLWATCH_TEST_SEED={seed}");
    seed
}

async fn one_checkout(pool: &Pool<Fake>, world: &World, rng: &mut StdRng) -> bool {
    match rng.random_range(0..20) {
        0 => world.order_connects([Order::Fail]),
        1 => world.order_pings([Order::Fail]),
        2 => world.order_pings([Order::Die]),
        3 => world.order_connects([Order::Stillborn]),
        4 => world.order_connects([Order::Polls(3)]),
        5 => world.order_pings([Order::Polls(3)]),
        _ => {}
    }
    let checkout = pool.checkout_within(Duration::from_secs(20));
    let got = match rng.random_range(0..8) {
        0 => match tokio::time::timeout(Duration::from_micros(rng.random_range(0..300)), checkout)
            .await
        {
            Ok(got) => got.ok(),
            Err(_) => None,
        },
        1 => pool.try_checkout(Instant::now()),
        _ => checkout.await.ok(),
    };
    let Some(mut conn) = got else { return false };
    assert!(!conn.half_pinged);
    for _ in 0..rng.random_range(0..3) {
        yield_now().await;
    }
    match rng.random_range(0..30) {
        0 => conn.discard_on_drop(CloseReason::ResetFailed),
        1 => conn.invalidate_pool(),
        2 => conn.kill(),
        _ => {}
    }
    true
}

/// 200 tasks on 25 + 10, watched all the time.
/// The bounds of 25 + 10.
fn look(pool: &Pool<Fake>) {
    let status = pool.status();
    assert!(
        status.idle <= 25 && status.in_use + status.connecting <= 35,
        "{status:?}"
    );
    assert!(status.live() + status.connecting <= 35, "{status:?}");
    assert!(
        status.permits_in_use <= 35 && status.waiting <= 200,
        "{status:?}"
    );
}

async fn storm(config: Config, checkouts: usize) {
    let seed = seed();
    let (pool, world) = pool(config);
    let stop = Arc::new(AtomicBool::new(false));
    // A thread of its own looks all the time; every task looks, too, so that there are looks on a busy machine.
    let watcher = std::thread::spawn({
        let (pool, stop) = (pool.clone(), Arc::clone(&stop));
        move || {
            while !stop.load(SeqCst) {
                look(&pool);
                std::thread::yield_now();
            }
        }
    });
    let served = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let (pool, world, served) = (pool.clone(), Arc::clone(&world), Arc::clone(&served));
            tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(seed ^ (number << 32));
                for _ in 0..checkouts {
                    if one_checkout(&pool, &world, &mut rng).await {
                        served.fetch_add(1, SeqCst);
                    }
                    look(&pool);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    stop.store(true, SeqCst);
    watcher.join().unwrap();
    assert!(
        served.load(SeqCst) > 100 * checkouts,
        "most checkouts succeed"
    );
    assert!(
        world.peak() <= 35,
        "the server saw {} connections at once",
        world.peak()
    );
    assert_settled(&pool, &world, 0);
    assert!(pool.status().idle <= 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_bounds_hold_for_200_tasks_on_25_and_10() {
    storm(pinging(25, 10), 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_bounds_hold_in_lifo_order_without_pings() {
    storm(
        Config {
            use_lifo: true,
            ..plain(25, 10)
        },
        100,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pausing_and_resizing_under_load_loses_no_permit() {
    let seed = seed();
    let (pool, world) = pool(plain(4, 2));
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let (pool, world) = (pool.clone(), Arc::clone(&world));
            tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(seed ^ (number << 32));
                for _ in 0..200 {
                    one_checkout(&pool, &world, &mut rng).await;
                }
            })
        })
        .collect();
    let mut rng = StdRng::seed_from_u64(seed);
    while tasks.iter().any(|task| !task.is_finished()) {
        match rng.random_range(0..3) {
            0 => pool
                .resize(rng.random_range(1..9), rng.random_range(0..4))
                .unwrap(),
            1 => {
                pool.pause_and_wait(Duration::from_secs(20)).await.unwrap();
                let status = pool.status();
                assert_eq!((status.in_use, status.connecting), (0, 0), "{status:?}");
                pool.resume();
            }
            _ => pool.invalidate(),
        }
        yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    pool.resize(4, 2).unwrap();
    assert_settled(&pool, &world, 0);
    world.connects.lock().clear();
    world.pings.lock().clear();
    let all = super::fake::take(&pool, 6).await;
    let late = pool.checkout_within(Duration::ZERO).await;
    assert!(matches!(late, Err(CheckoutError::Timeout { .. })));
    assert_settled(&pool, &world, 6);
    drop(all);
    assert_settled(&pool, &world, 0);
}
