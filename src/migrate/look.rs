//! A look at a database from beside: where its migrations stand, whether a run is under way and whom it waits for. For
//! figures, so it takes no lock but the one that reading a table takes, and its caller bounds every wait.

use std::path::Path;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::alembic::{Revisions, RevisionsError};
use super::lock::sqlx_lock;
use super::standing::{State, compare};
use super::table::{alembic, applied};
use super::{Directory, MigrateError};
use crate::control::Session;
use crate::metrics::{Blocker, MigrationTool};

/// What there is to run, where anybody said.
#[derive(Debug, Clone, Default)]
pub struct Scripts {
    sqlx: Option<Directory>,
    alembic: Option<Revisions>,
}

/// Why scripts cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScriptsError {
    /// sqlx's.
    #[error(transparent)]
    Sqlx(#[from] MigrateError),
    /// Alembic's.
    #[error(transparent)]
    Alembic(#[from] RevisionsError),
}

impl Scripts {
    /// Reads the directories. It reads files, so it is not for a thread that has more to do.
    ///
    /// # Errors
    /// See [`ScriptsError`].
    pub fn read(sqlx: Option<&Path>, alembic: Option<&Path>) -> Result<Self, ScriptsError> {
        Ok(Self {
            sqlx: sqlx.map(Directory::read).transpose()?,
            alembic: alembic.map(Revisions::read).transpose()?,
        })
    }
}

/// Where a database stands by one tool's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    /// The versions at which it stands at once: sqlx's latest, or all heads of Alembic's.
    pub versions: Vec<String>,
    /// How many scripts it has not seen, where that is known.
    pub pending: Option<usize>,
}

/// Where the database stands, for each tool.
///
/// # Errors
/// [`MigrateError::Table`].
pub async fn stands(
    session: &Session,
    scripts: &Scripts,
) -> Result<[(MigrationTool, Stand); 2], MigrateError> {
    let rows = applied(session).await?;
    let latest = rows.iter().rfind(|row| row.success);
    let sqlx = Stand {
        versions: latest.iter().map(|row| row.version.to_string()).collect(),
        pending: scripts.sqlx.as_ref().map(|directory| {
            let rows = compare(directory, &rows);
            let waits = |state| matches!(state, State::Pending | State::OutOfOrder);
            rows.iter().filter(|row| waits(row.state)).count()
        }),
    };
    let versions = alembic(session).await?;
    let revisions = scripts.alembic.as_ref();
    let alembic = Stand {
        pending: revisions.and_then(|revisions| revisions.pending(&versions)),
        versions,
    };
    Ok([
        (MigrationTool::Sqlx, sqlx),
        (MigrationTool::Alembic, alembic),
    ])
}

/// A run that is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Whose.
    pub tool: MigrationTool,
    /// PostgreSQL's process.
    pub pid: i32,
    /// For how long, at most, in seconds; none where we may not know.
    pub seconds: Option<f64>,
    /// Whose locks it waits for.
    pub waits_for: Vec<WaitedFor>,
}

/// A session whose lock is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitedFor {
    /// What it does.
    pub kind: Blocker,
    /// Who it is, in words for a log.
    pub who: String,
}

/// The runs that are under way in a database. A run of sqlx's has its lock, and so has all of `poolwatch migrate`. Alembic has none:
/// its run is a transaction that has looked into `alembic_version` and changes something, or waits for a lock to do so. Nobody sees
/// the very first one, whose table is not there for others before it ends.
///
/// # Errors
/// PostgreSQL's.
pub async fn runs(session: &Session, database: &str) -> Result<Vec<Run>, tokio_postgres::Error> {
    const SQL: &str = "\
WITH here AS (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()), runs AS (\
  SELECT 'sqlx' AS tool, l.pid, a.backend_start AS since \
  FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid) \
  WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.database = (SELECT oid FROM here) \
    AND (l.classid::int8 << 32 | l.objid::int8) = $1 \
  UNION ALL \
  SELECT 'alembic', l.pid, min(a.xact_start) \
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid) \
  WHERE l.locktype = 'relation' AND l.granted AND l.database = (SELECT oid FROM here) \
    AND l.relation = pg_catalog.to_regclass('alembic_version')::oid AND l.pid <> pg_catalog.pg_backend_pid() \
    AND (a.backend_xid IS NOT NULL OR a.wait_event_type = 'Lock' OR l.mode <> 'AccessShareLock') \
  GROUP BY l.pid) \
SELECT r.tool, r.pid, EXTRACT(epoch FROM pg_catalog.clock_timestamp() - r.since)::float8, \
  w.pid, b.usename::text, b.application_name, b.state, b.backend_type \
FROM runs r LEFT JOIN LATERAL (SELECT DISTINCT pid FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(r.pid)) AS pid) w ON true \
  LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = w.pid \
ORDER BY r.tool, r.pid, w.pid";
    let key = sqlx_lock(database);
    let rows = session.query_typed(SQL, &[(&key, Type::INT8)]).await?;
    let mut runs: Vec<Run> = Vec::new();
    for row in &rows {
        let tool = match row.get(0) {
            "sqlx" => MigrationTool::Sqlx,
            _ => MigrationTool::Alembic,
        };
        let pid = row.get(1);
        if runs
            .last()
            .is_none_or(|run| run.tool != tool || run.pid != pid)
        {
            let seconds = row.get(2);
            let waits_for = Vec::new();
            runs.push(Run {
                tool,
                pid,
                seconds,
                waits_for,
            });
        }
        if let (Some(run), Some(by)) = (runs.last_mut(), row.get::<_, Option<i32>>(3)) {
            run.waits_for.push(waited_for(row, by));
        }
    }
    Ok(runs)
}

fn waited_for(row: &Row, pid: i32) -> WaitedFor {
    let text = |column| row.get::<_, Option<&str>>(column);
    let kind = match (text(7), text(6)) {
        (Some("autovacuum worker"), _) => Blocker::Autovacuum,
        (_, Some("active")) => Blocker::Active,
        (_, Some("idle in transaction" | "idle in transaction (aborted)")) => {
            Blocker::IdleInTransaction
        }
        _ => Blocker::Other,
    };
    // The number of a prepared transaction is 0 (PostgreSQL, "pg_blocking_pids").
    let who = if pid == 0 {
        "a prepared transaction".to_owned()
    } else {
        let user = text(4).unwrap_or("unknown");
        let application = text(5).unwrap_or_default();
        let does = text(6).or(text(7)).unwrap_or("unknown");
        format!("process {pid}, user \"{user}\", application \"{application}\", {does}")
    };
    WaitedFor { kind, who }
}
