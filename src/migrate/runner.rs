//! sqlx's `Migrate` on a session of the control pool: one script at a time, begun again where only locks were in the way.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx_core::migrate::{AppliedMigration, Migrate, MigrateError as SqlxError, Migration};
use tokio_postgres::error::{ErrorPosition, SqlState};
use tokio_postgres::types::Type;

use super::table::applied;
use super::{Directory, MigrateError};
use crate::control::{LOCK, Session, said};

/// How often a migration that could not get others' locks in time is begun again.
const ATTEMPTS: u32 = 5;
/// The first pause between two attempts; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What sqlx's migrator drives.
pub(super) struct Runner<'a> {
    pub(super) session: &'a Session,
    pub(super) directory: &'a Directory,
    pub(super) told: &'a mut (dyn FnMut(&str, Duration) + Send),
    /// sqlx's errors have no room for ours.
    pub(super) failure: Option<MigrateError>,
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
                        error = said(&error),
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
