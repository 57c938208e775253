//! The figures are those of others who count: PostgreSQL's own statistics of statements, and pgbench's log.

use std::time::Duration;

use super::Shown;
use crate::support::raw::{Raw, bind, execute, parse, prepare, query, sync, use_of};
use crate::support::{Pgbench, Postgres, Sidecar};
use poolwatch::ops::postgres::Options;

/// Texts of every kind, with a word of its own each by which it is found in both.
const TEXTS: &[(&str, &str)] = &[
    ("word_one", "SELECT 1 AS word_one"),
    (
        "word_none",
        "SELECT 1 AS word_none WHERE now() < '2000-01-01'",
    ),
    (
        "word_many",
        "SELECT n AS word_many FROM generate_series(1, 1000) n",
    ),
    (
        "word_insert",
        "INSERT INTO plain SELECT n, 'x' AS word_insert FROM generate_series(1, 20) n",
    ),
    (
        "word_update",
        "UPDATE plain AS word_update SET t = 'y' WHERE n < 11",
    ),
    (
        "word_delete",
        "DELETE FROM plain AS word_delete WHERE n > 15 RETURNING n",
    ),
    (
        "word_copy",
        "COPY (SELECT n AS word_copy FROM generate_series(1, 30) n) TO STDOUT",
    ),
    (
        "word_values",
        "SELECT column1 AS word_values FROM (VALUES (1), (2), (3)) v",
    ),
    (
        "word_in",
        "SELECT n AS word_in FROM generate_series(1, 9) n WHERE n IN (1, 2, 3)",
    ),
    (
        "word_cte",
        "WITH word_cte AS (SELECT 1 UNION ALL SELECT 2) SELECT * FROM word_cte",
    ),
];

#[tokio::test]
async fn calls_and_rows_are_those_of_pg_stat_statements() {
    let server = Postgres::own(Options {
        conf:
            "shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.track_utility = on"
                .to_owned(),
        ..Options::default()
    })
    .await;
    let database = server.database().await;
    let direct = database.connect().await;
    let prepared = "CREATE EXTENSION pg_stat_statements; CREATE TABLE plain (n int, t text)";
    direct.batch_execute(prepared).await.expect("an extension");
    let sidecar = Sidecar::start(&database).await;
    let (mut one, mut two) = (
        Raw::login(sidecar.proxy_addr(), &database.name).await,
        Raw::login(sidecar.proxy_addr(), &database.name).await,
    );
    for (number, (word, text)) in TEXTS.iter().enumerate() {
        two.ask(&prepare(word, text)).await;
        for _ in 0..=number {
            one.ask(&query(text)).await;
            let unnamed = [parse("", text), bind("", "", &[]), execute("", 0), sync()];
            one.ask(&unnamed.concat()).await;
            // Of a utility statement that is prepared, PostgreSQL counts the first run only.
            if !text.starts_with("COPY") {
                two.ask(&use_of(word, &[])).await;
            }
        }
    }
    for (word, _) in TEXTS {
        let theirs = direct
            .query_one(
                "SELECT coalesce(sum(calls), 0)::int8, coalesce(sum(rows), 0)::int8, coalesce(sum(total_exec_time), 0)::float8 FROM pg_stat_statements \
                 WHERE query ~ $1 AND query !~ 'pg_stat_statements'",
                &[&format!("\\m{word}\\M")],
            )
            .await
            .expect("statistics");
        let (calls, rows): (i64, i64) = (theirs.get(0), theirs.get(1));
        let ours = matching(&sidecar, word).await;
        let sum = |column: &str| -> u64 { ours.iter().map(|shown| shown.number(column)).sum() };
        assert_eq!(
            (sum("calls"), sum("rows")),
            (calls.unsigned_abs(), rows.unsigned_abs()),
            "{word}: {ours:?}"
        );
        // What PostgreSQL spent is part of what its client waited for.
        let executed = Duration::from_secs_f64(theirs.get::<_, f64>(2) / 1e3);
        let took: Duration = ours.iter().map(|shown| shown.time("total_time")).sum();
        assert!(
            executed <= took + Duration::from_micros(calls.unsigned_abs()),
            "{word}: {executed:?} of {took:?}"
        );
    }
    // The whole is the sum of the parts, and what the pool has counted.
    let all = Shown::all(&sidecar).await;
    let calls: u64 = all.iter().map(Shown::calls).sum();
    let errors: u64 = all.iter().map(|shown| shown.number("errors")).sum();
    assert_eq!(errors, 0);
    let scrape = sidecar.scrape().await;
    let counted = scrape.sum("db_client_operation_duration_seconds_count", &[]);
    assert_eq!(counted, calls as f64);
    assert_eq!(scrape.sum("poolwatch_queries_total", &[]), counted);
    assert_eq!(scrape.sum("poolwatch_query_calls_total", &[]), counted);
    let rows: u64 = all.iter().map(|shown| shown.number("rows")).sum();
    assert_eq!(scrape.sum("poolwatch_queries_rows_total", &[]), rows as f64);
}

/// The queries in whose text this word stands by itself.
async fn matching(sidecar: &Sidecar, word: &str) -> Vec<Shown> {
    let is_word = |text: &str| {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .any(|found| found == word)
    };
    let all = Shown::all(sidecar).await.into_iter();
    all.filter(|shown| is_word(&shown.0["query"])).collect()
}

/// pgbench writes how long each transaction of one statement took for it: from its sending to the end of its answer.
#[tokio::test]
async fn times_are_no_longer_than_those_in_pgbenchs_log() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let sidecar = Sidecar::start(&database).await;
    let folder =
        std::env::temp_dir().join(format!("queries-{}-{}", std::process::id(), database.name));
    std::fs::create_dir(&folder).expect("a folder");
    let prefix = folder.join("log");
    let script = "\\set ms random(0, 20)\nSELECT pg_sleep(:ms / 1000.0) AS logged;\n";
    let prefix = format!("--log-prefix={}", prefix.display());
    let arguments = ["-c", "20", "-j", "2", "-t", "50", "-l", &prefix];
    let ran = Pgbench::run(&database, &sidecar, script, &arguments).await;
    assert_eq!(ran.clean(), 1_000);
    let mut theirs = Vec::new();
    for file in std::fs::read_dir(&folder).expect("the folder") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a log");
        let latency = |line: &str| line.split(' ').nth(2)?.parse::<u64>().ok();
        theirs.extend(text.lines().filter_map(latency));
    }
    std::fs::remove_dir_all(&folder).expect("it is ours");
    theirs.sort_unstable();
    assert_eq!(theirs.len(), 1_000);
    let ours = Shown::of(&sidecar, "logged").await;
    assert_eq!((ours.calls(), ours.number("rows")), (1_000, 1_000));
    // Each time of ours is within one of theirs, so every rank of ours is at most the same of theirs, but for the error that is
    // stated; and what was slept is within both.
    let error = 1.0 + poolwatch::query::RELATIVE_ERROR;
    for (column, rank) in [
        ("p50_time", 499),
        ("p95_time", 949),
        ("p99_time", 989),
        ("max_time", 999),
    ] {
        let (one, two) = (ours.number(column) as f64, theirs[rank] as f64);
        assert!(
            one <= two * error + 1.0,
            "{column}: {one} µs, pgbench's {two}"
        );
    }
    let sum: u64 = theirs.iter().sum();
    assert!(ours.number("total_time") <= sum, "{ours:?} {sum}");
    assert!(
        ours.number("p50_time") as f64 * error >= 9_000.0,
        "half of them slept for longer: {ours:?}"
    );
}
