//! The table of live sessions: who is connected, since when, and what the session is doing.
//!
//! A session registers after its startup packet was read and holds a guard; dropping it, however the session ends,
//! takes it out of the table. A change of state is one atomic store, because it happens several times a query. The
//! lock is taken when clients come and go and when somebody looks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;

use crate::error::{Class, ClientError};
pub use crate::metrics::ClientState;
use crate::metrics::{Limit, Metrics, ProxyMetrics};

/// Who a client is.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// The user it asked for.
    pub user: String,
    /// The database it asked for.
    pub database: String,
    /// What it called itself at its start; empty if it did not.
    pub application_name: String,
    /// Where it came from.
    pub addr: ClientAddr,
}

/// Where a client came from. An address is personal data: `Debug` hides it, and it is no label.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ClientAddr {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket.
    Unix,
}

impl std::fmt::Debug for ClientAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ClientAddr::Tcp(_) => "tcp [hidden]",
            ClientAddr::Unix => "unix",
        })
    }
}

/// The limit on clients is reached. In PostgreSQL's own words, which drivers and people know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sorry, too many clients already")]
pub struct TooManyClients {
    /// The limit (`listen.max_clients`).
    pub limit: usize,
}

impl ClientError for TooManyClients {
    fn class(&self) -> Class {
        Class::Limit
    }

    fn client_hint(&self) -> Option<String> {
        Some(format!(
            "poolwatch serves at most {} clients (listen.max_clients).",
            self.limit
        ))
    }
}

/// The table. Clones share it.
#[derive(Debug, Clone)]
pub struct Clients(Arc<Table>);

#[derive(Debug)]
struct Table {
    /// Live clients by id, and so in the order in which they came.
    live: Mutex<BTreeMap<u64, Arc<Client>>>,
    next_id: AtomicU64,
    limit: usize,
    metrics: Arc<ProxyMetrics>,
}

#[derive(Debug)]
struct Client {
    id: u64,
    info: ClientInfo,
    connected: Instant,
    connected_at: SystemTime,
    /// A [`ClientState`]'s discriminant.
    state: AtomicU8,
}

/// A client at the moment somebody looked.
#[derive(Debug, Clone)]
pub struct ClientSnapshot {
    /// Unique in the life of the process, ascending.
    pub id: u64,
    /// Who it is.
    pub info: ClientInfo,
    /// When it registered, to measure by.
    pub connected: Instant,
    /// When it registered, to show.
    pub connected_at: SystemTime,
    /// What its session was doing.
    pub state: ClientState,
}

impl Clients {
    /// An empty table for at most `limit` clients, whose counts by state `metrics` exports.
    pub fn new(limit: usize, metrics: &Metrics) -> Self {
        let clients = Self(Arc::new(Table {
            live: Mutex::default(),
            next_id: AtomicU64::new(1),
            limit,
            metrics: metrics.proxy(),
        }));
        let watched = clients.clone();
        metrics.watch_clients(move || watched.counts());
        clients
    }

    /// Enters a client, in the state [`ClientState::Login`].
    ///
    /// # Errors
    /// When the limit is reached. That is counted here; telling the client is the caller's.
    pub fn register(&self, info: ClientInfo) -> Result<ClientGuard, TooManyClients> {
        let table = &self.0;
        let mut live = table.live.lock();
        if live.len() >= table.limit {
            drop(live);
            table.metrics.limit_rejected(Limit::Clients);
            return Err(TooManyClients { limit: table.limit });
        }
        let client = Arc::new(Client {
            id: table.next_id.fetch_add(1, Ordering::Relaxed),
            info,
            connected: Instant::now(),
            connected_at: SystemTime::now(),
            state: AtomicU8::new(ClientState::Login as u8),
        });
        live.insert(client.id, Arc::clone(&client));
        drop(live);
        Ok(ClientGuard {
            table: Arc::clone(table),
            client,
        })
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.0.live.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many may be there at most.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// How many are in each state, in the order of [`ClientState::ALL`]. They add up to one moment's [`len`](Self::len).
    pub fn counts(&self) -> [usize; ClientState::COUNT] {
        let mut counts = [0; ClientState::COUNT];
        for client in self.0.live.lock().values() {
            counts[client.state() as usize] += 1;
        }
        counts
    }

    /// All clients, oldest first.
    pub fn snapshot(&self) -> Vec<ClientSnapshot> {
        // Texts are copied after the lock: a client that comes waits for reference counts only.
        let live: Vec<_> = self.0.live.lock().values().cloned().collect();
        live.iter().map(|client| client.snapshot()).collect()
    }
}

impl Client {
    fn state(&self) -> ClientState {
        // What was stored is a discriminant, so the index is always inside.
        let index = usize::from(self.state.load(Ordering::Relaxed));
        ClientState::ALL[index.min(ClientState::COUNT - 1)]
    }

    fn snapshot(&self) -> ClientSnapshot {
        ClientSnapshot {
            id: self.id,
            info: self.info.clone(),
            connected: self.connected,
            connected_at: self.connected_at,
            state: self.state(),
        }
    }
}

/// A client's place in the table. Dropping it takes the client out.
#[derive(Debug)]
#[must_use = "the client is in the table only while the guard lives"]
pub struct ClientGuard {
    table: Arc<Table>,
    client: Arc<Client>,
}

impl ClientGuard {
    /// The client's id: unique in the life of the process.
    pub fn id(&self) -> u64 {
        self.client.id
    }

    /// Who the client is.
    pub fn info(&self) -> &ClientInfo {
        &self.client.info
    }

    /// What the session does from now on. One relaxed store.
    pub fn set_state(&self, state: ClientState) {
        self.client.state.store(state as u8, Ordering::Relaxed);
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        let gone = self.table.live.lock().remove(&self.client.id);
        drop(gone); // frees the texts after the lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(user: &str) -> ClientInfo {
        ClientInfo {
            user: user.to_owned(),
            database: "app".to_owned(),
            application_name: String::new(),
            addr: ClientAddr::Tcp(SocketAddr::from(([192, 0, 2, 7], 4711))),
        }
    }

    #[test]
    fn a_client_is_in_the_table_as_long_as_its_guard() {
        let clients = Clients::new(10, &Metrics::new());
        let first = clients.register(info("a")).unwrap();
        let second = clients.register(info("b")).unwrap();
        assert!(first.id() < second.id());
        assert_eq!(clients.len(), 2);
        drop(first);
        let left = clients.snapshot();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].info.user, "b");
        drop(second);
        assert!(clients.is_empty());
    }

    #[test]
    fn counts_follow_the_states() {
        let clients = Clients::new(10, &Metrics::new());
        let guards: Vec<_> = ClientState::ALL
            .iter()
            .map(|_| clients.register(info("a")).unwrap())
            .collect();
        assert_eq!(clients.counts()[ClientState::Login as usize], guards.len());
        for (guard, state) in guards.iter().zip(ClientState::ALL) {
            guard.set_state(state);
        }
        assert_eq!(clients.counts(), [1; ClientState::COUNT]);
        let states: Vec<_> = clients.snapshot().iter().map(|c| c.state).collect();
        assert_eq!(states, ClientState::ALL);
    }

    #[test]
    fn the_limit_is_kept_counted_and_told_in_postgresqls_words() {
        let metrics = Metrics::new();
        let clients = Clients::new(1, &metrics);
        let held = clients.register(info("a")).unwrap();
        let error = clients.register(info("b")).unwrap_err();
        assert_eq!(error, TooManyClients { limit: 1 });
        assert_eq!(error.sqlstate(), "53300");
        assert_eq!(error.client_message(), "sorry, too many clients already");
        let text = metrics.encode().unwrap();
        assert!(text.contains("poolwatch_limit_rejections_total{limit=\"clients\"} 1\n"));
        assert!(text.contains("poolwatch_clients{state=\"login\"} 1\n"));
        drop(held);
        assert!(clients.register(info("b")).is_ok());
    }

    #[test]
    fn debug_hides_the_address() {
        let text = format!("{:?}", info("a"));
        assert!(
            !text.contains("192.0.2.7") && !text.contains("4711"),
            "{text}"
        );
    }
}
