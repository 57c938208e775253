//! The figures are true: compared with what pgbench, PostgreSQL and the test itself counted and measured.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::bench::Bench;
use crate::figures::{Figures, clients};
use crate::support::raw::{prepare, tags, use_of};
use crate::support::{Database, Pgbench, Postgres, Scrape, Sidecar, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// Neither [`f64`] nor a difference of counters rounds here: the counts are small integers.
fn count(number: usize) -> f64 {
    u32::try_from(number).expect("a small count").into()
}

async fn small_pool(database: &Database, size: &str, overflow: &str) -> Sidecar {
    let environment = [
        ("POOLWATCH_POOL__SIZE", size),
        ("POOLWATCH_POOL__MAX_OVERFLOW", overflow),
    ];
    Sidecar::start_with(database, &database.url, &[], &environment).await
}

#[tokio::test]
async fn transactions_and_queries_are_exactly_those_of_pgbench() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    {
        let direct = database.connect().await;
        let create = "CREATE TABLE t (n int)";
        direct.batch_execute(create).await.unwrap();
    }
    let sidecar = Sidecar::start(&database).await;
    let single = ("SELECT 1;\n", 1.0);
    let block = (
        "BEGIN;\nINSERT INTO t VALUES (1);\nSELECT 2;\nCOMMIT;\n",
        4.0,
    );
    for protocol in ["simple", "extended", "prepared"] {
        for (script, queries) in [single, block] {
            let before = Figures::settled(&sidecar, &database, 0).await;
            // Not more clients than connections: a prepared statement keeps its server.
            let arguments = ["-c", "8", "-j", "2", "-t", "100", "-M", protocol];
            let ran = Pgbench::run(&database, &sidecar, script, &arguments).await;
            // At once: a client is told that its transaction is over after it was counted.
            let after = Figures::now(&sidecar).await;
            let did = f64::from(ran.clean());
            assert_eq!(did, 800.0);
            let case = format!("{protocol}: {script:?}");
            assert_eq!(after.transactions - before.transactions, did, "{case}");
            assert_eq!(after.succeeded - before.succeeded, did * queries, "{case}");
            assert_eq!(after.failed, before.failed, "{case}");
        }
    }
    Figures::settled(&sidecar, &database, 0).await;
    let scrape = sidecar.scrape().await;
    assert_eq!(scrape.sum("poolwatch_errors_total", &[]), 0.0);
    let direct = database.connect().await;
    let rows: i64 = direct
        .query_one("SELECT count(*) FROM t", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(rows, 3 * 800);
}

#[tokio::test]
async fn failed_queries_are_counted_as_such_with_their_class() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&database).await;
    let client = sidecar.connect().await;
    client.batch_execute("SELECT 1").await.unwrap();
    let before = Figures::now(&sidecar).await;
    for _ in 0..3 {
        client.batch_execute("SELECT 1/0").await.unwrap_err();
    }
    client.batch_execute("SELEKT").await.unwrap_err();
    let scrape = sidecar.scrape().await;
    let after = Figures::of(&scrape);
    assert_eq!(after.failed - before.failed, 4.0);
    assert_eq!(after.succeeded, before.succeeded);
    let told = |class| {
        scrape.value(
            "poolwatch_errors_total",
            &[("class", "query"), ("sqlstate_class", class)],
        )
    };
    assert_eq!((told("22"), told("42")), (3.0, 1.0));
    assert_eq!(scrape.sum("poolwatch_errors_total", &[]), 4.0);
}

#[tokio::test]
async fn checkouts_are_returns_and_what_is_held() {
    let database = Postgres::shared().await.database().await;
    let sidecar = small_pool(&database, "3", "2").await;
    let mut holders = Vec::new();
    for _ in 0..5 {
        holders.push(sidecar.connect().await);
    }
    for (held, holder) in (1..).zip(&holders) {
        holder.batch_execute("BEGIN; SELECT 1").await.unwrap();
        Figures::settled(&sidecar, &database, held).await;
    }
    let full = sidecar.scrape().await;
    assert_eq!(clients(&full, "idle_in_transaction"), 5.0);
    assert_eq!(full.sum("poolwatch_pool_overflow_connections", &[]), 2.0);
    for (left, holder) in (0..5).rev().zip(&holders) {
        holder.batch_execute("COMMIT").await.unwrap();
        Figures::settled(&sidecar, &database, left).await;
    }
    let scrape = sidecar.scrape().await;
    let closed = [("reason", "overflow")];
    assert_eq!(
        scrape.sum("poolwatch_pool_connections_closed_total", &closed),
        2.0
    );
    let end = Figures::of(&scrape);
    assert_eq!((end.idle, end.opened, end.closed), (3.0, 5.0, 2.0));
    assert_eq!(end.transactions, 5.0);
}

/// What each scrape must say while 200 clients fight for 25 + 10 connections.
fn within_bounds(scrape: &Scrape) {
    let figures = Figures::of(scrape);
    let bounds = [
        (figures.idle, 25.0),
        (figures.used, 35.0),
        (figures.idle + figures.used, 35.0),
        (scrape.sum("poolwatch_pool_overflow_connections", &[]), 10.0),
        (figures.pending, 200.0),
    ];
    for (value, most) in bounds {
        assert!((0.0..=most).contains(&value), "{figures:?}");
    }
    // Ends are read before beginnings.
    assert!(figures.opened >= figures.closed, "{figures:?}");
    assert!(figures.checkouts() >= figures.returns, "{figures:?}");
}

#[tokio::test]
async fn gauges_stay_within_the_pool_while_200_clients_fight() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&database).await;
    // Of unequal length, so that connections come back and overflow at all times.
    let script = "\\set ms random(0, 8)\nSELECT pg_sleep(:ms / 1000.0);\n";
    let arguments = ["-c", "200", "-j", "2", "-T", "5"];
    let mut fight = std::pin::pin!(Pgbench::run(&database, &sidecar, script, &arguments));
    let (mut scrapes, mut busy, mut overflowed) = (0, 0.0_f64, 0.0_f64);
    let ran = loop {
        let look = async {
            let scrape = sidecar.scrape().await;
            within_bounds(&scrape);
            scrape
        };
        tokio::select! {
            ran = &mut fight => break ran,
            scrape = look => {
                scrapes += 1;
                busy = busy.max(Figures::of(&scrape).pending);
                overflowed = overflowed.max(scrape.sum("poolwatch_pool_overflow_connections", &[]));
            }
        }
        // PostgreSQL's own count: the pool and the two connections through which poolwatch asks for itself. It counts a
        // session that poolwatch has closed until its process is gone, hence more than one look.
        if scrapes % 8 == 0 {
            eventually(LIMIT, || async { database.sessions().await <= 35 + 2 }).await;
        }
    };
    assert!(scrapes > 20, "only {scrapes} scrapes");
    assert!(busy > 100.0, "no fight: at most {busy} waited");
    assert_eq!(overflowed, 10.0, "the pool was never full");
    let did = f64::from(ran.clean());
    let end = Figures::settled(&sidecar, &database, 0).await;
    within_bounds(&sidecar.scrape().await);
    assert_eq!((end.transactions, end.succeeded), (did, did));
    assert_eq!(end.failed, 0.0);
}

#[tokio::test]
async fn waits_agree_with_those_the_clients_measured() {
    const WAITERS: usize = 6;
    let database = Postgres::shared().await.database().await;
    let sidecar = small_pool(&database, "1", "0").await;
    let holder = sidecar.connect().await;
    let waiters = join_all((0..WAITERS).map(|_| sidecar.connect())).await;
    let before = sidecar.scrape().await;

    let started = Instant::now();
    holder.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let held = started.elapsed();
    let waiting = join_all(waiters.iter().map(|waiter| async {
        let started = Instant::now();
        waiter.batch_execute("SELECT 1").await.unwrap();
        started.elapsed()
    }));
    let releasing = async {
        let all = eventually(LIMIT, || async {
            let pending = Figures::now(&sidecar).await.pending;
            (pending == count(WAITERS)).then(Instant::now)
        })
        .await;
        eventually(LIMIT, || async {
            all.elapsed() > Duration::from_millis(300)
        })
        .await;
        let oldest = sidecar.scrape().await;
        let oldest = oldest.sum("poolwatch_pool_oldest_wait_seconds", &[]);
        assert!(oldest >= 0.3, "oldest wait {oldest} s");
        let least = all.elapsed();
        holder.batch_execute("COMMIT").await.unwrap();
        (least, oldest)
    };
    let (measured, (least, oldest)) = tokio::join!(waiting, releasing);

    let after = sidecar.scrape().await;
    let longest = measured.iter().max().unwrap();
    assert!(oldest <= longest.as_secs_f64());
    let grown = |name: &str, labels: &[(&str, &str)]| {
        let all = after.histogram(name, labels);
        let old = before.histogram(name, labels);
        let buckets: Vec<(f64, f64)> = all
            .buckets
            .iter()
            .zip(&old.buckets)
            .map(|(new, old)| (new.0, new.1 - old.1))
            .collect();
        (all.count - old.count, all.sum - old.sum, buckets)
    };
    let pool = Figures::of(&after);
    let pool_before = Figures::of(&before);
    assert_eq!(pool.waited - pool_before.waited, count(WAITERS));
    assert_eq!(pool.direct - pool_before.direct, 1.0);

    let config = sidecar.client_config();
    let user = config.get_user().unwrap();
    let port = Postgres::shared().await.port();
    let label = format!("{user}@127.0.0.1:{port}/{}", database.name);
    let labels = [("db_client_connection_pool_name", label.as_str())];
    let upper: Duration = measured.iter().sum();
    let lower = least * u32::try_from(WAITERS).unwrap();
    let (number, sum, buckets) = grown("db_client_connection_wait_time_seconds", &labels);
    assert_eq!(
        number,
        count(WAITERS) + 1.0,
        "the holder's and the waiters'"
    );
    let bounds = lower.as_secs_f64()..=(upper + held).as_secs_f64();
    assert!(bounds.contains(&sum), "{sum} not in {bounds:?}");
    for (bound, below) in buckets {
        let expected = match bound {
            _ if bound < least.as_secs_f64() && bound >= held.as_secs_f64() => 1.0,
            _ if bound >= longest.as_secs_f64() => count(WAITERS) + 1.0,
            _ => continue,
        };
        assert_eq!(below, expected, "at most {bound} s");
    }

    let mut waits = labels.to_vec();
    waits.push(("phase", "wait"));
    let (number, sum, _) = grown("poolwatch_query_phase_seconds", &waits);
    assert_eq!(number, count(WAITERS));
    let bounds = lower.as_secs_f64()..=upper.as_secs_f64();
    assert!(bounds.contains(&sum), "{sum} not in {bounds:?}");

    // The wait is part of what a query took.
    let (number, sum, _) = grown("db_client_operation_duration_seconds", &labels);
    assert_eq!(
        number,
        count(WAITERS) + 3.0,
        "BEGIN, SELECT, COMMIT and the waiters'"
    );
    assert!(sum >= lower.as_secs_f64(), "{sum} < {lower:?}");
}

#[tokio::test]
async fn a_client_that_runs_a_query_is_active_in_its_transaction_too() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&database).await;
    let client = sidecar.connect().await;
    client.batch_execute("BEGIN").await.expect("BEGIN");
    let state = |name: &'static str| {
        let sidecar = &sidecar;
        async move { crate::figures::clients(&sidecar.scrape().await, name) }
    };
    eventually(LIMIT, || async {
        state("idle_in_transaction").await == 1.0
    })
    .await;
    let watched = async {
        eventually(LIMIT, || async { state("active").await == 1.0 }).await;
        assert_eq!(state("idle_in_transaction").await, 0.0);
        client
            .cancel_token()
            .cancel_query(tokio_postgres::NoTls)
            .await
    };
    let (slept, cancelled) = tokio::join!(client.batch_execute("SELECT pg_sleep(64)"), watched);
    cancelled.expect("a cancel request");
    assert!(slept.is_err());
}

/// A message that waits for its statement to be prepared on another server has been asked when it came: what it waited for
/// and what it ran are the query's time, and none of it the time to pass rows on.
#[tokio::test]
async fn a_statement_that_is_prepared_again_is_timed_from_its_request() {
    let bench = Bench::with(&[("POOLWATCH_POOL__MAX_PREPARED_STATEMENTS", "1")]).await;
    let mut direct = bench.direct().await;
    direct.rows("CREATE TABLE held AS SELECT 1 AS n").await;
    let (mut client, mut other) = (bench.pooled().await, bench.pooled().await);
    let sleep = "SELECT pg_sleep(0.3) FROM held";
    client.ask(&prepare("s", sleep)).await;
    // Takes its place.
    other.ask(&prepare("o", "SELECT 'other'")).await;
    let before = bench.sidecar.scrape().await;
    direct.rows("BEGIN").await;
    direct.rows("LOCK TABLE held").await;
    let started = Instant::now();
    client.send(&use_of("s", &[])).await;
    let mut watcher = bench.direct().await;
    loop {
        let waiting =
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'held'::regclass";
        if watcher.value(waiting).await == "1" {
            break;
        }
    }
    watcher.rows("SELECT pg_sleep(0.3)").await;
    direct.rows("COMMIT").await;
    assert_eq!(tags(&client.until('Z').await), "2DCZ");
    let elapsed = started.elapsed().as_secs_f64();
    let after = bench.sidecar.scrape().await;
    let grown = |name: &str, labels: &[(&str, &str)]| {
        after.histogram(name, labels).sum - before.histogram(name, labels).sum
    };
    let took = grown("db_client_operation_duration_seconds", &[]);
    let execute = grown("poolwatch_query_phase_seconds", &[("phase", "execute")]);
    let transfer = grown("poolwatch_query_phase_seconds", &[("phase", "transfer")]);
    assert!((0.6..=elapsed).contains(&took), "{took} of {elapsed}");
    assert!((0.6..=elapsed).contains(&execute), "{execute} of {elapsed}");
    assert!(transfer <= elapsed - 0.6, "{transfer} of {elapsed}");
}
