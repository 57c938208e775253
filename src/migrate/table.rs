//! What a database tells of its migrations: sqlx's table, Alembic's, and what a failed one may have left.

use super::MigrateError;
use crate::control::Session;

/// sqlx's table.
pub(super) const TABLE: &str = "_sqlx_migrations";

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
