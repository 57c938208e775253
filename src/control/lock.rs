//! One at a time across all machines: PostgreSQL's advisory lock, and who has it meanwhile.
//!
//! It is asked for again and again instead of being waited for in PostgreSQL, so that the one who waits can say for whom,
//! and notices when that changes. It belongs to a session, so a process that dies lets go of it. It belongs to a
//! database, too: those who name different ones do not exclude each other.

use std::fmt;
use std::time::{Duration, Instant};

use tokio_postgres::types::Type;

use super::Session;

/// The lock of everything that changes a database as a whole. The letters `poolwatc`, so that it is nobody else's;
/// scripts for psql write the number out.
pub const LOCK: i64 = i64::from_be_bytes(*b"poolwatc");

/// The first pause between two attempts; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Who has the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process of PostgreSQL's.
    pub pid: i32,
    /// Its user, where we may know.
    pub user: Option<String>,
    /// What it calls itself.
    pub application: Option<String>,
    /// Its address; none for a Unix socket.
    pub address: Option<String>,
    /// Since when it is connected, in seconds: it cannot have had the lock for longer.
    pub connected_seconds: Option<i64>,
    /// Whose locks it waits for itself.
    pub waits_for: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if let Some(user) = &self.user {
            write!(f, ", user \"{user}\"")?;
        }
        if let Some(application) = self.application.as_ref().filter(|name| !name.is_empty()) {
            write!(f, ", application \"{application}\"")?;
        }
        if let Some(address) = &self.address {
            write!(f, ", from {address}")?;
        }
        if let Some(seconds) = self.connected_seconds {
            write!(f, ", connected for {seconds}s")?;
        }
        if let Some(others) = &self.waits_for {
            write!(f, ", itself waiting for {others}")?;
        }
        Ok(())
    }
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it, and went on having it.
    #[error("another run has the lock and did not end within {waited:.0?}: {}", holder.as_ref().map_or("who, cannot be seen".to_owned(), ToString::to_string))]
    Held {
        /// Who.
        holder: Option<Box<Holder>>,
        /// For how long it was waited.
        waited: Duration,
    },
    /// It was granted, and the session does not have it: somebody between us and PostgreSQL swaps sessions.
    #[error(
        "the lock is gone from the session that took it: the connection leads through a pooler in transaction mode; \
         connect to PostgreSQL itself"
    )]
    Lost,
    /// PostgreSQL answered with an error.
    #[error(transparent)]
    Query(#[from] tokio_postgres::Error),
}

impl Session {
    /// Takes the lock within `limit`. `waiting` is told who has it, once for each who does.
    ///
    /// # Errors
    /// See [`LockError`].
    pub async fn lock(
        &self,
        key: i64,
        limit: Duration,
        mut waiting: impl FnMut(&Holder),
    ) -> Result<(), LockError> {
        let began = Instant::now();
        let mut told = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let sql = "SELECT pg_catalog.pg_try_advisory_lock($1)";
            let rows = self.query_typed(sql, &[(&key, Type::INT8)]).await?;
            if rows.first().is_some_and(|row| row.get(0)) {
                return self.confirm(key).await;
            }
            let holder = self.lock_holder(key).await?;
            if let Some(holder) = &holder
                && told != Some(holder.pid)
            {
                waiting(holder);
                told = Some(holder.pid);
            }
            let waited = began.elapsed();
            if waited >= limit {
                let holder = holder.map(Box::new);
                return Err(LockError::Held { holder, waited });
            }
            tokio::time::sleep(pause.min(limit - waited)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Makes sure that this session has the lock.
    ///
    /// # Errors
    /// [`LockError::Lost`] if it does not.
    pub async fn confirm(&self, key: i64) -> Result<(), LockError> {
        let sql = format!("{WHO} AND l.pid = pg_catalog.pg_backend_pid()");
        match self.query_typed(&sql, &[(&key, Type::INT8)]).await?.len() {
            0 => Err(LockError::Lost),
            _ => Ok(()),
        }
    }

    /// Who has the lock now.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn lock_holder(&self, key: i64) -> Result<Option<Holder>, tokio_postgres::Error> {
        let rows = self.query_typed(WHO, &[(&key, Type::INT8)]).await?;
        Ok(rows.first().map(|row| Holder {
            pid: row.get(0),
            user: row.get(1),
            application: row.get(2),
            address: row.get(3),
            connected_seconds: row.get(4),
            waits_for: row.get(5),
        }))
    }
}

/// The two halves of a key of 64 bits stand in two columns (PostgreSQL, "pg_locks").
const WHO: &str = "\
SELECT l.pid, a.usename::text, a.application_name, pg_catalog.host(a.client_addr), \
  EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.backend_start)::int8, \
  (SELECT pg_catalog.string_agg(pg_catalog.format('process %s, user \"%s\", application \"%s\"', b.pid, b.usename, b.application_name), '; ') \
    FROM pg_catalog.pg_stat_activity b WHERE b.pid = ANY (pg_catalog.pg_blocking_pids(l.pid))) \
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid) \
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
  AND (l.classid::int8 << 32 | l.objid::int8) = $1";
