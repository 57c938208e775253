//! What an operator has ordered: databases that are paused or disabled, and servers to be replaced.
//!
//! An order holds for the pools there are and for those to come. A pause is a hold of the same kind that a command takes
//! which needs a database to itself, so the two do not end each other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cluster, PoolHandle};

/// Between two looks at servers that are to go.
const PAUSE: Duration = Duration::from_millis(20);

/// The orders that last.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Every database is paused.
    all: bool,
    /// Those that are paused by name.
    paused: BTreeSet<String>,
    disabled: BTreeSet<String>,
}

impl Orders {
    pub(super) fn is_paused(&self, database: &str) -> bool {
        self.all || self.paused.contains(database)
    }

    pub(super) fn is_disabled(&self, database: &str) -> bool {
        self.disabled.contains(database)
    }
}

/// What is paused and disabled, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ordered {
    /// Every database is paused.
    pub all_paused: bool,
    /// Those that are paused by name.
    pub paused: BTreeSet<String>,
    /// Those that take no new clients.
    pub disabled: BTreeSet<String>,
}

impl Ordered {
    /// Whether this database is paused, by name or with all.
    pub fn is_paused(&self, database: &str) -> bool {
        self.all_paused || self.paused.contains(database)
    }
}

/// Servers that were still there when a wait for their end was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{left} server connections were still in use after {after:?}")]
pub struct StillThere {
    /// How many.
    pub left: usize,
    /// The limit of the wait.
    pub after: Duration,
}

impl Cluster {
    /// What is ordered now.
    pub fn ordered(&self) -> Ordered {
        let state = self.0.state.lock();
        Ordered {
            all_paused: state.orders.all,
            paused: state.orders.paused.clone(),
            disabled: state.orders.disabled.clone(),
        }
    }

    /// Gives no servers to this database's clients, or to any, until [`resume`](Self::resume); idle ones are closed. False
    /// if that was ordered before.
    pub fn pause(&self, database: Option<&str>) -> bool {
        let new = self.order(|orders| match database {
            None => !std::mem::replace(&mut orders.all, true),
            Some(name) => orders.paused.insert(name.to_owned()),
        });
        self.close_idle(database);
        new
    }

    /// Ends what [`pause`](Self::pause) ordered in the same words. False if it did not.
    pub fn resume(&self, database: Option<&str>) -> bool {
        self.order(|orders| match database {
            None => std::mem::replace(&mut orders.all, false),
            Some(name) => orders.paused.remove(name),
        })
    }

    /// Takes no new clients to this database, or takes them again. Those that are in stay.
    pub fn set_disabled(&self, database: &str, disabled: bool) {
        self.order(|orders| match disabled {
            true => orders.disabled.insert(database.to_owned()),
            false => orders.disabled.remove(database),
        });
    }

    /// Replaces the servers of this database, or of all: idle ones are closed now, others when they come back.
    pub fn reconnect(&self, database: Option<&str>) {
        for pool in self.pools_of(database) {
            pool.roster.retire_all();
            pool.pool.invalidate();
            pool.pool.close_idle();
        }
    }

    /// Closes the servers that nobody uses, of this database or of all.
    pub fn close_idle(&self, database: Option<&str>) {
        for pool in self.pools_of(database) {
            pool.pool.close_idle();
        }
    }

    /// Waits until a pause has taken the last server of this database, or of all.
    ///
    /// # Errors
    /// Some are still in use after `limit`; the pause stays.
    pub async fn released(
        &self,
        database: Option<&str>,
        limit: Duration,
    ) -> Result<(), StillThere> {
        self.until_none(limit, || {
            self.close_idle(database);
            let pools = self.pools_of(database).into_iter();
            let open = pools.map(|pool| {
                let status = pool.pool.status();
                (status.live() + status.connecting) as usize
            });
            open.sum()
        })
        .await
    }

    /// Waits until the last server is closed that was to be replaced.
    ///
    /// # Errors
    /// Some are still in use after `limit`.
    pub async fn replaced(
        &self,
        database: Option<&str>,
        limit: Duration,
    ) -> Result<(), StillThere> {
        self.until_none(limit, || {
            let pools = self.pools_of(database).into_iter();
            pools.map(|pool| pool.roster.retired()).sum()
        })
        .await
    }

    /// Whether this is the upstream URL's database, or there is a pool of it, or an order about it.
    pub fn knows(&self, database: &str) -> bool {
        if self.upstream().1 == database {
            return true;
        }
        let state = self.0.state.lock();
        let orders = &state.orders;
        state.pools.keys().any(|(_, known)| known == database)
            || orders.paused.contains(database)
            || orders.disabled.contains(database)
    }

    async fn until_none(
        &self,
        limit: Duration,
        mut left: impl FnMut() -> usize,
    ) -> Result<(), StillThere> {
        let deadline = Instant::now() + limit;
        loop {
            match left() {
                0 => return Ok(()),
                left if Instant::now() >= deadline => {
                    return Err(StillThere { left, after: limit });
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn pools_of(&self, database: Option<&str>) -> Vec<Arc<PoolHandle>> {
        let mut pools = self.pools();
        pools.retain(|pool| database.is_none_or(|name| pool.target().database == name));
        pools
    }

    /// Changes what is ordered, and has every pool follow, before anybody can change it again.
    fn order<T>(&self, change: impl FnOnce(&mut Orders) -> T) -> T {
        let mut state = self.0.state.lock();
        let changed = change(&mut state.orders);
        for pool in state.pools.values() {
            pool.order_paused(state.orders.is_paused(&pool.target().database));
        }
        changed
    }
}

#[cfg(test)]
mod tests;
