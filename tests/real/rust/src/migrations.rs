//! sqlx's own migrator on a directory: what `poolwatch migrate` must go on from, and leave for it.

use std::path::PathBuf;

use sqlx::Connection as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::{Result, variable};

/// Runs what is pending, or undoes what is above `UNDO_TO`.
pub async fn run() -> Result<()> {
    let migrator = Migrator::new(PathBuf::from(variable("SOURCE"))).await?;
    let mut connection = PgConnection::connect_with(&PgConnectOptions::new()).await?;
    match std::env::var("UNDO_TO") {
        Ok(version) => migrator.undo(&mut connection, version.parse()?).await?,
        Err(_) => migrator.run(&mut connection).await?,
    }
    Ok(connection.close().await?)
}
