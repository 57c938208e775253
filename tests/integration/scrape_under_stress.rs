//! A scrape answers from memory, whatever the pool, PostgreSQL or the data path are at.

use std::time::{Duration, Instant};

use poolwatch::ops::postgres::Options;

use crate::figures::Figures;
use crate::support::{Pgbench, Postgres, Sidecar, eventually};

const LIMIT: Duration = Duration::from_secs(30);
/// Generous for a busy machine, and far below anything that waits for a pool or a server (30 s, 10 s).
const BOUND: Duration = Duration::from_secs(1);

/// Asks each page once; returns the slowest answer.
async fn slowest(sidecar: &Sidecar) -> Duration {
    let mut slowest = Duration::ZERO;
    for path in ["/metrics", "/healthz", "/readyz", "/api/v1/pools"] {
        let started = Instant::now();
        let (status, body) = sidecar.get(path).await;
        slowest = slowest.max(started.elapsed());
        // Not ready is an answer, too.
        let right = status == 200 || (path == "/readyz" && status == 503);
        assert!(right, "{path}: {status} {body}");
    }
    slowest
}

#[tokio::test]
async fn scrapes_answer_while_the_pool_is_exhausted_and_postgresql_hangs() {
    let mut server = Postgres::own(Options::default()).await;
    let database = server.database().await;
    let environment = [
        ("POOLWATCH_POOL__SIZE", "1"),
        ("POOLWATCH_POOL__MAX_OVERFLOW", "0"),
    ];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
    eventually(LIMIT, || async { sidecar.get("/readyz").await.0 == 200 }).await;
    let (holder, waiter) = (sidecar.connect().await, sidecar.connect().await);
    let idle = slowest(&sidecar).await;
    assert!(idle < BOUND, "idle: {idle:?}");

    holder.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let waiting = tokio::spawn(async move { waiter.batch_execute("SELECT 2").await });
    eventually(LIMIT, || async {
        Figures::now(&sidecar).await.pending == 1.0
    })
    .await;
    for _ in 0..10 {
        let exhausted = slowest(&sidecar).await;
        assert!(
            exhausted < BOUND,
            "exhausted: {exhausted:?}, idle: {idle:?}"
        );
    }

    server.pause().unwrap();
    let hanging = tokio::spawn(async move { holder.batch_execute("COMMIT").await });
    // Until poolwatch's own probe has met the hanging server, and beyond.
    eventually(LIMIT, || async {
        let hung = slowest(&sidecar).await;
        assert!(hung < BOUND, "PostgreSQL hangs: {hung:?}, idle: {idle:?}");
        let scrape = sidecar.scrape().await;
        assert_eq!(Figures::of(&scrape).used, 1.0);
        scrape.sum("poolwatch_upstream_up", &[]) == 0.0
    })
    .await;
    server.resume().unwrap();
    hanging.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    eventually(LIMIT, || async {
        sidecar.scrape().await.sum("poolwatch_upstream_up", &[]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn scrapes_answer_while_the_data_path_is_saturated() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&database).await;
    let arguments = ["-c", "64", "-j", "1", "-T", "3"];
    let mut load = std::pin::pin!(Pgbench::run(&database, &sidecar, "SELECT 1;\n", &arguments));
    let mut scrapes = 0;
    let ran = loop {
        tokio::select! {
            ran = &mut load => break ran,
            took = slowest(&sidecar) => {
                assert!(took < BOUND, "under load: {took:?}");
                scrapes += 1;
            }
        }
    };
    assert!(scrapes > 10, "only {scrapes} scrapes");
    let did = f64::from(ran.clean());
    assert_eq!(Figures::now(&sidecar).await.transactions, did);
}
