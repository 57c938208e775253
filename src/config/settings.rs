//! The typed settings and their defaults. What each key means stands in [`super::ROWS`].

use std::path::PathBuf;
use std::time::Duration;

use super::value::{
    Addresses, AuthMethod, Compat, DropPublic, LogFormat, LogLevel, Names, PoolMode, ResetOnReturn,
    ServerReset, SlowRules, TlsVersion, VectorMode,
};
use crate::dsn::{Dsn, Host, HostPort};

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// The PostgreSQL server behind the pool.
    pub upstream: Upstream,
    /// Where applications connect.
    pub listen: Listen,
    /// Who may come in.
    pub auth: Auth,
    /// Where metrics and health are answered.
    pub http: Http,
    /// Who may use the console.
    pub admin: Admin,
    /// The pool of server connections.
    pub pool: Pool,
    /// How figures are shown.
    pub metrics: Metrics,
    /// What is kept of every query.
    pub queries: Queries,
    /// What clients and pools may take at most.
    pub limits: Limits,
    /// How many threads do the work.
    pub threads: Threads,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// What is logged.
    pub log: Log,
    /// What `poolwatch init` makes.
    pub init: Init,
    /// How `poolwatch migrate` goes about it.
    pub migrate: Migrate,
}

/// `upstream.*`
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Upstream {
    pub url: Option<Dsn>,
    pub connect_timeout: Duration,
}

impl Upstream {
    /// How long opening a connection may take: the setting, or the URL's own limit where that is shorter.
    pub fn connect_limit(&self) -> Duration {
        let of_url = self.url.as_ref().and_then(|dsn| dsn.connect_timeout);
        of_url.map_or(self.connect_timeout, |limit| {
            limit.min(self.connect_timeout)
        })
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: None,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// `listen.*`
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Listen {
    pub address: Addresses,
    pub unix_socket_dir: Option<PathBuf>,
    pub max_clients: u32,
    pub login_timeout: Duration,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub tls_client_ca: Option<PathBuf>,
    pub tls_min_version: TlsVersion,
}

impl Listen {
    /// PgBouncer's port, so that what expects a pooler there finds one.
    pub const PORT: u16 = 6432;

    /// The Unix socket to listen on, if any. It has the port of the first address in its name, as PostgreSQL's own
    /// has, or [`Listen::PORT`] where there is no address or its port is left to the system.
    pub fn unix_socket(&self) -> Option<HostPort> {
        let directory = self.unix_socket_dir.as_ref()?;
        let port = self.address.0.first().map_or(0, |address| address.port);
        let port = if port == 0 { Self::PORT } else { port };
        Some(HostPort {
            host: Host::Unix(directory.clone()),
            port,
        })
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: Addresses(vec![HostPort::tcp("127.0.0.1", Self::PORT)]),
            unix_socket_dir: None,
            max_clients: 10_000,
            login_timeout: Duration::from_secs(60),
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            tls_min_version: TlsVersion::Tls12,
        }
    }
}

/// `auth.*`
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Auth {
    pub method: AuthMethod,
    pub users_file: Option<PathBuf>,
    pub query: Option<String>,
    pub max_failure_delay: Duration,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            method: AuthMethod::Auto,
            users_file: None,
            query: None,
            max_failure_delay: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// Whether clients come in without a proof: because that is set, or because nothing is known that they could prove.
    pub fn trusts_clients(&self) -> bool {
        match self.auth.method {
            AuthMethod::Trust => true,
            AuthMethod::Auto => !self.knows_passwords(),
            AuthMethod::ScramSha256 | AuthMethod::Password | AuthMethod::Cert => false,
        }
    }

    /// Whether clients are asked for what nobody knows.
    pub(super) fn has_nothing_to_check(&self) -> bool {
        let asks = matches!(
            self.auth.method,
            AuthMethod::ScramSha256 | AuthMethod::Password
        );
        asks && !self.knows_passwords()
    }

    fn knows_passwords(&self) -> bool {
        let dsn = self.upstream.url.as_ref();
        dsn.is_none_or(|dsn| dsn.password.is_some())
            || self.auth.users_file.is_some()
            || self.auth.query.is_some()
    }
}

/// `http.*`
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Http {
    pub address: HostPort,
    pub reader_token_file: Option<PathBuf>,
    pub operator_token_file: Option<PathBuf>,
    pub protect_metrics: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            address: HostPort::tcp("127.0.0.1", 9432),
            reader_token_file: None,
            operator_token_file: None,
            protect_metrics: false,
        }
    }
}

/// `admin.*`
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Admin {
    pub users: Names,
    pub stats_users: Names,
    pub wait_timeout: Duration,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            users: Names::default(),
            stats_users: Names::default(),
            wait_timeout: Duration::from_secs(10 * 60),
        }
    }
}

/// `pool.*`: by default what SQLAlchemy's QueuePool does in the applications poolwatch comes from.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Pool {
    pub enabled: bool,
    pub mode: PoolMode,
    pub size: u32,
    pub max_overflow: i32,
    pub timeout: Duration,
    pub recycle: Option<Duration>,
    pub pre_ping: bool,
    pub pre_ping_after: Duration,
    pub pre_ping_timeout: Duration,
    pub use_lifo: bool,
    pub reset_on_return: ResetOnReturn,
    pub pinning: bool,
    pub server_reset: ServerReset,
    pub reset_timeout: Duration,
    pub leak_threshold: Option<Duration>,
    pub max_pools: u32,
    pub max_prepared_statements: u32,
    pub max_client_prepared_statements: u32,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            enabled: true,
            mode: PoolMode::Transaction,
            size: 25,
            max_overflow: 10,
            timeout: Duration::from_secs(30),
            recycle: Some(Duration::from_secs(30 * 60)),
            pre_ping: true,
            pre_ping_after: Duration::from_secs(1),
            pre_ping_timeout: Duration::from_secs(5),
            use_lifo: false,
            reset_on_return: ResetOnReturn::Rollback,
            pinning: true,
            server_reset: ServerReset::Pinned,
            reset_timeout: Duration::from_secs(5),
            leak_threshold: Some(Duration::from_secs(60)),
            max_pools: 100,
            max_prepared_statements: 256,
            max_client_prepared_statements: 10_000,
        }
    }
}

/// `metrics.*`
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Metrics {
    pub compat: Compat,
}

/// `queries.*`
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Queries {
    pub enabled: bool,
    pub slow_threshold: Duration,
    pub slow_rules: SlowRules,
    pub slow_log_size: u32,
    pub slow_log_rate: u32,
    pub top_k: u32,
    pub max_fingerprints: u32,
    pub log_literals: bool,
}

impl Default for Queries {
    fn default() -> Self {
        Self {
            enabled: true,
            slow_threshold: Duration::from_millis(500),
            slow_rules: SlowRules::default(),
            slow_log_size: 1_000,
            slow_log_rate: 50,
            top_k: 100,
            max_fingerprints: 2_000,
            log_literals: false,
        }
    }
}

/// `limits.*`: all of them are off by default.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Limits {
    pub clients_per_user: u32,
    pub servers: u32,
    pub idle_client: Option<Duration>,
    pub idle_in_transaction: Option<Duration>,
    pub transaction_time: Option<Duration>,
    pub query_time: Option<Duration>,
    pub message_size: u32,
    pub idle_pool: Option<Duration>,
}

/// `threads.*`
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Threads {
    pub data: u32,
    pub control: u32,
}

impl Default for Threads {
    fn default() -> Self {
        Self {
            data: 1,
            control: 1,
        }
    }
}

/// `shutdown.*`
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Shutdown {
    pub timeout: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
        }
    }
}

/// `log.*`
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

/// `init.*`
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Init {
    pub url: Option<Dsn>,
    pub vector: VectorMode,
    pub drop_public: DropPublic,
    pub sidecar: bool,
}

/// `migrate.*`
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "ROWS has the meaning of every key, once")]
pub struct Migrate {
    pub url: Option<Dsn>,
    pub source: Option<PathBuf>,
    pub alembic_source: Option<PathBuf>,
    pub watch: Option<Duration>,
    pub lock_timeout: Duration,
    pub statement_timeout: Option<Duration>,
}

impl Default for Migrate {
    fn default() -> Self {
        Self {
            url: None,
            source: None,
            alembic_source: None,
            watch: Some(Duration::from_secs(30)),
            lock_timeout: Duration::from_secs(10),
            statement_timeout: None,
        }
    }
}
