//! The end of the process: transactions that began are ended, everybody is told, the last scrape is answered.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_postgres::{Client, NoTls};

use crate::figures::Figures;
use crate::support::raw::{Message, Raw, flush, parse, query};
use crate::support::{Database, Exit, Pgbench, Postgres, Sidecar, eventually};

const LIMIT: Duration = Duration::from_secs(30);

async fn with_timeout(database: &Database, timeout: &str) -> Sidecar {
    let environment = [("POOLWATCH_SHUTDOWN__TIMEOUT", timeout)];
    Sidecar::start_with(database, &database.url, &[], &environment).await
}

async fn table(database: &Database) {
    let direct = database.connect().await;
    let created = direct.batch_execute("CREATE TABLE t (n int)").await;
    created.expect("CREATE TABLE");
}

async fn rows(database: &Database) -> i64 {
    let direct = database.connect().await;
    let row = direct.query_one("SELECT count(*) FROM t", &[]).await;
    row.expect("a count").get(0)
}

async fn draining(sidecar: &Sidecar) {
    // Not that PostgreSQL was not heard of yet: two signals before the first is taken are one.
    eventually(LIMIT, || async {
        let (status, reasons) = sidecar.get("/readyz").await;
        status == 503 && reasons.contains("stopping")
    })
    .await;
}

/// A client in a transaction.
async fn holder(sidecar: &Sidecar) -> Client {
    let client = sidecar.connect().await;
    let began = client
        .batch_execute("BEGIN; INSERT INTO t VALUES (1)")
        .await;
    began.expect("a transaction");
    client
}

#[tokio::test]
async fn sigterm_under_load_loses_no_transaction_that_had_begun() {
    let database = Postgres::shared().await.database().await;
    table(&database).await;
    let environment = [
        ("POOLWATCH_POOL__SIZE", "4"),
        ("POOLWATCH_POOL__MAX_OVERFLOW", "2"),
    ];
    let mut sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
    // More clients than connections: some wait while it stops.
    let script = "BEGIN;\nINSERT INTO t VALUES (1);\nSELECT pg_sleep(0.005);\nINSERT INTO t VALUES (2);\nCOMMIT;\n";
    let arguments = ["-c", "16", "-j", "2", "-T", "60"];
    let stopping = async {
        let busy = || async { Figures::now(&sidecar).await.transactions > 100.0 };
        eventually(LIMIT, busy).await;
        sidecar.signal(Signal::SIGTERM);
    };
    let load = Pgbench::run(&database, &sidecar, script, &arguments);
    let (ran, ()) = tokio::join!(load, stopping);
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(0) });
    let told = ran
        .errors
        .matches("terminating connection due to administrator command");
    assert_eq!(told.count(), 16, "{}", ran.errors);
    // Nobody was turned away but between transactions: each was told so in answer to BEGIN, the first command.
    for line in ran
        .errors
        .lines()
        .filter(|line| line.contains("aborted in command"))
    {
        assert!(line.contains("aborted in command 0"), "{line}");
    }
    assert!(ran.transactions > 100);
    assert_eq!(rows(&database).await, i64::from(ran.transactions) * 2);
    eventually(LIMIT, || async { database.sessions().await == 0 }).await;
}

#[tokio::test]
async fn a_drain_is_seen_by_probes_scrapes_and_idle_clients() {
    let database = Postgres::shared().await.database().await;
    table(&database).await;
    let mut sidecar = Sidecar::start(&database).await;
    eventually(LIMIT, || async { sidecar.get("/readyz").await.0 == 200 }).await;
    let (_idle, connection) = sidecar.client_config().connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let holder = holder(&sidecar).await;
    sidecar.signal(Signal::SIGTERM);
    draining(&sidecar).await;
    let told = tokio::time::timeout(LIMIT, connection)
        .await
        .expect("told in time");
    let told = told.unwrap().unwrap_err();
    let told = told.as_db_error().expect("an error of PostgreSQL's");
    assert_eq!((told.code().code(), told.severity()), ("57P01", "FATAL"));
    let (_, reasons) = sidecar.get("/readyz").await;
    assert!(reasons.contains("stopping"), "{reasons}");
    assert_eq!(sidecar.get("/healthz").await.0, 200);
    let scrape = sidecar.scrape().await;
    assert_eq!(Figures::of(&scrape).used, 1.0);
    assert_eq!(scrape.sum("poolwatch_clients", &[]), 1.0);
    let told = [("class", "shutdown"), ("sqlstate_class", "57")];
    assert_eq!(scrape.value("poolwatch_errors_total", &told), 1.0);
    eventually(LIMIT, || async {
        sidecar.client_config().connect(NoTls).await.is_err()
    })
    .await;
    // The transaction that had begun goes on, and is committed.
    holder
        .batch_execute("INSERT INTO t VALUES (2)")
        .await
        .unwrap();
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(0) });
    assert_eq!(rows(&database).await, 2);
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once() {
    let database = Postgres::shared().await.database().await;
    table(&database).await;
    let mut sidecar = Sidecar::start(&database).await;
    let _holder = holder(&sidecar).await;
    sidecar.signal(Signal::SIGTERM);
    draining(&sidecar).await;
    let started = Instant::now();
    sidecar.signal(Signal::SIGTERM);
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(1) });
    let took = started.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "{took:?} of shutdown.timeout's 30 s"
    );
    eventually(LIMIT, || async { database.sessions().await == 0 }).await;
    assert_eq!(rows(&database).await, 0);
}

#[tokio::test]
async fn at_the_deadline_queries_are_cancelled() {
    let database = Postgres::shared().await.database().await;
    table(&database).await;
    let mut sidecar = with_timeout(&database, "300ms").await;
    let (running, idle) = (holder(&sidecar).await, holder(&sidecar).await);
    let asked = async {
        let cancelled = running.batch_execute("SELECT pg_sleep(63)").await;
        cancelled
            .unwrap_err()
            .code()
            .expect("a code")
            .code()
            .to_owned()
    };
    let stopping = async {
        let watcher = database.connect().await;
        let asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
        eventually(LIMIT, || async {
            watcher.query_opt(asleep, &[]).await.unwrap()
        })
        .await;
        sidecar.signal(Signal::SIGTERM);
        Instant::now()
    };
    let (code, signalled) = tokio::join!(asked, stopping);
    assert_eq!(code, "57014");
    // Work was cut off, and the exit code says so.
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(1) });
    assert!(signalled.elapsed() < Duration::from_secs(15));
    drop(idle);
    assert_eq!(rows(&database).await, 0);
    eventually(LIMIT, || async { database.sessions().await == 0 }).await;
}

#[tokio::test]
async fn at_the_deadline_a_client_in_a_transaction_is_told_why_it_ends() {
    let database = Postgres::shared().await.database().await;
    let mut sidecar = with_timeout(&database, "200ms").await;
    let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    client.rows("BEGIN").await;
    sidecar.signal(Signal::SIGTERM);
    let told = client.until('E').await;
    assert_eq!(told.last().map(Message::code).as_deref(), Some("57P01"));
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(1) });
}

#[tokio::test]
async fn a_client_that_keeps_its_server_from_the_start_is_sent_away_too() {
    let database = Postgres::shared().await.database().await;
    let environment = [("POOLWATCH_POOL__MODE", "session")];
    let mut sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
    let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    sidecar.signal(Signal::SIGTERM);
    let told = client.until('E').await;
    assert_eq!(told.last().map(Message::code).as_deref(), Some("57P01"));
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(0) });
}

#[tokio::test]
async fn a_connection_that_never_logs_in_is_not_waited_for() {
    let database = Postgres::shared().await.database().await;
    let mut sidecar = Sidecar::start(&database).await;
    let mut silent = Raw::dial(sidecar.proxy_addr()).await;
    silent.send(&[0, 0]).await;
    sidecar.signal(Signal::SIGTERM);
    assert!(silent.drain().await);
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(0) });
}

#[tokio::test]
async fn at_the_deadline_half_messages_and_open_batches_are_told_too() {
    let database = Postgres::shared().await.database().await;
    let mut sidecar = with_timeout(&database, "300ms").await;
    let mut clients = Vec::new();
    let half = query("SELECT 'never sent whole'");
    for bytes in [
        half[..9].to_vec(),
        [parse("", "SELECT 1"), flush()].concat(),
    ] {
        let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
        client.send(&bytes).await;
        clients.push(client);
    }
    assert_eq!(clients[1].take(1).await[0].tag, '1');
    sidecar.signal(Signal::SIGTERM);
    for client in &mut clients {
        let told = client.until('E').await;
        assert_eq!(told.last().map(Message::code).as_deref(), Some("57P01"));
    }
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(1) });
}
