//! One run at a time: poolwatch's lock and sqlx's own, and how long is waited for what.

use std::time::Duration;

use super::MigrateError;
use crate::control::{Holder, LOCK, Session};

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
pub(super) fn sqlx_lock(database: &str) -> i64 {
    let crc = database.bytes().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    });
    0x3d32_ad9e * i64::from(!crc)
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
