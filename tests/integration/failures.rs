//! What goes wrong around poolwatch: the client is told truly, keeps its connection where it can, and nothing leaks.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use poolwatch::ops::postgres::{Mode, Options};
use tokio::task::JoinHandle;
use tokio_postgres::error::DbError;
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::figures::{Figures, clients};
use crate::support::{Database, Faults, Postgres, Sidecar, Trouble, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// A sidecar whose pool has one connection and no overflow, with further settings.
async fn single(database: &Database, settings: &[(&str, &str)]) -> Sidecar {
    single_through(database, &database.url, settings).await
}

async fn single_through(database: &Database, url: &str, settings: &[(&str, &str)]) -> Sidecar {
    let mut environment = vec![
        ("POOLWATCH_POOL__SIZE", "1"),
        ("POOLWATCH_POOL__MAX_OVERFLOW", "0"),
    ];
    environment.extend(settings);
    Sidecar::start_with(database, url, &[], &environment).await
}

/// What the client was told.
#[track_caller]
fn told(error: &Error) -> &DbError {
    match error.as_db_error() {
        Some(told) => told,
        None => panic!("no error of PostgreSQL's: {error:?}"),
    }
}

#[track_caller]
fn code(error: &Error) -> &str {
    told(error).code().code()
}

/// A client whose connection the test can cut without a goodbye.
async fn cuttable(config: &Config) -> (Client, JoinHandle<Result<(), Error>>) {
    let (client, connection) = config.connect(NoTls).await.expect("connect");
    (client, tokio::spawn(connection))
}

async fn pending(sidecar: &Sidecar, number: f64) {
    eventually(LIMIT, || async {
        let figures = Figures::now(sidecar).await;
        (figures.pending == number)
            .then_some(())
            .ok_or_else(|| format!("{figures:?}"))
    })
    .await;
}

/// The process id of the session that runs this query, once there is one.
async fn running(watcher: &Client, query: &str) -> i32 {
    eventually(LIMIT, || async {
        watcher
            .query_opt(
                "SELECT pid FROM pg_stat_activity WHERE query = $1 AND state = 'active'",
                &[&query],
            )
            .await
            .expect("pg_stat_activity")
            .map(|row| row.get(0))
    })
    .await
}

/// The process id of the server that a client has just now, asked without a prepared statement.
async fn backend(client: &Client) -> i32 {
    let rows = client.simple_query("SELECT pg_backend_pid()").await;
    let rows = rows.expect("an answer");
    let pid = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    pid.expect("a process id")
}

#[tokio::test]
async fn an_exhausted_pool_is_told_in_sqlalchemys_words() {
    let database = Postgres::shared().await.database().await;
    let sidecar = single(&database, &[("POOLWATCH_POOL__TIMEOUT", "300ms")]).await;
    let (holder, waiter) = (sidecar.connect().await, sidecar.connect().await);
    holder.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let started = Instant::now();
    let simple = waiter.batch_execute("SELECT 1").await.unwrap_err();
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
    assert_eq!(
        (code(&simple), told(&simple).severity()),
        ("53300", "ERROR")
    );
    let text = "QueuePool limit of size 1 overflow 0 reached, connection timed out, timeout 0.3";
    assert!(told(&simple).message().starts_with(text), "{simple:?}");
    // The whole batch of the extended protocol is refused, and the next one is understood.
    let extended = waiter.query_one("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(code(&extended), "53300");
    holder.batch_execute("COMMIT").await.unwrap();
    waiter.batch_execute("SELECT 1").await.unwrap();
    let row = waiter.query_one("SELECT 7", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    drop((holder, waiter));
    let scrape = sidecar.scrape().await;
    let timeouts = [("outcome", "timeout")];
    assert_eq!(scrape.sum("poolwatch_pool_checkouts_total", &timeouts), 2.0);
    assert_eq!(scrape.sum("db_client_connection_timeouts_total", &[]), 2.0);
    let class = [("class", "pool_timeout")];
    assert_eq!(scrape.sum("poolwatch_errors_total", &class), 2.0);
    Figures::settled(&sidecar, &database, 0).await;
}

#[tokio::test]
async fn a_server_that_is_down_is_told_with_its_cause_and_missed_only_as_long() {
    let mut server = Postgres::own(Options::default()).await;
    let database = server.database().await;
    let sidecar = Sidecar::start(&database).await;
    let client = sidecar.connect().await;
    client.batch_execute("SELECT 1").await.unwrap();
    server.stop(Mode::Fast).await.unwrap();
    for _ in 0..2 {
        let refused = client.batch_execute("SELECT 1").await.unwrap_err();
        assert_eq!(code(&refused), "08001", "{refused:?}");
        let text = told(&refused).message().to_lowercase();
        assert!(text.contains("connection refused"), "{text}");
        assert_eq!(told(&refused).severity(), "ERROR");
    }
    // A login with parameters of its own needs a server.
    let mut config = sidecar.client_config();
    config.application_name("another");
    let refused = config.connect(NoTls).await.err().expect("refused");
    assert_eq!(
        (code(&refused), told(&refused).severity()),
        ("08001", "FATAL")
    );
    let text = told(&refused).message().to_lowercase();
    assert!(text.contains("connection refused"), "{text}");
    server.start_again().await.unwrap();
    client.batch_execute("SELECT 1").await.unwrap();
    drop(cuttable(&config).await);
    Figures::settled(&sidecar, &database, 0).await;
}

#[tokio::test]
async fn the_servers_own_last_words_reach_the_client() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let sidecar = Sidecar::start(&database).await;
    let watcher = database.connect().await;
    let client = sidecar.connect().await;
    let query = "SELECT pg_sleep(61)";
    let killing = async {
        let pid = running(&watcher, query).await;
        server.kill_backend(pid).unwrap();
    };
    let (failed, ()) = tokio::join!(client.batch_execute(query), killing);
    let failed = failed.unwrap_err();
    assert_eq!(
        (code(&failed), told(&failed).severity()),
        ("57P01", "FATAL")
    );
    drop(watcher);
    // So it does where nothing was asked: a client that is idle in its transaction.
    let (client, connection) = cuttable(&sidecar.client_config()).await;
    client.batch_execute("BEGIN").await.unwrap();
    let pid = backend(&client).await;
    server.kill_backend(pid).unwrap();
    let ended = tokio::time::timeout(LIMIT, connection)
        .await
        .expect("it ends");
    let ended = ended.unwrap().unwrap_err();
    assert_eq!(code(&ended), "57P01");
    Figures::settled(&sidecar, &database, 0).await;
}

#[tokio::test]
async fn a_connection_cut_under_a_query_is_told_as_lost() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let sidecar = single_through(&database, &faults.through(&database.url), &[]).await;
    let watcher = database.connect().await;
    for reset in [true, false] {
        let client = sidecar.connect().await;
        let query = format!("SELECT pg_sleep(60), {reset}");
        let cutting = async {
            running(&watcher, &query).await;
            if reset {
                faults.reset_all();
            } else {
                faults.close_all();
            }
        };
        let (failed, ()) = tokio::join!(client.batch_execute(&query), cutting);
        let failed = failed.unwrap_err();
        assert_eq!(
            (code(&failed), told(&failed).severity()),
            ("08006", "FATAL")
        );
    }
    sidecar
        .connect()
        .await
        .batch_execute("SELECT 1")
        .await
        .unwrap();
    let scrape = sidecar.scrape().await;
    let lost = [("class", "server_lost")];
    assert_eq!(scrape.sum("poolwatch_errors_total", &lost), 2.0);
    eventually(LIMIT, || async { Figures::now(&sidecar).await.used == 0.0 }).await;
}

#[tokio::test]
async fn an_idle_server_that_was_killed_is_not_handed_out() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    // No ping: the look for a hang-up alone must find it.
    let settings = [("POOLWATCH_POOL__PRE_PING_AFTER", "1h")];
    let sidecar = single(&database, &settings).await;
    let client = sidecar.connect().await;
    let mut killed = Vec::new();
    for _ in 0..3 {
        // Without a statement to close afterwards: its Close would be on its way to the server that is killed, and
        // nobody can tell when it was answered.
        let pid = backend(&client).await;
        assert!(!killed.contains(&pid));
        eventually(LIMIT, || async { Figures::now(&sidecar).await.used == 0.0 }).await;
        server.kill_backend(pid).unwrap();
        let watcher = database.connect().await;
        eventually(LIMIT, || async {
            let there = "SELECT 1 FROM pg_stat_activity WHERE pid = $1";
            watcher.query_opt(there, &[&pid]).await.unwrap().is_none()
        })
        .await;
        killed.push(pid);
    }
    client.batch_execute("SELECT 1").await.unwrap();
    let scrape = sidecar.scrape().await;
    let hangups = [("outcome", "hangup")];
    assert!(scrape.sum("poolwatch_pool_pre_pings_total", &hangups) >= 3.0);
    assert_eq!(scrape.sum("poolwatch_errors_total", &[]), 0.0);
    Figures::settled(&sidecar, &database, 0).await;
}

/// One client that inserts until it is told to stop, whatever happens, connecting again where it lost its connection.
/// Returns the numbers whose insert was confirmed.
async fn insert_on(sidecar: &Sidecar, next: &AtomicU32, stop: &AtomicBool) -> Vec<i64> {
    let mut confirmed = Vec::new();
    let mut client: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let connected = match client.take().filter(|client| !client.is_closed()) {
            Some(connected) => connected,
            None => match sidecar.client_config().connect(NoTls).await {
                Ok((connected, connection)) => {
                    tokio::spawn(connection);
                    connected
                }
                Err(error) => {
                    told(&error);
                    tokio::task::yield_now().await;
                    continue;
                }
            },
        };
        let number = next.fetch_add(1, Ordering::Relaxed);
        let sql = format!("INSERT INTO done VALUES ({number})");
        if connected.batch_execute(&sql).await.is_ok() {
            confirmed.push(i64::from(number));
        }
        client = Some(connected);
    }
    confirmed
}

#[tokio::test]
async fn after_a_restart_under_load_everything_comes_back_by_itself() {
    let mut server = Postgres::own(Options::default()).await;
    let database = server.database().await;
    let create = "CREATE TABLE done (n bigint)";
    {
        let direct = database.connect().await;
        direct.batch_execute(create).await.unwrap();
    }
    let environment = [
        ("POOLWATCH_POOL__SIZE", "3"),
        ("POOLWATCH_POOL__MAX_OVERFLOW", "2"),
    ];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
    let (next, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let load = join_all((0..8).map(|_| insert_on(&sidecar, &next, &stop)));
    let restarts = async {
        for mode in [Mode::Fast, Mode::Immediate] {
            let before = Figures::now(&sidecar).await.succeeded;
            let goes = || async { Figures::now(&sidecar).await.succeeded > before + 50.0 };
            eventually(LIMIT, goes).await;
            server.stop(mode).await.unwrap();
            let failed = || async {
                let scrape = sidecar.scrape().await;
                scrape.sum("poolwatch_errors_total", &[("class", "connect")]) > 0.0
            };
            eventually(LIMIT, failed).await;
            server.start_again().await.unwrap();
            let before = Figures::now(&sidecar).await.succeeded;
            let goes = || async { Figures::now(&sidecar).await.succeeded > before + 50.0 };
            eventually(LIMIT, goes).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (confirmed, ()) = tokio::join!(load, restarts);
    let confirmed: Vec<i64> = confirmed.into_iter().flatten().collect();
    let lost: Vec<i64> = {
        let direct = database.connect().await;
        let missing = "SELECT n FROM unnest($1::bigint[]) AS n EXCEPT SELECT n FROM done";
        let rows = direct.query(missing, &[&confirmed]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert!(lost.is_empty(), "confirmed, but not there: {lost:?}");
    let end = Figures::settled(&sidecar, &database, 0).await;
    assert!(end.succeeded >= f64::from(u32::try_from(confirmed.len()).unwrap()));
    let bugs = sidecar.scrape().await.sum("poolwatch_pool_bugs_total", &[]);
    assert_eq!(bugs, 0.0);
}

#[tokio::test]
async fn a_client_that_vanishes_in_its_transaction_leaves_nothing() {
    let database = Postgres::shared().await.database().await;
    let direct = database.connect().await;
    direct
        .batch_execute("CREATE TABLE t (n int)")
        .await
        .unwrap();
    let sidecar = single(&database, &[]).await;
    for asked in [None, Some("SELECT pg_sleep(0.2)")] {
        let (client, connection) = cuttable(&sidecar.client_config()).await;
        let begin = "BEGIN; LOCK TABLE t; INSERT INTO t VALUES (1)";
        client.batch_execute(begin).await.unwrap();
        if let Some(query) = asked {
            // Vanishes while the server still works for it.
            let working = tokio::spawn(async move { client.batch_execute(query).await });
            running(&direct, query).await;
            connection.abort();
            assert!(working.await.unwrap().is_err());
        } else {
            connection.abort();
        }
        // The lock is gone with the transaction, and the one connection serves the next client.
        let next = sidecar.connect().await;
        let count = next
            .simple_query("SELECT count(*) AS n FROM t")
            .await
            .unwrap();
        let rows = count.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        assert_eq!(rows, Some("0"));
    }
    drop(direct);
    let end = Figures::settled(&sidecar, &database, 0).await;
    assert!(end.opened >= 1.0 && end.idle <= 1.0, "{end:?}");
    eventually(LIMIT, || async {
        let scrape = sidecar.scrape().await;
        scrape.sum("poolwatch_clients", &[]) == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_vanishes_while_it_waits_waits_no_more() {
    let database = Postgres::shared().await.database().await;
    let sidecar = single(&database, &[]).await;
    let holder = sidecar.connect().await;
    let (waiter, connection) = cuttable(&sidecar.client_config()).await;
    holder.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let waiting = tokio::spawn(async move { waiter.batch_execute("SELECT 1").await });
    pending(&sidecar, 1.0).await;
    assert_eq!(clients(&sidecar.scrape().await, "waiting"), 1.0);
    connection.abort();
    assert!(waiting.await.unwrap().is_err());
    pending(&sidecar, 0.0).await;
    eventually(LIMIT, || async {
        let scrape = sidecar.scrape().await;
        scrape.sum("poolwatch_clients", &[]) == 1.0 && clients(&scrape, "waiting") == 0.0
    })
    .await;
    let scrape = sidecar.scrape().await;
    let cancelled = [("outcome", "cancelled")];
    assert_eq!(
        scrape.sum("poolwatch_pool_checkouts_total", &cancelled),
        1.0
    );
    holder.batch_execute("COMMIT").await.unwrap();
    sidecar
        .connect()
        .await
        .batch_execute("SELECT 1")
        .await
        .unwrap();
    Figures::settled(&sidecar, &database, 0).await;
}

#[tokio::test]
async fn a_cancel_request_ends_the_right_query_and_no_other() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&database).await;
    let watcher = database.connect().await;
    let (first, second) = (sidecar.connect().await, sidecar.connect().await);
    let (long, short) = ("SELECT pg_sleep(62)", "SELECT pg_sleep(1.5)");
    let cancelling = async {
        running(&watcher, long).await;
        running(&watcher, short).await;
        first.cancel_token().cancel_query(NoTls).await.unwrap();
    };
    let (cancelled, unharmed, ()) = tokio::join!(
        first.batch_execute(long),
        second.batch_execute(short),
        cancelling
    );
    assert_eq!(code(&cancelled.unwrap_err()), "57014");
    unharmed.unwrap();
    for client in [&first, &second] {
        client.batch_execute("SELECT 1").await.unwrap();
    }
    drop(watcher);
    Figures::settled(&sidecar, &database, 0).await;
}

#[tokio::test]
async fn replies_arrive_where_the_server_is_reset_after_each_transaction() {
    let database = Postgres::shared().await.database().await;
    let settings = [("POOLWATCH_POOL__SERVER_RESET", "always")];
    let sidecar = single(&database, &settings).await;
    let client = sidecar.connect().await;
    for number in 0..20 {
        let sql = format!("SELECT {number}");
        let asked = client.batch_execute(&sql);
        let answered = tokio::time::timeout(LIMIT, asked).await;
        answered.expect("a reply").unwrap();
    }
}

#[tokio::test]
async fn a_cancel_request_ends_a_wait() {
    let database = Postgres::shared().await.database().await;
    let sidecar = single(&database, &[]).await;
    let (holder, waiter) = (sidecar.connect().await, sidecar.connect().await);
    holder.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let cancelling = async {
        pending(&sidecar, 1.0).await;
        waiter.cancel_token().cancel_query(NoTls).await.unwrap();
    };
    let (cancelled, ()) = tokio::join!(waiter.batch_execute("SELECT 1"), cancelling);
    assert_eq!(code(&cancelled.unwrap_err()), "57014");
    pending(&sidecar, 0.0).await;
    holder.batch_execute("SELECT 2; COMMIT").await.unwrap();
    waiter.batch_execute("SELECT 1").await.unwrap();
    Figures::settled(&sidecar, &database, 0).await;
}

#[tokio::test]
async fn a_cancel_request_that_finds_nothing_is_forgotten() {
    let database = Postgres::shared().await.database().await;
    let sidecar = single(&database, &[]).await;
    let (holder, waiter) = (sidecar.connect().await, sidecar.connect().await);
    waiter.batch_execute("SELECT 1").await.unwrap();
    // Its own connection is closed once it was dealt with.
    waiter.cancel_token().cancel_query(NoTls).await.unwrap();
    holder.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let releasing = async {
        pending(&sidecar, 1.0).await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let (waited, ()) = tokio::join!(waiter.batch_execute("SELECT 1"), releasing);
    waited.expect("the cancel request was for a query that had ended");
}

#[tokio::test]
async fn a_connect_into_a_black_hole_ends_in_time_and_names_the_phase() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let settings = [("POOLWATCH_UPSTREAM__CONNECT_TIMEOUT", "500ms")];
    let sidecar = single_through(&database, &faults.through(&database.url), &settings).await;
    let client = sidecar.connect().await;
    // Dead connections are found at once, and new ones come nowhere.
    faults.set(Trouble::BlackHole);
    faults.close_all();
    eventually(LIMIT, || async { database.sessions().await == 0 }).await;
    let started = Instant::now();
    let refused = client.batch_execute("SELECT 1").await.unwrap_err();
    let took = started.elapsed();
    assert_eq!(code(&refused), "08001");
    let text = told(&refused).message();
    let phases = ["TLS took longer than", "the login took longer than"];
    assert!(phases.iter().any(|phase| text.contains(phase)), "{text}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    faults.set(Trouble::None);
    client.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn logins_that_cannot_be_served_are_refused_with_postgresqls_codes() {
    let database = Postgres::shared().await.database().await;
    let settings = [("POOLWATCH_LISTEN__MAX_CLIENTS", "2")];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &settings).await;
    let refusal = |config: Config| async move {
        let refused = config.connect(NoTls).await.err().expect("refused");
        assert_eq!(told(&refused).severity(), "FATAL");
        (
            code(&refused).to_owned(),
            told(&refused).message().to_owned(),
        )
    };
    let mut config = sidecar.client_config();
    config.dbname("no_such_database");
    let (code, text) = refusal(config).await;
    assert_eq!(code, "3D000");
    assert_eq!(text, "database \"no_such_database\" does not exist");
    let mut config = sidecar.client_config();
    config.user("nobody");
    let (code, text) = refusal(config).await;
    assert_eq!(code, "28000");
    assert!(text.contains("\"nobody\""), "{text}");

    let (first, _second) = (sidecar.connect().await, sidecar.connect().await);
    let (code, _) = refusal(sidecar.client_config()).await;
    assert_eq!(code, "53300");
    let scrape = sidecar.scrape().await;
    let limited = scrape.value("poolwatch_limit_rejections_total", &[("limit", "clients")]);
    let logins = |outcome| scrape.value("poolwatch_logins_total", &[("outcome", outcome)]);
    assert_eq!((limited, logins("limit"), logins("ok")), (1.0, 1.0, 2.0));
    drop(first);
    let third = eventually(LIMIT, || async {
        let connected = sidecar.client_config().connect(NoTls).await;
        connected.map(|(client, connection)| {
            tokio::spawn(connection);
            client
        })
    })
    .await;
    third.batch_execute("SELECT 1").await.unwrap();
    // A database that does not exist leaves no pool behind.
    Figures::settled(&sidecar, &database, 0).await;
}
