//! What a checkout and its return cost, without a database behind them: ours against plain bb8.
//!
//! `cargo bench --bench pool`. Three things are measured: one task that always finds an idle connection (by
//! `try_checkout`, by `checkout`, and by bb8's `get`), and 64 tasks on 25 connections, each of which holds its
//! connection for one turn of the scheduler. bb8 runs as it would be run (its own check on checkout on, our ping
//! within its grace), and both on one current-thread runtime, as the data path does.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, yield_now};

use poolwatch::pool::{Config, Pool, Unobserved};

const TASKS: u64 = 64;
const SLOTS: u32 = 25;

/// A connection of a server's size in memory that is always well.
struct Conn([u8; 512]);

struct Manager;

impl bb8::ManageConnection for Manager {
    type Connection = Conn;
    type Error = Infallible;

    async fn connect(&self) -> Result<Conn, Infallible> {
        Ok(Conn([7; 512]))
    }

    async fn is_valid(&self, _conn: &mut Conn) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _conn: &mut Conn) -> bool {
        false
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

fn ours() -> Pool<Manager> {
    // The grace is as long as the run, so that what is measured is the pool and not the fake's ping.
    let config = Config {
        size: SLOTS,
        max_overflow: 0,
        pre_ping_after: Duration::from_secs(3600),
        ..Config::default()
    };
    Pool::new(Manager, config, Arc::new(Unobserved)).expect("a pool")
}

async fn bb8s() -> bb8::Pool<Manager> {
    let pool = bb8::Pool::builder().max_size(SLOTS).build(Manager).await;
    pool.expect("a pool")
}

fn uncontended(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("uncontended");
    let pool = ours();
    runtime.block_on(async { drop(pool.checkout().await.expect("a connection")) });
    group.bench_function("poolwatch_try_checkout", |bencher| {
        let _inside = runtime.enter();
        bencher.iter(|| {
            black_box(
                pool.try_checkout(tokio::time::Instant::now())
                    .expect("an idle connection")
                    .0[0],
            )
        });
    });
    group.bench_function("poolwatch_checkout", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { black_box(pool.checkout().await.expect("a connection").0[0]) });
    });
    let pool = runtime.block_on(bb8s());
    group.bench_function("bb8_get", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { black_box(pool.get().await.expect("a connection").0[0]) });
    });
    group.finish();
}

/// `rounds` checkouts in all, by 64 tasks.
async fn contend<F: Future<Output = ()> + 'static>(
    rounds: u64,
    once: impl Fn() -> F + Clone + 'static,
) -> Duration {
    let local = tokio::task::LocalSet::new();
    let started = Instant::now();
    local
        .run_until(async {
            let mut tasks = JoinSet::new();
            for _ in 0..TASKS {
                let once = once.clone();
                tasks.spawn_local(async move {
                    for _ in 0..rounds.div_ceil(TASKS) {
                        once().await;
                    }
                });
            }
            tasks.join_all().await;
        })
        .await;
    // Rounded up to whole rounds of each task, so scaled back to what was asked for.
    let done = rounds.div_ceil(TASKS) * TASKS;
    started.elapsed().mul_f64(rounds as f64 / done as f64)
}

fn contended(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("64_tasks_on_25");
    let pool = ours();
    group.bench_function("poolwatch", |bencher| {
        bencher.to_async(&runtime).iter_custom(|rounds| {
            let pool = pool.clone();
            contend(rounds, move || {
                let pool = pool.clone();
                async move {
                    let conn = match pool.try_checkout(tokio::time::Instant::now()) {
                        Some(conn) => conn,
                        None => pool.checkout().await.expect("a connection"),
                    };
                    yield_now().await;
                    black_box(conn.0[0]);
                }
            })
        });
    });
    let pool = runtime.block_on(bb8s());
    group.bench_function("bb8", |bencher| {
        bencher.to_async(&runtime).iter_custom(|rounds| {
            let pool = pool.clone();
            contend(rounds, move || {
                let pool = pool.clone();
                async move {
                    let conn = pool.get().await.expect("a connection");
                    yield_now().await;
                    black_box(conn.0[0]);
                }
            })
        });
    });
    group.finish();
}

criterion_group!(benches, uncontended, contended);
criterion_main!(benches);
