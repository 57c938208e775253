//! State in the corners of the protocol and of transactions: nothing of it is met by the next client, and what a client logged
//! in with is what it has. All with a pool of one connection, which every client must get.

use crate::bench::Bench;
use crate::support::raw::{Raw, bind, execute, parse, query, sync, tags};

const LOCKS: &str =
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
const ROLE: &str = "SELECT current_user";
const OTHER: &str = "pg_read_all_data";

/// Parse, Bind and Execute for one row, as some drivers do that want no more.
fn one_row(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), execute("", 1), sync()].concat()
}

#[tokio::test]
async fn what_gave_its_first_row_was_run() {
    let bench = Bench::new().await;
    let (mut one, mut two) = (bench.pooled().await, bench.pooled().await);
    let answer = one
        .ask(&one_row("SELECT pg_catalog.pg_advisory_lock(1)"))
        .await;
    assert_eq!(tags(&answer), "12DsZ");
    assert_eq!(bench.pinned().await, 1.0);
    assert_eq!(one.value(LOCKS).await, "1");
    one.ask(&one_row("SELECT pg_advisory_unlock(1)")).await;
    assert_eq!(bench.pinned().await, 0.0);
    assert_eq!(two.value(LOCKS).await, "0");
    one.ask(&one_row("SELECT set_config('work_mem', '7MB', false)"))
        .await;
    assert_eq!(one.value("SHOW work_mem").await, "7MB");
    drop(one);
    assert_ne!(two.value("SHOW work_mem").await, "7MB");
}

#[tokio::test]
async fn the_role_of_a_login_is_its_own() {
    let bench = Bench::new().await;
    let role = format!("-c role={OTHER}");
    let login: &[(&str, &str)] = &[("options", &role)];
    for statement in ["SET work_mem = '7MB'", "SET ROLE pg_monitor", "LISTEN a"] {
        // One with the role leaves something, and then come one without it and one with it.
        let mut one = bench.pooled_with(login).await;
        assert_eq!(one.value(ROLE).await, OTHER, "{statement}");
        one.rows(statement).await;
        drop(one);
        let mut two = bench.pooled().await;
        assert_eq!(two.value(ROLE).await, "postgres", "{statement}");
        let mut three = bench.pooled_with(login).await;
        three.rows(statement).await;
        drop(three);
        let mut four = bench.pooled_with(login).await;
        assert_eq!(four.value(ROLE).await, OTHER, "{statement}");
        assert_ne!(four.value("SHOW work_mem").await, "7MB");
    }
    let mut direct = Raw::login_with(bench.direct_address(), &bench.database.name, login).await;
    let mut pooled = bench.pooled_with(login).await;
    let mut other = bench.pooled().await;
    for (statement, pins) in [
        ("SET ROLE pg_monitor", 1.0),
        ("RESET ROLE", 0.0),
        ("SET ROLE NONE", 1.0),
        ("RESET ROLE", 0.0),
        ("RESET ALL", 0.0),
    ] {
        direct.rows(statement).await;
        pooled.rows(statement).await;
        assert_eq!(bench.pinned().await, pins, "{statement}");
        if pins == 0.0 {
            assert_eq!(other.value(ROLE).await, "postgres");
        }
        assert_eq!(
            pooled.value(ROLE).await,
            direct.value(ROLE).await,
            "{statement}"
        );
    }
}

#[tokio::test]
async fn what_was_reset_and_committed_is_given_back_whatever_follows() {
    let bench = Bench::new().await;
    let login: &[(&str, &str)] = &[
        ("TimeZone", "Asia/Tokyo"),
        ("options", "-c work_mem=5MB -c geqo_seed=0.5"),
    ];
    let show = "SELECT current_setting('work_mem') || current_setting('TimeZone') || \
                current_setting('geqo_seed')";
    for text in [
        "BEGIN; RESET work_mem; COMMIT; SELECT 1/0",
        "BEGIN; RESET ALL; COMMIT; SET work_mem = '9MB'; SELECT 1/0",
        "RESET ALL; SET TimeZone = 'Europe/Oslo'",
        "RESET ALL; SELECT set_config('geqo_seed', '0.25', false); SET TimeZone = 'Europe/Oslo'",
        "RESET geqo_seed; SET geqo_seed = 0.75",
        "BEGIN; RESET ALL; SAVEPOINT a; SET work_mem = '9MB'; ROLLBACK TO a; COMMIT",
    ] {
        let mut direct = Raw::login_with(bench.direct_address(), &bench.database.name, login).await;
        let mut pooled = bench.pooled_with(login).await;
        direct.ask(&query(text)).await;
        pooled.ask(&query(text)).await;
        assert_eq!(pooled.value(show).await, direct.value(show).await, "{text}");
        drop(pooled);
        let mut next = bench.pooled_with(login).await;
        assert_eq!(next.value(show).await, "5MBAsia/Tokyo0.5", "{text}");
    }
}

#[tokio::test]
async fn a_client_is_told_when_its_values_cannot_be_given_back() {
    let bench = Bench::new().await;
    let mut direct = bench.direct().await;
    let create = "CREATE TEXT SEARCH CONFIGURATION public.mine (COPY = simple)";
    direct.rows(create).await;
    let login: &[(&str, &str)] = &[(
        "options",
        "-c default_text_search_config=public.mine -c work_mem=5MB",
    )];
    let (mut one, mut two) = (
        bench.pooled_with(login).await,
        bench.pooled_with(login).await,
    );
    assert_eq!(one.value("SHOW work_mem").await, "5MB");
    direct
        .rows("DROP TEXT SEARCH CONFIGURATION public.mine")
        .await;
    let answer = one.ask(&query("RESET ALL")).await;
    assert_eq!(tags(&answer), "CEZ", "{answer:?}");
    assert_eq!(answer[1].code(), "22023");
    // Nobody takes the server for one that has them.
    direct.rows(create).await;
    assert_eq!(two.value("SHOW work_mem").await, "5MB");
    assert_eq!(one.value("SHOW work_mem").await, "5MB");
    assert_eq!(bench.pinned().await, 0.0);
}

#[tokio::test]
async fn a_client_that_leaves_while_its_values_are_given_back_leaves_no_doubt() {
    let bench = Bench::new().await;
    let login: &[(&str, &str)] = &[("options", "-c work_mem=5MB")];
    for _ in 0..40 {
        let mut one = bench.pooled_with(login).await;
        one.send(&query("RESET ALL")).await;
        drop(one);
        let mut two = bench.pooled_with(login).await;
        assert_eq!(two.value("SHOW work_mem").await, "5MB");
    }
}

#[tokio::test]
async fn a_query_behind_an_error_is_skipped_and_counts_for_nothing() {
    let bench = Bench::new().await;
    let mut one = bench.pooled().await;
    let batch = [parse("", "FROB"), query("LISTEN a"), sync()].concat();
    assert_eq!(tags(&one.ask(&batch).await), "EZ");
    one.rows("SET work_mem = '7MB'").await;
    one.rows("RESET work_mem").await;
    one.rows("SELECT 1").await;
    assert_eq!(bench.pinned().await, 0.0);
}

#[tokio::test]
async fn what_runs_later_is_not_taken_for_done() {
    let bench = Bench::new().await;
    let mut one = bench.pooled().await;
    for sql in [
        "PREPARE p AS SELECT pg_advisory_lock(1)",
        "SELECT pg_advisory_unlock_all()",
        "EXECUTE p",
        "DEALLOCATE p",
    ] {
        one.rows(sql).await;
    }
    assert_eq!(bench.pinned().await, 1.0);
    assert_eq!(one.value(LOCKS).await, "1");
    one.rows("DISCARD ALL").await;
    assert_eq!(bench.pinned().await, 0.0);
    // A block that fails does not take back what it committed.
    let block = "DO $$ BEGIN SET work_mem = '7MB'; COMMIT; RAISE EXCEPTION 'x'; END $$";
    assert_eq!(tags(&one.ask(&query(block)).await), "EZ");
    assert_eq!(one.value("SHOW work_mem").await, "7MB");
    drop(one);
    let mut two = bench.pooled().await;
    assert_ne!(two.value("SHOW work_mem").await, "7MB");
}
