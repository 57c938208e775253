//! The console: a database that is none, in which an operator looks at the pools and steers them with PgBouncer's commands.
//!
//! Reading order: `text` takes a command apart, `commands` is the table of them, `show` are those that show, `orders` those
//! that change something, `session` is the conversation. What is shown comes from [`status`](crate::status), what is done goes to
//! [`cluster`](crate::cluster), or through [`Hooks`] to parts above.
//!
//! Source of names, types and words: PgBouncer 1.25, `src/admin.c` and `src/stats.c`.

mod averages;
mod commands;
mod exported;
mod orders;
mod refusal;
mod session;
mod show;
mod table;
mod text;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clients::{ClientAddr, Clients, Connection, Reading};
use crate::cluster::Cluster;
use crate::metrics::ProxyMetrics;
use crate::status::Status;
use averages::Averages;
pub use refusal::EntryError;
pub use session::{Interrupt, Interrupts, Session, Visit};

/// The databases that are the console, whatever PostgreSQL has by these names.
pub const NAMES: [&str; 2] = ["pgbouncer", "poolwatch"];

/// The console's sessions at most: nobody has need of more, and each costs memory.
const SESSIONS: usize = 100;

/// So many of them are for those who may change something, whoever else is there.
const FOR_ADMINS: usize = 10;

/// Between two samples that averages are made of (PgBouncer's `stats_period`).
const STATS_PERIOD: Duration = Duration::from_secs(60);

/// Who may do what, and what is shown of the settings.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Users that may change something.
    pub admin_users: Vec<String>,
    /// Users that may look.
    pub stats_users: Vec<String>,
    /// Clients come in without a proof, so that a name says nothing: everybody may look. Who has the process's own user at the
    /// other end of a Unix socket may do all.
    pub trusted: bool,
    /// How long a command waits for servers to be released or clients to leave.
    pub wait_limit: Duration,
    /// Clients at most, in all; 0 is no limit.
    pub max_clients: u32,
    /// And of one user.
    pub max_clients_per_user: u32,
    /// Whether a server goes to the next client after each transaction; else after each session.
    pub transaction_pooling: bool,
    /// The port that is shown as the console's own.
    pub port: u16,
}

/// What somebody may do here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Stats,
    /// Look and change.
    Admin,
}

/// One setting, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub key: String,
    /// Its value, secrets masked.
    pub value: String,
    /// What it is where nothing is set.
    pub default: String,
    /// Whether it can be changed while the process runs.
    pub changeable: bool,
}

/// What is asked of the process as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Read the settings again.
    Reload,
    /// Change one setting until the next reload.
    Set {
        /// Its name.
        key: String,
        /// The new value.
        value: String,
    },
    /// End.
    Shutdown(Shutdown),
}

/// How the process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// At once: what runs is cancelled.
    Immediate,
    /// When the transactions under way have ended.
    WaitForServers,
    /// When the clients have left.
    WaitForClients,
}

/// The commands there are, with what may stand behind each and what one must be to use it; parameters of the session that
/// drivers ask for are among them.
pub fn commands() -> impl Iterator<Item = (&'static str, &'static str, Role)> {
    let commands = commands::COMMANDS.iter();
    commands.map(|command| (command.name, command.argument, command.needs))
}

/// An answer that comes later: done, or why not.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Changes what is read from clients.
pub type ChangeReading = dyn Fn(&[Reading], Reading) -> bool + Send + Sync;

/// What parts above do for the console.
pub struct Hooks {
    /// Everything that is shown.
    pub status: Arc<Status>,
    /// Runs a session away from the threads that carry queries: a table of thousands of clients takes time.
    pub host: Box<dyn Fn(Session) + Send + Sync>,
    /// The settings, in the order in which they are shown.
    pub settings: Box<dyn Fn() -> Vec<Setting> + Send + Sync>,
    /// Asks something of the process.
    pub ask: Box<dyn Fn(Ask) -> Answer<Result<(), String>> + Send + Sync>,
    /// Ends the session of one client; false if there is none of that id.
    pub end_client: Box<dyn Fn(u64) -> Answer<bool> + Send + Sync>,
    /// Changes what is read from clients, if it is one of these now; false if not.
    pub change_reading: Box<ChangeReading>,
    /// What is read from clients.
    pub reading: Box<dyn Fn() -> Reading + Send + Sync>,
    /// Ends all sessions in a database, or in any.
    pub end_clients: Box<dyn Fn(Option<String>) -> Answer<usize> + Send + Sync>,
}

/// The console. Clones share it.
#[derive(Clone)]
pub struct Console(Arc<Shared>);

struct Shared {
    config: Config,
    cluster: Cluster,
    /// Where sessions of the console get their ids from.
    clients: Clients,
    /// Where bytes of all clients are counted.
    metrics: Arc<ProxyMetrics>,
    hooks: OnceLock<Hooks>,
    averages: Mutex<Averages>,
    /// Who is here, by id.
    visitors: Mutex<BTreeMap<u64, Arc<Visitor>>>,
    commands: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    logins: AtomicU64,
}

/// Somebody at the console.
#[derive(Debug)]
struct Visitor {
    id: u64,
    user: String,
    application_name: String,
    addr: ClientAddr,
    connection: Connection,
    connected_at: SystemTime,
    /// When the last command came.
    asked_at: Mutex<SystemTime>,
}

impl Console {
    /// The console over these pools. It shows nothing until [`attach`](Self::attach).
    pub fn new(
        config: Config,
        cluster: Cluster,
        clients: Clients,
        metrics: Arc<ProxyMetrics>,
    ) -> Self {
        Self(Arc::new(Shared {
            config,
            cluster,
            clients,
            metrics,
            hooks: OnceLock::new(),
            averages: Mutex::new(Averages::new(Instant::now())),
            visitors: Mutex::default(),
            commands: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            logins: AtomicU64::new(0),
        }))
    }

    /// Connects it with the parts above; the first call counts.
    pub fn attach(&self, hooks: Hooks) {
        let _ = self.0.hooks.set(hooks);
    }

    /// Whether this database is the console.
    pub fn is_meant(database: &str) -> bool {
        NAMES.contains(&database)
    }

    /// What a user that has come in may do; `own` says that its process has this process's own user.
    ///
    /// # Errors
    /// Nothing.
    pub fn role(&self, user: &str, own: bool) -> Result<Role, EntryError> {
        let config = &self.0.config;
        let named = |users: &[String]| users.iter().any(|name| name == user);
        match config.trusted {
            true if own => Ok(Role::Admin),
            true => Ok(Role::Stats),
            false if named(&config.admin_users) => Ok(Role::Admin),
            false if named(&config.stats_users) => Ok(Role::Stats),
            false => Err(EntryError::NotAllowed {
                user: user.to_owned(),
            }),
        }
    }

    /// Takes the samples that averages are made of, as long as it is polled.
    pub async fn keep_averages(self) {
        loop {
            tokio::time::sleep(STATS_PERIOD).await;
            let totals = show::by_database(&self.0);
            self.0.averages.lock().sample(totals, Instant::now());
        }
    }
}

impl Shared {
    fn visitors(&self) -> Vec<Arc<Visitor>> {
        self.visitors.lock().values().cloned().collect()
    }

    fn count(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }

    fn count_received(&self, n: usize) {
        self.metrics.bytes_received_from_client(n);
        Self::count(&self.received, n);
    }

    fn count_sent(&self, n: usize) {
        self.metrics.bytes_sent_to_client(n);
        Self::count(&self.sent, n);
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

impl Hooks {
    /// Whether an operator has clients wait with what they have not begun.
    fn suspended(&self) -> bool {
        (self.reading)() != Reading::Everything
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
