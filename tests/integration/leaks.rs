//! Nothing that one client left is there for the next, whatever kind it is and however the first one goes. All with a pool
//! of one connection, which every client must get.

use crate::bench::Bench;
use crate::support::raw::{Raw, bind, execute, message, parse, query, sync, tags};

/// All that a session can have, as PostgreSQL tells it. Custom parameters that were reset read as empty.
const EVERYTHING: &str = "\
SELECT (SELECT count(*) FROM pg_class WHERE relpersistence = 't'), \
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
       (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), \
       (SELECT count(*) FROM pg_cursors WHERE is_holdable), \
       (SELECT count(*) FROM pg_listening_channels()), \
       (SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings \
        WHERE source = 'session' AND name NOT LIKE 'custom.%' AND setting IS DISTINCT FROM reset_val), \
       nullif(current_setting('custom.mark', true), ''), \
       current_user, session_user";
const CLEAN: &str = "0|0|0|0|0|~|~|postgres|postgres";

/// What a client may leave.
const KINDS: [(&str, &str); 22] = [
    ("a parameter", "SET work_mem = '5MB'"),
    (
        "a parameter that is reported",
        "SET TimeZone = 'Asia/Tokyo'",
    ),
    ("a parameter of nobody's", "SET custom.mark = 'x'"),
    ("set_config", "SELECT set_config('work_mem', '5MB', false)"),
    (
        "set_config of any",
        "SELECT set_config(name, '5MB', false) FROM pg_settings WHERE name = 'work_mem'",
    ),
    (
        "characteristics",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    ),
    ("a schema", "SET SCHEMA 'pg_catalog'"),
    ("a role", "SET ROLE pg_read_all_data"),
    (
        "an authorization",
        "SET SESSION AUTHORIZATION pg_read_all_data",
    ),
    ("a channel", "LISTEN news"),
    ("a temporary table", "CREATE TEMP TABLE t (a int)"),
    ("a temporary view", "CREATE TEMP VIEW v AS SELECT 1"),
    ("a temporary sequence", "CREATE TEMPORARY SEQUENCE s"),
    (
        "a table by its schema",
        "CREATE TABLE pg_temp.t AS SELECT 1",
    ),
    (
        "a table by its search path",
        "BEGIN; SET LOCAL search_path = pg_temp; CREATE TABLE t (a int); COMMIT",
    ),
    ("a table of a SELECT", "SELECT 1 AS a INTO TEMP t"),
    (
        "a cursor",
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    ),
    ("a lock", "SELECT pg_advisory_lock(1)"),
    (
        "locks of a table",
        "SELECT pg_advisory_lock_shared(g) FROM generate_series(1, 3) g",
    ),
    (
        "a lock of a statement that failed",
        "SELECT pg_advisory_lock(1), 1 / (random() * 0)::int",
    ),
    ("a prepared statement", "PREPARE p AS SELECT 1"),
    (
        "a block's work",
        "DO $$ BEGIN SET work_mem = '5MB'; PERFORM pg_advisory_lock(1); END $$",
    ),
];

/// The one server's pid, and what is in it.
async fn found(client: &mut Raw) -> (String, String) {
    (
        client.value("SELECT pg_backend_pid()").await,
        client.value(EVERYTHING).await,
    )
}

/// How a client may go.
async fn leave(client: Raw, way: usize) {
    let mut client = client;
    match way {
        0 => drop(client),
        1 => {
            client.send(&crate::support::raw::terminate()).await;
            assert!(client.drain().await);
        }
        2 => {
            client.send(&query("BEGIN")).await;
            client.until('Z').await;
        }
        _ => {
            client.send(&query("BEGIN; SELECT 1/0")).await;
            client.until('Z').await;
        }
    }
}

#[tokio::test]
async fn no_kind_of_state_is_met_by_the_next_client() {
    let bench = Bench::new().await;
    let mut kept = None;
    for (number, (kind, sql)) in KINDS.iter().enumerate() {
        let mut one = bench.pooled().await;
        let bytes = match (number % 2 == 0, sql.contains(';')) {
            (true, false) => [parse("", sql), bind("", "", &[]), execute("", 0), sync()].concat(),
            _ => query(sql),
        };
        let answer = one.ask(&bytes).await;
        assert!(tags(&answer).ends_with('Z'), "{kind}: {answer:?}");
        assert_ne!(
            one.value(EVERYTHING).await,
            CLEAN,
            "{kind}: its own client has it"
        );
        leave(one, number % 4).await;
        let mut two = bench.pooled().await;
        let (server, left) = found(&mut two).await;
        assert_eq!(left, CLEAN, "{kind}");
        // Reset, and not closed.
        assert_eq!(
            kept.get_or_insert_with(|| server.clone()),
            &server,
            "{kind}"
        );
        drop(two);
        bench.settled().await;
        assert_eq!(bench.pinned().await, 0.0, "{kind}");
    }
}

#[tokio::test]
async fn without_pinning_state_ends_with_its_transaction() {
    let bench = Bench::with(&[("POOLWATCH_POOL__PINNING", "off")]).await;
    let (mut one, mut two) = (bench.pooled().await, bench.pooled().await);
    for (kind, sql) in KINDS {
        one.ask(&query(sql)).await;
        assert_eq!(bench.pinned().await, 0.0, "{kind}");
        assert_eq!(found(&mut two).await.1, CLEAN, "{kind}");
    }
    // But for parameters that follow their client.
    assert_eq!(one.value("SHOW TimeZone").await, "Asia/Tokyo");
    assert_ne!(two.value("SHOW TimeZone").await, "Asia/Tokyo");
}

#[tokio::test]
async fn a_library_goes_with_its_server() {
    let bench = Bench::new().await;
    let mut one = bench.pooled().await;
    let server = one.value("SELECT pg_backend_pid()").await;
    one.rows("LOAD 'plpgsql'").await;
    assert_eq!(one.value("SELECT pg_backend_pid()").await, server);
    assert!(bench.pinned().await >= 1.0);
    drop(one);
    let mut two = bench.pooled().await;
    assert_ne!(found(&mut two).await, (server, CLEAN.to_owned()));
    assert_eq!(bench.pinned().await, 0.0);
}

#[tokio::test]
async fn what_a_function_call_did_is_not_met_by_the_next_client() {
    let bench = Bench::new().await;
    let mut direct = bench.direct().await;
    let function = direct
        .value("SELECT 'pg_advisory_lock(bigint)'::regprocedure::oid")
        .await;
    let oid: u32 = function.parse().expect("an oid");
    let mut body = oid.to_be_bytes().to_vec();
    // One argument as text, the result too.
    body.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    body.extend_from_slice(b"7");
    body.extend_from_slice(&[0, 0]);
    let mut one = bench.pooled().await;
    let answer = one.ask(&message(b'F', &body)).await;
    assert_eq!(tags(&answer), "VZ", "{answer:?}");
    assert_ne!(one.value(EVERYTHING).await, CLEAN);
    drop(one);
    let mut two = bench.pooled().await;
    assert_eq!(found(&mut two).await.1, CLEAN);
}

#[tokio::test]
async fn always_clears_what_a_function_hides() {
    let bench = Bench::with(&[("POOLWATCH_POOL__SERVER_RESET", "always")]).await;
    let mut direct = bench.direct().await;
    for (number, hidden) in [
        "PERFORM set_config('work_mem', '7MB', false)",
        "PERFORM pg_advisory_lock(9)",
        "CREATE TEMP TABLE hidden_table (a int)",
        "EXECUTE 'LISTEN hidden'",
        "EXECUTE 'PREPARE hidden AS SELECT 1'",
        "EXECUTE 'SET ROLE pg_read_all_data'",
        "PERFORM set_config('custom.mark', 'x', false)",
    ]
    .iter()
    .enumerate()
    {
        let sql = format!(
            "CREATE FUNCTION hidden_{number}() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN {hidden}; END $f$"
        );
        direct.rows(&sql).await;
        let (mut one, mut two) = (bench.pooled().await, bench.pooled().await);
        one.rows(&format!("SELECT hidden_{number}()")).await;
        assert_eq!(bench.pinned().await, 0.0);
        assert_eq!(found(&mut two).await.1, CLEAN, "{hidden}");
        drop((one, two));
        bench.settled().await;
    }
    // It is a limit that is documented: without, nobody sees it.
    let bench = Bench::new().await;
    let mut direct = bench.direct().await;
    direct
        .rows("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT set_config(''work_mem'', ''7MB'', false)'")
        .await;
    let (mut one, mut two) = (bench.pooled().await, bench.pooled().await);
    one.rows("SELECT f()").await;
    assert_eq!(two.value("SHOW work_mem").await, "7MB");
}
