//! How many clients there may be, and what one more is told.

use crate::error::{Class, ClientError};

/// A limit on clients is reached. In PostgreSQL's own words, which drivers and people know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooManyClients {
    /// That on all of them.
    #[error("sorry, too many clients already")]
    InAll {
        /// The limit (`listen.max_clients`).
        limit: usize,
    },
    /// That on one user's.
    #[error("too many connections for role \"{user}\"")]
    OfUser {
        /// Who.
        user: String,
        /// The limit (`limits.clients_per_user`).
        limit: usize,
    },
}

impl ClientError for TooManyClients {
    fn class(&self) -> Class {
        Class::Limit
    }

    fn client_hint(&self) -> Option<String> {
        Some(match self {
            TooManyClients::InAll { limit } => {
                format!("poolwatch serves at most {limit} clients (listen.max_clients).")
            }
            TooManyClients::OfUser { limit, .. } => format!(
                "poolwatch serves at most {limit} clients of one user (limits.clients_per_user)."
            ),
        })
    }
}

/// How many clients there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub in_all: usize,
    /// Of one user.
    pub per_user: usize,
}

impl From<usize> for Limits {
    /// So many in all, whoever they are.
    fn from(in_all: usize) -> Self {
        let per_user = usize::MAX;
        Self { in_all, per_user }
    }
}
