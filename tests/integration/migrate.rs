//! `poolwatch migrate` on real databases: forward and back, one at a time, and what it says when something does not fit.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::Client;

use crate::support::program::{Ended, clean, poolwatch, run};
use crate::support::{Database, Postgres, eventually};

const LIMIT: Duration = Duration::from_secs(30);
/// The letters `poolwatc`, as docs/init.md's script writes them.
const LOCK: i64 = 8_101_816_766_312_838_243;

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

async fn value(client: &Client, sql: &str) -> String {
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
    assert!(
        unknown.err.contains("there is no version 7"),
        "{}",
        unknown.err
    );
}

#[tokio::test]
async fn a_way_back_that_is_missing_undoes_nothing() {
    let project = Project::new(&ORDERS).await;
    project.write("1_orders.down.sql", "");
    std::fs::remove_file(project.directory.join("1_orders.down.sql")).unwrap();
    project.migrate(&["up"]).await.expect(0);
    let refused = project.migrate(&["down", "--to", "0"]).await.expect(1);
    assert!(
        refused.err.contains("version 1 cannot be undone"),
        "{}",
        refused.err
    );
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
    assert!(
        offline.err.contains("version 2 is there more than once"),
        "{}",
        offline.err
    );
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
        assert!(
            failed.err.contains(told),
            "{told} is not in\n{}",
            failed.err
        );
    }
    assert!(
        failed.out.contains("applied   2_prices.up.sql"),
        "{}",
        failed.out
    );
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
    assert!(
        failed
            .err
            .contains("syntax error at or near \"SELEKT\" (SQLSTATE 42601), at line 2"),
        "{}",
        failed.err
    );
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
        assert!(
            failed.err.contains(told),
            "{told} is not in\n{}",
            failed.err
        );
    }
    let status = project.migrate(&["status"]).await.expect(0);
    assert!(
        status.err.contains("the index public.one_price is invalid"),
        "{}",
        status.err
    );
    assert_eq!(
        project.states().await,
        "1 applied, 2 applied, 3 applied, 4 pending"
    );
}

#[tokio::test]
async fn twenty_at_once_run_each_migration_once() {
    let project = Project::new(&[("1_runs.sql", "CREATE TABLE runs (n int)")]).await;
    for version in 2..8 {
        project.write(
            &format!("{version}_run.sql"),
            &format!("INSERT INTO runs VALUES ({version}); SELECT pg_sleep(0.02)"),
        );
    }
    let all =
        futures_util::future::join_all((0..20).map(|_| project.migrate(&["up", "--json"]))).await;
    let mut ran = Vec::new();
    for ended in all {
        let document: Value = serde_json::from_str(&ended.expect(0).out).unwrap();
        assert_eq!(document["stands_at"], 7);
        for one in document["ran"].as_array().unwrap() {
            ran.push(one["file"].as_str().unwrap().to_owned());
        }
    }
    ran.sort();
    assert_eq!(ran.len(), 7, "{ran:?}");
    ran.dedup();
    assert_eq!(ran.len(), 7, "{ran:?}");
    assert_eq!(
        project
            .value("SELECT string_agg(n::text, ' ' ORDER BY n) FROM runs")
            .await,
        "2 3 4 5 6 7"
    );
}

#[tokio::test]
async fn another_run_is_waited_for_and_named() {
    let project = Project::new(&ORDERS).await;
    let holder = project.database.connect().await;
    let sql = format!("SET application_name TO 'the other run'; SELECT pg_advisory_lock({LOCK})");
    holder.batch_execute(&sql).await.unwrap();
    let refused = project
        .migrate(&["up", "--run-timeout", "150ms"])
        .await
        .expect(1);
    assert!(
        refused
            .err
            .contains("another run has the lock and did not end within"),
        "{}",
        refused.err
    );
    assert!(
        refused.err.contains("application \"the other run\""),
        "{}",
        refused.err
    );
    // Who only looks need not wait.
    assert_eq!(project.states().await, "1 pending, 2 pending");
    let waiting = tokio::spawn(run(project.command(&["up"])));
    eventually(LIMIT, || async {
        let sql = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_locks l%' AND pid <> pg_backend_pid()";
        value(&holder, sql).await != "0"
    })
    .await;
    drop(holder);
    waiting.await.unwrap().expect(0);
    assert_eq!(project.states().await, "1 applied, 2 applied");
}

#[tokio::test]
async fn locks_of_others_are_waited_for_a_while_and_again() {
    let project = Project::new(&ORDERS).await;
    project.migrate(&["up", "--to", "1"]).await.expect(0);
    let holder = project.database.connect().await;
    holder
        .batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let short = ["--set", "migrate.lock_timeout=20ms", "up"];
    let failed = project.migrate(&short).await.expect(1);
    assert!(
        failed
            .err
            .contains("canceling statement due to lock timeout (SQLSTATE 55P03)"),
        "{}",
        failed.err
    );
    assert_eq!(project.states().await, "1 applied, 2 pending");
    let waiting = tokio::spawn(run(project.command(&short)));
    // After the first attempt, so that what succeeds is a later one.
    let watcher = project.database.connect().await;
    let sql = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND query = 'ROLLBACK'";
    eventually(LIMIT, || async { value(&watcher, sql).await != "0" }).await;
    holder.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().expect(0);
    assert_eq!(project.states().await, "1 applied, 2 applied");
    project.write("3_slow.sql", "SELECT pg_sleep(60)");
    let failed = project
        .migrate(&["--set", "migrate.statement_timeout=50ms", "up"])
        .await
        .expect(1);
    assert!(
        failed
            .err
            .contains("canceling statement due to statement timeout (SQLSTATE 57014)"),
        "{}",
        failed.err
    );
}

#[tokio::test]
async fn a_run_that_is_killed_leaves_nothing_half_done() {
    let project = Project::new(&ORDERS).await;
    project.write("3_slow.up.sql", "CREATE TABLE half (); SELECT pg_sleep(60)");
    let mut child = project.command(&["up"]).spawn().unwrap();
    let watcher = project.database.connect().await;
    let sleeping = "SELECT coalesce(min(pid), 0)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let pid = eventually(LIMIT, || async {
        let pid = value(&watcher, sleeping).await;
        (pid != "0").then_some(pid)
    })
    .await;
    child.kill().await.unwrap();
    // PostgreSQL notices when it wants to answer; here it is told.
    watcher
        .batch_execute(&format!("SELECT pg_terminate_backend({pid})"))
        .await
        .unwrap();
    project.write("3_slow.up.sql", "CREATE TABLE half ()");
    project.migrate(&["up"]).await.expect(0);
    assert_eq!(project.states().await, "1 applied, 2 applied, 3 applied");
}

#[tokio::test]
async fn a_run_under_way_is_shown_with_whom_it_waits_for() {
    let project = Project::new(&ORDERS).await;
    project.migrate(&["up", "--to", "1"]).await.expect(0);
    let holder = project.database.connect().await;
    holder
        .batch_execute("SET application_name TO 'the report'; BEGIN; SELECT * FROM orders")
        .await
        .unwrap();
    let pid = value(&holder, "SELECT pg_backend_pid()::text").await;
    let idle = project.migrate(&["status"]).await.expect(0);
    assert!(!idle.out.contains("under way"), "{}", idle.out);
    let waiting = tokio::spawn(run(project.command(&["up"])));
    let told =
        format!("itself waiting for process {pid}, user \"postgres\", application \"the report\"");
    eventually(LIMIT, || async {
        let status = project.migrate(&["status"]).await.expect(0);
        status.out.contains("a run is under way: process") && status.out.contains(&told)
    })
    .await;
    let status = project.migrate(&["status", "--json"]).await.expect(0);
    let document: Value = serde_json::from_str(&status.out).unwrap();
    assert!(document["running"]["seconds"].is_i64(), "{}", status.out);
    holder.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().expect(0);
    assert_eq!(project.states().await, "1 applied, 2 applied");
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
async fn any_tool_runs_under_the_same_lock() {
    let project = Project::new(&[]).await;
    let psql = project.database.program.to_str().unwrap().to_owned();
    let sql = format!(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND (classid::int8 << 32 | objid::int8) = {LOCK} \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    let script = format!("\"{psql}\" -XAt -d \"$DATABASE_URL\" -c \"{sql}\"");
    let ended = project
        .migrate(&["run", "--", "sh", "-c", &script])
        .await
        .expect(0);
    assert_eq!(ended.out, "1\n");
    let failed = project
        .migrate(&["run", "--", "sh", "-c", "exit 7"])
        .await
        .expect(1);
    assert!(
        failed.err.contains("sh ended with exit status: 7"),
        "{}",
        failed.err
    );
    let absent = project
        .migrate(&["run", "--", "/no/such/tool"])
        .await
        .expect(1);
    assert!(
        absent.err.contains("/no/such/tool cannot be run"),
        "{}",
        absent.err
    );
    let holder = project.database.connect().await;
    holder
        .batch_execute(&format!("SELECT pg_advisory_lock({LOCK})"))
        .await
        .unwrap();
    let refused = project
        .migrate(&["--run-timeout", "50ms", "run", "--", "echo", "ran"])
        .await
        .expect(1);
    assert_eq!(refused.out, "");
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
    assert!(
        refused.err.contains("letters, digits and _ only"),
        "{}",
        refused.err
    );
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
    assert!(
        sqlite.err.contains("migrations are skipped"),
        "{}",
        sqlite.err
    );
    let nothing = run(clean(
        env!("CARGO_BIN_EXE_poolwatch"),
        &["migrate", "status"],
        &[],
    ))
    .await
    .expect(2);
    assert!(
        nothing.err.contains("set migrate.url, or upstream.url"),
        "{}",
        nothing.err
    );
    let absent = run(poolwatch(
        &["migrate", "check", "--offline", "--source", "/no/such"],
        &[],
    ))
    .await
    .expect(1);
    assert!(
        absent
            .err
            .contains("the migrations in /no/such cannot be read"),
        "{}",
        absent.err
    );
}
