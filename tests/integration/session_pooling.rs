//! `pool.mode = session`: a server is one client's until it leaves, and clean for the next.

use std::net::SocketAddr;
use std::time::Duration;

use crate::bench::Bench;
use crate::support::raw::{Raw, bind, execute, parse, query, sync, tags};
use crate::support::{Postgres, Sidecar, eventually};

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
                (SELECT count(*) FROM pg_locks WHERE locktype LIKE 'advi%' \
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) + \
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

/// A client that keeps its server sees of it what it would see without poolwatch between them.
#[tokio::test]
async fn the_servers_process_id_and_notices_of_its_start_reach_the_client() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let direct = server.connect("postgres").await;
    let old = format!(
        "UPDATE pg_database SET datcollversion = 'old' WHERE datname = '{}'",
        database.name
    );
    direct.batch_execute(&old).await.unwrap();
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &SESSION).await;
    let own = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let expected = Raw::login(own, &database.name).await;
    let shape = |client: &Raw| {
        let kept = client.greeting.iter().filter(|message| message.tag != 'S');
        kept.map(|message| match message.tag {
            'N' => message.text(),
            tag => tag.to_string(),
        })
        .collect::<Vec<_>>()
    };
    let shape_expected = shape(&expected);
    assert!(shape_expected[1].contains("SWARNING"), "{shape_expected:?}");
    // On a server that was opened for it, and on one that another client had before.
    for _ in 0..2 {
        let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
        assert_eq!(shape(&client), shape_expected);
        let key = client
            .greeting
            .iter()
            .find(|message| message.tag == 'K')
            .unwrap();
        let told = i32::from_be_bytes(key.body[..4].try_into().unwrap());
        assert_eq!(
            client.value("SELECT pg_backend_pid()").await,
            told.to_string()
        );
    }
    // Whoever shares servers is not told of one that may not be its own.
    let sidecar = Sidecar::start(&database).await;
    let client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    assert!(
        shape(&client).iter().all(|message| message.len() == 1),
        "{:?}",
        shape(&client)
    );
}

/// PostgreSQL's own error, whether the client asks something at that moment or not.
#[tokio::test]
async fn a_server_that_is_terminated_says_so_itself() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &SESSION).await;
    let direct = server.connect("postgres").await;
    for asked in ["", "BEGIN", "SELECT pg_sleep(70)"] {
        let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
        let pid: i32 = client
            .value("SELECT pg_backend_pid()")
            .await
            .parse()
            .unwrap();
        let runs = match asked {
            "" => "idle",
            "BEGIN" => "idle in transaction",
            _ => "active",
        };
        if !asked.is_empty() {
            client.send(&query(asked)).await;
        }
        let state = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = $2";
        eventually(Duration::from_secs(30), || async {
            direct.query_opt(state, &[&pid, &runs]).await.unwrap()
        })
        .await;
        let terminate = "SELECT pg_terminate_backend($1)";
        direct.query_one(terminate, &[&pid]).await.unwrap();
        let told = client.until('E').await;
        let error = told.last().unwrap();
        assert_eq!(
            (error.code(), error.field(b'V')),
            ("57P01".to_owned(), "FATAL".to_owned())
        );
        let text = "terminating connection due to administrator command";
        assert_eq!(error.field(b'M'), text);
        assert!(
            !error.field(b'R').is_empty(),
            "not PostgreSQL's own: {}",
            error.text()
        );
        assert!(client.drain().await);
    }
}
