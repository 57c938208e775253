//! sqlx's `Migrate` on a session of the control pool, and the ways up and down on it.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx_core::migrate::{AppliedMigration, Migrate, MigrateError as SqlxError, Migrator};
use tokio_postgres::error::{ErrorPosition, SqlState};
use tokio_postgres::types::Type;

use super::standing::{compare, problems};
use super::{Directory, MigrateError};
use crate::control::{Holder, LOCK, Session};

pub use sqlx_core::migrate::Migration;

/// sqlx's table.
const TABLE: &str = "_sqlx_migrations";
/// How often a migration that could not get others' locks in time is begun again.
const ATTEMPTS: u32 = 5;
/// The first pause between two attempts; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The version.
    pub version: i64,
    /// Its name.
    pub description: String,
    /// When, RFC 3339.
    pub installed_on: String,
    /// False while another tool runs it, or after that failed.
    pub success: bool,
    /// Of the script as it was.
    pub checksum: Vec<u8>,
    /// How long it ran, where that was noted.
    pub seconds: Option<f64>,
}

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For another run to end.
    pub run: Duration,
    /// For each lock of others that a statement needs (`lock_timeout`).
    pub lock: Duration,
    /// For each statement (`statement_timeout`); `None` for ever.
    pub statement: Option<Duration>,
}

/// Makes this session the only one that migrates its database, by our lock and by sqlx's own. They end with the session.
///
/// # Errors
/// [`MigrateError::Lock`].
pub async fn take_lock(
    session: &Session,
    limits: &Limits,
    mut waiting: impl FnMut(&Holder),
) -> Result<(), MigrateError> {
    let milliseconds = |limit: Option<Duration>| limit.map_or(0, |limit| limit.as_millis());
    let settings = format!(
        "SET client_min_messages TO warning; SET lock_timeout TO {}; SET statement_timeout TO {}",
        limits.lock.as_millis(),
        milliseconds(limits.statement)
    );
    session
        .batch_execute(&settings)
        .await
        .map_err(MigrateError::Table)?;
    session.lock(LOCK, limits.run, &mut waiting).await?;
    let name = session
        .query_typed("SELECT pg_catalog.current_database()::text", &[])
        .await;
    let name: String = name.map_err(MigrateError::Table)?[0].get(0);
    session
        .lock(sqlx_lock(&name), limits.run, &mut waiting)
        .await?;
    Ok(())
}

/// The number that sqlx's own tool locks (sqlx, `generate_lock_id`).
fn sqlx_lock(database: &str) -> i64 {
    let crc = database.bytes().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    });
    0x3d32_ad9e * i64::from(!crc)
}

/// What was run so far, in order. None where there is no table.
///
/// # Errors
/// [`MigrateError::Table`].
pub async fn applied(session: &Session) -> Result<Vec<Applied>, MigrateError> {
    let there = format!("SELECT pg_catalog.to_regclass('{TABLE}') IS NOT NULL");
    let rows = session
        .query_typed(&there, &[])
        .await
        .map_err(MigrateError::Table)?;
    if !rows.first().is_some_and(|row| row.get(0)) {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT version, description, pg_catalog.to_char(installed_on AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
         success, checksum, execution_time FROM {TABLE} ORDER BY version"
    );
    let rows = session
        .query_typed(&sql, &[])
        .await
        .map_err(MigrateError::Table)?;
    Ok(rows
        .iter()
        .map(|row| Applied {
            version: row.get(0),
            description: row.get(1),
            installed_on: row.get(2),
            success: row.get(3),
            checksum: row.get(4),
            seconds: Some(row.get::<_, i64>(5))
                .filter(|nanoseconds| *nanoseconds >= 0)
                .map(|nanoseconds| nanoseconds as f64 / 1e9),
        })
        .collect())
}

/// Where Alembic stands: its heads, of which there may be several; none where it was never used.
///
/// # Errors
/// [`MigrateError::Table`].
pub async fn alembic(session: &Session) -> Result<Vec<String>, MigrateError> {
    const THERE: &str = "SELECT pg_catalog.to_regclass('alembic_version') IS NOT NULL";
    const SQL: &str = "SELECT version_num::text FROM alembic_version ORDER BY 1";
    let rows = session
        .query_typed(THERE, &[])
        .await
        .map_err(MigrateError::Table)?;
    if !rows.first().is_some_and(|row| row.get(0)) {
        return Ok(Vec::new());
    }
    let rows = session
        .query_typed(SQL, &[])
        .await
        .map_err(MigrateError::Table)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Indexes that a failed CREATE INDEX CONCURRENTLY has left behind: PostgreSQL keeps them up to date and never uses them.
///
/// # Errors
/// [`MigrateError::Table`].
pub async fn invalid_indexes(session: &Session) -> Result<Vec<String>, MigrateError> {
    const SQL: &str = "\
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_index i \
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE NOT i.indisvalid AND c.relkind = 'i' ORDER BY 1";
    let rows = session
        .query_typed(SQL, &[])
        .await
        .map_err(MigrateError::Table)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Runs what is pending, up to `target`. `told` hears of each that was run. The session must have the lock.
///
/// # Errors
/// See [`MigrateError`]; what was run before stays.
pub async fn up(
    session: &Session,
    directory: &Directory,
    target: Option<i64>,
    told: &mut (dyn FnMut(&str, Duration) + Send),
) -> Result<(), MigrateError> {
    fits(session, directory).await?;
    if let Some(target) = target
        && directory.up(target).is_none()
    {
        return Err(MigrateError::Unknown(target));
    }
    let mut migrator = Migrator::with_migrations(directory.migrations());
    migrator.set_locking(false);
    let mut runner = Runner {
        session,
        directory,
        told,
        failure: None,
    };
    match migrator.run_direct(target, &mut runner, false).await {
        Ok(()) => Ok(()),
        Err(error) => Err(runner
            .failure
            .take()
            .unwrap_or(MigrateError::Migrator(error))),
    }
}

/// Undoes what is above `target`, or the last `steps`; the newest first. The session must have the lock.
///
/// # Errors
/// See [`MigrateError`]. Where a way back is missing, nothing is undone.
pub async fn down(
    session: &Session,
    directory: &Directory,
    target: Option<i64>,
    steps: usize,
    told: &mut (dyn FnMut(&str, Duration) + Send),
) -> Result<(), MigrateError> {
    let applied = fits(session, directory).await?;
    if let Some(target) = target
        && target != 0
        && !applied.contains(&target)
    {
        return Err(MigrateError::Unknown(target));
    }
    let newest_first = applied.into_iter().rev();
    let versions: Vec<_> = match target {
        Some(target) => newest_first
            .take_while(|version| *version > target)
            .collect(),
        None => newest_first.take(steps).collect(),
    };
    let scripts: Vec<_> = versions
        .iter()
        .map(|&version| {
            directory
                .down(version)
                .ok_or(MigrateError::OneWay { version })
        })
        .collect::<Result<_, _>>()?;
    let mut runner = Runner {
        session,
        directory,
        told,
        failure: None,
    };
    for script in scripts {
        if let Err(error) = runner.revert(TABLE, &script.migration).await {
            return Err(runner
                .failure
                .take()
                .unwrap_or(MigrateError::Migrator(error)));
        }
    }
    Ok(())
}

/// The versions that were run, if they and the directory fit each other.
async fn fits(session: &Session, directory: &Directory) -> Result<Vec<i64>, MigrateError> {
    let flaws = directory.flaws();
    if !flaws.is_empty() {
        return Err(MigrateError::Flaws(flaws));
    }
    let applied = applied(session).await?;
    let problems = problems(&compare(directory, &applied));
    if !problems.is_empty() {
        return Err(MigrateError::Problems(problems));
    }
    Ok(applied.iter().map(|applied| applied.version).collect())
}

/// What sqlx's migrator drives.
struct Runner<'a> {
    session: &'a Session,
    directory: &'a Directory,
    told: &'a mut (dyn FnMut(&str, Duration) + Send),
    /// sqlx's errors have no room for ours.
    failure: Option<MigrateError>,
}

impl Runner<'_> {
    /// Keeps our error, and makes the one that ends sqlx's loop.
    fn fail(&mut self, error: MigrateError) -> SqlxError {
        self.failure = Some(error);
        SqlxError::Execute(sqlx_core::Error::WorkerCrashed)
    }

    fn failed_table(&mut self, error: tokio_postgres::Error) -> SqlxError {
        self.fail(MigrateError::Table(error))
    }

    /// Runs a script and what is noted of it; in one transaction, unless it asks for none.
    async fn script(&mut self, migration: &Migration, note: &str) -> Result<Duration, SqlxError> {
        // A pooler that swapped sessions would have let somebody else in.
        if let Err(error) = self.session.confirm(LOCK).await {
            return Err(self.fail(error.into()));
        }
        let began = Instant::now();
        let (begin, commit) = if migration.no_tx {
            ("", "")
        } else {
            ("BEGIN", "COMMIT")
        };
        let mut number = 1;
        let mut pause = FIRST_PAUSE;
        loop {
            match attempt(self.session, migration, note, begin, commit).await {
                Ok(()) => break,
                Err(error) if !migration.no_tx && number < ATTEMPTS && may_pass(&error) => {
                    tracing::warn!(
                        attempt = number,
                        error = super::error::said(&error),
                        "a migration could not get a lock; it is tried again"
                    );
                    tokio::time::sleep(pause).await;
                    number += 1;
                    pause *= 2;
                }
                Err(source) => return Err(self.failed(migration, source).await),
            }
        }
        let took = began.elapsed();
        let file = self.file_of(migration);
        (self.told)(&file, took);
        Ok(took)
    }

    async fn failed(&mut self, migration: &Migration, source: tokio_postgres::Error) -> SqlxError {
        let applied = applied(self.session).await.unwrap_or_default();
        let at = match source.as_db_error().and_then(|error| error.position()) {
            Some(ErrorPosition::Original(position)) => {
                let before = migration
                    .sql
                    .as_str()
                    .chars()
                    .take((*position as usize).saturating_sub(1));
                Some(before.filter(|c| *c == '\n').count() + 1)
            }
            _ => None,
        };
        let error = MigrateError::Failed {
            file: self.file_of(migration),
            at,
            undone: !migration.no_tx,
            stands: applied.last().map(|applied| applied.version),
            source,
        };
        self.fail(error)
    }

    fn file_of(&self, migration: &Migration) -> String {
        let script = if migration.migration_type.is_down_migration() {
            self.directory.down(migration.version)
        } else {
            self.directory.up(migration.version)
        };
        script.map_or_else(
            || migration.version.to_string(),
            |script| script.file.clone(),
        )
    }
}

/// Runs a script once, with what is noted of it.
async fn attempt(
    session: &Session,
    migration: &Migration,
    note: &str,
    begin: &str,
    commit: &str,
) -> Result<(), tokio_postgres::Error> {
    let work = async {
        session.batch_execute(begin).await?;
        session.batch_execute(migration.sql.as_str()).await?;
        let checksum: &[u8] = &migration.checksum;
        let description: &str = &migration.description;
        let all: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] = [
            (&migration.version, Type::INT8),
            (&description, Type::TEXT),
            (&checksum, Type::BYTEA),
        ];
        let used = if note.contains("$3") {
            &all[..]
        } else {
            &all[..1]
        };
        // The script may have set a search_path of its own, or a role: both end with the transaction where they are LOCAL.
        session.query_typed(note, used).await?;
        session.batch_execute(commit).await
    };
    let done = work.await;
    if done.is_err() && !migration.no_tx {
        // Where the connection is gone, so is the transaction.
        let _ = session.batch_execute("ROLLBACK").await;
    }
    done
}

/// Whether the same may succeed a little later: nothing but others' locks was in the way.
fn may_pass(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
        ]
        .contains(code)
    })
}

impl Migrate for Runner<'_> {
    fn create_schema_if_not_exists<'e>(
        &'e mut self,
        name: &'e str,
    ) -> BoxFuture<'e, Result<(), SqlxError>> {
        // Asked for by a migrator that names schemas; ours does not.
        Box::pin(async move { Err(SqlxError::CreateSchemasNotSupported(name.to_owned())) })
    }

    fn ensure_migrations_table<'e>(
        &'e mut self,
        table: &'e str,
    ) -> BoxFuture<'e, Result<(), SqlxError>> {
        Box::pin(async move {
            // sqlx's own definition, so that its tool finds what it would have made.
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {table} (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
                 installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL, \
                 execution_time BIGINT NOT NULL)"
            );
            let made = self.session.batch_execute(&sql).await;
            made.map_err(|error| self.failed_table(error))
        })
    }

    fn dirty_version<'e>(
        &'e mut self,
        table: &'e str,
    ) -> BoxFuture<'e, Result<Option<i64>, SqlxError>> {
        Box::pin(async move {
            let sql =
                format!("SELECT version FROM {table} WHERE NOT success ORDER BY version LIMIT 1");
            let rows = self.session.query_typed(&sql, &[]).await;
            let rows = rows.map_err(|error| self.failed_table(error))?;
            Ok(rows.first().map(|row| row.get(0)))
        })
    }

    fn list_applied_migrations<'e>(
        &'e mut self,
        _: &'e str,
    ) -> BoxFuture<'e, Result<Vec<AppliedMigration>, SqlxError>> {
        Box::pin(async move {
            let applied = applied(self.session)
                .await
                .map_err(|error| self.fail(error))?;
            let short = applied.into_iter().map(|applied| AppliedMigration {
                version: applied.version,
                checksum: applied.checksum.into(),
            });
            Ok(short.collect())
        })
    }

    fn lock(&mut self) -> BoxFuture<'_, Result<(), SqlxError>> {
        // Whoever made the runner has it.
        Box::pin(async { Ok(()) })
    }

    fn unlock(&mut self) -> BoxFuture<'_, Result<(), SqlxError>> {
        Box::pin(async { Ok(()) })
    }

    fn apply<'e>(
        &'e mut self,
        table: &'e str,
        migration: &'e Migration,
    ) -> BoxFuture<'e, Result<Duration, SqlxError>> {
        Box::pin(async move {
            let note = format!(
                "INSERT INTO {table} (version, description, success, checksum, execution_time) VALUES ($1, $2, TRUE, $3, -1)"
            );
            let took = self.script(migration, &note).await?;
            let nanoseconds = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
            let sql = format!("UPDATE {table} SET execution_time = $1 WHERE version = $2");
            let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
                [(&nanoseconds, Type::INT8), (&migration.version, Type::INT8)];
            let noted = self.session.query_typed(&sql, &parameters).await;
            noted.map_err(|error| self.failed_table(error))?;
            Ok(took)
        })
    }

    fn revert<'e>(
        &'e mut self,
        table: &'e str,
        migration: &'e Migration,
    ) -> BoxFuture<'e, Result<Duration, SqlxError>> {
        Box::pin(async move {
            let note = format!("DELETE FROM {table} WHERE version = $1");
            self.script(migration, &note).await
        })
    }
}

#[cfg(test)]
mod tests {
    /// By zlib's CRC-32, in Python: `0x3d32ad9e * zlib.crc32(name)`.
    #[test]
    fn the_lock_is_the_one_that_sqlx_takes() {
        assert_eq!(super::sqlx_lock("postgres"), 368_907_709_894_077_238);
        assert_eq!(super::sqlx_lock("My Shop"), 2_071_424_575_902_295_980);
    }
}
