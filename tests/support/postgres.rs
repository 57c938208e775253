//! PostgreSQL for tests: one server that they share, with a database for each, and servers of their own for those that
//! break them.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

use poolwatch::ops::postgres::{self as launcher, Options};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

/// Never dropped, as no static is: the launcher's guard removes it when this process ends.
static SHARED: OnceCell<Postgres> = OnceCell::const_new();
/// Names databases; a name must not be used twice on the shared server.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A throw-away server. Derefs to the launcher's, for `stop`, `pause` and the like.
#[derive(Debug)]
pub struct Postgres(launcher::Postgres);

impl Postgres {
    /// The server that the tests of this process share: for tests that leave it running. 300 connections.
    pub async fn shared() -> &'static Postgres {
        SHARED
            .get_or_init(|| {
                Self::own(Options {
                    conf: "max_connections = 300".to_owned(),
                    ..Options::default()
                })
            })
            .await
    }

    /// A server of the test's own, gone when it is dropped.
    pub async fn own(options: Options) -> Postgres {
        match launcher::Postgres::start(options).await {
            Ok(server) => Self(server),
            Err(error) => panic!("{}", poolwatch::error::chain(&error)),
        }
    }

    /// A new, empty database.
    pub async fn database(&self) -> Database {
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let client = self.connect("postgres").await;
        client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .expect("CREATE DATABASE");
        Database {
            url: self.url(self.user(), &name),
            config: self.client_config(&name),
            program: self.binaries().program("psql"),
            name,
        }
    }

    /// A client straight to the server, as its superuser.
    pub async fn connect(&self, database: &str) -> Client {
        connect(&self.client_config(database)).await
    }
}

impl Deref for Postgres {
    type Target = launcher::Postgres;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// A database of one test's on a server.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its `postgres://` URL, for `--upstream-url`.
    pub url: String,
    /// Where `psql` is.
    pub program: std::path::PathBuf,
    config: tokio_postgres::Config,
}

impl Database {
    /// A client straight to the database, past any proxy.
    pub async fn connect(&self) -> Client {
        connect(&self.config).await
    }

    /// As [`Database::connect`], of a server that may not be up.
    pub async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// How many sessions PostgreSQL has in this database, those that ask not counted.
    pub async fn sessions(&self) -> i64 {
        let client = self.connect().await;
        client
            .query_one(
                "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
                &[],
            )
            .await
            .expect("pg_stat_activity")
            .get(0)
    }
}

/// Connects and lets the connection run in a task.
pub(super) async fn connect(config: &tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("connect to PostgreSQL");
    tokio::spawn(connection);
    client
}
