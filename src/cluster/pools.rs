//! The pools there are, and making one on demand.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::PoolHandle;
use crate::backend::{Credentials, ServerManager, Target};
use crate::error::{Class, ClientError};
use crate::metrics::{Metrics, PoolLabels};
use crate::pgwire::ServerMessage;
use crate::pool::{self, Pool};

/// What the pools are made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the servers are; user, database and credentials are replaced by the pool's own.
    pub upstream: Target,
    /// The rules of each pool.
    pub pool: pool::Config,
    /// Pools at most, so that client-chosen database names cannot grow the number of series without bound.
    pub max_pools: usize,
}

/// All pools. Clones share them.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    metrics: Metrics,
    /// Locked at logins, reloads and scrapes; never on a query's path.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Config,
    pools: BTreeMap<(String, String), Arc<PoolHandle>>,
    closed: bool,
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
    /// poolwatch is stopping.
    #[error("terminating connection due to administrator command")]
    Closed,
}

impl ClientError for RouteError {
    fn class(&self) -> Class {
        match self {
            RouteError::TooManyPools(_) => Class::Limit,
            RouteError::Config(_) => Class::Internal,
            RouteError::Closed => Class::Shutdown,
        }
    }
}

impl Cluster {
    /// No pools yet.
    pub fn new(config: Config, metrics: Metrics) -> Self {
        let state = State {
            config,
            pools: BTreeMap::new(),
            closed: false,
        };
        Self(Arc::new(Inner {
            metrics,
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
        let key = (user.to_owned(), database.to_owned());
        if let Some(pool) = state.pools.get(&key) {
            return Ok(pool.clone());
        }
        if state.pools.len() >= state.config.max_pools {
            return Err(RouteError::TooManyPools(state.config.max_pools));
        }
        let pool = self.open(&state.config, user, database, credentials)?;
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
        let pool = Pool::new(
            ServerManager::new(target.clone()),
            config.pool,
            metrics.clone(),
        )?;
        let watched = pool.clone();
        metrics.watch(move || watched.status());
        Ok(Arc::new(PoolHandle::new(name, pool, metrics, target)))
    }

    /// Forgets a pool whose login PostgreSQL itself refused, so that a database that does not exist leaves nothing. An
    /// outage is no refusal: the figures of a pool must stay when somebody looks.
    pub fn forget_if_refused(&self, pool: &Arc<PoolHandle>, refusal: Option<&ServerMessage>) {
        let refused = |code: &str| code == "3D000" || code.starts_with("28");
        if !refusal.is_some_and(|message| refused(&message.code)) {
            return;
        }
        let mut state = self.0.state.lock();
        let status = pool.pool.status();
        // The map and the caller hold one each: a third is a session that uses it.
        if status.permits_in_use == 0 && status.live() == 0 && Arc::strong_count(pool) <= 2 {
            state.pools.retain(|_, known| !Arc::ptr_eq(known, pool));
            self.0.metrics.forget_pool(pool.name());
        }
    }

    /// All pools, by name.
    pub fn pools(&self) -> Vec<Arc<PoolHandle>> {
        self.0.state.lock().pools.values().cloned().collect()
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
