//! What is to be done, worked out of what is there: no connection, no clock.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::facts::{Inside, Role, Server, Wanted};
use super::names::Names;
use super::refusal::{left_in_public, listed};
use crate::config::{DropPublic, VectorMode};
use crate::scram::Verifier;
use crate::secret::Secret;

/// The role and the schema that poolwatch itself uses.
pub(super) const SIDECAR: &str = "poolwatch";

/// What is made, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The application's role.
    Role,
    /// Our right to act for it.
    Membership,
    /// The sidecar's own role.
    SidecarRole,
    /// The database.
    Database,
    /// Who may connect.
    Access,
    /// The schema.
    Schema,
    /// `search_path` on the database.
    SearchPath,
    /// pgvector.
    Vector,
    /// The removal of `public`.
    Public,
    /// The sidecar's own schema.
    SidecarSchema,
}

/// What there is to do for a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// These statements; what they do.
    Do(Vec<Statement>, String),
    /// Nothing: it is so already.
    WasSo(String),
    /// Nothing: it was not asked for, or cannot be had and need not.
    Skip(String),
    /// Nothing, and yet it is not as it should be.
    Differs(String),
}

/// A statement. It may hold a verifier, so it is printed nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement(pub(super) Secret);

fn statement(sql: String) -> Statement {
    Statement(Secret::new(sql))
}

/// What is to be done before the database is connected to.
pub(super) fn outside(wanted: &Wanted, server: &Server) -> Vec<(Step, Verdict)> {
    let names = &wanted.names;
    let (role, database) = (names.role.value.as_str(), names.database.value.as_str());
    let mut steps = vec![(Step::Role, role_step(names, server.role.as_ref()))];
    if !server.superuser {
        steps.push((Step::Membership, membership(role, server)));
    }
    if wanted.sidecar {
        steps.push((Step::SidecarRole, sidecar_role(role, server)));
    }
    let owner = escape_identifier(role);
    let verdict = match &server.database {
        Some(there) if there.owner == role => Verdict::WasSo(format!(
            "database \"{database}\" of \"{role}\", {}",
            there.encoding
        )),
        Some(there) => Verdict::WasSo(format!(
            "database \"{database}\" of \"{}\", {}; it keeps its owner",
            there.owner, there.encoding
        )),
        None => Verdict::Do(
            vec![statement(format!(
                // Of template0, because only that one takes another encoding than its own.
                "CREATE DATABASE {} OWNER {owner} ENCODING 'UTF8' TEMPLATE template0",
                escape_identifier(database)
            ))],
            format!("database \"{database}\" of \"{role}\", UTF8"),
        ),
    };
    steps.push((Step::Database, verdict));
    steps
}

fn role_step(names: &Names, there: Option<&Role>) -> Verdict {
    let name = names.role.value.as_str();
    let Some(there) = there else {
        let password = names.password.value.expose();
        let verifier = match Verifier::parse(password) {
            Ok(_) => names.password.value.clone(),
            Err(_) => Verifier::of_password(password).to_stored(),
        };
        let sql = format!(
            "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}",
            escape_identifier(name),
            escape_literal(verifier.expose())
        );
        return Verdict::Do(
            vec![statement(sql)],
            format!("role \"{name}\", which may log in (SCRAM-SHA-256) and nothing else"),
        );
    };
    if !there.may_log_in {
        return Verdict::Differs(format!(
            "role \"{name}\" exists but may not log in: ALTER ROLE {} LOGIN",
            escape_identifier(name)
        ));
    }
    let more = match there.more.as_slice() {
        [] => String::new(),
        more => format!("; it may more than it needs: {}", more.join(", ")),
    };
    Verdict::WasSo(format!("role \"{name}\"; its password stays{more}"))
}

/// Who is no superuser gives things to a role only by being a member of it.
fn membership(role: &str, server: &Server) -> Verdict {
    if server.role.as_ref().is_some_and(|role| role.ours) {
        return Verdict::WasSo(format!("\"{}\" may act for \"{role}\"", server.user));
    }
    Verdict::Do(
        vec![statement(format!(
            "GRANT {} TO {}",
            escape_identifier(role),
            escape_identifier(&server.user)
        ))],
        format!(
            "\"{}\" is a member of \"{role}\", to act for it",
            server.user
        ),
    )
}

fn sidecar_role(role: &str, server: &Server) -> Verdict {
    let mut todo = Vec::new();
    if !server.sidecar_role {
        todo.push(statement(format!("CREATE ROLE {SIDECAR} NOLOGIN")));
    }
    if !server.sidecar_monitors {
        todo.push(statement(format!("GRANT pg_monitor TO {SIDECAR}")));
    }
    if !server.sidecar_granted {
        todo.push(statement(format!(
            "GRANT {SIDECAR} TO {}",
            escape_identifier(role)
        )));
    }
    let what = format!("role \"{SIDECAR}\", a member of pg_monitor; \"{role}\" is a member of it");
    if todo.is_empty() {
        Verdict::WasSo(what)
    } else {
        Verdict::Do(todo, what)
    }
}

/// What is to be done in the database, in one transaction.
pub(super) fn inside(wanted: &Wanted, server: &Server, inside: &Inside) -> Vec<(Step, Verdict)> {
    let names = &wanted.names;
    let (role, name) = (names.role.value.as_str(), names.database.value.as_str());
    let (owner, schema) = (escape_identifier(role), escape_identifier(name));
    let mut steps = vec![(Step::Access, access(role, name, inside))];
    steps.push((
        Step::Schema,
        match inside.schema.as_deref() {
            None => Verdict::Do(
                vec![statement(format!("CREATE SCHEMA {schema} AUTHORIZATION {owner}"))],
                format!("schema \"{name}\" of \"{role}\""),
            ),
            Some(there) if there == role => Verdict::WasSo(format!("schema \"{name}\" of \"{role}\"")),
            Some(there) => Verdict::Differs(format!(
                "schema \"{name}\" belongs to \"{there}\", not to \"{role}\": ALTER SCHEMA {schema} OWNER TO {owner}"
            )),
        },
    ));
    let path = format!("search_path of the database is \"{name}\"");
    steps.push((
        Step::SearchPath,
        if inside.search_path.as_ref() == Some(&inside.wanted_path) {
            Verdict::WasSo(path)
        } else {
            let sql = format!("ALTER DATABASE {schema} SET search_path TO {schema}");
            Verdict::Do(vec![statement(sql)], path)
        },
    ));
    steps.push((Step::Vector, vector(wanted.vector, name, server, inside)));
    steps.push((Step::Public, public(wanted, inside)));
    if wanted.sidecar {
        let what = format!("schema \"{SIDECAR}\" of \"{SIDECAR}\", which may connect");
        let verdict = match inside.sidecar_schema.as_deref() {
            None => Verdict::Do(
                vec![
                    statement(format!("CREATE SCHEMA {SIDECAR} AUTHORIZATION {SIDECAR}")),
                    statement(format!("GRANT CONNECT ON DATABASE {schema} TO {SIDECAR}")),
                ],
                what,
            ),
            Some(SIDECAR) => Verdict::WasSo(what),
            Some(there) => Verdict::Differs(format!(
                "schema \"{SIDECAR}\" belongs to \"{there}\": ALTER SCHEMA {SIDECAR} OWNER TO {SIDECAR}"
            )),
        };
        steps.push((Step::SidecarSchema, verdict));
    }
    steps
}

/// PUBLIC, which is everybody, is shut out once: before the schema is there. What somebody grants later stays.
fn access(role: &str, database: &str, inside: &Inside) -> Verdict {
    let target = escape_identifier(database);
    let mut todo = Vec::new();
    let mut what = Vec::new();
    let shut = inside.schema.is_none() && inside.untouched;
    if shut {
        todo.push(statement(format!(
            "REVOKE ALL ON DATABASE {target} FROM PUBLIC"
        )));
        what.push("no other role may connect without a GRANT".to_owned());
    }
    if !inside.role_connects {
        todo.push(statement(format!(
            "GRANT CONNECT, TEMPORARY ON DATABASE {target} TO {}",
            escape_identifier(role)
        )));
        what.push(format!("\"{role}\" may connect"));
    }
    if !todo.is_empty() {
        return Verdict::Do(todo, what.join("; "));
    }
    Verdict::WasSo(if inside.everyone_connects {
        format!("\"{role}\" may connect; so may every role (PUBLIC), which is left as it was")
    } else {
        format!("\"{role}\" may connect; no other role may without a GRANT")
    })
}

fn vector(mode: VectorMode, name: &str, server: &Server, inside: &Inside) -> Verdict {
    let schema = escape_identifier(name);
    let what = format!("extension \"vector\" (pgvector) in schema \"{name}\"");
    match (mode, inside.vector.as_deref()) {
        (VectorMode::Off, _) => Verdict::Skip("extension \"vector\": not asked for".to_owned()),
        (_, Some(there)) if there == name => Verdict::WasSo(what),
        // It would keep public from being removed.
        (_, Some("public")) => Verdict::Do(
            vec![statement(format!(
                "ALTER EXTENSION vector SET SCHEMA {schema}"
            ))],
            format!("{what}, moved there from public"),
        ),
        (_, Some(there)) => Verdict::WasSo(format!(
            "extension \"vector\" (pgvector) in schema \"{there}\", where it stays"
        )),
        (_, None) if server.has_vector => Verdict::Do(
            vec![statement(format!(
                "CREATE EXTENSION vector WITH SCHEMA {schema}"
            ))],
            what,
        ),
        (_, None) => Verdict::Skip("extension \"vector\": the server does not have it".to_owned()),
    }
}

fn public(wanted: &Wanted, inside: &Inside) -> Verdict {
    let left = left_in_public(wanted, inside);
    match (&inside.public, wanted.drop_public) {
        (None, _) => Verdict::WasSo("no schema public".to_owned()),
        (Some(_), DropPublic::Keep) => {
            Verdict::Skip("schema public: it stays, as asked for".to_owned())
        }
        // RESTRICT, so that what came in between is not lost.
        (Some(_), DropPublic::Empty) => Verdict::Do(
            vec![statement("DROP SCHEMA public RESTRICT".to_owned())],
            "no schema public: it was empty".to_owned(),
        ),
        (Some(_), DropPublic::Cascade) => Verdict::Do(
            vec![statement("DROP SCHEMA public CASCADE".to_owned())],
            if left.is_empty() {
                "no schema public: it was empty".to_owned()
            } else {
                format!("no schema public: removed with {}", listed(&left))
            },
        ),
    }
}
