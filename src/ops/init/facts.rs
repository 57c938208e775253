//! What is wanted, and what the server and the database have: all that a plan is made of.

use super::names::Names;
use crate::config::{DropPublic, VectorMode};

/// What is wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) names: Names,
    pub(super) vector: VectorMode,
    pub(super) drop_public: DropPublic,
    pub(super) sidecar: bool,
    /// Whether the server is reached without leaving this machine.
    pub(super) local: bool,
}

/// What the server has.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) version: String,
    /// Who we are, and what we may do.
    pub(super) user: String,
    pub(super) superuser: bool,
    pub(super) creates_roles: bool,
    pub(super) creates_databases: bool,
    pub(super) standby: bool,
    pub(super) read_only: bool,
    /// Whether pgvector's files are there.
    pub(super) has_vector: bool,
    pub(super) sidecar_role: bool,
    /// Whether the sidecar's role has `pg_monitor`.
    pub(super) sidecar_monitors: bool,
    /// Whether the application's role has the sidecar's.
    pub(super) sidecar_granted: bool,
    pub(super) role: Option<Role>,
    pub(super) database: Option<Database>,
}

/// The application's role, where it exists.
#[derive(Debug, Clone, Default)]
pub(super) struct Role {
    pub(super) may_log_in: bool,
    /// Attributes beyond LOGIN.
    pub(super) more: Vec<&'static str>,
    /// Whether we may do what it may.
    pub(super) ours: bool,
}

/// The database, where it exists.
#[derive(Debug, Clone, Default)]
pub(super) struct Database {
    pub(super) owner: String,
    pub(super) encoding: String,
}

/// What the database holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Inside {
    /// The owner of the schema.
    pub(super) schema: Option<String>,
    /// The owner of the sidecar's schema.
    pub(super) sidecar_schema: Option<String>,
    /// As it is set on the database, and as it should be.
    pub(super) search_path: Option<String>,
    pub(super) wanted_path: String,
    /// The schema that pgvector is in.
    pub(super) vector: Option<String>,
    /// Whether nobody has granted or revoked anything on the database.
    pub(super) untouched: bool,
    /// Whether the role may connect in its own right.
    pub(super) role_connects: bool,
    /// Whether PUBLIC has a privilege on the database.
    pub(super) everyone_connects: bool,
    /// What `public` holds.
    pub(super) public: Option<Vec<String>>,
}

impl Inside {
    /// A database that is made of template0, which nobody can have changed.
    pub(super) fn fresh(database: &str) -> Self {
        Self {
            wanted_path: database.to_owned(),
            untouched: true,
            // As its owner.
            role_connects: true,
            everyone_connects: true,
            public: Some(Vec::new()),
            ..Self::default()
        }
    }
}
