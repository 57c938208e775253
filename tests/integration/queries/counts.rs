//! What is counted of each fingerprint, in every way in which statements come and end.

use super::{LIMIT, Shown, ended};
use crate::bench::Bench;
use crate::support::eventually;
use crate::support::raw::{bind, execute, message, parse, prepare, query, sync, use_of};

/// Calls, errors and rows.
fn counts(shown: &Shown) -> (u64, u64, u64) {
    (shown.calls(), shown.number("errors"), shown.number("rows"))
}

#[tokio::test]
async fn each_statement_of_a_text_counts_by_itself() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    let several = "CREATE TEMP TABLE several (n int); INSERT INTO several SELECT generate_series(1, 5); \
                   UPDATE several SET n = n + 1 WHERE n > 2; SELECT n FROM several; DROP TABLE several";
    client.ask(&query(several)).await;
    for (word, rows) in [
        ("CREATE TEMP TABLE several", 0),
        ("INSERT INTO several", 5),
        ("UPDATE several", 3),
        ("SELECT n FROM several", 5),
        ("DROP TABLE several", 0),
    ] {
        let shown = Shown::of(&bench.sidecar, word).await;
        assert_eq!(counts(&shown), (1, 0, rows), "{word}: {shown:?}");
    }
    // What stands behind a statement that fails does not run.
    client
        .ask(&query(
            "SELECT 1 AS one; SELECT 1/0 AS two; SELECT 3 AS three",
        ))
        .await;
    for (word, expected) in [("one", (1, 0, 1)), ("two", (1, 1, 0)), ("three", (0, 0, 0))] {
        let shown = Shown::of(&bench.sidecar, word).await;
        assert_eq!(counts(&shown), expected, "{word}: {shown:?}");
    }
    assert_eq!(
        Shown::of(&bench.sidecar, "two").await.0["last_error"],
        "22012"
    );
}

#[tokio::test]
async fn literals_make_no_difference_and_names_do() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    for text in [
        "SELECT 'a' AS same",
        "select  'b'  as same -- with a comment",
        "SELECT $$c$$ AS same",
        "SELECT 'a' AS differs",
    ] {
        client.ask(&query(text)).await;
    }
    assert_eq!(Shown::of(&bench.sidecar, "same").await.calls(), 3);
    assert_eq!(Shown::of(&bench.sidecar, "differs").await.calls(), 1);
    for shown in Shown::all(&bench.sidecar).await {
        assert!(!shown.0["query"].contains('\''), "{shown:?}");
    }
}

#[tokio::test]
async fn prepared_statements_count_wherever_they_run() {
    let bench = Bench::new().await;
    let (mut one, mut two) = (bench.pooled().await, bench.pooled().await);
    one.ask(&prepare("s", "SELECT generate_series(1, 3) AS prepared"))
        .await;
    two.ask(&prepare("t", "SELECT generate_series(1, 9) AS prepared"))
        .await;
    for _ in 0..3 {
        one.ask(&use_of("s", &[])).await;
        two.ask(&use_of("t", &[])).await;
    }
    let shown = Shown::of(&bench.sidecar, "prepared").await;
    assert_eq!(counts(&shown), (6, 0, 36));
    // A name that is given something else, and one that is not because it is taken.
    one.ask(&[message(b'C', b"Ss\0"), sync()].concat()).await;
    one.ask(&prepare("s", "SELECT 1 AS renamed")).await;
    let taken = one.ask(&prepare("s", "SELECT 1 AS taken")).await;
    assert_eq!(taken[0].code(), "42P05");
    one.ask(&use_of("s", &[])).await;
    assert_eq!(Shown::of(&bench.sidecar, "renamed").await.calls(), 1);
    let refused = Shown::of(&bench.sidecar, "taken").await;
    assert_eq!(counts(&refused), (1, 1, 0), "its Parse failed");
}

#[tokio::test]
async fn a_batch_that_fails_counts_what_ran() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    let run = |text: &str| [parse("", text), bind("", "", &[]), execute("", 0)].concat();
    let batch = [
        run("SELECT 1 AS ran"),
        run("SELECT 1/0 AS failed"),
        run("SELECT 1 AS skipped"),
        sync(),
    ];
    client.ask(&batch.concat()).await;
    for (word, expected) in [
        ("ran", (1, 0, 1)),
        ("failed", (1, 1, 0)),
        ("skipped", (0, 0, 0)),
    ] {
        let shown = Shown::of(&bench.sidecar, word).await;
        assert_eq!(counts(&shown), expected, "{word}");
    }
    // A text that PostgreSQL cannot read is the one that fails, whatever was to follow.
    client
        .ask(&[run("SELEKT 1 AS unread"), sync()].concat())
        .await;
    let shown = Shown::of(&bench.sidecar, "unread").await;
    assert_eq!(counts(&shown), (1, 1, 0));
    assert_eq!(shown.0["last_error"], "42601");
}

#[tokio::test]
async fn rows_that_are_fetched_by_parts_are_one_call() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    let first = [
        parse("", "SELECT generate_series(1, 25) AS parts"),
        bind("", "", &[]),
        execute("", 10),
        message(b'H', b""),
    ];
    client.send(&first.concat()).await;
    client.until('s').await;
    let begun = Shown::of(&bench.sidecar, "parts").await;
    assert_eq!(counts(&begun), (0, 0, 10), "it has not ended");
    client
        .send(&[execute("", 10), message(b'H', b"")].concat())
        .await;
    client.until('s').await;
    client.ask(&[execute("", 10), sync()].concat()).await;
    let shown = Shown::of(&bench.sidecar, "parts").await;
    assert_eq!(counts(&shown), (1, 0, 25));
    // A cursor of SQL is a statement a FETCH.
    client
        .ask(&query(
            "BEGIN; DECLARE c CURSOR FOR SELECT generate_series(1, 25)",
        ))
        .await;
    for _ in 0..3 {
        client.ask(&query("FETCH 10 FROM c")).await;
    }
    client.ask(&query("MOVE BACKWARD ALL IN c; COMMIT")).await;
    let shown = Shown::of(&bench.sidecar, "FETCH").await;
    assert_eq!(counts(&shown), (3, 0, 25));
    assert_eq!(Shown::of(&bench.sidecar, "MOVE").await.number("rows"), 0);
}

#[tokio::test]
async fn copies_count_their_rows_and_bytes_both_ways() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    client.ask(&query("CREATE TABLE copied (t text)")).await;
    client.send(&query("COPY copied FROM STDIN")).await;
    client.until('G').await;
    let line = format!("{}\n", "x".repeat(999));
    for _ in 0..100 {
        client.send(&message(b'd', line.as_bytes())).await;
    }
    client.ask(&message(b'c', b"")).await;
    let shown = Shown::of(&bench.sidecar, "FROM STDIN").await;
    assert_eq!(counts(&shown), (1, 0, 100));
    // Each line has five bytes of a message's head.
    let sent = query("COPY copied FROM STDIN").len() + 100 * (1_000 + 5) + 5;
    assert_eq!(shown.number("received"), sent as u64);
    client.ask(&query("COPY copied TO STDOUT")).await;
    let shown = Shown::of(&bench.sidecar, "TO STDOUT").await;
    assert_eq!(counts(&shown), (1, 0, 100));
    assert!(shown.number("sent") > 100 * 1_005, "{shown:?}");
}

#[tokio::test]
async fn cancelled_and_abandoned_queries_are_told_apart() {
    let bench = Bench::new().await;
    let client = bench.sidecar.connect().await;
    let cancel = client.cancel_token();
    let slept = client.batch_execute("SELECT pg_sleep(64) AS cancelled");
    let cancelling = async {
        running(&bench, "cancelled").await;
        cancel.cancel_query(tokio_postgres::NoTls).await
    };
    let (slept, sent) = tokio::join!(slept, cancelling);
    sent.expect("a cancel request");
    slept.expect_err("it was cancelled");
    let shown = ended(&bench.sidecar, "cancelled", 1).await;
    assert_eq!(counts(&shown), (1, 1, 0));
    assert_eq!(shown.0["last_error"], "57014");

    let mut leaver = bench.pooled().await;
    leaver
        .send(&query("SELECT pg_sleep(64) AS abandoned"))
        .await;
    running(&bench, "abandoned").await;
    drop(leaver);
    bench.settled().await;
    let shown = Shown::of(&bench.sidecar, "abandoned").await;
    assert_eq!(counts(&shown), (0, 0, 0));
    assert_eq!(shown.number("unfinished"), 1);
}

/// Waits until PostgreSQL runs a query with this word.
async fn running(bench: &Bench, word: &str) {
    let direct = bench.database.connect().await;
    let text = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{word}' AND pid <> pg_backend_pid()"
    );
    eventually(LIMIT, || async {
        let found = direct.query_one(&text, &[]).await.expect("an answer");
        found.get::<_, i64>(0) == 1
    })
    .await;
}
