//! `poolwatch init`: what it makes, that a second run finds it, and that what it may not change stays.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tokio_postgres::Client;

use crate::support::Postgres;
use crate::support::program::{Ended, poolwatch, run};

/// Roles belong to the whole server, which tests share.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A role and a database that nobody else uses.
pub(super) struct Pair {
    pub(super) role: String,
    pub(super) database: String,
}

impl Pair {
    pub(super) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            role: format!("init_role_{number}"),
            database: format!("init_db_{number}"),
        }
    }

    /// `init` with these names and without pgvector, which the local server does not have.
    pub(super) async fn init(&self, url: &str, more: &[&str]) -> Ended {
        self.init_with(url, more, &[("POSTGRES_PASSWORD", "hunter2")])
            .await
    }

    pub(super) async fn init_with(
        &self,
        url: &str,
        more: &[&str],
        environment: &[(&str, &str)],
    ) -> Ended {
        let mut arguments = vec!["init", "--upstream-url", url, "--set", "init.vector=off"];
        arguments.extend(["--user", &self.role, "--database", &self.database]);
        arguments.extend(more);
        run(poolwatch(&arguments, environment)).await
    }

    /// The database, made by somebody else before.
    async fn made(&self, admin: &Client, server: &Postgres) -> Client {
        let sql = format!("CREATE DATABASE {}", self.database);
        admin.batch_execute(&sql).await.expect(&sql);
        server.connect(&self.database).await
    }

    /// Everything that `init` may make, as the catalogue has it, the names replaced.
    pub(super) async fn state(&self, server: &Postgres) -> String {
        let client = server.connect("postgres").await;
        let mut rows = texts(&client, ROLE, &[&self.role]).await;
        let there = texts(&client, DATABASE, &[&self.database]).await;
        if !there.is_empty() {
            rows.extend(there);
            let inside = server.connect(&self.database).await;
            rows.extend(texts(&inside, INSIDE, &[]).await);
        }
        let text = rows.join("\n");
        text.replace(&self.role, "ROLE")
            .replace(&self.database, "DATABASE")
    }
}

const ROLE: &str = "\
SELECT format('role %s login=%s super=%s inherit=%s createrole=%s createdb=%s replication=%s bypassrls=%s limit=%s password=%s config=%s', \
  rolname, rolcanlogin, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolconnlimit, \
  left(rolpassword, 18), (SELECT rolconfig FROM pg_roles r WHERE r.oid = a.oid)) FROM pg_authid a WHERE rolname = $1 \
UNION ALL SELECT format('member of %s', roleid::regrole) FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = $1)";
const DATABASE: &str = "\
SELECT format('database %s owner=%s encoding=%s collate=%s acl=%s', datname, pg_get_userbyid(datdba), \
  pg_encoding_to_char(encoding), datcollate, datacl) FROM pg_database WHERE datname = $1";
const INSIDE: &str = "\
SELECT format('setting %s role=%s', setconfig, setrole) FROM pg_db_role_setting \
  WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) \
UNION ALL SELECT format('schema %s owner=%s acl=%s', nspname, pg_get_userbyid(nspowner), nspacl) FROM pg_namespace \
  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' \
UNION ALL SELECT format('extension %s in %s', extname, extnamespace::regnamespace) FROM pg_extension \
ORDER BY 1";

pub(super) async fn texts(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Vec<String> {
    let rows = client.query(sql, parameters).await.expect(sql);
    rows.iter().map(|row| row.get(0)).collect()
}

pub(super) fn superuser(server: &Postgres) -> String {
    server.url(server.user(), "postgres")
}

/// What `init` is to leave, with the default choices but pgvector.
pub(super) const WHOLE: &str = "\
role ROLE login=t super=f inherit=t createrole=f createdb=f replication=f bypassrls=f limit=-1 password=SCRAM-SHA-256$4096 config=
database DATABASE owner=ROLE encoding=UTF8 collate=C acl={ROLE=CTc/ROLE}
extension plpgsql in pg_catalog
schema DATABASE owner=ROLE acl=
setting {search_path=DATABASE} role=0";

#[tokio::test]
async fn it_makes_all_and_a_second_run_finds_all() {
    let server = Postgres::shared().await;
    let pair = Pair::new();
    let url = superuser(server);
    // By a database of its own: for the lock of `postgres`, which other tests take, it would have to wait and say so.
    let entry = format!("init.url={}", server.database().await.url);
    let first = pair.init(&url, &["--set", &entry]).await.expect(0);
    assert_eq!(pair.state(server).await, WHOLE);
    assert_eq!(first.out.matches("\n  done ").count(), 6, "{}", first.out);
    assert!(!first.out.contains("was so"), "{}", first.out);
    assert_eq!(first.err, "");
    let second = pair.init(&url, &[]).await.expect(0);
    assert_eq!(pair.state(server).await, WHOLE);
    assert_eq!(
        second.out.matches("\n  was so ").count(),
        6,
        "{}",
        second.out
    );
    assert!(!second.out.contains("done"), "{}", second.out);
}

#[tokio::test]
async fn a_dry_run_tells_the_same_and_changes_nothing() {
    let server = Postgres::shared().await;
    let pair = Pair::new();
    let url = superuser(server);
    let told = pair.init(&url, &["--dry-run"]).await.expect(0);
    assert_eq!(pair.state(server).await, "");
    let done = pair.init(&url, &[]).await.expect(0);
    assert_eq!(told.out.replace("  would do  ", "  done      "), done.out);
}

#[tokio::test]
async fn json_has_every_step() {
    let server = Postgres::shared().await;
    let pair = Pair::new();
    let ended = pair.init(&superuser(server), &["--json"]).await.expect(0);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    let steps: Vec<_> = document["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            let text = |key: &str| step[key].as_str().unwrap().to_owned();
            format!("{} {}", text("step"), text("outcome"))
        })
        .collect();
    assert_eq!(
        steps,
        [
            "role done",
            "database done",
            "access done",
            "schema done",
            "search_path done",
            "vector skipped",
            "public done"
        ]
    );
    assert_eq!(document["names"]["role_from"], "command line --user");
    assert_eq!(
        document["names"]["password_from"],
        "environment POSTGRES_PASSWORD"
    );
    assert_eq!(document["error"], Value::Null);
    assert!(!ended.out.contains("hunter2"));
}

#[tokio::test]
async fn names_are_quoted() {
    let server = Postgres::shared().await;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let pair = Pair {
        role: format!("Ann \"{number}\" O'Hara"),
        database: format!("The \\Shop's \"{number}\""),
    };
    let url = superuser(server);
    pair.init(&url, &["--sidecar"]).await.expect(0);
    let again = pair.init(&url, &["--sidecar"]).await.expect(0);
    assert!(!again.out.contains("done"), "{}", again.out);
    let mut config = server.client_config(&pair.database);
    config.user(&pair.role);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(
        texts(&client, "SELECT current_schema()::text", &[]).await,
        [pair.database.as_str()]
    );
}

#[tokio::test]
async fn what_is_there_stays_and_what_is_wrong_is_told() {
    let server = Postgres::shared().await;
    let (pair, url) = (Pair::new(), superuser(server));
    let client = server.connect("postgres").await;
    client
        .batch_execute(&format!("CREATE ROLE {} NOLOGIN CREATEDB", pair.role))
        .await
        .unwrap();
    let inside = pair.made(&client, server).await;
    inside
        .batch_execute(&format!("CREATE SCHEMA {}", pair.database))
        .await
        .unwrap();
    let ended = pair.init(&url, &[]).await.expect(1);
    for told in [
        format!(
            "differs   role \"{0}\" exists but may not log in: ALTER ROLE \"{0}\" LOGIN",
            pair.role
        ),
        format!(
            "was so    database \"{}\" of \"postgres\", UTF8; it keeps its owner",
            pair.database
        ),
        format!(
            "differs   schema \"{}\" belongs to \"postgres\"",
            pair.database
        ),
        format!("done      \"{}\" may connect", pair.role),
    ] {
        ended.prints(&told);
    }
    let state = pair.state(server).await;
    assert!(state.contains("login=f"), "{state}");
    assert!(state.contains("schema DATABASE owner=postgres"), "{state}");
    // Who had the right to connect keeps it: the schema was there.
    assert!(
        state.contains("acl={=Tc/postgres,postgres=CTc/postgres,ROLE=Tc/postgres}"),
        "{state}"
    );
}

#[tokio::test]
async fn public_is_removed_only_if_it_is_empty_or_if_that_is_meant() {
    let server = Postgres::shared().await;
    let (pair, url) = (Pair::new(), superuser(server));
    let client = server.connect("postgres").await;
    let inside = pair.made(&client, server).await;
    inside
        .batch_execute(
            "CREATE TABLE public.orders (id serial PRIMARY KEY, at timestamptz); \
             CREATE FUNCTION public.total() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
             CREATE DOMAIN public.euro AS numeric",
        )
        .await
        .unwrap();
    let before = pair.state(server).await;
    for dry in [&["--dry-run"][..], &[]] {
        let refused = pair.init(&url, dry).await.expect(1);
        for told in [
            "public is not empty",
            "table public.orders",
            "function public.total()",
            "type public.euro",
            "--drop-public=cascade",
        ] {
            refused.says(told);
        }
        assert_eq!(pair.state(server).await, before, "something was changed");
    }
    let kept = pair.init(&url, &["--drop-public=keep"]).await.expect(0);
    kept.prints("skipped   schema public");
    assert!(pair.state(server).await.contains("schema public"));
    let gone = pair.init(&url, &["--drop-public=cascade"]).await.expect(0);
    gone.prints("removed with function public.total()");
    assert!(!pair.state(server).await.contains("schema public"));
}

#[tokio::test]
async fn twenty_at_once_make_each_thing_once() {
    let server = Postgres::shared().await;
    let (pair, url) = (Pair::new(), superuser(server));
    let runs = (0..20).map(|_| pair.init(&url, &["--json"]));
    let mut made = Vec::new();
    for ended in futures_util::future::join_all(runs).await {
        let document: Value = serde_json::from_str(&ended.expect(0).out).unwrap();
        for step in document["steps"].as_array().unwrap() {
            if step["outcome"] == "done" {
                made.push(step["step"].as_str().unwrap().to_owned());
            }
        }
    }
    made.sort();
    assert_eq!(
        made,
        [
            "access",
            "database",
            "public",
            "role",
            "schema",
            "search_path"
        ]
    );
    assert_eq!(pair.state(server).await, WHOLE);
}
