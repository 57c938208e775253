//! The pools there are, and making one on demand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::PoolHandle;
use super::orders::Orders;
use crate::backend::{Credentials, Ids, Roster, ServerManager, Target};
use crate::dsn::HostPort;
use crate::error::{Class, ClientError};
use crate::metrics::{Metrics, PoolLabels};
use crate::pgwire::ServerMessage;
use crate::pool::{self, Budget, Pool};

/// What the pools are made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the servers are; user, database and credentials are replaced by the pool's own.
    pub upstream: Target,
    /// The rules of each pool.
    pub pool: pool::Config,
    /// Pools at most, so that client-chosen database names cannot grow the number of series without bound.
    pub max_pools: usize,
    /// Connections at most over all pools, if that is limited.
    pub servers: Option<usize>,
}

/// All pools. Clones share them.
#[derive(Debug, Clone)]
pub struct Cluster(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    metrics: Metrics,
    /// Of servers, over all pools.
    ids: Ids,
    /// The limit on all pools' connections together.
    budget: Option<Budget>,
    /// Locked at logins, reloads and scrapes; never on a query's path.
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    config: Config,
    pub(super) pools: BTreeMap<(String, String), Arc<PoolHandle>>,
    closed: bool,
    pub(super) orders: Orders,
    /// The servers through which poolwatch itself asks.
    own: Option<OwnServers>,
}

/// Servers that belong to no pool of the cluster.
#[derive(Clone)]
pub struct OwnServers {
    /// The database they are connected to.
    pub database: String,
    /// Closes those that are idle.
    pub close_idle: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for OwnServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OwnServers").field(&self.database).finish()
    }
}

/// Why there is no pool for a login.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// As many pools as are allowed exist.
    #[error("no more than {0} pools (pool.max_pools)")]
    TooManyPools(usize),
    /// The settings make no pool.
    #[error(transparent)]
    Config(#[from] pool::ConfigError),
    /// An operator disabled the database.
    #[error("database \"{0}\" does not take new clients: it was disabled on the console")]
    Disabled(String),
    /// poolwatch is stopping.
    #[error("terminating connection due to administrator command")]
    Closed,
}

impl ClientError for RouteError {
    fn class(&self) -> Class {
        match self {
            RouteError::TooManyPools(_) => Class::Limit,
            RouteError::Config(_) => Class::Internal,
            RouteError::Disabled(_) => Class::Rejected,
            RouteError::Closed => Class::Shutdown,
        }
    }
}

impl Cluster {
    /// No pools yet.
    pub fn new(config: Config, metrics: Metrics) -> Self {
        let budget = config.servers.map(Budget::new);
        let state = State {
            config,
            pools: BTreeMap::new(),
            closed: false,
            orders: Orders::default(),
            own: None,
        };
        Self(Arc::new(Inner {
            metrics,
            ids: Ids::default(),
            budget,
            state: Mutex::new(state),
        }))
    }

    /// The pool of this user in this database, made if it is the first to ask; then its servers are opened with these
    /// credentials, whatever they are at the time.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub fn pool(
        &self,
        user: &str,
        database: &str,
        credentials: &Credentials,
    ) -> Result<Arc<PoolHandle>, RouteError> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Err(RouteError::Closed);
        }
        if state.orders.is_disabled(database) {
            return Err(RouteError::Disabled(database.to_owned()));
        }
        let key = (user.to_owned(), database.to_owned());
        if let Some(pool) = state.pools.get(&key) {
            pool.renew();
            return Ok(pool.clone());
        }
        if state.pools.len() >= state.config.max_pools {
            return Err(RouteError::TooManyPools(state.config.max_pools));
        }
        let pool = self.open(&state.config, user, database, credentials)?;
        pool.order_paused(state.orders.is_paused(database));
        state.pools.insert(key, pool.clone());
        Ok(pool)
    }

    fn open(
        &self,
        config: &Config,
        user: &str,
        database: &str,
        credentials: &Credentials,
    ) -> Result<Arc<PoolHandle>, RouteError> {
        let target = Target {
            user: user.to_owned(),
            database: database.to_owned(),
            credentials: credentials.clone(),
            ..config.upstream.clone()
        };
        let name = format!("{user}@{}/{database}", target.host());
        let metrics = self.0.metrics.pool(PoolLabels {
            name: name.clone(),
            namespace: database.to_owned(),
            host: target.host().host.to_string(),
            port: target.host().port,
        });
        let roster = Roster::new(self.0.ids.clone());
        let manager = ServerManager::listing(target.clone(), roster.clone());
        let pool = match &self.0.budget {
            Some(budget) => Pool::sharing(budget, manager, config.pool, metrics.clone())?,
            None => Pool::new(manager, config.pool, metrics.clone())?,
        };
        let watched = pool.clone();
        metrics.watch(move || watched.status());
        let proxy = self.0.metrics.proxy();
        Ok(Arc::new(PoolHandle::new(
            name, pool, metrics, proxy, target, roster,
        )))
    }

    /// Forgets a pool whose login PostgreSQL itself refused, so that a database that does not exist leaves nothing. An
    /// outage is no refusal: the figures of a pool must stay when somebody looks.
    fn forget_if_refused(&self, pool: &Arc<PoolHandle>, refusal: Option<&ServerMessage>) {
        let refused = |code: &str| code == "3D000" || code.starts_with("28");
        if refusal.is_some_and(|message| refused(&message.code)) {
            self.forget_unused(pool);
        }
    }

    /// A login begins at this pool. Dropped before it is told how that ended, by the limit on logins say, it forgets a
    /// pool that no login has proven: its database may not exist.
    pub fn entering<'a>(&'a self, pool: &'a Arc<PoolHandle>) -> Entering<'a> {
        Entering {
            cluster: self,
            pool,
            over: false,
        }
    }

    fn forget_unused(&self, pool: &Arc<PoolHandle>) {
        let mut state = self.0.state.lock();
        let status = pool.pool.status();
        // The map and the caller hold one each: a third is a session that uses it.
        if status.permits_in_use == 0 && status.live() == 0 && Arc::strong_count(pool) <= 2 {
            state.pools.retain(|_, known| !Arc::ptr_eq(known, pool));
            self.0.metrics.forget_pool(pool.name());
        }
    }

    /// Names the servers that are in the way of a command as those of the pools are.
    pub fn set_own_servers(&self, own: OwnServers) {
        self.0.state.lock().own = Some(own);
    }

    pub(super) fn close_own_idle(&self, database: &str) {
        let own = self.0.state.lock().own.clone();
        if let Some(own) = own.filter(|own| own.database == database) {
            (own.close_idle)();
        }
    }

    /// The rules of each pool, as they are now.
    pub fn rules(&self) -> pool::Config {
        self.0.state.lock().config.pool
    }

    /// Where the servers are, and the database of the upstream URL.
    pub fn upstream(&self) -> (HostPort, String) {
        let state = self.0.state.lock();
        let upstream = &state.config.upstream;
        (upstream.host().clone(), upstream.database.clone())
    }

    /// All pools, by name.
    pub fn pools(&self) -> Vec<Arc<PoolHandle>> {
        self.0.state.lock().pools.values().cloned().collect()
    }

    /// Closes and forgets pools that have had no clients for so long, as long as it is polled. Looked at every second, more
    /// often where the limit is shorter than four.
    pub async fn forget_idle(self, limit: Duration) {
        let pause = (limit / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut idle_since = HashMap::new();
        loop {
            tokio::time::sleep(pause).await;
            self.look_for_idle(limit, &mut idle_since);
        }
    }

    /// One look; `idle_since` has what earlier ones saw.
    fn look_for_idle(&self, limit: Duration, idle_since: &mut HashMap<String, Instant>) {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        state.pools.retain(|_, pool| {
            // The map's own: nobody is in it, and nobody comes in while the map is locked.
            if Arc::strong_count(pool) > 1 {
                idle_since.remove(pool.name());
                return true;
            }
            let since = *idle_since.entry(pool.name().to_owned()).or_insert(now);
            let stays = now.saturating_duration_since(since) < limit;
            if !stays {
                idle_since.remove(pool.name());
                pool.pool.close();
                self.0.metrics.forget_pool(pool.name());
                tracing::info!(pool = pool.name(), ?limit, "pool forgotten: no clients");
            }
            stays
        });
    }

    /// New rules for the pools there are and those to come.
    ///
    /// # Errors
    /// The rules contradict themselves; nothing was changed then.
    pub fn reload(&self, config: pool::Config) -> Result<(), pool::ConfigError> {
        let mut state = self.0.state.lock();
        for pool in state.pools.values() {
            pool.pool.reload(config)?;
        }
        state.config.pool = config;
        Ok(())
    }

    /// Closes every pool and makes no more: waiting checkouts end, idle servers close, those in use close at return.
    pub fn close(&self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        for pool in state.pools.values() {
            pool.pool.close();
        }
    }
}

/// A login under way.
#[derive(Debug)]
pub struct Entering<'a> {
    cluster: &'a Cluster,
    pool: &'a Arc<PoolHandle>,
    over: bool,
}

impl Entering<'_> {
    /// A server was had: the database is there.
    pub fn succeeded(mut self) {
        self.over = true;
        self.pool.prove();
    }

    /// There was none. The pool is forgotten where that was PostgreSQL's refusal.
    pub fn failed(mut self, refusal: Option<&ServerMessage>) {
        self.over = true;
        self.cluster.forget_if_refused(self.pool, refusal);
    }
}

impl Drop for Entering<'_> {
    fn drop(&mut self) {
        if !self.over && !self.pool.is_proven() {
            self.cluster.forget_unused(self.pool);
        }
    }
}
