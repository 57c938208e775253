//! What forbids to begin, all of it at once, before anything is changed.

use super::facts::{Inside, Server, Wanted};
use super::plan::SIDECAR;
use crate::config::{DropPublic, Origin, VectorMode};

/// How many of the objects in `public` are named.
const NAMED: usize = 20;

/// Why nothing is done at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A standby takes no changes.
    #[error("the server is a read-only standby: connect to its primary")]
    Standby,
    /// So does a server that was told so.
    #[error(
        "transactions are read-only here (default_transaction_read_only is on): connect to a server that takes changes"
    )]
    ReadOnly,
    /// A right is missing.
    #[error(
        "user \"{user}\" may not {what}: connect as a superuser, or as a role with {needs} (init.url)"
    )]
    Privilege {
        /// Who.
        user: String,
        /// What not.
        what: String,
        /// What would do.
        needs: &'static str,
    },
    /// The password that everybody knows.
    #[error(
        "the role \"{role}\" would get the default password, and the server is not on this machine: give one in \
         /run/secrets/poolwatch-password or POSTGRES_PASSWORD"
    )]
    DefaultPassword {
        /// Whose.
        role: String,
    },
    /// pgvector's files are not there.
    #[error(
        "the server has no extension \"vector\" (pgvector): install it there (Debian: postgresql-NN-pgvector; image: \
         pgvector/pgvector), or go without by --vector optional or --vector off"
    )]
    NoVector,
    /// The database has an encoding that cannot hold every text.
    #[error(
        "the database \"{database}\" exists with the encoding {encoding}, not UTF8: name another one, or make it anew"
    )]
    Encoding {
        /// Which.
        database: String,
        /// Its encoding.
        encoding: String,
    },
    /// `public` is in use.
    #[error(
        "the schema public is not empty, so it is not removed; it holds {}. Move that, or say --drop-public=keep, or \
             --drop-public=cascade to remove it with all of that",
        listed(objects)
    )]
    PublicHolds {
        /// All that it holds.
        objects: Vec<String>,
    },
    /// The names that the sidecar needs.
    #[error(
        "\"{0}\" is what poolwatch calls its own role and schema: name the application's otherwise, or leave --sidecar out"
    )]
    SidecarName(&'static str),
}

pub(super) fn listed(objects: &[String]) -> String {
    let mut text = objects[..objects.len().min(NAMED)].join(", ");
    if objects.len() > NAMED {
        text.push_str(&format!(" and {} more", objects.len() - NAMED));
    }
    text
}

/// Everything that forbids to begin.
pub(super) fn refusals(wanted: &Wanted, server: &Server, inside: &Inside) -> Vec<Refusal> {
    let role = wanted.names.role.value.as_str();
    let database = wanted.names.database.value.as_str();
    let mut found = Vec::new();
    // Whatever else there is to say of a server that takes no changes, its primary may say otherwise.
    if server.standby {
        return vec![Refusal::Standby];
    }
    if server.read_only {
        return vec![Refusal::ReadOnly];
    }
    let may_not = |what: String, needs| Refusal::Privilege {
        user: server.user.clone(),
        what,
        needs,
    };
    if server.role.is_none() && !(server.superuser || server.creates_roles) {
        found.push(may_not(format!("create the role \"{role}\""), "CREATEROLE"));
    }
    if server.database.is_none() && !(server.superuser || server.creates_databases) {
        found.push(may_not(
            format!("create the database \"{database}\""),
            "CREATEDB",
        ));
    }
    if server.role.is_none() && wanted.names.password.origin == Origin::Default && !wanted.local {
        found.push(Refusal::DefaultPassword {
            role: role.to_owned(),
        });
    }
    if let Some(there) = server
        .database
        .as_ref()
        .filter(|there| there.encoding != "UTF8")
    {
        found.push(Refusal::Encoding {
            database: database.to_owned(),
            encoding: there.encoding.clone(),
        });
    }
    if wanted.vector == VectorMode::Required && !server.has_vector && inside.vector.is_none() {
        found.push(Refusal::NoVector);
    }
    if wanted.sidecar && (role == SIDECAR || database == SIDECAR) {
        found.push(Refusal::SidecarName(SIDECAR));
    }
    let objects = left_in_public(wanted, inside);
    if wanted.drop_public == DropPublic::Empty && !objects.is_empty() {
        found.push(Refusal::PublicHolds { objects });
    }
    found
}

/// What stays in `public` once pgvector has been moved out of it.
pub(super) fn left_in_public(wanted: &Wanted, inside: &Inside) -> Vec<String> {
    let moved = wanted.vector != VectorMode::Off && inside.vector.as_deref() == Some("public");
    let objects = inside.public.iter().flatten();
    objects
        .filter(|object| !(moved && *object == "extension vector"))
        .cloned()
        .collect()
}
