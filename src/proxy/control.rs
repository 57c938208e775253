//! What reaches into a session from outside: a cancel request, and the end of the process.
//!
//! A session polls flags and is woken through one waker, so that waiting for "stop" costs it nothing per query.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::sessions::Link;
use crate::backend::{Aim, Cancels};
use crate::clients::{ClientState, ClientWatch, Reading, ReadingCell};
use crate::pgwire::CancelKey;

/// The outside's hold on one session.
#[derive(Debug, Default)]
pub(super) struct Control {
    waker: AtomicWaker,
    stop: AtomicBool,
    /// The time to stop is over: a transaction is not waited for any more.
    stop_now: AtomicBool,
    /// An operator ends the session, whatever it does.
    killed: AtomicBool,
    /// Less than everything while an operator suspends clients.
    reading: ReadingCell,
    cancel: AtomicBool,
    /// What has lasted too long, as [`limits`](super::limits) packs it; zero is nothing.
    overdue: AtomicU64,
    /// Whom the looks for that look at.
    client: OnceLock<ClientWatch>,
    /// The server that runs this client's query now. Locked by its own session at checkout and return, and by a cancel
    /// request; never across an await.
    running: Mutex<Option<Running>>,
}

/// A server that a client has, and since when.
#[derive(Debug)]
struct Running {
    server: Arc<Cancels>,
    since: Instant,
}

impl Control {
    /// The session's task waits here.
    #[inline]
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Whether the process is stopping.
    #[inline]
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether the time to stop is over.
    #[inline]
    pub(super) fn stopping_now(&self) -> bool {
        self.stop_now.load(Ordering::Relaxed)
    }

    /// Whether an operator ends the session.
    #[inline]
    pub(super) fn killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// Whether more is to be read from the client, who has begun something or not.
    #[inline]
    pub(super) fn reads(&self, begun: impl FnOnce() -> bool) -> bool {
        match self.reading.get() {
            Reading::Everything => true,
            Reading::Begun => begun(),
            Reading::Nothing => false,
        }
    }

    /// Whether a cancel request came since the last call.
    #[inline]
    pub(super) fn take_cancel(&self) -> bool {
        self.cancel.load(Ordering::Relaxed) && self.cancel.swap(false, Ordering::Relaxed)
    }

    /// Cancel requests go to this server from now on.
    #[inline]
    pub(super) fn runs_on(&self, server: &Arc<Cancels>, since: Instant) {
        let server = server.clone();
        *self.running.lock() = Some(Running { server, since });
    }

    /// Cancel requests go nowhere from now on. Those under way are known to the server's [`Cancels`].
    #[inline]
    pub(super) fn runs_nowhere(&self) {
        *self.running.lock() = None;
        self.cancel.store(false, Ordering::Relaxed);
    }

    /// The limits on this client are watched from now on.
    pub(super) fn watch(&self, client: ClientWatch) {
        let _ = self.client.set(client);
    }

    pub(super) fn client(&self) -> Option<&ClientWatch> {
        self.client.get()
    }

    /// Decides to cancel what it runs.
    fn aim(&self) -> Option<Aim> {
        let running = self.running.lock();
        running.as_ref().map(|running| running.server.aim())
    }

    /// Tells the session what has lasted too long.
    pub(super) fn tell_overdue(&self, word: u64) {
        self.overdue.store(word, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Whether something was told to have lasted too long.
    #[inline]
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed) != 0
    }

    pub(super) fn take_overdue_word(&self) -> u64 {
        self.overdue.swap(0, Ordering::Relaxed)
    }

    fn read(&self, reading: Reading) {
        self.reading.set(reading);
        self.waker.wake();
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.stop();
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
    }
}

/// A session's secret and its control.
type Session = (Box<[u8]>, Arc<Control>);

/// The bytes of a secret: what the protocol says up to 3.1, and from 3.2 on as many as PostgreSQL has.
const SHORT_SECRET: usize = 4;
const LONG_SECRET: usize = 32;

/// The sessions by their cancel keys. Several may have the same process id: servers of two hosts, or a server's and one of
/// ours.
#[derive(Debug, Default)]
pub(super) struct Controls {
    by_process: Mutex<HashMap<i32, Vec<Session>>>,
    stopping: AtomicBool,
    /// Changed under the table's lock.
    reading: ReadingCell,
}

/// A session's place in the table; dropping it takes the place away.
#[derive(Debug)]
pub(super) struct Registered {
    table: Arc<Controls>,
    /// What the client was told.
    pub(super) key: CancelKey,
    /// The session's control.
    pub(super) control: Arc<Control>,
}

impl Controls {
    /// Registers a session under a fresh key that cannot be guessed, as long as the protocol's minor version allows. A
    /// client that keeps one server is told that server's process id.
    pub(super) fn register(self: &Arc<Self>, minor: u16, server: Option<i32>) -> Registered {
        let control = Arc::new(Control::default());
        let random: [u8; LONG_SECRET] = rand::random();
        let length = match minor {
            0 | 1 => SHORT_SECRET,
            _ => LONG_SECRET,
        };
        let secret: Box<[u8]> = random[..length].into();
        let mut table = self.by_process.lock();
        let process_id = server.unwrap_or_else(|| {
            loop {
                let candidate = rand::random::<i32>() & i32::MAX;
                if candidate != 0 && !table.contains_key(&candidate) {
                    break candidate;
                }
            }
        });
        let sessions = table.entry(process_id).or_default();
        sessions.push((secret.clone(), control.clone()));
        control.read(self.reading.get());
        drop(table);
        if self.stopping.load(Ordering::Relaxed) {
            control.stop();
        }
        Registered {
            table: self.clone(),
            key: CancelKey { process_id, secret },
            control,
        }
    }

    /// A cancel request: ends a wait for a connection, or gives the server to send the request to. A key that is not
    /// known does nothing, and takes as long.
    pub(super) fn cancel(&self, key: &CancelKey) -> Option<Aim> {
        let table = self.by_process.lock();
        let sessions = table.get(&key.process_id)?;
        let found = sessions
            .iter()
            .find(|(secret, _)| same(secret, &key.secret))?;
        let control = found.1.clone();
        drop(table);
        // Counted under the lock, so that the session cannot give the server away unseen.
        let running = control.running.lock();
        match &*running {
            Some(running) => Some(running.server.aim()),
            None => {
                drop(running);
                control.cancel.store(true, Ordering::Relaxed);
                control.waker.wake();
                None
            }
        }
    }

    /// The same for the session of this client, by an operator's order: whether it waits, and whom to send a request to.
    /// `None` if it does nothing that could be cancelled.
    pub(super) fn cancel_of(&self, client: u64) -> Option<(bool, Option<Aim>)> {
        let controls = self.all();
        let mut controls = controls.iter();
        let control = controls.find(|of| of.client().is_some_and(|of| of.id() == client))?;
        let state = control.client()?.activity().state;
        let running = control.running.lock();
        match (&*running, state) {
            (Some(running), ClientState::Active) => Some((false, Some(running.server.aim()))),
            (None, ClientState::Waiting) => {
                drop(running);
                control.cancel.store(true, Ordering::Relaxed);
                control.waker.wake();
                Some((true, None))
            }
            _ => None,
        }
    }

    /// Aims at every server that runs something.
    pub(super) fn aim_at_all(&self) -> Vec<Aim> {
        let table = self.by_process.lock();
        table
            .values()
            .flatten()
            .filter_map(|(_, control)| control.aim())
            .collect()
    }

    /// Who has which server.
    pub(super) fn links(&self) -> Vec<Link> {
        let controls = self.all();
        let link = |control: &Arc<Control>| {
            let client = control.client()?.id();
            let running = control.running.lock();
            let running = running.as_ref()?;
            Some(Link {
                client,
                server: running.server.server(),
                since: running.since,
            })
        };
        controls.iter().filter_map(link).collect()
    }

    /// Ends the sessions whose client's id and database are chosen. How many, and the cancel requests for what they run.
    pub(super) fn kill(&self, chosen: impl Fn(u64, &str) -> bool) -> (usize, Vec<Aim>) {
        let mut controls = self.all();
        controls.retain(|control| {
            let client = control.client();
            client.is_some_and(|client| chosen(client.id(), &client.info().database))
        });
        // Aimed first: a session that ends lets go of its server.
        let aims = controls.iter().filter_map(|control| control.aim());
        let aims = aims.collect();
        for control in &controls {
            control.kill();
        }
        (controls.len(), aims)
    }

    /// Changes what is read from clients, those to come included, if it is one of these now and they are not to end. False if
    /// not.
    pub(super) fn change_reading(&self, from: &[Reading], to: Reading) -> bool {
        let table = self.by_process.lock();
        let stopping = self.stopping.load(Ordering::Relaxed);
        if stopping || !from.contains(&self.reading.get()) {
            return false;
        }
        self.reading.set(to);
        for (_, control) in table.values().flatten() {
            control.read(to);
        }
        true
    }

    pub(super) fn reading(&self) -> Reading {
        self.reading.get()
    }

    /// Every session's control.
    pub(super) fn all(&self) -> Vec<Arc<Control>> {
        let table = self.by_process.lock();
        table
            .values()
            .flatten()
            .map(|(_, control)| control.clone())
            .collect()
    }

    /// Tells every session that the time to stop is over.
    pub(super) fn stop_now(&self) {
        for (_, control) in self.by_process.lock().values().flatten() {
            control.stop_now.store(true, Ordering::Relaxed);
            control.waker.wake();
        }
    }

    /// Tells every session, those to come included, that the process is stopping. From now on everything is read: transactions
    /// are to end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let table = self.by_process.lock();
        self.reading.set(Reading::Everything);
        for (_, control) in table.values().flatten() {
            control.read(Reading::Everything);
            control.stop();
        }
    }
}

/// Compares in a time that does not depend on where the two differ.
fn same(ours: &[u8], theirs: &[u8]) -> bool {
    ours.len() == theirs.len() && ours.iter().zip(theirs).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut table = self.table.by_process.lock();
        if let Some(sessions) = table.get_mut(&self.key.process_id) {
            sessions.retain(|(_, control)| !Arc::ptr_eq(control, &self.control));
            if sessions.is_empty() {
                table.remove(&self.key.process_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_secret_cancels_nothing() {
        let table = Arc::new(Controls::default());
        let session = table.register(0, None);
        let mut key = session.key.clone();
        key.secret[0] ^= 1;
        assert!(table.cancel(&key).is_none());
        assert!(!session.control.take_cancel());
        table.cancel(&session.key);
        assert!(session.control.take_cancel());
        assert!(!session.control.take_cancel(), "once");
    }

    #[test]
    fn keys_are_as_long_as_the_protocol_allows_and_told_apart_under_one_process_id() {
        let table = Arc::new(Controls::default());
        let sessions: Vec<_> = (0..3)
            .map(|minor| table.register(minor, Some(4711)))
            .collect();
        let lengths: Vec<_> = sessions.iter().map(|one| one.key.secret.len()).collect();
        assert_eq!(lengths, [4, 4, 32]);
        table.cancel(&sessions[2].key);
        let hit: Vec<_> = sessions
            .iter()
            .map(|one| one.control.take_cancel())
            .collect();
        assert_eq!(hit, [false, false, true]);
        drop(sessions);
        assert!(table.by_process.lock().is_empty());
    }

    #[test]
    fn suspending_reaches_sessions_that_come_later_and_ends() {
        let table = Arc::new(Controls::default());
        let before = table.register(0, None);
        assert!(table.change_reading(&[Reading::Everything], Reading::Nothing));
        let again = table.change_reading(&[Reading::Everything], Reading::Begun);
        assert!(!again, "it is not so any more");
        let after = table.register(0, None);
        for session in [&before, &after] {
            assert!(!session.control.reads(|| true));
        }
        assert!(table.change_reading(&[Reading::Nothing], Reading::Begun));
        for session in [&before, &after] {
            assert!(session.control.reads(|| true) && !session.control.reads(|| false));
        }
        assert!(table.change_reading(&[Reading::Nothing, Reading::Begun], Reading::Everything));
        for session in [&before, &after, &table.register(0, None)] {
            assert!(session.control.reads(|| false));
        }
        assert!(table.change_reading(&[Reading::Everything], Reading::Nothing));
        table.stop();
        assert!(!table.change_reading(&[Reading::Everything], Reading::Nothing));
        for session in [&before, &after, &table.register(0, None)] {
            assert!(session.control.reads(|| false), "transactions are to end");
        }
    }

    #[test]
    fn a_session_that_ended_has_no_place_any_more() {
        let table = Arc::new(Controls::default());
        drop(table.register(0, None));
        assert!(table.by_process.lock().is_empty());
    }

    #[test]
    fn stopping_reaches_sessions_that_come_later() {
        let table = Arc::new(Controls::default());
        let before = table.register(0, None);
        table.stop();
        assert!(before.control.stopping());
        assert!(table.register(0, None).control.stopping());
    }
}
