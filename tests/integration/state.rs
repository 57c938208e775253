//! What a client leaves in a session stays its own: it keeps its server while it has state there, and the next client
//! finds a clean one. All with a pool of one connection, which every client must get.

use std::time::Duration;

use crate::bench::Bench;
use crate::support::eventually;
use crate::support::raw::{Raw, bind, close, message, parse, query, sync, tags};

const LIMIT: Duration = Duration::from_secs(20);

/// What shows that a session is as new: nothing of what the tests leave is there. It names no word that pins.
const TRACES: &str = "\
SELECT (SELECT count(*) FROM pg_class WHERE relpersistence = 't') AS temporary, \
       (SELECT count(*) FROM pg_locks WHERE locktype LIKE 'advi%' AND pid = pg_backend_pid()) AS locks, \
       (SELECT count(*) FROM pg_prepared_statements) AS statements, \
       (SELECT count(*) FROM pg_cursors) AS cursors, \
       (SELECT count(*) FROM pg_listening_channels()) AS channels, \
       current_setting('work_mem'), current_setting('search_path'), current_setting('application_name'), \
       current_setting('custom.mark', true), \
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND state LIKE 'idle in transaction%') AS open";
const CLEAN: &str = "0|0|0|0|0|4MB|\"$user\", public|||0";

/// NULL and empty are the same here: a custom setting that was reset reads as empty.
async fn traces(client: &mut Raw) -> String {
    client.value(TRACES).await.replace('~', "")
}

/// Runs `sql` as one client, which must be pinned then; lets another one wait; the first leaves; the other is clean.
async fn leaves_nothing(bench: &Bench, sql: &str, proof: &str, proved: &str) {
    let mut one = bench.pooled().await;
    one.rows(sql).await;
    assert_eq!(
        one.value(proof).await,
        proved,
        "{sql}: kept for its own client"
    );
    assert!(bench.pinned().await >= 1.0, "{sql}");
    let mut two = bench.pooled_with(&[]).await;
    let waiting = tokio::spawn(async move {
        let seen = traces(&mut two).await;
        (two, seen)
    });
    eventually(LIMIT, || async {
        let scrape = bench.sidecar.scrape().await;
        scrape.sum("db_client_connection_pending_requests", &[]) == 1.0
    })
    .await;
    assert_eq!(
        one.value(proof).await,
        proved,
        "{sql}: while another one waits"
    );
    drop(one);
    let (two, seen) = waiting.await.expect("the second client");
    assert_eq!(seen, CLEAN, "{sql}");
    assert_eq!(bench.pinned().await, 0.0, "{sql}");
    drop(two);
    bench.settled().await;
}

#[tokio::test]
async fn settings_do_not_leak() {
    let bench = Bench::new().await;
    for sql in [
        "SET work_mem = '5MB'",
        "SET SESSION work_mem TO '5MB'",
        "BEGIN; SET work_mem = '5MB'; COMMIT",
        "SELECT set_config('work_mem', '5MB', false)",
        "select\npg_catalog . set_config('work_mem', '5MB', false)",
        "DO $$ BEGIN PERFORM set_config('work_mem', '5MB', false); END $$",
    ] {
        leaves_nothing(&bench, sql, "SHOW work_mem", "5MB").await;
    }
    leaves_nothing(
        &bench,
        "SET search_path = pg_catalog",
        "SHOW search_path",
        "pg_catalog",
    )
    .await;
    leaves_nothing(
        &bench,
        "SET custom.mark = 'mine'",
        "SHOW custom.mark",
        "mine",
    )
    .await;
}

#[tokio::test]
async fn locks_tables_statements_cursors_and_channels_do_not_leak() {
    let bench = Bench::new().await;
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype LIKE 'advi%' \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    for sql in [
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1, 2)",
        "BEGIN; SELECT pg_advisory_lock(1); COMMIT",
    ] {
        leaves_nothing(&bench, sql, locks, "1").await;
    }
    let rows = "SELECT count(*) FROM left_over";
    for sql in [
        "CREATE TEMP TABLE left_over AS SELECT 1",
        "CREATE TEMPORARY TABLE left_over (a int); INSERT INTO left_over VALUES (1)",
        "SELECT 1 AS a INTO TEMP left_over",
        "SELECT 1 AS a INTO TEMPORARY TABLE left_over",
        "SELECT 1 AS a INTO/**/pg_temp.left_over",
        "CREATE TABLE pg_temp.left_over AS SELECT 1",
        "create temporary /* for a while */ table left_over as select 1",
        "SET search_path = pg_temp; CREATE TABLE left_over AS SELECT 1",
    ] {
        leaves_nothing(&bench, sql, rows, "1").await;
    }
    leaves_nothing(&bench, "PREPARE p AS SELECT 42", "EXECUTE p", "42").await;
    leaves_nothing(
        &bench,
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 42; COMMIT",
        "SELECT count(*) FROM pg_cursors",
        "1",
    )
    .await;
    leaves_nothing(
        &bench,
        "LISTEN news",
        "SELECT pg_listening_channels()",
        "news",
    )
    .await;
}

#[tokio::test]
async fn what_leaves_nothing_does_not_pin() {
    let bench = Bench::new().await;
    let (mut one, mut two) = (bench.pooled().await, bench.pooled().await);
    two.rows("CREATE TABLE t (a int)").await;
    drop(two);
    bench.settled().await;
    let mut two = bench.pooled().await;
    for sql in [
        "SELECT 1",
        "INSERT INTO t VALUES (1)",
        "BEGIN; SELECT 1; COMMIT",
        "BEGIN; SAVEPOINT s; INSERT INTO t VALUES (2); ROLLBACK TO s; RELEASE s; ROLLBACK",
        "UPDATE t SET a = 3",
        "DELETE FROM t",
        "MERGE INTO t USING (SELECT 1 AS b) s ON a = b WHEN NOT MATCHED THEN INSERT VALUES (b)",
        "SHOW work_mem",
    ] {
        one.rows(sql).await;
        assert_eq!(bench.pinned().await, 0.0, "{sql}");
        assert_eq!(traces(&mut two).await, CLEAN, "{sql}");
    }
}

#[tokio::test]
async fn a_notification_comes_while_its_client_is_idle() {
    let bench = Bench::new().await;
    let mut listener = bench.pooled().await;
    listener.rows("LISTEN news").await;
    let mut direct = bench.direct().await;
    for payload in ["one", "two"] {
        direct.rows(&format!("NOTIFY news, '{payload}'")).await;
        let heard = listener.next().await.expect("a notification");
        assert_eq!(heard.tag, 'A');
        assert!(
            heard
                .body
                .ends_with(format!("news\0{payload}\0").as_bytes()),
            "{heard:?}"
        );
    }
    // Its own come with its own reply.
    let answer = listener.ask(&query("NOTIFY news, 'mine'")).await;
    assert_eq!(tags(&answer), "CAZ");
    drop(listener);
    bench.settled().await;
    let mut next = bench.pooled().await;
    direct.rows("NOTIFY news, 'nobody listens'").await;
    assert_eq!(tags(&next.ask(&query("SELECT 1")).await), "TDCZ");
}

#[tokio::test]
async fn a_named_statement_that_is_not_shared_pins_until_its_close() {
    let bench = Bench::with(&[("POOLWATCH_POOL__MAX_PREPARED_STATEMENTS", "0")]).await;
    let mut one = bench.pooled().await;
    let mut two = bench.pooled().await;
    for name in ["first", "second"] {
        let answer = one.ask(&[parse(name, "SELECT 1"), sync()].concat()).await;
        assert_eq!(tags(&answer), "1Z");
    }
    let named = || async {
        let scrape = bench.sidecar.scrape().await;
        scrape.sum(
            "poolwatch_pinned_sessions",
            &[("reason", "named_statement")],
        )
    };
    assert_eq!(named().await, 1.0, "a session counts once");
    assert_eq!(
        tags(&one.ask(&[close(b'S', "first"), sync()].concat()).await),
        "3Z"
    );
    assert_eq!(named().await, 1.0, "one is still open");
    assert_eq!(
        tags(&one.ask(&[close(b'S', "second"), sync()].concat()).await),
        "3Z"
    );
    assert_eq!(named().await, 0.0);
    assert_eq!(traces(&mut two).await, CLEAN);
    // One whose Parse fails, or is skipped, was never open.
    let bad = [parse("bad", "SELEKT"), parse("skipped", "SELECT 1"), sync()].concat();
    assert_eq!(tags(&one.ask(&bad).await), "EZ");
    assert_eq!(named().await, 0.0);
    assert_eq!(traces(&mut two).await, CLEAN);
    // One that is closed and parsed again in one go is open; a second Parse of it that fails does not change that.
    let again = [
        parse("s", "SELECT 1"),
        close(b'S', "s"),
        parse("s", "SELECT 2"),
        sync(),
    ]
    .concat();
    assert_eq!(tags(&one.ask(&again).await), "131Z");
    assert_eq!(named().await, 1.0);
    assert_eq!(
        tags(&one.ask(&[parse("s", "SELECT 3"), sync()].concat()).await),
        "EZ"
    );
    assert_eq!(named().await, 1.0);
    assert_eq!(
        tags(&one.ask(&[bind("", "s", &[]), sync()].concat()).await),
        "2Z"
    );
    // What stays open goes with its client.
    drop(one);
    assert_eq!(traces(&mut two).await, CLEAN);
    assert_eq!(named().await, 0.0);
}

#[tokio::test]
async fn what_a_vanished_client_was_doing_is_undone() {
    let bench = Bench::new().await;
    let mut direct = bench.direct().await;
    direct.rows("CREATE TABLE v (a int)").await;
    let insert = "INSERT INTO v VALUES (1)";
    let ways: [(&str, Vec<u8>, usize); 7] = [
        ("in a transaction", query(&format!("BEGIN; {insert}")), 3),
        (
            "in a failed transaction",
            query(&format!("BEGIN; {insert}; SELEKT")),
            2,
        ),
        (
            "a query that runs",
            query(&format!("BEGIN; {insert}; SELECT pg_sleep(600)")),
            0,
        ),
        ("before its Sync", crate::support::raw::run(insert, &[]), 0),
        ("in COPY", query("COPY v FROM STDIN"), 1),
        (
            "in the middle of COPY data",
            [
                query("BEGIN"),
                query("COPY v FROM STDIN"),
                message(b'd', b"1\n"),
                vec![b'd', 0, 0, 9, 9, 1],
            ]
            .concat(),
            3,
        ),
        (
            "in the middle of a large result",
            query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"),
            3,
        ),
    ];
    for (name, bytes, answers) in ways {
        let mut one = bench.pooled().await;
        one.send(&bytes).await;
        one.take(answers).await;
        if name == "a query that runs" {
            eventually(LIMIT, || async { bench.in_use().await > 0 }).await;
        }
        drop(one);
        let mut two = bench.pooled().await;
        assert_eq!(traces(&mut two).await, CLEAN, "{name}");
        assert_eq!(two.value("SELECT count(*) FROM v").await, "0", "{name}");
        drop(two);
        bench.settled().await;
        assert_eq!(bench.pinned().await, 0.0, "{name}");
    }
}

#[tokio::test]
async fn server_reset_always_forgets_what_nobody_saw() {
    let bench = Bench::with(&[("POOLWATCH_POOL__SERVER_RESET", "always")]).await;
    let mut direct = bench.direct().await;
    direct
        .rows(
            "CREATE FUNCTION hidden() RETURNS void LANGUAGE plpgsql AS \
             'BEGIN PERFORM set_config(''work_mem'', ''7MB'', false); PERFORM pg_advisory_lock(9); END'",
        )
        .await;
    let (mut one, mut two) = (bench.pooled().await, bench.pooled().await);
    for _ in 0..3 {
        one.rows("SELECT hidden()").await;
        assert_eq!(bench.pinned().await, 0.0);
        assert_eq!(traces(&mut two).await, CLEAN);
    }
}

#[tokio::test]
async fn a_transaction_that_is_left_open_ends_as_the_settings_say() {
    for (setting, kept, same_server) in [
        ("rollback", "0", true),
        ("commit", "1", true),
        ("none", "0", false),
    ] {
        let bench = Bench::with(&[("POOLWATCH_POOL__RESET_ON_RETURN", setting)]).await;
        bench
            .direct()
            .await
            .rows("CREATE TABLE left_open (a int)")
            .await;
        let mut client = bench.pooled().await;
        client.rows("BEGIN; INSERT INTO left_open VALUES (1)").await;
        let server = client.value("SELECT pg_backend_pid()").await;
        drop(client);
        bench.settled().await;
        let mut next = bench.pooled().await;
        assert_eq!(
            next.value("SELECT count(*) FROM left_open").await,
            kept,
            "{setting}"
        );
        assert_eq!(
            next.value("SELECT pg_backend_pid()").await == server,
            same_server,
            "{setting}"
        );
    }
}
