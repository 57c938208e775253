//! What poolwatch itself asks of PostgreSQL: the same pool, over tokio-postgres.
//!
//! Kept apart from the pools that applications use, so that an exhausted pool does not blind the one who asks why.

use std::sync::Arc;
use std::time::Duration;

use bb8_postgres::PostgresConnectionManager;
use tokio_postgres::config::SslMode as PostgresSslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::dsn::{Host, HostPort, SslMode};
use crate::pool::{self, CheckoutError, ConfigError, Observer, Pool, Status};
use crate::secret::Secret;
use crate::tls::ClientTls;

mod lock;
mod session;
mod trouble;

pub use lock::{Holder, LOCK, LockError};
pub use session::Session;
pub use trouble::{Trouble, said};

/// Connections of the control pool: one for what runs on a timer, one for whoever asks meanwhile.
pub const SIZE: u32 = 2;

type Manager = PostgresConnectionManager<MakeRustlsConnect>;

/// Where the control pool connects to.
#[derive(Debug, Clone)]
pub struct Config {
    /// The hosts, tried in order.
    pub hosts: Vec<HostPort>,
    /// The user.
    pub user: String,
    /// Its password, if it has one.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// How TLS is asked for.
    pub tls: ClientTls,
    /// For opening a connection at most.
    pub connect_timeout: Duration,
}

/// The control pool. Clones share it.
#[derive(Debug, Clone)]
pub struct Control {
    pool: Pool<Manager>,
    config: Arc<Config>,
}

/// What PostgreSQL says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `server_version`.
    pub version: String,
    /// `max_connections`.
    pub max_connections: u32,
    /// Connections that only superusers and, since PostgreSQL 16, members of `pg_use_reserved_connections` may use.
    pub reserved: u32,
}

impl Limits {
    /// Asks on a connection that the caller has.
    ///
    /// # Errors
    /// The question was not answered, or not in the form it has since PostgreSQL 9.2.
    pub async fn ask(client: &tokio_postgres::Client) -> Result<Self, tokio_postgres::Error> {
        let row = client
            .query_one(
                "SELECT pg_catalog.current_setting('server_version'), \
                 pg_catalog.current_setting('max_connections')::int, \
                 pg_catalog.current_setting('superuser_reserved_connections')::int \
                 + coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0)",
                &[],
            )
            .await?;
        let count = |column| {
            row.try_get::<_, i32>(column)
                .map(|count| u32::try_from(count).unwrap_or(0))
        };
        Ok(Self {
            version: row.try_get(0)?,
            max_connections: count(1)?,
            reserved: count(2)?,
        })
    }

    /// Connections that applications may have together.
    pub fn usable(&self) -> u32 {
        self.max_connections.saturating_sub(self.reserved)
    }
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No connection could be had.
    #[error(transparent)]
    Checkout(#[from] CheckoutError<tokio_postgres::Error>),
    /// PostgreSQL answered with an error.
    #[error("PostgreSQL did not answer the question")]
    Query(#[from] tokio_postgres::Error),
    /// The answer is not one of name and password.
    #[error("the answer has {0} columns, where a name and a password are wanted")]
    Columns(usize),
    /// PostgreSQL did not answer in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
}

impl Control {
    /// A pool that opens its first connection when it is first asked.
    ///
    /// # Errors
    /// The rules make no pool.
    pub fn new(config: Config, observer: Arc<dyn Observer>) -> Result<Self, ConfigError> {
        let tls = MakeRustlsConnect::new(config.tls.config());
        let rules = pool::Config {
            size: SIZE,
            max_overflow: 0,
            timeout: config.connect_timeout,
            connect_timeout: config.connect_timeout,
            ..pool::Config::default()
        };
        let pool = Pool::new(Manager::new(postgres_config(&config), tls), rules, observer)?;
        Ok(Self {
            pool,
            config: Arc::new(config),
        })
    }

    /// What PostgreSQL says of itself, asked now.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn limits(&self, limit: Duration) -> Result<Limits, ControlError> {
        tokio::time::timeout(limit, self.ask_limits())
            .await
            .map_err(|_| ControlError::Deadline(limit))?
    }

    async fn ask_limits(&self) -> Result<Limits, ControlError> {
        let client = self.pool.checkout().await?;
        Ok(Limits::ask(&client).await?)
    }

    /// The stored password of a user, asked with `query`: its `$1` is the name, its answer a row of name and password.
    /// `None` where there is no such row, and a password of `None` where it is NULL.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn user_secret(
        &self,
        query: &str,
        user: &str,
        limit: Duration,
    ) -> Result<Option<Option<Secret>>, ControlError> {
        tokio::time::timeout(limit, self.ask_user_secret(query, user))
            .await
            .map_err(|_| ControlError::Deadline(limit))?
    }

    async fn ask_user_secret(
        &self,
        query: &str,
        user: &str,
    ) -> Result<Option<Option<Secret>>, ControlError> {
        let client = self.pool.checkout().await?;
        let Some(row) = client.query_opt(query, &[&user]).await? else {
            return Ok(None);
        };
        if row.len() < 2 {
            return Err(ControlError::Columns(row.len()));
        }
        let (name, secret): (&str, Option<&str>) = (row.try_get(0)?, row.try_get(1)?);
        Ok((name == user).then(|| secret.map(Secret::from)))
    }

    /// Where it connects to.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The first host, for labels and logs.
    pub fn host(&self) -> &HostPort {
        &self.config.hosts[0]
    }

    /// The pool at this moment.
    pub fn status(&self) -> Status {
        self.pool.status()
    }

    /// Closes the connections that are idle now; the next question opens one.
    pub fn close_idle(&self) {
        self.pool.close_idle();
    }

    /// Closes the pool.
    pub fn close(&self) {
        self.pool.close();
    }
}

fn postgres_config(config: &Config) -> tokio_postgres::Config {
    let mut postgres = tokio_postgres::Config::new();
    postgres
        .user(&config.user)
        .dbname(&config.database)
        .application_name("poolwatch");
    postgres.connect_timeout(config.connect_timeout);
    if let Some(password) = &config.password {
        postgres.password(password.expose());
    }
    for host in &config.hosts {
        match &host.host {
            Host::Tcp(name) => postgres.host(name),
            Host::Unix(directory) => postgres.host_path(directory),
        };
        postgres.port(host.port);
    }
    // What is verified is the TLS configuration's own business; here only whether there is TLS at all.
    postgres.ssl_mode(match config.tls.mode() {
        SslMode::Disable | SslMode::Allow => PostgresSslMode::Disable,
        SslMode::Prefer => PostgresSslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => PostgresSslMode::Require,
    });
    postgres
}
