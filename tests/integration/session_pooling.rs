//! `pool.mode = session`: a server is one client's until it leaves, and clean for the next.

use std::time::Duration;

use crate::bench::Bench;
use crate::support::eventually;
use crate::support::raw::{bind, execute, parse, sync, tags};

const SESSION: [(&str, &str); 1] = [("POOLWATCH_POOL__MODE", "session")];

#[tokio::test]
async fn state_lasts_as_long_as_its_client_and_no_longer() {
    let bench = Bench::with(&SESSION).await;
    let mut one = bench.pooled().await;
    one.rows("SET work_mem = '5MB'; CREATE TEMP TABLE mine AS SELECT 42 AS a; SELECT pg_advisory_lock(1)")
        .await;
    let server = one.value("SELECT pg_backend_pid()").await;
    let parsed = one
        .ask(&[parse("s", "SELECT a FROM mine"), sync()].concat())
        .await;
    assert_eq!(tags(&parsed), "1Z");
    for _ in 0..3 {
        assert_eq!(one.value("SHOW work_mem").await, "5MB");
        assert_eq!(one.value("SELECT pg_backend_pid()").await, server);
        let answer = one
            .ask(&[bind("", "s", &[]), execute("", 0), sync()].concat())
            .await;
        assert_eq!(tags(&answer), "2DCZ");
        assert_eq!(answer[1].row(), ["42"]);
    }
    drop(one);
    bench.settled().await;
    let mut two = bench.pooled().await;
    assert_eq!(
        two.value("SELECT pg_backend_pid()").await,
        server,
        "the same connection"
    );
    assert_eq!(two.value("SHOW work_mem").await, "4MB");
    let left = "SELECT (SELECT count(*) FROM pg_class WHERE relpersistence = 't') + \
                (SELECT count(*) FROM pg_locks WHERE locktype LIKE 'advi%') + \
                (SELECT count(*) FROM pg_prepared_statements)";
    assert_eq!(two.value(left).await, "0");
    assert_eq!(
        bench.pinned().await,
        1.0,
        "session mode is a reason of its own"
    );
}

#[tokio::test]
async fn a_server_stays_with_its_client_while_it_is_idle() {
    let bench = Bench::with(&SESSION).await;
    let mut one = bench.pooled().await;
    assert_eq!(one.value("SELECT 1").await, "1");
    let mut two = crate::support::raw::Raw::dial(bench.sidecar.proxy_addr()).await;
    two.send(&crate::support::raw::startup(
        196_608,
        &bench.database.name,
        &[],
    ))
    .await;
    eventually(Duration::from_secs(20), || async {
        let scrape = bench.sidecar.scrape().await;
        scrape.sum("db_client_connection_pending_requests", &[]) == 1.0
    })
    .await;
    assert_eq!(one.value("SELECT 2").await, "2");
    drop(one);
    let greeting = two.greeted().await;
    assert_eq!(
        greeting.last().map(|message| message.tag),
        Some('Z'),
        "{greeting:?}"
    );
    assert_eq!(two.value("SELECT 3").await, "3");
}

#[tokio::test]
async fn an_open_transaction_is_rolled_back_when_its_client_leaves() {
    let bench = Bench::with(&SESSION).await;
    let mut direct = bench.direct().await;
    direct.rows("CREATE TABLE o (a int)").await;
    let mut one = bench.pooled().await;
    one.rows("BEGIN; INSERT INTO o VALUES (1)").await;
    drop(one);
    let mut two = bench.pooled().await;
    assert_eq!(two.value("SELECT count(*) FROM o").await, "0");
    let open = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(direct.value(open).await, "0");
}
