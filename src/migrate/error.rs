//! Why a migration did not happen.

use std::path::PathBuf;

use super::{Flaw, Problem};
use crate::control::{LockError, said};
use crate::error::lines;

/// Why a migration did not happen.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The scripts cannot be read.
    #[error("the migrations in {} cannot be read: {cause}", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// The scripts contradict each other.
    #[error("{}", lines(.0))]
    Flaws(Vec<Flaw>),
    /// The scripts and the database contradict each other.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// Somebody else is at it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A standby takes no changes.
    #[error("the server is a read-only standby: connect to its primary")]
    Standby,
    /// So does a server that was told so.
    #[error(
        "transactions are read-only here (default_transaction_read_only is on): connect to a server that takes changes"
    )]
    ReadOnly,
    /// The table of migrations.
    #[error("the table of migrations cannot be used: {}", said(.0))]
    Table(tokio_postgres::Error),
    /// A script failed.
    #[error(
        "{file} failed: {}{}; {}{}",
        said(source),
        at.as_ref().map_or(String::new(), |at| format!(", at line {at}")),
        if *undone { "all of it was rolled back" } else { "it runs without a transaction, so what it did before that stays" },
        match stands {
            Some(version) => format!("; the database stands at version {version}"),
            None => "; no migration is applied".to_owned(),
        }
    )]
    Failed {
        /// The script.
        file: String,
        /// The line of the script that PostgreSQL points at.
        at: Option<usize>,
        /// Whether the database is as it was.
        undone: bool,
        /// The version that is applied now.
        stands: Option<i64>,
        /// PostgreSQL's answer; told above.
        source: tokio_postgres::Error,
    },
    /// There is no such version.
    #[error("there is no version {0} to go to")]
    Unknown(i64),
    /// There is no way back.
    #[error(
        "version {version} cannot be undone: there is no {version}_….down.sql; nothing was undone"
    )]
    OneWay {
        /// Which.
        version: i64,
    },
    /// sqlx's migrator itself objects.
    #[error(transparent)]
    Migrator(sqlx_core::migrate::MigrateError),
}
