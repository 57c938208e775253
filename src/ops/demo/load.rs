//! The demo's clients: a mixture of what good and bad applications do, through poolwatch.
//!
//! Bounded: a fixed number of tasks, each of which does one thing after another; a burst has a fixed size and is over
//! before the next begins; the tables do not grow. What goes wrong is not looked at here, since it is part of the show:
//! poolwatch counts it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};

use super::{ACCOUNTS, NAME};

const READERS: usize = 6;
const WRITERS: usize = 3;
/// More than 25 + 10 connections, so that 25 of them wait.
const BURST: usize = 60;
/// The pause between two reads or writes of one client: some hundred transactions a second in all.
const THINK: Duration = Duration::from_millis(15);
/// A client that cannot come in, or lost its connection, tries again after so long.
const RETRY: Duration = Duration::from_millis(200);
/// Longer than a demo's wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Rows of `transfers`, used in turn.
const SLOTS: u32 = 10_000;

/// The running clients. Dropping it ends them without a farewell.
#[derive(Debug)]
pub(super) struct Load {
    clients: JoinSet<()>,
}

impl Load {
    /// Starts them. `direct` leads past poolwatch, as superuser, to the server process that gets killed.
    pub(super) fn start(proxy: SocketAddr, direct: Config) -> Self {
        let mut config = Config::new();
        config
            .host(proxy.ip().to_string())
            .port(proxy.port())
            .user(NAME)
            .dbname(NAME)
            .connect_timeout(CONNECT_LIMIT);
        let mut clients = JoinSet::new();
        for _ in 0..READERS {
            clients.spawn(repeat(config.clone(), THINK, read));
        }
        for _ in 0..WRITERS {
            clients.spawn(repeat(config.clone(), THINK, write));
        }
        clients.spawn(repeat(config.clone(), Duration::from_secs(1), sleep));
        clients.spawn(repeat(config.clone(), Duration::from_secs(2), fail));
        clients.spawn(repeat(config.clone(), Duration::from_secs(8), leak));
        clients.spawn(bursts(config));
        clients.spawn(kill(direct));
        Self { clients }
    }

    /// Ends them and waits until they have.
    pub(super) async fn stop(mut self) {
        self.clients.shutdown().await;
    }
}

/// Connects; the connection runs in a task that ends with the client.
pub(super) async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // Its error reaches the client's next query too.
    tokio::spawn(connection);
    Ok(client)
}

/// One client that does one thing again and again, and comes back when its connection is lost.
async fn repeat<F>(config: Config, pause: Duration, mut action: F)
where
    F: AsyncFnMut(&Client) -> Result<(), tokio_postgres::Error>,
{
    loop {
        if let Ok(client) = connect(&config).await {
            while !client.is_closed() {
                // An error is poolwatch's to count; the client goes on.
                let _ = action(&client).await;
                tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn read(client: &Client) -> Result<(), tokio_postgres::Error> {
    let id = account();
    run(
        client,
        &format!("SELECT balance FROM accounts WHERE id = {id}"),
    )
    .await
}

/// Money from one account to another. The lower id goes first, so that two writers never deadlock.
async fn write(client: &Client) -> Result<(), tokio_postgres::Error> {
    let (a, b) = (account(), account());
    let (low, high) = (a.min(b), a.max(b));
    let slot = rand::random_range(0..SLOTS);
    run(client, "BEGIN").await?;
    let statements = [
        format!("UPDATE accounts SET balance = balance - 1, changed = now() WHERE id = {low}"),
        format!("UPDATE accounts SET balance = balance + 1, changed = now() WHERE id = {high}"),
        format!(
            "INSERT INTO transfers VALUES ({slot}, {low}, {high}, 1) ON CONFLICT (slot) \
             DO UPDATE SET source = {low}, target = {high}"
        ),
    ];
    for statement in &statements {
        if let Err(error) = run(client, statement).await {
            // Lost with the connection, if that is what failed.
            let _ = run(client, "ROLLBACK").await;
            return Err(error);
        }
    }
    run(client, "COMMIT").await
}

async fn sleep(client: &Client) -> Result<(), tokio_postgres::Error> {
    let seconds = 0.2 + 0.6 * rand::random::<f64>();
    run(client, &format!("SELECT pg_sleep({seconds:.2})")).await
}

async fn fail(client: &Client) -> Result<(), tokio_postgres::Error> {
    run(client, "SELECT balance / 0 FROM accounts WHERE id = 1").await
}

/// Holds a connection in a transaction and does nothing, as an application that forgot to commit.
async fn leak(client: &Client) -> Result<(), tokio_postgres::Error> {
    run(client, "BEGIN").await?;
    run(client, "SELECT count(*) FROM accounts").await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    run(client, "ROLLBACK").await
}

/// Many clients at once, every few seconds: first with queries that leave all of them time to get a connection, then
/// with queries longer than `pool.timeout`.
async fn bursts(config: Config) {
    let mut length = 0.3;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut clients = JoinSet::new();
        for _ in 0..BURST {
            let config = config.clone();
            clients.spawn(async move {
                if let Ok(client) = connect(&config).await {
                    let _ = run(&client, &format!("SELECT pg_sleep({length})")).await;
                }
            });
        }
        while clients.join_next().await.is_some() {}
        length = if length < 1.0 { 1.5 } else { 0.3 };
    }
}

/// An administrator who ends one of the pool's server processes every few seconds.
async fn kill(direct: Config) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        if let Ok(client) = connect(&direct).await {
            let statement = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE usename = '{NAME}' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
            );
            let _ = run(&client, &statement).await;
        }
    }
}

/// The simple protocol: text as an application without prepared statements sends it.
async fn run(client: &Client, statement: &str) -> Result<(), tokio_postgres::Error> {
    client.simple_query(statement).await.map(|_| ())
}

fn account() -> u32 {
    rand::random_range(1..=ACCOUNTS)
}
