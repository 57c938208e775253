//! Read-only views of the live parts, for everything that shows them: the JSON API now, the console later. A number has
//! one origin, the part that owns it, and is fetched when somebody looks.

/// Who keeps a server.
pub use crate::clients::{Pin, PinnedSession};
/// What a pool says of itself.
pub use crate::pool::Status as PoolStatus;

/// Where views come from.
pub struct Status {
    pools: Box<dyn Fn() -> Vec<PoolView> + Send + Sync>,
    pinned: Box<dyn Fn() -> Vec<PinnedSession> + Send + Sync>,
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
}

impl Status {
    /// `pools` lists the pools that exist at the moment of the call; it reads memory and does not block.
    pub fn new(pools: impl Fn() -> Vec<PoolView> + Send + Sync + 'static) -> Self {
        Self {
            pools: Box::new(pools),
            pinned: Box::new(Vec::new),
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

    /// The sessions that keep their servers, those that came first in front.
    pub fn pinned(&self) -> Vec<PinnedSession> {
        (self.pinned)()
    }

    /// The pools, in no particular order.
    pub fn pools(&self) -> Vec<PoolView> {
        (self.pools)()
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status").finish_non_exhaustive()
    }
}
