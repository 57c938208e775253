//! Servers that are held and not used, and who holds which with which statement.

use super::{LIMIT, shown};
use crate::bench::Bench;
use crate::support::eventually;
use crate::support::raw::{query, sync};

const SETTINGS: [(&str, &str); 2] = [
    ("POOLWATCH_POOL__SIZE", "3"),
    ("POOLWATCH_POOL__LEAK_THRESHOLD", "1s"),
];

/// Suspected leaks, as a scrape says.
async fn suspected(bench: &Bench) -> f64 {
    let scrape = bench.sidecar.scrape().await;
    scrape.sum("poolwatch_suspected_leaks", &[])
}

#[tokio::test]
async fn who_holds_a_server_and_does_nothing_is_suspected_and_named_once() {
    let bench = Bench::with(&SETTINGS).await;
    let mut leaker = bench
        .pooled_with(&[("application_name", "the leaker")])
        .await;
    let mut worker = bench.pooled().await;
    leaker.ask(&query("BEGIN")).await;
    leaker.ask(&query("SELECT 's3cr3t' AS the_last_one")).await;
    // A statement that runs is no leak, however long it takes.
    worker.send(&query("SELECT pg_sleep(4)")).await;
    eventually(LIMIT, || async { suspected(&bench).await == 1.0 }).await;
    worker.until('Z').await;
    assert_eq!(suspected(&bench).await, 1.0);
    let logs = bench.sidecar.logs();
    let told: Vec<_> = logs
        .iter()
        .filter(|line| line.contains("suspected leak"))
        .collect();
    assert_eq!(told.len(), 1, "{logs:?}");
    let line = told[0];
    assert!(
        line.contains("the leaker") && line.contains("SELECT"),
        "{line}"
    );
    assert!(!line.contains("s3cr3t"), "{line}");
    leaker.ask(&query("COMMIT")).await;
    eventually(LIMIT, || async { suspected(&bench).await == 0.0 }).await;
}

#[tokio::test]
async fn a_session_that_is_pinned_and_idle_is_suspected_too() {
    let bench = Bench::with(&SETTINGS).await;
    let mut pinned = bench.pooled().await;
    pinned.ask(&query("LISTEN something")).await;
    eventually(LIMIT, || async { suspected(&bench).await == 1.0 }).await;
    let logs = bench.sidecar.logs();
    let told = logs.iter().find(|line| line.contains("suspected leak"));
    assert!(told.is_some_and(|line| line.contains("listen")), "{logs:?}");
    pinned.ask(&query("UNLISTEN *")).await;
    eventually(LIMIT, || async { suspected(&bench).await == 0.0 }).await;
}

#[tokio::test]
async fn nobody_is_suspected_where_that_is_switched_off() {
    let settings = [("POOLWATCH_POOL__LEAK_THRESHOLD", "off")];
    let bench = Bench::with(&settings).await;
    let mut leaker = bench.pooled().await;
    leaker.ask(&query("BEGIN")).await;
    let mut direct = bench.direct().await;
    direct.rows("SELECT pg_sleep(2.5)").await;
    assert_eq!(suspected(&bench).await, 0.0);
}

#[tokio::test]
async fn holders_are_shown_with_their_last_statement() {
    let bench = Bench::with(&SETTINGS).await;
    let address = bench.sidecar.proxy_addr();
    let mut client = bench.pooled().await;
    client.ask(&query("BEGIN; SELECT 1 AS held_by")).await;
    let holders = shown(address, "SHOW HOLDERS").await;
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert_eq!(holders[0]["query"], "SELECT $1 AS held_by");
    assert_eq!(holders[0]["state"], "idle in transaction");
    // One that runs is the last already.
    client.send(&query("SELECT pg_sleep(2) AS runs")).await;
    eventually(LIMIT, || async {
        let holders = shown(address, "SHOW HOLDERS").await;
        let holder = holders.first().ok_or("nobody")?;
        match (holder["state"].as_str(), holder["query"].as_str()) {
            ("active", "SELECT pg_sleep($1) AS runs") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    client.until('Z').await;
    client.ask(&sync()).await;
}
