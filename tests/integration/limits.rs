//! The limits: each is told clearly, counted, and costs those it is for and nobody else.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use poolwatch::ops::postgres::{Mode, Options};

use crate::bench::ONE;
use crate::figures::Figures;
use crate::support::raw::{Message, Raw, query, run, seen, startup, sync, tags};
use crate::support::{Exit, Faults, Postgres, Scrape, Sidecar, Trouble, eventually};

const LIMIT: Duration = Duration::from_secs(30);
const PROTOCOL: u32 = 196_608;

/// The pools that have series, poolwatch's own left out.
fn pools(scrape: &Scrape) -> Vec<String> {
    let pools = scrape.by("poolwatch_pool_size", "db_client_connection_pool_name");
    pools.into_keys().filter(|name| name != "control").collect()
}

/// A login that is refused, and the code it is refused with.
async fn refused(sidecar: &Sidecar, database: &str, parameters: &[(&str, &str)]) -> String {
    let mut client = Raw::dial(sidecar.proxy_addr()).await;
    client.send(&startup(PROTOCOL, database, parameters)).await;
    let greeting = client.greeted().await;
    greeting.last().map(Message::code).unwrap_or_default()
}

/// A pool is forgotten where PostgreSQL refused its login, and only there.
#[tokio::test]
async fn a_pool_is_forgotten_when_its_login_is_refused_and_kept_in_an_outage() {
    let mut server = Postgres::own(Options::default()).await;
    let database = server.database().await;
    let sidecar = Sidecar::start(&database).await;
    for parameters in [&[][..], &[("replication", "database")]] {
        let code = refused(&sidecar, "no_such_database", parameters).await;
        assert_eq!(code, "3D000");
        assert_eq!(pools(&sidecar.scrape().await), Vec::<String>::new());
    }
    let client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    drop(client);
    let before = pools(&sidecar.scrape().await);
    assert_eq!(before.len(), 1);
    server.stop(Mode::Fast).await.unwrap();
    for parameters in [
        &[("application_name", "another")][..],
        &[("replication", "database")],
    ] {
        assert_eq!(refused(&sidecar, &database.name, parameters).await, "08001");
        assert_eq!(pools(&sidecar.scrape().await), before);
    }
}

/// A login that runs out of time proves no database: it leaves no pool behind that it made.
#[tokio::test]
async fn a_login_that_times_out_leaves_no_pool() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let settings = [("POOLWATCH_LISTEN__LOGIN_TIMEOUT", "400ms")];
    let url = faults.through(&database.url);
    let sidecar = Sidecar::start_with(&database, &url, &[], &settings).await;
    let client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    faults.set(Trouble::BlackHole);
    faults.close_all();
    for (name, parameters) in [
        ("no_such_database", &[][..]),
        ("no_such_database", &[("replication", "database")]),
        (&database.name, &[("application_name", "another")]),
    ] {
        assert_eq!(refused(&sidecar, name, parameters).await, "");
        let left = pools(&sidecar.scrape().await);
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].ends_with(&database.name), "{left:?}");
    }
    let timeouts = [("outcome", "timeout")];
    let scrape = sidecar.scrape().await;
    assert_eq!(scrape.sum("poolwatch_logins_total", &timeouts), 3.0);
    drop(client);
}

#[tokio::test]
async fn the_shorter_limit_of_a_connect_counts() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let url = faults.through(&database.url);
    let with = |more: &str| match url.contains('?') {
        true => format!("{url}&{more}"),
        false => format!("{url}?{more}"),
    };
    faults.set(Trouble::BlackHole);
    for (url, setting) in [
        (with("connect_timeout=1"), "20s"),
        (with("connect_timeout=20"), "1s"),
    ] {
        let settings = [("POOLWATCH_UPSTREAM__CONNECT_TIMEOUT", setting)];
        let sidecar = Sidecar::start_with(&database, &url, &[], &settings).await;
        let started = Instant::now();
        assert_eq!(refused(&sidecar, &database.name, &[]).await, "08001");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

/// What a client was sent and does not read is not waited for when everything stops.
#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_the_stop() {
    let database = Postgres::shared().await.database().await;
    let mut sidecar = Sidecar::start(&database).await;
    let client = fill(&sidecar, &database.name).await;
    let started = Instant::now();
    sidecar.signal(Signal::SIGTERM);
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(0) });
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(client);
}

/// One that does not read is idle as well, though it cannot be told.
#[tokio::test]
async fn an_idle_client_that_does_not_read_is_sent_away() {
    let database = Postgres::shared().await.database().await;
    let settings = [("POOLWATCH_LIMITS__IDLE_CLIENT", "3s")];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &settings).await;
    let mut client = fill(&sidecar, &database.name).await;
    eventually(LIMIT, || async {
        let scrape = sidecar.scrape().await;
        rejections(&scrape, "idle_client") == 1.0 && scrape.sum("poolwatch_clients", &[]) == 0.0
    })
    .await;
    assert!(client.drain().await);
}

/// A client whose last answer cannot be sent, because it reads nothing: every buffer between is full, and the server is
/// back in its pool.
async fn fill(sidecar: &Sidecar, database: &str) -> Raw {
    let mut client = Raw::login_narrow(sidecar.proxy_addr(), database).await;
    for number in 1.. {
        client.send(&query("SELECT repeat('x', 5000)")).await;
        let answered = || async { Figures::now(sidecar).await.transactions == f64::from(number) };
        let limit = Duration::from_secs(1);
        let waited = tokio::time::timeout(limit, eventually(LIMIT, answered)).await;
        if waited.is_err() {
            break;
        }
    }
    assert_eq!(Figures::now(sidecar).await.used, 0.0);
    client
}

fn rejections(scrape: &Scrape, limit: &str) -> f64 {
    scrape.value("poolwatch_limit_rejections_total", &[("limit", limit)])
}

#[track_caller]
fn failure(answer: &[Message]) -> (String, String) {
    let error = answer.iter().find(|message| message.tag == 'E');
    let error = error.unwrap_or_else(|| panic!("no error: {answer:?}"));
    assert!(
        error.field(b'H').contains("limits."),
        "no hint: {}",
        error.text()
    );
    (error.field(b'V'), error.code())
}

fn of(severity: &str, code: &str) -> (String, String) {
    (severity.to_owned(), code.to_owned())
}

const SHORT: &str = "300ms";
const AT_LEAST: Duration = Duration::from_millis(300);

#[tokio::test]
async fn one_user_may_have_so_many_clients() {
    let database = Postgres::shared().await.database().await;
    let settings = [("POOLWATCH_LIMITS__CLIENTS_PER_USER", "1")];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &settings).await;
    let mut first = Raw::login(sidecar.proxy_addr(), &database.name).await;
    let mut second = Raw::dial(sidecar.proxy_addr()).await;
    second.send(&startup(PROTOCOL, &database.name, &[])).await;
    assert_eq!(failure(&second.greeted().await), of("FATAL", "53300"));
    assert_eq!(rejections(&sidecar.scrape().await, "clients_per_user"), 1.0);
    assert_eq!(first.value("SELECT 1").await, "1");
    drop(first);
    eventually(LIMIT, || async {
        refused(&sidecar, &database.name, &[]).await.is_empty()
    })
    .await;
}

/// In either way of pooling, with and without a server of its own.
#[tokio::test]
async fn an_idle_client_is_sent_away() {
    let database = Postgres::shared().await.database().await;
    for mode in ["transaction", "session"] {
        let settings = [
            ("POOLWATCH_LIMITS__IDLE_CLIENT", SHORT),
            ("POOLWATCH_POOL__MODE", mode),
        ];
        let sidecar = Sidecar::start_with(&database, &database.url, &[], &settings).await;
        let mut busy = Raw::login(sidecar.proxy_addr(), &database.name).await;
        let mut idle = Raw::login(sidecar.proxy_addr(), &database.name).await;
        let mut pinned = Raw::login(sidecar.proxy_addr(), &database.name).await;
        pinned.rows("LISTEN x").await;
        let started = Instant::now();
        // Who asks, or is in a transaction, is not idle.
        busy.rows("BEGIN").await;
        assert_eq!(failure(&idle.until('E').await), of("FATAL", "57P05"));
        assert!(started.elapsed() >= AT_LEAST / 2);
        assert_eq!(failure(&pinned.until('E').await), of("FATAL", "57P05"));
        assert!(started.elapsed() >= AT_LEAST && idle.drain().await);
        busy.rows("SELECT pg_sleep(0.7); COMMIT").await;
        assert_eq!(failure(&busy.until('E').await), of("FATAL", "57P05"));
        let scrape = sidecar.scrape().await;
        assert_eq!(rejections(&scrape, "idle_client"), 3.0);
        let errors = [("class", "limit"), ("sqlstate_class", "57")];
        assert_eq!(scrape.value("poolwatch_errors_total", &errors), 3.0);
        Figures::settled(&sidecar, &database, 0).await;
    }
}

#[tokio::test]
async fn an_idle_transaction_is_rolled_back_and_its_server_used_again() {
    let database = Postgres::shared().await.database().await;
    let direct = database.connect().await;
    direct
        .batch_execute("CREATE TABLE t (n int)")
        .await
        .unwrap();
    drop(direct);
    let mut settings = ONE.to_vec();
    settings.push(("POOLWATCH_LIMITS__IDLE_IN_TRANSACTION", SHORT));
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &settings).await;
    let mut holder = Raw::login(sidecar.proxy_addr(), &database.name).await;
    let mut next = Raw::login(sidecar.proxy_addr(), &database.name).await;
    let before = next.value("SELECT pg_backend_pid()").await;
    // As long as it works it may.
    holder
        .rows("BEGIN; INSERT INTO t VALUES (1); SELECT pg_sleep(0.7)")
        .await;
    let started = Instant::now();
    assert_eq!(next.value("SELECT count(*) FROM t").await, "0");
    assert!(started.elapsed() >= AT_LEAST);
    assert_eq!(failure(&holder.until('E').await), of("FATAL", "25P03"));
    assert_eq!(next.value("SELECT pg_backend_pid()").await, before);
    assert_eq!(
        rejections(&sidecar.scrape().await, "idle_in_transaction"),
        1.0
    );
    Figures::settled(&sidecar, &database, 0).await;
}

#[tokio::test]
async fn a_transaction_may_last_so_long_whatever_it_does() {
    let database = Postgres::shared().await.database().await;
    let settings = [("POOLWATCH_LIMITS__TRANSACTION_TIME", "600ms")];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &settings).await;
    let mut busy = Raw::login(sidecar.proxy_addr(), &database.name).await;
    let mut stuck = Raw::login(sidecar.proxy_addr(), &database.name).await;
    // Short transactions one behind the other are none that is long.
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1500) {
        busy.rows("SELECT 1").await;
    }
    let pipelined = query("SELECT pg_sleep(0.1)").repeat(15);
    busy.send(&pipelined).await;
    for _ in 0..15 {
        assert_eq!(tags(&busy.until('Z').await), "TDCZ");
    }
    let started = Instant::now();
    busy.rows("BEGIN").await;
    let failed = loop {
        let answer = busy.ask(&query("SELECT pg_sleep(0.01)")).await;
        if tags(&answer) != "TDCZ" {
            break answer;
        }
    };
    assert_eq!(failure(&failed), of("FATAL", "25P04"));
    assert!(started.elapsed() >= Duration::from_millis(600));
    // In the middle of a statement too, which is cancelled.
    stuck.send(&query("SELECT pg_sleep(67)")).await;
    assert_eq!(failure(&stuck.until('E').await), of("FATAL", "25P04"));
    assert_eq!(rejections(&sidecar.scrape().await, "transaction_time"), 2.0);
    Figures::settled(&sidecar, &database, 0).await;
}

#[tokio::test]
async fn a_query_may_run_so_long_and_its_session_goes_on() {
    let database = Postgres::shared().await.database().await;
    let mut settings = ONE.to_vec();
    settings.push(("POOLWATCH_LIMITS__QUERY_TIME", "500ms"));
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &settings).await;
    let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    for asked in [
        query("SELECT pg_sleep(68)"),
        [run("SELECT pg_sleep(68)", &[]), sync()].concat(),
    ] {
        let started = Instant::now();
        let answer = client.ask(&asked).await;
        assert_eq!(failure(&answer), of("ERROR", "57014"), "{answer:?}");
        assert!(started.elapsed() >= Duration::from_millis(500));
        assert_eq!(client.value("SELECT 1").await, "1");
    }
    // Many short ones are none that is long, also where they come in one piece.
    client.send(&query("SELECT pg_sleep(0.1)").repeat(15)).await;
    for _ in 0..15 {
        assert_eq!(tags(&client.until('Z').await), "TDCZ");
    }
    // Waiting in a transaction is not running; nor is the wait for a server.
    client.rows("BEGIN").await;
    let mut waiter = Raw::login(sidecar.proxy_addr(), &database.name).await;
    waiter.send(&query("SELECT 2")).await;
    let waiting = || async { Figures::now(&sidecar).await.pending == 1.0 };
    eventually(LIMIT, waiting).await;
    {
        // Three limits, by PostgreSQL's own clock.
        let direct = database.connect().await;
        direct.batch_execute("SELECT pg_sleep(1.5)").await.unwrap();
    }
    client.rows("COMMIT").await;
    assert_eq!(tags(&waiter.until('Z').await), "TDCZ");
    assert_eq!(rejections(&sidecar.scrape().await, "query_time"), 2.0);
    drop((client, waiter));
    Figures::settled(&sidecar, &database, 0).await;
}

#[tokio::test]
async fn a_message_may_be_so_long() {
    let database = Postgres::shared().await.database().await;
    let settings = [("POOLWATCH_LIMITS__MESSAGE_SIZE", "100000")];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &settings).await;
    let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    let of_length = |length: usize| query(&format!("SELECT '{}'", "x".repeat(length - 15)));
    assert_eq!(of_length(100_000).len(), 100_000);
    assert_eq!(tags(&client.ask(&of_length(100_000)).await), "TDCZ");
    let _ = client.try_send(&of_length(100_001)).await;
    assert_eq!(failure(&client.until('E').await), of("FATAL", "54000"));
    assert_eq!(rejections(&sidecar.scrape().await, "message_size"), 1.0);
    Figures::settled(&sidecar, &database, 0).await;
}

#[tokio::test]
async fn a_pool_without_clients_goes_and_comes_again() {
    let server = Postgres::shared().await;
    let (kept, gone) = (server.database().await, server.database().await);
    let settings = [("POOLWATCH_LIMITS__IDLE_POOL", SHORT)];
    let sidecar = Sidecar::start_with(&kept, &kept.url, &[], &settings).await;
    // A client that asks nothing is one all the same.
    let mut client = Raw::login(sidecar.proxy_addr(), &kept.name).await;
    client.value("SELECT 1").await;
    for _ in 0..2 {
        let mut other = Raw::login(sidecar.proxy_addr(), &gone.name).await;
        other.value("SELECT 1").await;
        assert_eq!(pools(&sidecar.scrape().await).len(), 2);
        let started = Instant::now();
        drop(other);
        eventually(LIMIT, || async {
            let left = pools(&sidecar.scrape().await);
            left.len() == 1 && left[0].ends_with(&kept.name)
        })
        .await;
        assert!(started.elapsed() >= AT_LEAST);
        eventually(LIMIT, || async { gone.sessions().await == 0 }).await;
    }
    assert_eq!(client.value("SELECT 2").await, "2");
}

/// A replication connection has no pool, and is a server all the same.
#[tokio::test]
async fn replication_connections_count_as_servers() {
    let database = Postgres::shared().await.database().await;
    let settings = [
        ("POOLWATCH_LIMITS__SERVERS", "2"),
        ("POOLWATCH_POOL__TIMEOUT", "400ms"),
    ];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &settings).await;
    let (address, replication) = (sidecar.proxy_addr(), [("replication", "database")]);
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(Raw::login(address, &database.name).await);
    }
    for client in &mut clients {
        client.rows("BEGIN").await;
    }
    for client in &mut clients {
        client.rows("COMMIT").await;
    }
    // Both servers are idle: the first makes room.
    let walsender = Raw::login_with(address, &database.name, &replication).await;
    assert_eq!(clients[0].value("SELECT 1").await, "1");
    clients[0].rows("BEGIN").await;
    let started = Instant::now();
    let told = clients[1].ask(&query("SELECT 2")).await;
    assert!(seen(&told)[0].starts_with("E 53300 limit of 2"), "{told:?}");
    assert_eq!(
        refused(&sidecar, &database.name, &replication).await,
        "53300"
    );
    assert!(started.elapsed() >= Duration::from_millis(800));
    assert_eq!(rejections(&sidecar.scrape().await, "servers"), 2.0);
    // Its room is free once it is gone.
    drop(walsender);
    assert_eq!(clients[1].value("SELECT 3").await, "3");
    clients[0].rows("COMMIT").await;
}

/// Two pools of three under one limit of two: each gets its turn, and PostgreSQL never sees more than two.
#[tokio::test]
async fn all_pools_share_so_many_servers() {
    let server = Postgres::own(Options::default()).await;
    let databases = [server.database().await, server.database().await];
    let settings = [
        ("POOLWATCH_LIMITS__SERVERS", "2"),
        ("POOLWATCH_POOL__SIZE", "3"),
        ("POOLWATCH_POOL__TIMEOUT", "700ms"),
    ];
    let first = &databases[0];
    let sidecar = Sidecar::start_with(first, &first.url, &[], &settings).await;
    let address = sidecar.proxy_addr();
    let mut clients = Vec::new();
    for database in [0, 0, 1, 1] {
        clients.push(Raw::login(address, &databases[database].name).await);
    }
    let watcher = server.connect("postgres").await;
    // Idle ones make room, without anybody's noticing.
    for _ in 0..5 {
        for client in &mut clients {
            assert_eq!(tags(&client.ask(&query("SELECT 1")).await), "TDCZ");
            let seen = "SELECT count(*) FROM pg_stat_activity WHERE application_name = '' \
                        AND datname LIKE 'test_%' AND backend_type = 'client backend'";
            // One that makes room is told goodbye, and takes a moment to end.
            eventually(LIMIT, || async {
                let count: i64 = watcher.query_one(seen, &[]).await.unwrap().get(0);
                if count <= 2 {
                    Ok(())
                } else {
                    Err(format!("{count} servers"))
                }
            })
            .await;
        }
    }
    // Both are busy: the other pool's client waits, within its timeout.
    clients[0].rows("BEGIN").await;
    clients[1].rows("BEGIN").await;
    let started = Instant::now();
    let told = clients[2].ask(&query("SELECT 1")).await;
    let error = told.iter().find(|message| message.tag == 'E').unwrap();
    assert_eq!(error.code(), "53300");
    let text = "limit of 2 connections over all pools reached";
    assert!(error.text().contains(text), "{}", error.text());
    assert!(started.elapsed() >= Duration::from_millis(700));
    assert_eq!(rejections(&sidecar.scrape().await, "servers"), 1.0);
    // One comes back in time: it is closed for who waits.
    clients[2].send(&query("SELECT 2")).await;
    let waits = || async {
        sidecar
            .scrape()
            .await
            .sum("db_client_connection_pending_requests", &[])
            == 1.0
    };
    eventually(LIMIT, waits).await;
    clients[0].rows("COMMIT").await;
    assert_eq!(tags(&clients[2].until('Z').await), "TDCZ");
    clients[1].rows("COMMIT").await;
}
