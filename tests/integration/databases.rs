//! Commands that need a database to themselves: poolwatch's own idle servers are out of the way.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::support::raw::{Raw, query, tags};
use crate::support::{Database, Postgres, Sidecar, eventually};

const LIMIT: Duration = Duration::from_secs(30);
/// PostgreSQL waits for five seconds for others to leave, and then gives up.
const SOON: Duration = Duration::from_secs(3);

/// A sidecar that has idle servers in its first database, its own among them, and a client of it.
async fn occupied(first: &Database) -> (Sidecar, Raw) {
    let sidecar = Sidecar::start(first).await;
    eventually(LIMIT, || async { sidecar.get("/readyz").await.0 == 200 }).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::login(sidecar.proxy_addr(), &first.name).await;
        assert_eq!(tags(&client.ask(&query("BEGIN")).await), "CZ");
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(tags(&client.ask(&query("COMMIT")).await), "CZ");
    }
    let idle = || async {
        sidecar
            .scrape()
            .await
            .sum("db_client_connection_count", &[])
            >= 4.0
    };
    eventually(LIMIT, idle).await;
    (sidecar, clients.remove(0))
}

async fn through(sidecar: &Sidecar, database: &str) -> Client {
    let mut config = sidecar.client_config();
    config.dbname(database);
    let (client, connection) = config
        .connect(tokio_postgres::NoTls)
        .await
        .expect("connect");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn idle_servers_do_not_hold_up_what_needs_their_database() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let name = &database.name;
    let (sidecar, mut client) = occupied(&database).await;
    let admin = through(&sidecar, "postgres").await;
    for (number, command) in [
        format!("CREATE DATABASE {name}_a TEMPLATE {name}"),
        format!("/* moved */ ALTER DATABASE {name} RENAME TO {name}_b"),
        format!("ALTER DATABASE {name}_b RENAME TO {name}"),
        format!("CREATE DATABASE {name}_c WITH TEMPLATE = \"{name}\""),
        format!("DROP DATABASE IF EXISTS {name}"),
    ]
    .iter()
    .enumerate()
    {
        let started = Instant::now();
        // Either protocol.
        match number % 2 {
            0 => admin.batch_execute(command).await,
            _ => admin.execute(command, &[]).await.map(drop),
        }
        .unwrap_or_else(|error| panic!("{command}: {error:?}"));
        assert!(
            started.elapsed() < SOON,
            "{command}: {:?}",
            started.elapsed()
        );
        // The client's own pool goes on at once, where its database is there.
        let answer = client.ask(&query("SELECT 1")).await;
        let there = [0, 2, 3].contains(&number);
        match answer.iter().find(|message| message.tag == 'E') {
            None => assert!(there, "after {command}"),
            Some(error) => assert!(!there && error.code() == "3D000", "{command}: {answer:?}"),
        }
        assert!(started.elapsed() < SOON, "after {command}");
    }
    for copy in ["a", "c"] {
        let dropped = admin
            .batch_execute(&format!("DROP DATABASE {name}_{copy}"))
            .await;
        dropped.expect("DROP DATABASE");
    }
}

/// Who uses the database is in the way as always, and is told so by PostgreSQL; the pools go on after that.
#[tokio::test]
async fn a_client_at_work_is_not_sent_away_for_it() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let (sidecar, mut client) = occupied(&database).await;
    client.rows("BEGIN").await;
    let admin = through(&sidecar, "postgres").await;
    let refused = admin
        .batch_execute(&format!("DROP DATABASE {}", database.name))
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(
        refused.code().map(|code| code.code()),
        Some("55006"),
        "{refused:?}"
    );
    client.rows("COMMIT").await;
    let started = Instant::now();
    assert_eq!(client.value("SELECT 1").await, "1");
    assert!(started.elapsed() < SOON);
}

/// Several at once, in one write: none is forgotten for the one behind it.
#[tokio::test]
async fn commands_in_a_pipeline_are_each_given_their_database() {
    let server = Postgres::shared().await;
    let (database, other) = (server.database().await, server.database().await);
    let (sidecar, _client) = occupied(&database).await;
    let mut admin = Raw::login(sidecar.proxy_addr(), &other.name).await;
    let started = Instant::now();
    admin
        .send(
            &[
                query(&format!("DROP DATABASE {}", database.name)),
                query("SELECT 1"),
            ]
            .concat(),
        )
        .await;
    let dropped = admin.until('Z').await;
    assert_eq!(tags(&dropped), "CZ", "{dropped:?}");
    assert_eq!(tags(&admin.until('Z').await), "TDCZ");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}
