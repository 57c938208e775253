//! Why somebody does not come in, and why a command is not carried out.

use crate::cluster::StillThere;
use crate::error::{Class, ClientError};

/// How much of a text that is no command is shown back.
const SHOWN: usize = 100;

/// Why a client that has proved who it is does not come in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It is not among those who may.
    #[error(
        "user \"{user}\" may not use the console: it is in neither admin.users nor admin.stats_users"
    )]
    NotAllowed {
        /// Who.
        user: String,
    },
    /// Others are there already.
    #[error("too many sessions at the console (limit {limit})")]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
}

impl ClientError for EntryError {
    fn class(&self) -> Class {
        match self {
            EntryError::NotAllowed { .. } => Class::Rejected,
            EntryError::TooMany { .. } => Class::Limit,
        }
    }
}

/// Why a command is not carried out. In PgBouncer's words where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("invalid command '{0}', use SHOW HELP;")]
    Unknown(String),
    #[error("usage: {0}")]
    Usage(String),
    #[error("admin access needed")]
    AdminOnly,
    #[error("not shown: {0}")]
    Absent(&'static str),
    #[error("no such database: {0}")]
    NoDatabase(String),
    #[error("{0} is the console: no command can be about it")]
    Console(String),
    #[error("client not found")]
    NoClient,
    #[error("invalid client id supplied")]
    NoId,
    #[error("a database is required")]
    DatabaseRequired,
    #[error("already suspended/paused")]
    Paused,
    /// Somebody else ended what was waited for.
    #[error("resumed before it was done")]
    Resumed,
    #[error("pooler is not paused/suspended")]
    NotPaused,
    #[error("database {0} is not paused")]
    DatabaseNotPaused(String),
    #[error(transparent)]
    StillThere(#[from] StillThere),
    #[error("{0} clients were still being answered")]
    StillBusy(usize),
    #[error("canceling statement due to user request")]
    Cancelled,
    /// The process said no.
    #[error("{0}")]
    Process(String),
    #[error("the console is not ready yet")]
    Starting,
}

impl Refusal {
    pub(super) fn unknown(text: &str) -> Self {
        Refusal::Unknown(text.chars().take(SHOWN).collect())
    }

    /// See PostgreSQL, `src/backend/utils/errcodes.txt`.
    pub(super) fn sqlstate(&self) -> &'static str {
        match self {
            Refusal::Unknown(_) | Refusal::Usage(_) | Refusal::DatabaseRequired | Refusal::NoId => {
                "42601"
            } // syntax_error
            Refusal::AdminOnly => "42501", // insufficient_privilege
            Refusal::Absent(_) => "0A000", // feature_not_supported
            Refusal::NoDatabase(_) => "3D000", // invalid_catalog_name
            Refusal::Console(_) => "42809", // wrong_object_type
            Refusal::NoClient => "42704",  // undefined_object
            Refusal::Paused
            | Refusal::Resumed
            | Refusal::NotPaused
            | Refusal::DatabaseNotPaused(_)
            | Refusal::Process(_) => "55000", // object_not_in_prerequisite_state
            Refusal::StillThere(_) | Refusal::StillBusy(_) => "55006", // object_in_use
            Refusal::Cancelled => "57014", // query_canceled
            Refusal::Starting => "57P03",  // cannot_connect_now
        }
    }
}
