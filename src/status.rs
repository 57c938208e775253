//! Read-only views of the live parts, for everything that shows them: the JSON API and the console. A number has
//! one origin, the part that owns it, and is fetched when somebody looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::sql::Fingerprint;

/// What is known of a server.
pub use crate::backend::ServerSnapshot;
/// What is known of a client.
pub use crate::clients::{ClientAddr, ClientSnapshot, ClientState};
/// Who keeps a server.
pub use crate::clients::{Pin, PinnedSession};
/// What a pool has counted.
pub use crate::metrics::{PoolTotals, StatementMessage};
/// What a pool says of itself.
pub use crate::pool::Status as PoolStatus;

/// Who has a server and does nothing.
pub use crate::diagnosis::Leak;
/// What is known of queries.
pub use crate::query::{
    Description, Figures, Queries, QueriesView, QueryView, SlowQuery, SqlState, Window,
};

/// The name of the pool through which poolwatch itself asks; no client is in it.
pub const CONTROL: &str = "control";

/// Where views come from.
pub struct Status {
    pools: Box<dyn Fn() -> Vec<PoolView> + Send + Sync>,
    pinned: Box<dyn Fn() -> Vec<PinnedSession> + Send + Sync>,
    live: Option<Live>,
    queries: Option<Queries>,
    leaks: Box<dyn Fn() -> Vec<Leak> + Send + Sync>,
}

/// Where clients and servers are listed.
struct Live {
    clients: Box<dyn Fn() -> Vec<ClientSnapshot> + Send + Sync>,
    servers: Box<dyn Fn() -> Vec<PoolServer> + Send + Sync>,
    holdings: Box<dyn Fn() -> Vec<Holding> + Send + Sync>,
}

/// One pool, as it is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolView {
    /// The pool's name, as in the label `db_client_connection_pool_name`.
    pub name: String,
    /// The user its servers are logged in as.
    pub user: String,
    /// The PostgreSQL host, or the directory of its Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// What the pool says of itself.
    pub status: PoolStatus,
    /// What it has counted.
    pub totals: PoolTotals,
}

/// A server and the pool it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolServer {
    /// The pool's name.
    pub pool: String,
    /// The user it is logged in as.
    pub user: String,
    /// The database.
    pub database: String,
    /// The port of its address.
    pub port: u16,
    /// The server.
    pub server: ServerSnapshot,
}

/// A client has a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// The client's id.
    pub client: u64,
    /// The server's id.
    pub server: u64,
    /// For how long it has had it.
    pub held: Duration,
}

/// Clients and servers, and who has which.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// The clients, those that came first in front.
    pub clients: Vec<ClientSnapshot>,
    /// The servers of all pools.
    pub servers: Vec<PoolServer>,
    /// Who has a server, by client.
    pub by_client: HashMap<u64, Holding>,
    /// And by server.
    pub by_server: HashMap<u64, Holding>,
}

impl Status {
    /// `pools` lists the pools that exist at the moment of the call; it reads memory and does not block.
    pub fn new(pools: impl Fn() -> Vec<PoolView> + Send + Sync + 'static) -> Self {
        Self {
            pools: Box::new(pools),
            pinned: Box::new(Vec::new),
            live: None,
            queries: None,
            leaks: Box::new(Vec::new),
        }
    }

    /// And `pinned` the sessions that keep their servers, likewise.
    #[must_use]
    pub fn with_pinned(
        mut self,
        pinned: impl Fn() -> Vec<PinnedSession> + Send + Sync + 'static,
    ) -> Self {
        self.pinned = Box::new(pinned);
        self
    }

    /// And the clients, the servers, and who has which.
    #[must_use]
    pub fn with_sessions(
        mut self,
        clients: impl Fn() -> Vec<ClientSnapshot> + Send + Sync + 'static,
        servers: impl Fn() -> Vec<PoolServer> + Send + Sync + 'static,
        holdings: impl Fn() -> Vec<Holding> + Send + Sync + 'static,
    ) -> Self {
        self.live = Some(Live {
            clients: Box::new(clients),
            servers: Box::new(servers),
            holdings: Box::new(holdings),
        });
        self
    }

    /// And the queries, where they are told apart.
    #[must_use]
    pub fn with_queries(mut self, queries: Option<Queries>) -> Self {
        self.queries = queries;
        self
    }

    /// And the suspected leaks.
    #[must_use]
    pub fn with_leaks(mut self, leaks: impl Fn() -> Vec<Leak> + Send + Sync + 'static) -> Self {
        self.leaks = Box::new(leaks);
        self
    }

    /// The suspected leaks of the last look, longest idle first.
    pub fn leaks(&self) -> Vec<Leak> {
        (self.leaks)()
    }

    /// The queries; none where they are not told apart.
    pub fn queries(&self) -> Option<&Queries> {
        self.queries.as_ref()
    }

    /// What statements of a fingerprint look like, as far as it is known.
    pub fn statement(&self, fingerprint: u64) -> Option<Arc<Description>> {
        self.queries()?.description(Fingerprint(fingerprint))
    }

    /// The sessions that keep their servers, those that came first in front.
    pub fn pinned(&self) -> Vec<PinnedSession> {
        (self.pinned)()
    }

    /// The pools, in no particular order.
    pub fn pools(&self) -> Vec<PoolView> {
        (self.pools)()
    }

    /// The clients and servers. Each list is of its own moment: a session that moves on meanwhile may be in one of them only.
    pub fn sessions(&self) -> Sessions {
        let Some(live) = &self.live else {
            return Sessions::default();
        };
        let holdings = (live.holdings)();
        Sessions {
            clients: (live.clients)(),
            servers: (live.servers)(),
            by_client: holdings.iter().map(|held| (held.client, *held)).collect(),
            by_server: holdings.iter().map(|held| (held.server, *held)).collect(),
        }
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status").finish_non_exhaustive()
    }
}
