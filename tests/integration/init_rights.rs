//! Who may do what after `poolwatch init`: the table of `docs/init.md`, row by row, tried on a server.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::init::{Pair, superuser};
use crate::support::Postgres;

/// What stands in the table's first column, and what is tried for it. `DATABASE` is the database and its schema.
const TRIED: [(&str, &str); 14] = [
    ("connect to the database", "SELECT 1"),
    (
        "make tables in the schema",
        "CREATE TABLE \"DATABASE\".mine ()",
    ),
    (
        "read and write the application's tables",
        "INSERT INTO \"DATABASE\".orders SELECT id + 1 FROM \"DATABASE\".orders",
    ),
    ("make temporary tables", "CREATE TEMPORARY TABLE scratch ()"),
    (
        "make another schema in the database",
        "CREATE SCHEMA another",
    ),
    (
        "change settings of the database",
        "ALTER DATABASE \"DATABASE\" SET work_mem TO '5MB'",
    ),
    (
        "see what other users' sessions run",
        "DO $$BEGIN IF EXISTS (SELECT FROM pg_stat_activity WHERE query = '<insufficient privilege>') \
         THEN RAISE insufficient_privilege; END IF; END$$",
    ),
    (
        "make tables in the schema `poolwatch`",
        "CREATE TABLE poolwatch.mine ()",
    ),
    ("create roles", "CREATE ROLE init_rights_more"),
    ("create databases", "CREATE DATABASE init_rights_more"),
    ("read stored passwords", "SELECT rolpassword FROM pg_authid"),
    (
        "read the server's files",
        "SELECT pg_read_file('postgresql.conf')",
    ),
    (
        "run programs on the server",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ),
    ("connect to other databases where PUBLIC may", "postgres"),
];

async fn connect(
    server: &Postgres,
    role: &str,
    database: &str,
) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = server
        .client_config(database)
        .user(role)
        .connect(NoTls)
        .await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Whether it is allowed. Whatever was made is undone: simple queries with a ROLLBACK behind are one transaction.
async fn may(server: &Postgres, role: &str, database: &str, what: &str, sql: &str) -> bool {
    let target = if sql == "postgres" { sql } else { database };
    let client = match connect(server, role, target).await {
        Ok(client) => client,
        Err(error) => return denied(what, &error),
    };
    // CREATE DATABASE refuses a transaction block before it looks at rights.
    let alone = sql.starts_with("CREATE DATABASE") || sql == "postgres";
    let sql = match (sql, alone) {
        ("postgres", _) => "SELECT 1".to_owned(),
        (sql, true) => sql.to_owned(),
        (sql, false) => format!("BEGIN; {sql}; ROLLBACK"),
    };
    match client
        .batch_execute(&sql.replace("DATABASE\"", &format!("{database}\"")))
        .await
    {
        Ok(()) => true,
        Err(error) => denied(what, &error),
    }
}

#[track_caller]
fn denied(what: &str, error: &tokio_postgres::Error) -> bool {
    assert_eq!(
        error.code(),
        Some(&SqlState::INSUFFICIENT_PRIVILEGE),
        "{what}: {error:?}"
    );
    false
}

#[tokio::test]
async fn the_table_of_rights_is_what_postgresql_grants() {
    let server = Postgres::shared().await;
    let admin = server.connect("postgres").await;
    let (plain, watched) = (Pair::new(), Pair::new());
    let (member, other) = (
        format!("{}_member", plain.role),
        format!("{}_other", plain.role),
    );
    plain.init(&superuser(server), &[]).await.expect(0);
    watched
        .init(&superuser(server), &["--sidecar"])
        .await
        .expect(0);
    for (pair, _) in [(&plain, 0), (&watched, 1)] {
        let owner = connect(server, &pair.role, &pair.database).await.unwrap();
        owner
            .batch_execute("CREATE TABLE orders AS SELECT 1 AS id")
            .await
            .unwrap();
    }
    admin
        .batch_execute(&format!(
            "CREATE ROLE {member} LOGIN; GRANT poolwatch TO {member}; CREATE ROLE {other} LOGIN"
        ))
        .await
        .unwrap();
    // Otherwise there would be no schema to be kept out of.
    let inside = server.connect(&plain.database).await;
    inside
        .batch_execute("CREATE SCHEMA poolwatch AUTHORIZATION poolwatch")
        .await
        .unwrap();

    let mut table = Vec::new();
    for (what, sql) in TRIED {
        let mut row = vec![what];
        for (role, pair) in [
            (&plain.role, &plain),
            (&watched.role, &watched),
            (&member, &watched),
            (&other, &watched),
        ] {
            let allowed = may(server, role, &pair.database, what, sql).await;
            row.push(if allowed { "yes" } else { "no" });
        }
        if what == "connect to the database" {
            let grant = format!("GRANT CONNECT ON DATABASE {} TO {other}", watched.database);
            admin.batch_execute(&grant).await.unwrap();
        }
        table.push(format!("| {} |", row.join(" | ")));
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/init.md");
    let page = std::fs::read_to_string(path).unwrap();
    let documented: Vec<_> = page
        .lines()
        .skip_while(|line| !line.starts_with("| | the application's role"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(documented, table);
}
