//! `poolwatch migrate` on real databases: forward and back, one at a time, and what it says when something does not fit.

use std::path::PathBuf;

use serde_json::Value;
use tokio_postgres::Client;

use crate::support::program::{Ended, clean, poolwatch, run};
use crate::support::{Database, Postgres};

/// A directory of scripts and an empty database. The directory goes with it.
pub(crate) struct Project {
    pub(crate) directory: PathBuf,
    pub(crate) database: Database,
}

impl Project {
    pub(crate) async fn new(files: &[(&str, &str)]) -> Self {
        Self::on(Postgres::shared().await, files).await
    }

    /// On a server of the test's own.
    pub(crate) async fn on(server: &Postgres, files: &[(&str, &str)]) -> Self {
        let name = format!("poolwatch-migrations-{:08x}", rand::random::<u32>());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).expect("a temporary directory");
        let database = server.database().await;
        let project = Self {
            directory,
            database,
        };
        for (file, text) in files {
            project.write(file, text);
        }
        project
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.directory.join(file), text).expect("a script");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        self.command_at(&self.database.url, arguments)
    }

    /// As [`Project::command`], on a way of its own to the database.
    pub(crate) fn command_at(&self, url: &str, arguments: &[&str]) -> tokio::process::Command {
        let source = self.directory.to_str().expect("UTF-8");
        let mut all = vec!["migrate"];
        all.extend(["--source", source, "--upstream-url", url]);
        all.extend(arguments);
        poolwatch(&all, &[])
    }

    pub(crate) async fn migrate(&self, arguments: &[&str]) -> Ended {
        run(self.command(arguments)).await
    }

    /// Version and state, each in a line.
    pub(crate) async fn states(&self) -> String {
        let status = self.migrate(&["status", "--json"]).await.expect(0);
        let document: Value = serde_json::from_str(&status.out).expect("JSON");
        let rows = document["versions"].as_array().expect("a list").iter();
        let lines: Vec<_> = rows
            .map(|row| {
                format!(
                    "{} {}",
                    row["version"],
                    row["state"].as_str().expect("a word")
                )
            })
            .collect();
        lines.join(", ")
    }

    pub(crate) async fn value(&self, sql: &str) -> String {
        value(&self.database.connect().await, sql).await
    }
}

pub(crate) async fn value(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.expect(sql).get(0)
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) const ORDERS: [(&str, &str); 4] = [
    (
        "1_orders.up.sql",
        "CREATE TABLE orders (id bigint PRIMARY KEY);\nINSERT INTO orders VALUES (1);\n",
    ),
    ("1_orders.down.sql", "DROP TABLE orders;\n"),
    ("2_prices.up.sql", "ALTER TABLE orders ADD price numeric;\n"),
    ("2_prices.down.sql", "ALTER TABLE orders DROP price;\n"),
];
const COLUMNS: &str = "SELECT coalesce(string_agg(attname, ' ' ORDER BY attnum), '') FROM pg_attribute \
    WHERE attrelid = to_regclass('orders') AND attnum > 0 AND NOT attisdropped";

#[tokio::test]
async fn forward_and_back() {
    let project = Project::new(&ORDERS).await;
    assert_eq!(project.states().await, "1 pending, 2 pending");
    let dry = project.migrate(&["up", "--dry-run"]).await.expect(0);
    assert!(
        dry.out
            .starts_with("would run 1_orders.up.sql\nwould run 2_prices.up.sql\n"),
        "{}",
        dry.out
    );
    assert_eq!(project.states().await, "1 pending, 2 pending");

    let up = project.migrate(&["up", "--to", "1"]).await.expect(0);
    assert!(
        up.out.starts_with("applied   1_orders.up.sql ("),
        "{}",
        up.out
    );
    assert!(
        up.out
            .ends_with("the database stands at version 1, 1 pending\n"),
        "{}",
        up.out
    );
    assert_eq!(project.value(COLUMNS).await, "id");
    project.migrate(&["up"]).await.expect(0);
    assert_eq!(project.value(COLUMNS).await, "id price");
    assert_eq!(project.states().await, "1 applied, 2 applied");
    let again = project.migrate(&["up"]).await.expect(0);
    assert_eq!(again.out, "the database stands at version 2, 0 pending\n");

    // What sqlx's own tool would find: SHA-384 of the file, the name with spaces, a time.
    let sql = format!(
        "SELECT string_agg(format('%s %s %s %s', version, description, success AND execution_time > 0, \
         checksum = CASE version WHEN 1 THEN sha384('{}') ELSE sha384('{}') END), ', ' ORDER BY version) FROM _sqlx_migrations",
        ORDERS[0].1, ORDERS[2].1
    );
    assert_eq!(project.value(&sql).await, "1 orders t t, 2 prices t t");
    let history = project.migrate(&["history"]).await.expect(0);
    assert_eq!(
        history.out.matches("  applied  ").count(),
        2,
        "{}",
        history.out
    );

    let dry = project
        .migrate(&["down", "--steps", "5", "--dry-run"])
        .await
        .expect(0);
    assert!(
        dry.out
            .starts_with("would run 2_prices.down.sql\nwould run 1_orders.down.sql\n"),
        "{}",
        dry.out
    );
    let down = project.migrate(&["down"]).await.expect(0);
    assert!(
        down.out.starts_with("undone    2_prices.down.sql ("),
        "{}",
        down.out
    );
    assert_eq!(project.value(COLUMNS).await, "id");
    project.migrate(&["up"]).await.expect(0);
    project.migrate(&["down", "--to", "0"]).await.expect(0);
    assert_eq!(project.value(COLUMNS).await, "");
    assert_eq!(project.states().await, "1 pending, 2 pending");
    let unknown = project.migrate(&["up", "--to", "7"]).await.expect(1);
    unknown.says("there is no version 7");
}

#[tokio::test]
async fn a_way_back_that_is_missing_undoes_nothing() {
    let project = Project::new(&ORDERS).await;
    project.write("1_orders.down.sql", "");
    std::fs::remove_file(project.directory.join("1_orders.down.sql")).unwrap();
    project.migrate(&["up"]).await.expect(0);
    let refused = project.migrate(&["down", "--to", "0"]).await.expect(1);
    refused.says("version 1 cannot be undone");
    assert_eq!(project.states().await, "1 applied, 2 applied");
    project.migrate(&["down"]).await.expect(0);
    assert_eq!(project.states().await, "1 applied, 2 pending");
}

#[tokio::test]
async fn what_does_not_fit_is_named_and_nothing_runs() {
    let project = Project::new(&ORDERS).await;
    project.write("5_names.sql", "CREATE TABLE names ()");
    project.migrate(&["up"]).await.expect(0);
    project.migrate(&["check"]).await.expect(0);
    let told = async |expected: &str| {
        for command in [&["check"][..], &["up"], &["down"]] {
            let ended = project.migrate(command).await.expect(1);
            assert!(
                ended.err.contains(expected),
                "{command:?}: {expected} is not in\n{}",
                ended.err
            );
        }
    };
    project.write("2_prices.up.sql", "ALTER TABLE orders ADD price money;\n");
    told("2_prices.up.sql has changed since it was applied (version 2)").await;
    project.write("2_prices.up.sql", ORDERS[2].1);

    project.write("3_late.sql", "CREATE TABLE late ()");
    told("3_late.sql (version 3) was never applied, but version 5 was").await;
    assert_eq!(
        project.states().await,
        "1 applied, 2 applied, 3 out_of_order, 5 applied"
    );
    std::fs::remove_file(project.directory.join("3_late.sql")).unwrap();

    std::fs::remove_file(project.directory.join("5_names.sql")).unwrap();
    told("version 5 (names) was applied, and there is no file for it").await;
    project.write("5_names.sql", "CREATE TABLE names ()");

    project.write("2_again.up.sql", "SELECT 1");
    told("version 2 is there more than once: 2_again.up.sql, 2_prices.up.sql").await;
    let offline = project.migrate(&["check", "--offline"]).await.expect(1);
    offline.says("version 2 is there more than once");
    std::fs::remove_file(project.directory.join("2_again.up.sql")).unwrap();

    project.write("notes.sql", "SELECT 1");
    told("notes.sql is no migration").await;
    std::fs::remove_file(project.directory.join("notes.sql")).unwrap();
    project.migrate(&["check"]).await.expect(0);
    assert_eq!(
        project
            .value("SELECT coalesce(to_regclass('late')::text, 'none')")
            .await,
        "none"
    );
}

#[tokio::test]
async fn a_script_that_fails_leaves_the_database_as_it_was() {
    let project = Project::new(&ORDERS).await;
    project.write(
        "3_broken.up.sql",
        "CREATE TABLE half ();\n\nALTER TABLE nowhere ADD x int;\n",
    );
    project.write("4_later.up.sql", "CREATE TABLE later ()");
    let failed = project.migrate(&["up"]).await.expect(1);
    for told in [
        "3_broken.up.sql failed: relation \"nowhere\" does not exist (SQLSTATE 42P01)",
        "all of it was rolled back",
        "the database stands at version 2",
    ] {
        failed.says(told);
    }
    failed.prints("applied   2_prices.up.sql");
    assert_eq!(
        project
            .value("SELECT coalesce(to_regclass('half')::text, 'none')")
            .await,
        "none"
    );
    assert_eq!(
        project.states().await,
        "1 applied, 2 applied, 3 pending, 4 pending"
    );
    project.write("3_broken.up.sql", "CREATE TABLE half ();\nSELEKT;\n");
    let failed = project.migrate(&["up"]).await.expect(1);
    failed.says("syntax error at or near \"SELEKT\" (SQLSTATE 42601), at line 2");
    project.write("3_broken.up.sql", "CREATE TABLE whole ();\n");
    project.migrate(&["up"]).await.expect(0);
    assert_eq!(
        project.states().await,
        "1 applied, 2 applied, 3 applied, 4 applied"
    );
}

#[tokio::test]
async fn an_index_is_made_concurrently_and_an_invalid_one_is_named() {
    let project = Project::new(&ORDERS).await;
    project.write(
        "3_index.up.sql",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY by_price ON orders (price)",
    );
    project.write(
        "3_index.down.sql",
        "-- no-transaction\nDROP INDEX CONCURRENTLY by_price",
    );
    project.migrate(&["up"]).await.expect(0);
    project.migrate(&["down"]).await.expect(0);
    project.migrate(&["up"]).await.expect(0);
    let client = project.database.connect().await;
    client
        .batch_execute("INSERT INTO orders VALUES (2, 7), (3, 7)")
        .await
        .unwrap();
    project.write(
        "4_unique.up.sql",
        "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY one_price ON orders (price)",
    );
    let failed = project.migrate(&["up"]).await.expect(1);
    for told in [
        "4_unique.up.sql failed: could not create unique index",
        "it runs without a transaction, so what it did before that stays",
        "the index public.one_price is invalid",
    ] {
        failed.says(told);
    }
    let status = project.migrate(&["status"]).await.expect(0);
    status.says("the index public.one_price is invalid");
    assert_eq!(
        project.states().await,
        "1 applied, 2 applied, 3 applied, 4 pending"
    );
}

#[tokio::test]
async fn alembic_is_shown() {
    let project = Project::new(&ORDERS).await;
    let client = project.database.connect().await;
    client
        .batch_execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY); INSERT INTO alembic_version VALUES ('ae1027a6acf')")
        .await
        .unwrap();
    let one = project.migrate(&["status"]).await.expect(0);
    assert!(
        one.out.ends_with("Alembic stands at ae1027a6acf\n"),
        "{}",
        one.out
    );
    client
        .batch_execute("INSERT INTO alembic_version VALUES ('bbb')")
        .await
        .unwrap();
    let two = project.migrate(&["status"]).await.expect(0);
    assert!(
        two.out.ends_with("Alembic has 2 heads: ae1027a6acf, bbb\n"),
        "{}",
        two.out
    );
}

#[tokio::test]
async fn new_scripts_are_numbered_above_all_others() {
    let project = Project::new(&[]).await;
    let made = project.migrate(&["new", "orders"]).await.expect(0);
    assert_eq!(made.out.matches("_orders.").count(), 2, "{}", made.out);
    project.write("99991231235959_future.sql", "SELECT 1");
    let made = project.migrate(&["new", "more"]).await.expect(0);
    assert!(
        made.out.ends_with("/99991231235960_more.sql\n"),
        "{}",
        made.out
    );
    let refused = project.migrate(&["new", "../more"]).await.expect(1);
    refused.says("letters, digits and _ only");
    project.migrate(&["check", "--offline"]).await.expect(0);
    project.migrate(&["up"]).await.expect(0);
}

#[tokio::test]
async fn sqlite_is_passed_over_and_no_server_is_wrong_usage() {
    let sqlite = run(poolwatch(
        &["migrate", "up", "--upstream-url", "sqlite:///letta.db"],
        &[],
    ))
    .await
    .expect(0);
    sqlite.says("migrations are skipped");
    let nothing = run(clean(
        env!("CARGO_BIN_EXE_poolwatch"),
        &["migrate", "status"],
        &[],
    ))
    .await
    .expect(2);
    nothing.says("set migrate.url, or upstream.url");
    let absent = run(poolwatch(
        &["migrate", "check", "--offline", "--source", "/no/such"],
        &[],
    ))
    .await
    .expect(1);
    absent.says("the migrations in /no/such cannot be read");
}
