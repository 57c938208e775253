//! The list of pinned sessions, and the one line that the log has of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::metrics::PinReason;

/// The pinned sessions, by their clients' ids. Locked when a session is pinned or unpinned, and when somebody looks.
#[derive(Debug, Clone, Default)]
pub struct Pinned(Arc<Mutex<BTreeMap<u64, PinnedSession>>>);

/// A session that is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedSession {
    /// The client's id.
    pub client: u64,
    /// The pool that its server is of.
    pub pool: String,
    /// What the client called itself at its start.
    pub application_name: String,
    /// Why, oldest first.
    pub pins: Vec<Pin>,
}

/// A reason for which a session is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The reason.
    pub reason: PinReason,
    /// The statement that was it, in words that are no text of the client's.
    pub command: &'static str,
    /// Since when.
    pub since: SystemTime,
}

/// One session's place in the list; it is in it while it is pinned.
#[derive(Debug)]
pub struct PinPlace {
    list: Pinned,
    client: u64,
    pool: String,
    application: String,
    /// The log has its line.
    logged: bool,
}

impl Pinned {
    /// All of them, those that came first in front.
    pub fn snapshot(&self) -> Vec<PinnedSession> {
        self.0.lock().values().cloned().collect()
    }

    /// A place for this client.
    pub fn place(&self, client: u64, pool: &str, application: &str) -> PinPlace {
        PinPlace {
            list: self.clone(),
            client,
            pool: pool.to_owned(),
            application: application.to_owned(),
            logged: false,
        }
    }
}

impl PinPlace {
    /// Pinned for one more reason.
    pub fn add(&mut self, reason: PinReason) {
        self.log(reason);
        let mut list = self.list.0.lock();
        let view = list.entry(self.client).or_insert_with(|| PinnedSession {
            client: self.client,
            pool: self.pool.clone(),
            application_name: self.application.clone(),
            pins: Vec::new(),
        });
        view.pins.push(Pin {
            reason,
            command: command(reason),
            since: SystemTime::now(),
        });
    }

    /// For one less.
    pub fn remove(&mut self, reason: PinReason) {
        let mut list = self.list.0.lock();
        if let Some(view) = list.get_mut(&self.client) {
            view.pins.retain(|pin| pin.reason != reason);
            if view.pins.is_empty() {
                list.remove(&self.client);
            }
        }
    }

    /// Says once what keeps the server, and what would not. What was asked for by the settings is no news.
    fn log(&mut self, reason: PinReason) {
        if matches!(reason, PinReason::SessionMode) || std::mem::replace(&mut self.logged, true) {
            return;
        }
        tracing::info!(
            pool = self.pool,
            client = self.client,
            application_name = self.application,
            reason = reason.label(),
            command = command(reason),
            advice = advice(reason),
            "a session keeps its server from now on"
        );
    }
}

impl Drop for PinPlace {
    fn drop(&mut self) {
        self.list.0.lock().remove(&self.client);
    }
}

/// What the statement was, in words that are no text of the client's.
fn command(reason: PinReason) -> &'static str {
    match reason {
        PinReason::SetParameter => "SET",
        PinReason::SetConfig => "set_config(…, false)",
        PinReason::SetRole => "SET ROLE or SET SESSION AUTHORIZATION",
        PinReason::Listen => "LISTEN",
        PinReason::TemporaryTable => "CREATE TEMPORARY … or SELECT INTO TEMPORARY",
        PinReason::HoldCursor => "DECLARE … WITH HOLD",
        PinReason::AdvisoryLock => "pg_advisory_lock(…)",
        PinReason::SqlPrepare => "PREPARE",
        PinReason::Load => "LOAD",
        PinReason::DoBlock => "DO",
        PinReason::FunctionCall => "FunctionCall message",
        PinReason::Command => "a command that is not known",
        PinReason::NamedStatement | PinReason::LargeStatement => "Parse message",
        PinReason::SessionMode => "login",
        PinReason::Replication => "login for replication",
    }
}

/// What the application could do instead.
fn advice(reason: PinReason) -> &'static str {
    match reason {
        PinReason::SetParameter | PinReason::SetConfig => {
            "use SET LOCAL (set_config with true) in a transaction, name the parameter in the connection's options, \
             or ALTER ROLE … SET; RESET it when done"
        }
        PinReason::SetRole => "use SET LOCAL ROLE in a transaction, or log in as that role",
        PinReason::Listen => {
            "keep one connection for LISTEN, to PostgreSQL itself if it lasts; UNLISTEN when done"
        }
        PinReason::TemporaryTable => {
            "create it with ON COMMIT DROP in the transaction that uses it, or drop it when done"
        }
        PinReason::HoldCursor => {
            "fetch within the transaction, without WITH HOLD; CLOSE it when done"
        }
        PinReason::AdvisoryLock => "use pg_advisory_xact_lock; unlock when done",
        PinReason::SqlPrepare => {
            "prepare by the driver's own means, which are shared; DEALLOCATE when done"
        }
        PinReason::Load => "let the server load it (session_preload_libraries)",
        PinReason::DoBlock => "set what the block sets with SET LOCAL; DISCARD ALL when done",
        PinReason::FunctionCall => "call the function in a SELECT",
        PinReason::Command => "DISCARD ALL when done",
        PinReason::NamedStatement => {
            "close statements that are not needed any more, or raise the limits on them"
        }
        PinReason::LargeStatement => "send long texts as a named statement, or a simple query",
        PinReason::SessionMode | PinReason::Replication => "none",
    }
}
