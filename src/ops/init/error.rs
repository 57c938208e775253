//! Why `init` did not come to its end, in sentences, and what to do about it.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::names::NameError;
use super::plan::Step;
use super::refusal::Refusal;
use crate::cli::Exit;
use crate::control::{LockError, Trouble, said};
use crate::error::lines;

/// Why `init` ended early.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// No server is named.
    #[error("no PostgreSQL server is named: set init.url, or upstream.url")]
    NoServer,
    /// The names, or the password.
    #[error("{}", lines(.0))]
    Names(Vec<NameError>),
    /// The files of TLS.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    /// The server was not reached.
    #[error("{trouble}{}", if waited.is_zero() { String::new() } else { format!(" (waited {waited:.0?})") })]
    Connect {
        /// Why not.
        trouble: Trouble,
        /// For how long it was tried.
        waited: Duration,
    },
    /// Something forbids to begin; nothing was done.
    #[error("{}", lines(.0))]
    Refused(Vec<Refusal>),
    /// Somebody else is at it.
    #[error(transparent)]
    Lock(LockError),
    /// The server was asked what it has, and answered with an error.
    #[error("what the server has cannot be read: {}", said(.0))]
    Inspect(tokio_postgres::Error),
    /// A step failed.
    #[error("{what} could not be made: {}", said(source))]
    Step {
        /// Which.
        step: Step,
        /// What it was to make.
        what: String,
        /// PostgreSQL's answer. Not a source: `said` has all of it, and the statement stays out.
        source: tokio_postgres::Error,
    },
    /// Somebody else made and removed the same things meanwhile, several times.
    #[error("another program changes the same roles and databases at the same time; run it again")]
    Unsettled,
    /// No answer.
    #[error("PostgreSQL did not answer within {0:?}")]
    Deadline(Duration),
    /// The rules of the control pool.
    #[error(transparent)]
    Pool(#[from] crate::pool::ConfigError),
}

impl InitError {
    /// Wrong usage, or a problem that was found.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::NoServer | Self::Names(_) | Self::Tls(_) => Exit::Usage,
            Self::Refused(refusals) if refusals.iter().all(is_usage) => Exit::Usage,
            _ => Exit::Problem,
        }
    }

    /// PostgreSQL's code, where the error is PostgreSQL's.
    pub(super) fn sqlstate(&self) -> Option<String> {
        let code = match self {
            Self::Inspect(error) | Self::Step { source: error, .. } => error.code(),
            Self::Lock(LockError::Query(error)) => error.code(),
            _ => None,
        };
        code.map(|code| code.code().to_owned())
    }

    /// The step that failed.
    pub(super) fn step(&self) -> Option<Step> {
        match self {
            Self::Step { step, .. } => Some(*step),
            _ => None,
        }
    }

    /// What to do, where that is not said already.
    pub(super) fn advice(&self) -> Option<&'static str> {
        let error = match self {
            Self::Inspect(error) | Self::Step { source: error, .. } => error,
            Self::Lock(LockError::Query(error)) => error,
            _ => return None,
        };
        let Some(code) = error.code() else {
            return Some(AGAIN);
        };
        Some(match *code {
            SqlState::INSUFFICIENT_PRIVILEGE => {
                "connect as a superuser, or as a role with CREATEROLE and CREATEDB (init.url)"
            }
            SqlState::READ_ONLY_SQL_TRANSACTION => "connect to the primary",
            SqlState::DISK_FULL => {
                "the server's disk is full: make room, then run it again; it goes on where it stopped"
            }
            SqlState::TOO_MANY_CONNECTIONS => {
                "close connections, then run it again; it goes on where it stopped"
            }
            SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED => {
                "something else uses it: see pg_stat_activity, then run it again; it goes on where it stopped"
            }
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST => {
                "move what is in public, or say --drop-public=keep or --drop-public=cascade"
            }
            SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
                AGAIN
            }
            _ => return None,
        })
    }

    /// Whether somebody else made the same thing at the same moment.
    pub(super) fn is_race(&self) -> bool {
        let Self::Step { source, .. } = self else {
            return false;
        };
        source.code().is_some_and(|code| {
            [
                SqlState::DUPLICATE_OBJECT,
                SqlState::DUPLICATE_DATABASE,
                SqlState::DUPLICATE_SCHEMA,
                SqlState::UNIQUE_VIOLATION,
            ]
            .contains(code)
        })
    }
}

const AGAIN: &str = "run it again; it goes on where it stopped";

/// What is wrong with what was asked for, not with the server.
fn is_usage(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::DefaultPassword { .. } | Refusal::SidecarName(_)
    )
}
