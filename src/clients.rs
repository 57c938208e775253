//! The table of live sessions: who is connected, since when, and what the session is doing.
//!
//! A session registers after its startup packet was read and holds a guard; dropping it, however the session ends,
//! takes it out of the table. A change of state is one atomic store, because it happens several times a query. The
//! lock is taken when clients come and go and when somebody looks.

mod limits;
mod pinned;
mod reading;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;

pub use crate::metrics::ClientState;
use crate::metrics::{Limit, Metrics, ProxyMetrics};
pub use limits::{Limits, TooManyClients};
pub use pinned::{Pin, PinPlace, Pinned, PinnedSession};
pub use reading::Reading;
pub(crate) use reading::ReadingCell;

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
    /// What else is known of its connection.
    pub connection: Connection,
}

/// What is known of a client's connection beside the client's address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connection {
    /// The address that it connected to, over TCP.
    pub local: Option<SocketAddr>,
    /// The version and the cipher of TLS, if it is encrypted.
    pub tls: Option<String>,
    /// The client's process, over a Unix socket.
    pub process_id: Option<i32>,
    /// What it replicates, if it does: `logical` or `physical`.
    pub replication: Option<&'static str>,
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

/// The table. Clones share it.
#[derive(Debug, Clone)]
pub struct Clients(Arc<Table>);

#[derive(Debug)]
struct Table {
    live: Mutex<Live>,
    next_id: AtomicU64,
    limits: Limits,
    metrics: Arc<ProxyMetrics>,
}

#[derive(Debug, Default)]
struct Live {
    /// By id, and so in the order in which they came.
    by_id: BTreeMap<u64, Arc<Client>>,
    by_user: HashMap<String, usize>,
}

#[derive(Debug)]
struct Client {
    id: u64,
    info: ClientInfo,
    connected: Instant,
    connected_at: SystemTime,
    /// An [`Activity`], packed. Written by its own session only.
    activity: AtomicU64,
    /// Microseconds from its registration to its last request; zero is none so far.
    asked: AtomicU64,
    /// Prepared statements with names that it has.
    statements: AtomicUsize,
    /// The fingerprint of the statement that was sent last; zero is none so far.
    last: AtomicU64,
    /// An operator ends its login.
    ended: Notify,
}

/// What a client's session does, and how far it has come: what stays the same from one look to the next has lasted since.
/// So durations can be limited without reading a clock when something begins. The numbers begin anew after 2²⁸.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// What the session does.
    pub state: ClientState,
    /// Moves on with each change of state, and with each request that ends.
    pub step: u32,
    /// Moves on where no transaction is open.
    pub transaction: u32,
}

impl Activity {
    const BITS: u32 = 28;
    const MASK: u64 = (1 << Self::BITS) - 1;

    fn unpack(word: u64) -> Self {
        // What was packed is a discriminant, so the index is always inside.
        let state = usize::try_from(word >> (2 * Self::BITS)).unwrap_or_default();
        Self {
            state: ClientState::ALL[state.min(ClientState::COUNT - 1)],
            step: (word >> Self::BITS & Self::MASK) as u32,
            transaction: (word & Self::MASK) as u32,
        }
    }

    fn pack(self) -> u64 {
        (self.state as u64) << (2 * Self::BITS)
            | (u64::from(self.step) & Self::MASK) << Self::BITS
            | u64::from(self.transaction) & Self::MASK
    }

    /// The session does this from now on.
    fn moved(self, state: ClientState, outside: bool) -> Self {
        Self {
            state,
            step: self.step.wrapping_add(1),
            transaction: self.transaction.wrapping_add(u32::from(outside)),
        }
    }
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
    /// When it last asked for something, measured from `connected`; `None` if it has not.
    pub asked: Option<Duration>,
    /// Prepared statements with names that it has.
    pub statements: usize,
    /// Moves with each change of what the session does, and with each request that ends.
    pub step: u32,
    /// The fingerprint of the statement that was sent last; none where queries are not told apart.
    pub last: Option<u64>,
}

impl Clients {
    /// An empty table for so many clients at most, whose counts by state `metrics` exports.
    pub fn new(limits: impl Into<Limits>, metrics: &Metrics) -> Self {
        let clients = Self(Arc::new(Table {
            live: Mutex::default(),
            next_id: AtomicU64::new(1),
            limits: limits.into(),
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
        if let Some((error, limit)) = table.refusal(&live, &info.user) {
            drop(live);
            table.metrics.limit_rejected(limit);
            return Err(error);
        }
        *live.by_user.entry(info.user.clone()).or_default() += 1;
        let client = Arc::new(Client {
            id: table.next_id.fetch_add(1, Ordering::Relaxed),
            info,
            connected: Instant::now(),
            connected_at: SystemTime::now(),
            activity: AtomicU64::new((ClientState::Login as u64) << (2 * Activity::BITS)),
            asked: AtomicU64::new(0),
            statements: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            ended: Notify::new(),
        });
        live.by_id.insert(client.id, Arc::clone(&client));
        drop(live);
        Ok(ClientGuard {
            table: Arc::clone(table),
            client,
        })
    }

    /// An id for somebody who is not in the table and is shown beside those who are.
    pub fn next_id(&self) -> u64 {
        self.0.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends the logins of the clients that are chosen; how many those are. Who is in is not ended here.
    pub fn end_logins(&self, chosen: impl Fn(u64, &ClientInfo) -> bool) -> usize {
        let live: Vec<_> = self.0.live.lock().by_id.values().cloned().collect();
        let logins = live.iter().filter(|client| {
            client.state() == ClientState::Login && chosen(client.id, &client.info)
        });
        logins.map(|client| client.ended.notify_one()).count()
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.0.live.lock().by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many may be there at most.
    pub fn limit(&self) -> usize {
        self.0.limits.in_all
    }

    /// How many are in each state, in the order of [`ClientState::ALL`]. They add up to one moment's [`len`](Self::len).
    pub fn counts(&self) -> [usize; ClientState::COUNT] {
        let mut counts = [0; ClientState::COUNT];
        for client in self.0.live.lock().by_id.values() {
            counts[client.state() as usize] += 1;
        }
        counts
    }

    /// All clients, oldest first.
    pub fn snapshot(&self) -> Vec<ClientSnapshot> {
        // Texts are copied after the lock: a client that comes waits for reference counts only.
        let live: Vec<_> = self.0.live.lock().by_id.values().cloned().collect();
        live.iter().map(|client| client.snapshot()).collect()
    }
}

impl Table {
    fn refusal(&self, live: &Live, user: &str) -> Option<(TooManyClients, Limit)> {
        let Limits { in_all, per_user } = self.limits;
        if live.by_id.len() >= in_all {
            return Some((TooManyClients::InAll { limit: in_all }, Limit::Clients));
        }
        let of_user = live.by_user.get(user).copied().unwrap_or_default();
        let error = TooManyClients::OfUser {
            user: user.to_owned(),
            limit: per_user,
        };
        (of_user >= per_user).then_some((error, Limit::ClientsPerUser))
    }
}

impl Client {
    fn activity(&self) -> Activity {
        Activity::unpack(self.activity.load(Ordering::Relaxed))
    }

    fn state(&self) -> ClientState {
        self.activity().state
    }

    fn snapshot(&self) -> ClientSnapshot {
        let activity = self.activity();
        let last = self.last.load(Ordering::Relaxed);
        ClientSnapshot {
            id: self.id,
            info: self.info.clone(),
            connected: self.connected,
            connected_at: self.connected_at,
            state: activity.state,
            step: activity.step,
            last: (last != 0).then_some(last),
            asked: match self.asked.load(Ordering::Relaxed) {
                0 => None,
                microseconds => Some(Duration::from_micros(microseconds)),
            },
            statements: self.statements.load(Ordering::Relaxed),
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
        let outside = !matches!(state, ClientState::Active | ClientState::IdleInTransaction);
        self.moved(state, outside);
    }

    /// A request was answered while another is under way already; `outside` says that no transaction is open between.
    pub fn next_request(&self, outside: bool) {
        self.moved(self.client.state(), outside);
    }

    /// What the session does, and how far it has come.
    pub fn activity(&self) -> Activity {
        self.client.activity()
    }

    /// The client asked for something at this moment.
    #[inline]
    pub fn asked(&self, when: Instant) {
        let after = when.saturating_duration_since(self.client.connected);
        let microseconds = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let asked = &self.client.asked;
        asked.store(microseconds.max(1), Ordering::Relaxed);
    }

    /// It has so many prepared statements with names.
    #[inline]
    pub fn set_statements(&self, count: usize) {
        self.client.statements.store(count, Ordering::Relaxed);
    }

    /// Where its session notes which statement it has sent.
    pub fn last_statement(&self) -> LastStatement {
        LastStatement(Arc::clone(&self.client))
    }

    /// Waits until an operator ends this login.
    pub async fn ended(&self) {
        self.client.ended.notified().await;
    }

    /// A look at this client from outside its session.
    pub fn watch(&self) -> ClientWatch {
        ClientWatch(Arc::clone(&self.client))
    }

    fn moved(&self, state: ClientState, outside: bool) {
        let next = self.client.activity().moved(state, outside);
        self.client.activity.store(next.pack(), Ordering::Relaxed);
    }
}

/// Which statement a client's session has sent last. Written by that session only.
#[derive(Debug, Clone)]
pub struct LastStatement(Arc<Client>);

impl LastStatement {
    /// It is of this fingerprint. One relaxed store.
    #[inline]
    pub fn set(&self, fingerprint: u64) {
        self.0.last.store(fingerprint, Ordering::Relaxed);
    }
}

/// A look at one client; it keeps nobody in the table.
#[derive(Debug, Clone)]
pub struct ClientWatch(Arc<Client>);

impl ClientWatch {
    /// The client's id.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Who the client is.
    pub fn info(&self) -> &ClientInfo {
        &self.0.info
    }

    /// What its session does, and how far it has come.
    pub fn activity(&self) -> Activity {
        self.0.activity()
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        let mut live = self.table.live.lock();
        let gone = live.by_id.remove(&self.client.id);
        if let Some(count) = live.by_user.get_mut(&self.client.info.user) {
            *count -= 1;
            if *count == 0 {
                live.by_user.remove(&self.client.info.user);
            }
        }
        drop(live);
        drop(gone); // frees the texts after the lock
    }
}

#[cfg(test)]
mod tests;
