//! The ways up and down.

use std::time::Duration;

use sqlx_core::migrate::{Migrate as _, Migrator};

use super::runner::Runner;
use super::standing::{compare, problems};
use super::table::{TABLE, applied};
use super::{Directory, MigrateError};
use crate::control::Session;

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

/// The versions that were run, if they and the directory fit each other and the server takes changes.
async fn fits(session: &Session, directory: &Directory) -> Result<Vec<i64>, MigrateError> {
    const WRITABLE: &str = "\
SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')::bool";
    let rows = session.query_typed(WRITABLE, &[]).await;
    let rows = rows.map_err(MigrateError::Table)?;
    if rows[0].get(0) {
        return Err(MigrateError::Standby);
    }
    if rows[0].get(1) {
        return Err(MigrateError::ReadOnly);
    }
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
