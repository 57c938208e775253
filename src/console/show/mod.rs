//! What is shown: each function makes the table of one SHOW command of what the live parts say at that moment.

mod databases;
mod others;
mod ours;
mod pools;
mod queries;
mod sockets;
mod stats;

use std::time::{Duration, SystemTime};

use super::averages::{ByDatabase, plus};
use super::{Hooks, Shared, Visitor};
use crate::status::{CONTROL, ClientState, PoolTotals, PoolView, Sessions};

pub(super) use databases::{databases, users};
pub(super) use others::{
    config, dns_hosts, dns_zones, lists, mem, peer_pools, peers, state, version,
};
pub(super) use ours::{holders, pins};
pub(super) use pools::pools;
pub(super) use queries::{queries, slow};
pub(super) use sockets::{active_sockets, clients, servers, sockets};
pub(super) use stats::{stats, stats_averages, stats_totals, totals};

/// What a table is made of.
pub(super) struct View<'a> {
    pub(super) shared: &'a Shared,
    pub(super) hooks: &'a Hooks,
}

/// The name under which the console shows itself, whichever it was called by.
const CONSOLE: &str = super::NAMES[0];

impl View<'_> {
    /// The pools of clients, by database and user.
    fn pools(&self) -> Vec<PoolView> {
        client_pools(self.hooks)
    }

    fn sessions(&self) -> Sessions {
        self.hooks.status.sessions()
    }

    fn visitors(&self) -> Vec<std::sync::Arc<Visitor>> {
        self.shared.visitors()
    }

    /// How servers are given to clients.
    fn pool_mode(&self) -> &'static str {
        match self.shared.config.transaction_pooling {
            true => "transaction",
            false => "session",
        }
    }
}

fn client_pools(hooks: &Hooks) -> Vec<PoolView> {
    let mut pools = hooks.status.pools();
    pools.retain(|pool| pool.name != CONTROL);
    pools.sort_by(|a, b| (&a.database, &a.user).cmp(&(&b.database, &b.user)));
    pools
}

/// What was counted in each database, and in the console itself.
pub(super) fn by_database(shared: &Shared) -> ByDatabase {
    let mut totals = ByDatabase::new();
    let load = |count: &std::sync::atomic::AtomicU64| count.load(super::Ordering::Relaxed);
    let own = PoolTotals {
        transactions: load(&shared.commands),
        queries: load(&shared.commands),
        received: load(&shared.received),
        sent: load(&shared.sent),
        logins: load(&shared.logins),
        ..PoolTotals::default()
    };
    totals.insert(CONSOLE.to_owned(), own);
    let Some(hooks) = shared.hooks.get() else {
        return totals;
    };
    for pool in client_pools(hooks) {
        let sum = totals.entry(pool.database).or_default();
        *sum = plus(sum, &pool.totals);
    }
    totals
}

/// Whether a client waits for a server. One that has proved who it is and is not in yet waits for the one of its session, or
/// that its parameters are tried on.
fn waits(state: ClientState) -> bool {
    matches!(state, ClientState::Waiting | ClientState::Login)
}

/// How long ago something was; nothing if the clock was set back.
fn ago(when: SystemTime) -> Duration {
    SystemTime::now().duration_since(when).unwrap_or_default()
}
