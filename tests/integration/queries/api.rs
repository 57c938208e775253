//! The same figures as JSON.

use serde_json::Value;

use super::{LIMIT, Shown};
use crate::bench::Bench;
use crate::support::eventually;
use crate::support::raw::query;

async fn get(bench: &Bench, path: &str) -> (u16, Value) {
    let (status, body) = bench.sidecar.get(&format!("/api/v1/{path}")).await;
    (status, serde_json::from_str(&body).expect("JSON"))
}

async fn list(bench: &Bench, path: &str, name: &str) -> Vec<Value> {
    let (status, body) = get(bench, path).await;
    assert_eq!(status, 200, "{body}");
    body[name].as_array().expect("a list").clone()
}

fn texts(list: &[Value]) -> Vec<&str> {
    list.iter()
        .filter_map(|entry| entry["text"].as_str())
        .collect()
}

#[tokio::test]
async fn queries_are_listed_sorted_and_paged() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    for (text, times) in [
        ("SELECT pg_sleep(0.2) AS longest", 1),
        ("SELECT 'x' AS often", 5),
        ("SELECT generate_series(1, 50) AS rows", 2),
        ("SELECT 1/0 AS fails", 3),
        ("SHOW TimeZone", 1),
    ] {
        for _ in 0..times {
            client.ask(&query(text)).await;
        }
    }
    let (_, all) = get(&bench, "queries").await;
    let queries = all["queries"].as_array().expect("a list");
    assert_eq!(queries.len(), 5, "{all}");
    assert_eq!(queries[0]["text"], "SELECT pg_sleep($1) AS longest");
    assert_eq!(
        (&all["total"]["calls"], &all["total"]["errors"]),
        (&12.into(), &3.into())
    );
    assert_eq!(all["rest"]["calls"], 0);
    for query in queries {
        let shown = Shown::of(&bench.sidecar, query["text"].as_str().expect("a text")).await;
        let figures = &query["figures"];
        for (one, two) in [
            ("calls", "calls"),
            ("errors", "errors"),
            ("rows", "rows"),
            ("received_bytes", "received"),
            ("sent_bytes", "sent"),
        ] {
            assert_eq!(figures[one], shown.number(two), "{one} of {query}");
        }
        let total = figures["total_seconds"].as_f64().expect("seconds");
        assert!(
            (total - shown.time("total_time").as_secs_f64()).abs() < 2e-6,
            "{query}"
        );
        let phases = ["wait", "connect", "execute", "transfer"];
        let sum: f64 = phases
            .iter()
            .filter_map(|phase| figures[format!("{phase}_seconds")].as_f64())
            .sum();
        assert!((total - sum).abs() < 1e-9, "{query}");
    }
    for (path, first) in [
        ("queries?sort=calls", "often"),
        ("queries?sort=rows", "rows"),
        ("queries?sort=errors", "fails"),
        ("queries?sort=p99&window=1m", "longest"),
        ("queries?operation=show", "SHOW"),
    ] {
        let found = list(&bench, path, "queries").await;
        assert!(texts(&found)[0].contains(first), "{path}: {found:?}");
    }
    // Pages of two are all of them, once.
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = get(&bench, &format!("queries?sort=calls&limit=2{cursor}")).await;
        let queries = page["queries"].as_array().expect("a list");
        seen.extend(texts(queries).into_iter().map(str::to_owned));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert!(seen[0].contains("often"));
    for wrong in [
        "queries?sort=age",
        "queries?window=2m",
        "queries?limit=0",
        "queries?what=x",
        "slow-queries?min_seconds=long",
    ] {
        let (status, problem) = get(&bench, wrong).await;
        assert_eq!(status, 400, "{wrong}: {problem}");
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty())
        );
    }
    assert_eq!(get(&bench, "queries?cursor=AAAA").await.0, 404);
}

#[tokio::test]
async fn slow_queries_are_filtered() {
    let settings = [("POOLWATCH_QUERIES__SLOW_THRESHOLD", "0s")];
    let bench = Bench::with(&settings).await;
    let mut client = bench.pooled().await;
    for text in [
        "SELECT 1 AS quick",
        "SELECT pg_sleep(0.2) AS slower",
        "CREATE TABLE t ()",
    ] {
        client.ask(&query(text)).await;
    }
    let (_, all) = get(&bench, "slow-queries").await;
    assert_eq!((&all["seen"], &all["left_out"]), (&3.into(), &0.into()));
    let slow = all["slow_queries"].as_array().expect("a list");
    assert_eq!(texts(slow)[0], "CREATE TABLE t()", "the newest");
    assert_eq!(slow.len(), 3);
    let fingerprint = slow[2]["fingerprint"].as_str().expect("a fingerprint");
    let database = &bench.database.name;
    for (filter, words) in [
        ("min_seconds=0.2".to_owned(), vec!["slower"]),
        ("operation=select".to_owned(), vec!["slower", "quick"]),
        (format!("fingerprint={fingerprint}"), vec!["quick"]),
        (
            format!("database={database}&user=postgres&limit=1"),
            vec!["CREATE"],
        ),
        ("user=nobody".to_owned(), vec![]),
    ] {
        let found = list(&bench, &format!("slow-queries?{filter}"), "slow_queries").await;
        let found = texts(&found);
        assert_eq!(found.len(), words.len(), "{filter}: {found:?}");
        let fits = found
            .iter()
            .zip(&words)
            .all(|(text, word)| text.contains(word));
        assert!(fits, "{filter}: {found:?}");
    }
}

#[tokio::test]
async fn holders_and_leaks_are_listed() {
    let settings = [("POOLWATCH_POOL__LEAK_THRESHOLD", "1s")];
    let bench = Bench::with(&settings).await;
    let mut client = bench.pooled().await;
    client.ask(&query("BEGIN; SELECT 'x' AS held_by")).await;
    let holders = list(&bench, "holders", "holders").await;
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert_eq!(holders[0]["state"], "idle_in_transaction");
    assert_eq!(holders[0]["last_statement"]["text"], "SELECT $1 AS held_by");
    let leaks = eventually(LIMIT, || async {
        let leaks = list(&bench, "leaks", "leaks").await;
        (!leaks.is_empty()).then_some(leaks)
    })
    .await;
    assert_eq!(leaks[0]["client"], holders[0]["client"]);
    assert_eq!(leaks[0]["last_statement"], holders[0]["last_statement"]);
    assert!(
        leaks[0]["idle_seconds"]
            .as_f64()
            .is_some_and(|idle| idle >= 1.0),
        "{leaks:?}"
    );
    client.ask(&query("COMMIT")).await;
    assert!(list(&bench, "holders", "holders").await.is_empty());
    eventually(LIMIT, || async {
        list(&bench, "leaks", "leaks").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn where_queries_are_not_told_apart_that_is_said() {
    let settings = [("POOLWATCH_QUERIES__ENABLED", "off")];
    let bench = Bench::with(&settings).await;
    bench.pooled().await.ask(&query("SELECT 1")).await;
    for path in ["queries", "slow-queries"] {
        let (status, problem) = get(&bench, path).await;
        assert_eq!(status, 404);
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("queries.enabled"))
        );
    }
    let scrape = bench.sidecar.scrape().await;
    assert_eq!(
        scrape.sum("db_client_operation_duration_seconds_count", &[]),
        1.0
    );
    assert_eq!(scrape.sum("poolwatch_queries_total", &[]), 0.0);
}
