//! Cancel requests hit the query that was meant, or nothing; what cannot be told apart is not used again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::RngExt as _;

use crate::figures::Figures;
use crate::support::raw::{Message, Raw, flush, packet, query, run, tags};
use crate::support::{Database, Exit, Faults, Postgres, Sidecar, Trouble, eventually};

const LIMIT: Duration = Duration::from_secs(30);
const ONE: [(&str, &str); 2] = [
    ("POOLWATCH_POOL__SIZE", "1"),
    ("POOLWATCH_POOL__MAX_OVERFLOW", "0"),
];

/// What BackendKeyData said: the process id and the secret.
fn key(client: &Raw) -> Vec<u8> {
    let key = client.greeting.iter().find(|message| message.tag == 'K');
    key.expect("BackendKeyData").body.clone()
}

/// Sends a cancel request and waits until it was dealt with.
async fn cancel(address: SocketAddr, key: &[u8]) {
    let mut request = Raw::dial(address).await;
    let code = 80_877_102_u32.to_be_bytes();
    request.send(&packet(&[&code, key].concat())).await;
    assert!(request.drain().await);
}

fn failure(answer: &[Message]) -> Option<String> {
    let error = answer.iter().find(|message| message.tag == 'E');
    error.map(Message::code)
}

/// Waits until so many queries that contain this text run.
async fn running(database: &Database, text: &str, count: i64) {
    let watcher = database.connect().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND position($1 in query) > 0 \
               AND datname = current_database() AND pid <> pg_backend_pid()";
    eventually(LIMIT, || async {
        let row = watcher.query_one(sql, &[&text]).await;
        let found: i64 = row.expect("pg_stat_activity").get(0);
        if found == count {
            Ok(())
        } else {
            Err(format!("{found} run {text}"))
        }
    })
    .await;
}

/// A thousand rounds: two clients on one server, the first one's query cancelled at a random moment, the second one's
/// sent as soon as the server is free. A request that PostgreSQL receives late would hit the second.
#[tokio::test]
async fn a_cancel_never_hits_another_clients_query() {
    // On one thread and on two, which take turns with the sessions.
    tokio::join!(race("1"), race("2"));
}

async fn race(threads: &str) {
    let database = Postgres::shared().await.database().await;
    let mut settings = ONE.to_vec();
    settings.push(("POOLWATCH_THREADS__DATA", threads));
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &settings).await;
    let address = sidecar.proxy_addr();
    let mut first = Raw::login(address, &database.name).await;
    let mut second = Raw::login(address, &database.name).await;
    let key = key(&first);
    let (mut hit, mut missed) = (0, 0);
    for round in 0..1_000 {
        let (late, length) = {
            let mut random = rand::rng();
            (
                random.random_range(0..5_000),
                f64::from(random.random_range(0..12_000)) / 1e6,
            )
        };
        let asked = query(&format!("SELECT pg_sleep({length})"));
        let cancelling = async {
            // Spread over the life of the query and what comes after it.
            tokio::time::sleep(Duration::from_micros(late)).await;
            cancel(address, &key).await;
        };
        let other = async {
            let mut answers = Vec::new();
            for _ in 0..3 {
                answers.push(second.ask(&query("SELECT pg_sleep(0.001)")).await);
            }
            answers
        };
        let (mine, others, ()) = tokio::join!(first.ask(&asked), other, cancelling);
        for answer in others {
            assert_eq!(tags(&answer), "TDCZ", "{round}: {answer:?}");
        }
        // The end of the request's connection says that it was sent: what comes later is safe.
        let after = first.ask(&query("SELECT 1")).await;
        assert_eq!(tags(&after), "TDCZ", "{round}: {after:?}");
        match failure(&mine).as_deref() {
            Some("57014") => hit += 1,
            None => missed += 1,
            Some(other) => panic!("{round}: {other}"),
        }
    }
    // Both happen, or the moments were not spread.
    assert!(hit > 20 && missed > 20, "{hit} hit, {missed} missed");
    Figures::settled(&sidecar, &database, 0).await;
    let bugs = sidecar.scrape().await.sum("poolwatch_pool_bugs_total", &[]);
    assert_eq!(bugs, 0.0);
}

/// A request that poolwatch gave up on may still arrive: its server serves nobody else.
#[tokio::test]
async fn a_server_that_a_late_cancel_may_reach_is_not_used_again() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let mut settings = ONE.to_vec();
    settings.push(("POOLWATCH_UPSTREAM__CONNECT_TIMEOUT", "400ms"));
    let url = faults.through(&database.url);
    let sidecar = Sidecar::start_with(&database, &url, &[], &settings).await;
    let address = sidecar.proxy_addr();
    let mut first = Raw::login(address, &database.name).await;
    let before = first.value("SELECT pg_backend_pid()").await;
    first.send(&query("SELECT pg_sleep(1.25)")).await;
    running(&database, "pg_sleep(1.25)", 1).await;
    faults.set(Trouble::BlackHole);
    let started = Instant::now();
    cancel(address, &key(&first)).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(400), "given up: {took:?}");
    faults.set(Trouble::None);
    assert_eq!(first.until('Z').await.last().map(|m| m.tag), Some('Z'));
    let mut second = Raw::login(address, &database.name).await;
    assert_ne!(second.value("SELECT pg_backend_pid()").await, before);
    Figures::settled(&sidecar, &database, 0).await;
}

/// The requests of a stop go out together: one after the other they would not be done in time.
#[tokio::test]
async fn at_the_deadline_all_are_cancelled_at_once() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let settings = [("POOLWATCH_SHUTDOWN__TIMEOUT", "200ms")];
    let url = faults.through(&database.url);
    let mut sidecar = Sidecar::start_with(&database, &url, &[], &settings).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
        client.send(&query("SELECT pg_sleep(64)")).await;
        clients.push(client);
    }
    running(&database, "pg_sleep(64)", 8).await;
    // Three pieces each way make a request: eight in a row would take five seconds, and two are there.
    faults.set(Trouble::Delay(Duration::from_millis(200)));
    sidecar.signal(Signal::SIGTERM);
    for client in &mut clients {
        let told = client.until('E').await;
        assert_eq!(failure(&told).as_deref(), Some("57014"));
    }
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(1) });
}

#[tokio::test]
async fn what_runs_in_a_vanished_clients_open_batch_is_cancelled() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &ONE).await;
    let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    let batch = [run("SELECT pg_sleep(65)", &[]), flush()].concat();
    client.send(&batch).await;
    running(&database, "pg_sleep(65)", 1).await;
    drop(client);
    running(&database, "pg_sleep(65)", 0).await;
    let mut next = Raw::login(sidecar.proxy_addr(), &database.name).await;
    assert_eq!(next.value("SELECT 1").await, "1");
    Figures::settled(&sidecar, &database, 0).await;
}

/// A client that vanishes under its query: cancelled, rolled back, and the server goes on to the next.
#[tokio::test]
async fn a_vanished_clients_server_is_used_again() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &ONE).await;
    let mut next = Raw::login(sidecar.proxy_addr(), &database.name).await;
    let before = next.value("SELECT pg_backend_pid()").await;
    let direct = database.connect().await;
    direct
        .batch_execute("CREATE TABLE t (n int)")
        .await
        .unwrap();
    drop(direct);
    for (number, begin) in ["BEGIN; INSERT INTO t VALUES (1);", ""].iter().enumerate() {
        let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
        let text = format!("pg_sleep(66.{number})");
        client.send(&query(&format!("{begin} SELECT {text}"))).await;
        running(&database, &text, 1).await;
        let started = Instant::now();
        drop(client);
        assert_eq!(next.value("SELECT count(*) FROM t").await, "0");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(next.value("SELECT pg_backend_pid()").await, before);
    }
    let end = Figures::settled(&sidecar, &database, 0).await;
    assert_eq!((end.opened, end.closed), (1.0, 0.0), "{end:?}");
}

/// What the client gave up by itself is no fault of the pool's.
#[tokio::test]
async fn a_cancelled_wait_is_counted_as_such() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &ONE).await;
    let address = sidecar.proxy_addr();
    let mut holder = Raw::login(address, &database.name).await;
    let mut waiter = Raw::login(address, &database.name).await;
    holder.rows("BEGIN").await;
    waiter.send(&query("SELECT 1")).await;
    let waiting = || async { Figures::now(&sidecar).await.pending == 1.0 };
    eventually(LIMIT, waiting).await;
    cancel(address, &key(&waiter)).await;
    let told = waiter.until('Z').await;
    assert_eq!(failure(&told).as_deref(), Some("57014"));
    let scrape = sidecar.scrape().await;
    let errors = |class| scrape.sum("poolwatch_errors_total", &[("class", class)]);
    assert_eq!((errors("cancelled"), errors("pool_timeout")), (1.0, 0.0));
    holder.rows("COMMIT").await;
    assert_eq!(waiter.value("SELECT 2").await, "2");
    Figures::settled(&sidecar, &database, 0).await;
}

/// From the client's view its query runs from the moment it was sent: also while its server is given its parameters.
#[tokio::test]
async fn a_cancel_while_the_server_is_made_ready_counts_too() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let mut settings = ONE.to_vec();
    settings.push(("POOLWATCH_POOL__PRE_PING_AFTER", "1h"));
    let url = faults.through(&database.url);
    let sidecar = Sidecar::start_with(&database, &url, &[], &settings).await;
    let address = sidecar.proxy_addr();
    let mut clients = Vec::new();
    for name in ["one", "two"] {
        let parameters = [("application_name", name)];
        let mut client = Raw::login_with(address, &database.name, &parameters).await;
        assert_eq!(client.value("SHOW application_name").await, name);
        clients.push(client);
    }
    let pid = clients[1].value("SELECT pg_backend_pid()").await;
    // The server has the second one's name; the first one's is half a second away, and then its query.
    faults.set(Trouble::Delay(Duration::from_millis(250)));
    clients[0].send(&query("SELECT pg_sleep(71)")).await;
    eventually(LIMIT, || async { Figures::now(&sidecar).await.used == 1.0 }).await;
    cancel(address, &key(&clients[0])).await;
    let told = clients[0].until('Z').await;
    assert_eq!(failure(&told).as_deref(), Some("57014"));
    // One that comes while nothing is asked is for nothing.
    cancel(address, &key(&clients[0])).await;
    faults.set(Trouble::None);
    assert_eq!(clients[0].value("SELECT pg_backend_pid()").await, pid);
    assert_eq!(clients[1].value("SHOW application_name").await, "two");
    Figures::settled(&sidecar, &database, 0).await;
}
