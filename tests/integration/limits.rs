//! The limits: each is told clearly, counted, and costs those it is for and nobody else.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use poolwatch::ops::postgres::{Mode, Options};

use crate::figures::Figures;
use crate::support::raw::{Message, Raw, query, startup};
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
    let mut client = Raw::login_narrow(sidecar.proxy_addr(), &database.name).await;
    // Until an answer cannot be sent: every buffer between is full, and the server is back in its pool.
    for number in 1.. {
        client.send(&query("SELECT repeat('x', 5000)")).await;
        let answered = || async { Figures::now(&sidecar).await.transactions == f64::from(number) };
        let limit = Duration::from_secs(1);
        let waited = tokio::time::timeout(limit, eventually(LIMIT, answered)).await;
        if waited.is_err() {
            break;
        }
    }
    assert_eq!(Figures::now(&sidecar).await.used, 0.0);
    let started = Instant::now();
    sidecar.signal(Signal::SIGTERM);
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(0) });
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(client);
}
