//! The log of slow queries.

use super::{Rows, shown};
use crate::bench::Bench;
use crate::support::raw::query;

async fn slow(bench: &Bench) -> Rows {
    shown(bench.sidecar.proxy_addr(), "SHOW SLOW").await
}

#[tokio::test]
async fn slow_queries_are_kept_newest_first_without_their_literals() {
    let settings = [("POOLWATCH_QUERIES__SLOW_THRESHOLD", "200ms")];
    let bench = Bench::with(&settings).await;
    let mut client = bench
        .pooled_with(&[("application_name", "the application")])
        .await;
    for text in [
        "SELECT pg_sleep(0.2), 'secret one' AS first",
        "SELECT 'quick'",
        "SELECT pg_sleep(0.2), 'secret two' AS second, 1/0",
        "SELECT pg_sleep(0.25) AS third",
    ] {
        client.ask(&query(text)).await;
    }
    let slow = slow(&bench).await;
    let words: Vec<_> = slow
        .iter()
        .map(|row| ["first", "second", "third"].map(|word| row["query"].contains(word)))
        .collect();
    // A division by zero is found before anything sleeps.
    assert_eq!(
        words,
        [[false, false, true], [true, false, false]],
        "{slow:?}"
    );
    for row in &slow {
        assert!(!row["query"].contains("secret"), "{row:?}");
        assert_eq!(row["application_name"], "the application");
        assert_eq!(row["database"], bench.database.name);
        assert_eq!(
            (row["user"].as_str(), row["rows"].as_str()),
            ("postgres", "1")
        );
        assert!(row["execute_time"].parse::<u64>().expect("a number") >= 200_000);
    }
    let scrape = bench.sidecar.scrape().await;
    assert_eq!(scrape.sum("poolwatch_slow_queries_total", &[]), 2.0);
    let logs = bench.sidecar.logs();
    let lines: Vec<_> = logs
        .iter()
        .filter(|line| line.contains("slow query"))
        .collect();
    assert_eq!(lines.len(), 2, "{logs:?}");
    assert!(
        lines.iter().all(|line| !line.contains("secret")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn literals_are_kept_where_that_is_asked_for() {
    let settings = [
        ("POOLWATCH_QUERIES__SLOW_THRESHOLD", "0s"),
        ("POOLWATCH_QUERIES__LOG_LITERALS", "on"),
    ];
    let bench = Bench::with(&settings).await;
    bench.pooled().await.ask(&query("SELECT 'in full'")).await;
    let slow = slow(&bench).await;
    assert!(
        slow.iter().any(|row| row["query"] == "SELECT 'in full'"),
        "{slow:?}"
    );
}

#[tokio::test]
async fn thresholds_are_each_users_databases_and_operations_own() {
    let settings = [
        ("POOLWATCH_QUERIES__SLOW_THRESHOLD", "1h"),
        (
            "POOLWATCH_QUERIES__SLOW_RULES",
            "operation=INSERT 1h, user=postgres operation=SELECT 0s, database=none 0s",
        ),
    ];
    let bench = Bench::with(&settings).await;
    let mut client = bench.pooled().await;
    for text in [
        "CREATE TABLE t (n int)",
        "INSERT INTO t VALUES (1)",
        "SELECT n FROM t",
    ] {
        client.ask(&query(text)).await;
    }
    let slow = slow(&bench).await;
    assert_eq!(slow.len(), 1, "{slow:?}");
    assert!(slow[0]["query"].contains("FROM t"), "{slow:?}");
}

#[tokio::test]
async fn a_flood_is_sampled_and_what_is_left_out_is_counted() {
    let settings = [
        ("POOLWATCH_QUERIES__SLOW_THRESHOLD", "0s"),
        ("POOLWATCH_QUERIES__SLOW_LOG_RATE", "1"),
        ("POOLWATCH_QUERIES__SLOW_LOG_SIZE", "2"),
    ];
    let bench = Bench::with(&settings).await;
    let mut client = bench.pooled().await;
    for _ in 0..50 {
        client.ask(&query("SELECT 1")).await;
    }
    let scrape = bench.sidecar.scrape().await;
    let seen = scrape.sum("poolwatch_slow_queries_total", &[]);
    let left_out = scrape.sum("poolwatch_slow_queries_left_out_total", &[]);
    assert_eq!(seen, 50.0);
    let logs = bench.sidecar.logs();
    let lines = logs
        .iter()
        .filter(|line| line.contains("slow query"))
        .count();
    assert_eq!(
        seen - left_out,
        f64::from(u32::try_from(lines).expect("few")),
        "{logs:?}"
    );
    assert!((1..=2).contains(&slow(&bench).await.len()));
}
