//! The console: what it shows, who may do what there, and what its commands do to clients under load.

mod checked;
mod holders;
mod load;
mod orders;
mod pauses;
mod roles;
mod shown;
mod shutdown;
mod tools;
mod trouble;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::support::{Database, Postgres, Sidecar};

const LIMIT: Duration = Duration::from_secs(30);

/// A sidecar whose clients prove who they are: `postgres`, `admin`, who may do all on the console, `stats`, who may look, and
/// `other`, who may not.
struct Guarded {
    sidecar: Sidecar,
    database: Database,
    users: PathBuf,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.users);
    }
}

/// The rows of an answer, by the names of their columns.
type Rows = Vec<BTreeMap<String, String>>;

impl Guarded {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(settings: &[(&str, &str)]) -> Self {
        let database = Postgres::shared().await.database().await;
        let upstream = database.url.clone();
        Self::start_on(database, &upstream, settings).await
    }

    /// With this between the sidecar and its database.
    async fn start_on(database: Database, upstream: &str, settings: &[(&str, &str)]) -> Self {
        let users = temporary(&database, "users.txt");
        let lines = ["postgres", "admin", "stats", "other"]
            .map(|user| format!("\"{user}\" \"{user}'s password\"\n"));
        std::fs::write(&users, lines.concat()).expect("a file of users");
        let path = users.to_str().expect("a path in UTF-8");
        let mut environment = vec![
            ("POOLWATCH_AUTH__USERS_FILE", path),
            ("POOLWATCH_ADMIN__USERS", "somebody, admin"),
            ("POOLWATCH_ADMIN__STATS_USERS", "stats"),
        ];
        environment.extend(settings);
        // The server trusts everybody: the password is for those who connect to the sidecar.
        let upstream = upstream.replacen("postgres@", "postgres:postgres%27s%20password@", 1);
        let sidecar = Sidecar::start_with(&database, &upstream, &[], &environment).await;
        Self {
            sidecar,
            database,
            users,
        }
    }

    async fn try_console(&self, user: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = self.sidecar.client_config();
        config
            .user(user)
            .password(format!("{user}'s password"))
            .dbname("pgbouncer");
        try_connect(&config).await
    }

    async fn console(&self, user: &str) -> Client {
        self.try_console(user)
            .await
            .expect("a login to the console")
    }

    async fn admin(&self) -> Client {
        self.console("admin").await
    }

    /// Somebody who comes now is served.
    async fn serves(&self) {
        let client = self.sidecar.connect().await;
        client.batch_execute("SELECT 1").await.expect("an answer");
    }

    /// A client of the pool's with a server in its hands.
    async fn in_transaction(&self) -> Client {
        let client = self.sidecar.connect().await;
        let began = client.batch_execute("BEGIN; SELECT 1").await;
        began.expect("a transaction");
        client
    }

    /// Straight to PostgreSQL.
    async fn direct(&self) -> Client {
        Postgres::shared().await.connect(&self.database.name).await
    }
}

/// A path for this database's test, of this run.
fn temporary(database: &Database, what: &str) -> PathBuf {
    let name = format!("console-{}-{}-{what}", std::process::id(), database.name);
    std::env::temp_dir().join(name)
}

async fn try_connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn connect(config: &Config) -> Client {
    try_connect(config).await.expect("a login")
}

/// Runs one command.
async fn run(console: &Client, command: &str) -> Result<Rows, tokio_postgres::Error> {
    let answer = tokio::time::timeout(LIMIT, console.simple_query(command)).await;
    let messages = answer.unwrap_or_else(|_| panic!("{command} was not answered"))?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let rows = rows.map(|row| {
        let columns = row.columns().iter().enumerate();
        let cells = columns.map(|(at, column)| {
            let value = row.get(at).unwrap_or("NULL");
            (column.name().to_owned(), value.to_owned())
        });
        cells.collect()
    });
    Ok(rows.collect())
}

/// Runs one command that must succeed.
async fn done(console: &Client, command: &str) -> Rows {
    match run(console, command).await {
        Ok(rows) => rows,
        Err(error) => panic!("{command}: {error:?}"),
    }
}

/// Runs one command that must fail, and gives its SQLSTATE and what it says.
async fn refused(console: &Client, command: &str) -> (String, String) {
    let error = run(console, command).await.expect_err(command);
    let error = error
        .as_db_error()
        .unwrap_or_else(|| panic!("{command}: {error:?}"));
    (error.code().code().to_owned(), error.message().to_owned())
}

/// The row in which a column has this value.
fn row<'a>(rows: &'a Rows, column: &str, value: &str) -> &'a BTreeMap<String, String> {
    let mut rows_of = rows.iter();
    rows_of
        .find(|row| row[column] == value)
        .unwrap_or_else(|| panic!("no {column} = {value} in {rows:?}"))
}
