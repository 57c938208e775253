//! The list of a pool's servers: what can be shown of each without asking it.
//!
//! A server enters the list when it is opened by its pool's manager and leaves it when it is dropped, however that comes. What
//! changes while it lives is stored where it changes: one relaxed store each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::cancels::Cancels;
use crate::tls::Stream;

/// The servers of one pool. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct Roster(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By id. Locked when a server is opened or closed, and when somebody looks.
    live: Mutex<BTreeMap<u64, Arc<Entry>>>,
    /// Gives ids; all pools of a process share it.
    ids: Ids,
    /// Moves on with each order to replace the servers there are.
    round: AtomicU64,
}

/// Gives servers their ids. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Ids(Arc<AtomicU64>);

impl Ids {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed) + 1
    }
}

#[derive(Debug)]
struct Entry {
    id: u64,
    process_id: i32,
    /// Its end of the connection and ours, over TCP.
    addresses: Option<(SocketAddr, SocketAddr)>,
    tls: Option<String>,
    opened: Instant,
    opened_at: SystemTime,
    round: u64,
    cancels: Arc<Cancels>,
    held: AtomicBool,
    /// Milliseconds from its opening to its last request; zero is none so far.
    asked: AtomicU64,
    statements: AtomicUsize,
}

/// A server at the moment somebody looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSnapshot {
    /// Unique in the life of the process, ascending.
    pub id: u64,
    /// The pid of its process.
    pub process_id: i32,
    /// Its address, over TCP.
    pub address: Option<SocketAddr>,
    /// Our own end of the connection, over TCP.
    pub local_address: Option<SocketAddr>,
    /// The version and the cipher of TLS, if it is encrypted.
    pub tls: Option<String>,
    /// When it was opened.
    pub opened_at: SystemTime,
    /// When it was last given to a client's request, or opened.
    pub asked_at: SystemTime,
    /// It is in somebody's hands: a client's, or checked or cleaned for one.
    pub held: bool,
    /// It is to be closed as soon as nobody holds it.
    pub stale: bool,
    /// Cancel requests that are on their way to it.
    pub cancels: usize,
    /// Prepared statements that it has for clients to share.
    pub statements: usize,
}

/// A server's place in the list; dropping it takes the server out.
#[derive(Debug)]
pub(super) struct RosterPlace {
    roster: Roster,
    entry: Arc<Entry>,
}

impl Roster {
    /// An empty list, whose servers get these ids.
    pub fn new(ids: Ids) -> Self {
        Self(Arc::new(Inner {
            ids,
            ..Inner::default()
        }))
    }

    /// All servers, oldest first.
    pub fn snapshot(&self) -> Vec<ServerSnapshot> {
        let live: Vec<_> = self.0.live.lock().values().cloned().collect();
        let round = self.0.round.load(Relaxed);
        live.iter().map(|entry| entry.snapshot(round)).collect()
    }

    /// Notes that every server whose opening has begun is to be closed.
    pub fn retire_all(&self) {
        self.0.round.fetch_add(1, Relaxed);
    }

    /// How many servers are to be closed and are still there.
    pub fn retired(&self) -> usize {
        let round = self.0.round.load(Relaxed);
        let live = self.0.live.lock();
        live.values().filter(|entry| entry.round < round).count()
    }

    /// What is to be handed to [`enter`](Self::enter), taken before a server is opened.
    pub(super) fn round(&self) -> u64 {
        self.0.round.load(Relaxed)
    }

    pub(super) fn enter(
        &self,
        round: u64,
        process_id: i32,
        stream: &Stream,
        cancels: &Arc<Cancels>,
    ) -> RosterPlace {
        let id = self.0.ids.next();
        cancels.belong_to(id);
        let entry = Arc::new(Entry {
            id,
            process_id,
            addresses: stream.addresses(),
            tls: stream.tls_description(),
            opened: Instant::now(),
            opened_at: SystemTime::now(),
            round,
            cancels: Arc::clone(cancels),
            held: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            statements: AtomicUsize::new(0),
        });
        self.0.live.lock().insert(id, Arc::clone(&entry));
        let roster = self.clone();
        RosterPlace { roster, entry }
    }
}

impl Entry {
    fn snapshot(&self, round: u64) -> ServerSnapshot {
        ServerSnapshot {
            id: self.id,
            process_id: self.process_id,
            address: self.addresses.map(|(theirs, _)| theirs),
            local_address: self.addresses.map(|(_, ours)| ours),
            tls: self.tls.clone(),
            opened_at: self.opened_at,
            asked_at: self.opened_at + Duration::from_millis(self.asked.load(Relaxed)),
            held: self.held.load(Relaxed),
            stale: self.round < round,
            cancels: self.cancels.in_flight(),
            statements: self.statements.load(Relaxed),
        }
    }
}

impl RosterPlace {
    /// Somebody takes it in hand.
    #[inline]
    pub(super) fn hold(&self) {
        self.entry.held.store(true, Relaxed);
    }

    /// Nobody holds it any more; it has so many statements.
    #[inline]
    pub(super) fn let_go(&self, statements: usize) {
        self.entry.statements.store(statements, Relaxed);
        self.entry.held.store(false, Relaxed);
    }

    /// It is given to a client's request.
    #[inline]
    pub(super) fn asked(&self, when: Instant) {
        let after = when.saturating_duration_since(self.entry.opened);
        let milliseconds = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.entry.asked.store(milliseconds, Relaxed);
    }
}

impl Drop for RosterPlace {
    fn drop(&mut self) {
        self.roster.0.live.lock().remove(&self.entry.id);
    }
}
