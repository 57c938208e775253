//! What is there already, asked of PostgreSQL.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::facts::{Database, Inside, Role, Server};
use super::plan::SIDECAR;

type Answer<T> = Result<T, tokio_postgres::Error>;

/// The server, and the names as it has them.
pub(super) async fn server(client: &Client, role: &str, database: &str) -> Answer<Server> {
    const SQL: &str = "\
SELECT pg_catalog.current_setting('server_version'), r.rolname::text, r.rolsuper, r.rolcreaterole, r.rolcreatedb, \
  pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only') = 'on', \
  EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'vector'), \
  EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1), \
  EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.roleid = 'pg_monitor'::regrole \
    AND m.member = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)), \
  EXISTS (SELECT FROM pg_catalog.pg_auth_members m \
    WHERE m.roleid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1) \
    AND m.member = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2)) \
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";
    let rows = client
        .query_typed(SQL, &[(&SIDECAR, Type::TEXT), (&role, Type::TEXT)])
        .await?;
    let mut server = Server::default();
    if let Some(row) = rows.first() {
        server = Server {
            version: row.get(0),
            user: row.get(1),
            superuser: row.get(2),
            creates_roles: row.get(3),
            creates_databases: row.get(4),
            standby: row.get(5),
            read_only: row.get(6),
            has_vector: row.get(7),
            sidecar_role: row.get(8),
            sidecar_monitors: row.get(9),
            sidecar_granted: row.get(10),
            ..Server::default()
        };
    }
    server.role = role_of(client, role).await?;
    server.database = database_of(client, database).await?;
    Ok(server)
}

async fn role_of(client: &Client, name: &str) -> Answer<Option<Role>> {
    const SQL: &str = "\
SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, \
  pg_catalog.pg_has_role(current_user, oid, 'USAGE') \
FROM pg_catalog.pg_roles WHERE rolname = $1";
    let rows = client.query_typed(SQL, &[(&name, Type::TEXT)]).await?;
    Ok(rows.first().map(|row| {
        let more = [
            "SUPERUSER",
            "CREATEROLE",
            "CREATEDB",
            "REPLICATION",
            "BYPASSRLS",
        ];
        let more = more.into_iter().enumerate();
        Role {
            may_log_in: row.get(0),
            more: more
                .filter(|(at, _)| row.get(at + 1))
                .map(|(_, name)| name)
                .collect(),
            ours: row.get(6),
        }
    }))
}

async fn database_of(client: &Client, name: &str) -> Answer<Option<Database>> {
    const SQL: &str = "\
SELECT pg_catalog.pg_get_userbyid(datdba)::text, pg_catalog.pg_encoding_to_char(encoding)::text \
FROM pg_catalog.pg_database WHERE datname = $1";
    let rows = client.query_typed(SQL, &[(&name, Type::TEXT)]).await?;
    Ok(rows.first().map(|row| Database {
        owner: row.get(0),
        encoding: row.get(1),
    }))
}

/// The database that the client is connected to.
pub(super) async fn inside(client: &Client, role: &str, database: &str) -> Answer<Inside> {
    const SQL: &str = "\
SELECT (SELECT pg_catalog.pg_get_userbyid(nspowner)::text FROM pg_catalog.pg_namespace WHERE nspname = $1), \
  (SELECT pg_catalog.pg_get_userbyid(nspowner)::text FROM pg_catalog.pg_namespace WHERE nspname = $3), \
  (SELECT pg_catalog.substr(entry, 13) FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) entry \
    WHERE s.setdatabase = d.oid AND s.setrole = 0 AND entry LIKE 'search\\_path=%'), \
  pg_catalog.quote_ident($1), \
  (SELECT n.nspname::text FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace \
    WHERE e.extname = 'vector'), \
  d.datacl IS NULL, \
  (SELECT r.rolsuper OR EXISTS (SELECT FROM pg_catalog.aclexplode(COALESCE(d.datacl, pg_catalog.acldefault('d', d.datdba))) a \
    WHERE a.grantee = r.oid AND a.privilege_type = 'CONNECT') FROM pg_catalog.pg_roles r WHERE r.rolname = $2), \
  EXISTS (SELECT FROM pg_catalog.aclexplode(COALESCE(d.datacl, pg_catalog.acldefault('d', d.datdba))) a \
    WHERE a.grantee = 0) \
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";
    let names = [
        (&database as _, Type::TEXT),
        (&role as _, Type::TEXT),
        (&SIDECAR as _, Type::TEXT),
    ];
    let rows = client.query_typed(SQL, &names).await?;
    let mut inside = Inside::default();
    if let Some(row) = rows.first() {
        inside = Inside {
            schema: row.get(0),
            sidecar_schema: row.get(1),
            search_path: row.get(2),
            wanted_path: row.get(3),
            vector: row.get(4),
            untouched: row.get(5),
            role_connects: row.get::<_, Option<bool>>(6).unwrap_or(false),
            everyone_connects: row.get(7),
            public: None,
        };
    }
    inside.public = public(client).await?;
    Ok(inside)
}

/// What the schema `public` holds; `None` where there is none. Whatever has a place in a schema depends on it. What an
/// extension consists of stands for nothing more than the extension, which is named.
async fn public(client: &Client) -> Answer<Option<Vec<String>>> {
    const SQL: &str = "\
SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) \
FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_depend d \
  ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype = 'n' \
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e') \
WHERE n.nspname = 'public' ORDER BY 1";
    let rows = client.query_typed(SQL, &[]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(rows.iter().filter_map(|row| row.get(0)).collect()))
}
