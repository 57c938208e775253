//! The client side: accept, log in, and serve sessions.
//!
//! Reading order: `listener`, `handshake`, `newcomer`, `login`, `session`; then what a session is made of: `demand`,
//! `client_side`, `server_side`, `relay`, `parting`.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::auth::Admission;
use crate::backend::OpenTransaction;
use crate::clients::{Clients, Pinned, Reading};
use crate::cluster::Cluster;
use crate::console::Console;
use crate::metrics::ProxyMetrics;
use crate::query::Queries;
use crate::tasks::Tasks;
use crate::tls::ServerTls;

mod authenticate;
mod client_side;
mod control;
mod databases;
mod demand;
mod handshake;
mod left;
mod limits;
mod listener;
mod login;
mod names;
mod newcomer;
mod parting;
mod phase;
mod pins;
mod pipeline;
mod refuse;
mod relay;
mod replication;
mod restoring;
mod rewriting;
mod server_side;
mod session;
mod sessions;
mod sharing;
mod state;
mod timing;
mod traffic;
mod unnamed;
mod visit;
mod wording;

pub use limits::Limits;
pub use listener::{Bound, Listener};
pub use sessions::{Link, Sessions};
pub use sharing::StatementLimits;

/// When a server goes to the next client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PoolMode {
    /// After each transaction.
    #[default]
    Transaction,
    /// When the client leaves.
    Session,
}

/// What the sessions are run with.
#[derive(Debug, Clone)]
pub struct Config {
    /// When a server goes to the next client.
    pub mode: PoolMode,
    /// From accept to ReadyForQuery at most.
    pub login_timeout: Duration,
    /// For a rollback, a reset or a parameter at most; a server that takes longer is closed.
    pub reset_timeout: Duration,
    /// What becomes of a transaction that a client leaves open.
    pub open_transaction: OpenTransaction,
    /// How many prepared statements are kept for clients to share.
    pub statements: StatementLimits,
    /// Whether a client keeps its server for what it left there; else that is cleared after each transaction.
    pub pinning: bool,
    /// Reset a server after every lease, not only where state is known to be left.
    pub reset_always: bool,
    /// What clients may take at most.
    pub limits: Limits,
}

/// What all sessions share.
#[derive(Debug)]
struct Shared {
    settings: Config,
    cluster: Cluster,
    clients: Clients,
    admission: Admission,
    metrics: Arc<ProxyMetrics>,
    queries: Option<Queries>,
    tls: ServerTls,
    tasks: Tasks,
    console: Console,
    /// No more connections are accepted.
    closed_to_new: CancellationToken,
    controls: Arc<control::Controls>,
    pinned: Pinned,
}

/// The client side as a whole.
#[derive(Debug, Clone)]
pub struct Proxy(Arc<Shared>);

/// The parts that the client side stands on.
#[derive(Debug)]
pub struct Parts {
    /// The pools.
    pub cluster: Cluster,
    /// The table of sessions.
    pub clients: Clients,
    /// Who may come in.
    pub admission: Admission,
    /// Client-side figures.
    pub metrics: Arc<ProxyMetrics>,
    /// Who is told of every query; nobody where that is switched off.
    pub queries: Option<Queries>,
    /// How to speak TLS with clients.
    pub tls: ServerTls,
    /// Tracks every session.
    pub tasks: Tasks,
    /// What a login to its database leads to.
    pub console: Console,
}

impl Proxy {
    /// The client side over these parts.
    pub fn new(settings: Config, parts: Parts) -> Self {
        let Parts {
            cluster,
            clients,
            admission,
            metrics,
            queries,
            tls,
            tasks,
            console,
        } = parts;
        let controls = Arc::default();
        Self(Arc::new(Shared {
            settings,
            cluster,
            clients,
            admission,
            metrics,
            queries,
            tls,
            tasks,
            console,
            closed_to_new: CancellationToken::new(),
            controls,
            pinned: Pinned::default(),
        }))
    }

    /// The sessions that keep their servers.
    pub fn pinned(&self) -> &Pinned {
        &self.0.pinned
    }

    /// A way to all sessions.
    pub fn sessions(&self) -> Sessions {
        Sessions(self.0.controls.clone())
    }

    /// Ends the listeners; the sessions stay, and are all read from: they are to come to their ends.
    pub fn close_to_new(&self) {
        self.0.closed_to_new.cancel();
        let suspended = [Reading::Begun, Reading::Nothing];
        let controls = &self.0.controls;
        controls.change_reading(&suspended, Reading::Everything);
    }

    /// Tells every session to end between transactions.
    pub fn stop_sessions(&self) {
        self.0.controls.stop();
    }

    /// Cancels whatever runs for any session, and ends those that are in the middle of a transaction
    /// too. All requests go out at once, and are waited for no longer than `limit`.
    pub async fn cancel_all(&self, limit: Duration) {
        self.0.controls.stop_now();
        let aims = self.0.controls.aim_at_all();
        let sent = futures_util::future::join_all(aims.into_iter().map(crate::backend::Aim::send));
        if tokio::time::timeout(limit, sent).await.is_err() {
            tracing::warn!(?limit, "cancel requests not answered");
        }
    }
}
