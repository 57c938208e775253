//! `poolwatch migrate` by several at once, beside others' locks, and killed: one run at a time, and who is in the way is told.

use std::time::Duration;

use serde_json::Value;

use crate::migrate::{ORDERS, Project, value};
use crate::support::eventually;
use crate::support::program::run;

const LIMIT: Duration = Duration::from_secs(30);
/// The letters `poolwatc`, as docs/init.md's script writes them.
const LOCK: i64 = 8_101_816_766_312_838_243;

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
    refused.says("another run has the lock and did not end within");
    refused.says("application \"the other run\"");
    // Who only looks need not wait.
    assert_eq!(project.states().await, "1 pending, 2 pending");
    // The session of the run before may still be there, and its last question with it.
    let began = value(&holder, "SELECT pg_catalog.clock_timestamp()::text").await;
    let waiting = tokio::spawn(run(project.command(&["up"])));
    eventually(LIMIT, || async {
        let sql = format!(
            "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_locks l%' \
             AND backend_start > '{began}' AND state = 'idle'"
        );
        value(&holder, &sql).await != "0"
    })
    .await;
    drop(holder);
    let ended = waiting.await.unwrap().expect(0);
    ended.says("waiting for another run to end");
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
    failed.says("canceling statement due to lock timeout (SQLSTATE 55P03)");
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
    failed.says("canceling statement due to statement timeout (SQLSTATE 57014)");
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
    failed.says("sh ended with exit status: 7");
    let absent = project
        .migrate(&["run", "--", "/no/such/tool"])
        .await
        .expect(1);
    absent.says("/no/such/tool cannot be run");
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
