//! `poolwatch migrate up` and `down` killed (SIGKILL) at every step: each script happened with its note or not at all, and
//! the next run makes the rest.

use crate::migrate::Project;
use crate::support::{Postgres, Tap, When};

/// More than a run sends by far; one that gets there would be stuck in a loop.
const MOST: u32 = 200;
/// The third one cannot be part of a transaction, so it is such as can be run again.
const SCRIPTS: [(&str, &str); 6] = [
    (
        "1_runs.up.sql",
        "CREATE TABLE runs (n int); INSERT INTO runs VALUES (1)",
    ),
    ("1_runs.down.sql", "DROP TABLE runs"),
    ("2_more.up.sql", "INSERT INTO runs VALUES (2)"),
    (
        "2_more.down.sql",
        "DELETE FROM runs WHERE n = 2; INSERT INTO runs VALUES (-2)",
    ),
    (
        "3_index.up.sql",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS by_n ON runs (n)",
    ),
    (
        "3_index.down.sql",
        "-- no-transaction\nDROP INDEX CONCURRENTLY IF EXISTS by_n",
    ),
];
/// What is noted, what was done, and the indexes.
async fn state(project: &Project) -> [String; 3] {
    let client = project.database.connect().await;
    let mut state = [const { String::new() }; 3];
    let queries = [
        (
            "_sqlx_migrations",
            "SELECT coalesce(string_agg(version::text, ' ' ORDER BY version), '') FROM _sqlx_migrations",
        ),
        (
            "runs",
            "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM runs",
        ),
        (
            "runs",
            "SELECT coalesce(string_agg(indexrelid::regclass || CASE WHEN indisvalid THEN '' ELSE ' invalid' END, ' '), '') \
             FROM pg_index WHERE indrelid = 'runs'::regclass",
        ),
    ];
    for (found, (table, sql)) in state.iter_mut().zip(queries) {
        let there = format!("SELECT to_regclass('{table}') IS NOT NULL");
        *found = if client
            .query_one(&there, &[])
            .await
            .expect("an answer")
            .get(0)
        {
            client.query_one(sql, &[]).await.expect("an answer").get(0)
        } else {
            "no table".to_owned()
        };
    }
    state
}

/// Kills one run of `command` after each number of requests, on a database of its own each time.
async fn at_every_step(
    when: When,
    first: Option<&str>,
    command: &[&str],
    allowed_left: &[[&str; 3]],
) {
    let server = Postgres::shared().await;
    let mut seen = Vec::new();
    for allowed in 0..MOST {
        let project = Project::new(&SCRIPTS).await;
        if let Some(first) = first {
            project.migrate(&[first]).await.expect(0);
        }
        let tap = Tap::before(server.port(), allowed, when).await;
        let url = format!(
            "postgres://postgres@127.0.0.1:{}/{}?sslmode=disable",
            tap.port, project.database.name
        );
        let whole = tap.kills(project.command_at(&url, command)).await;
        let left = state(&project).await;
        let left: [&str; 3] = left.each_ref().map(String::as_str);
        let at = allowed_left.iter().position(|one| *one == left);
        let at = at.unwrap_or_else(|| panic!("{allowed} {when:?} left {left:?}"));
        seen.push(at);
        project.migrate(command).await.expect(0);
        let end = state(&project).await;
        assert_eq!(
            &end.each_ref().map(String::as_str),
            allowed_left.last().expect("an end"),
            "{allowed} {when:?}"
        );
        if whole {
            assert!(seen.is_sorted(), "{seen:?}");
            seen.dedup();
            // Each of them was seen, so the kills hit every step.
            assert_eq!(seen.len(), allowed_left.len(), "{seen:?}");
            return;
        }
    }
    panic!("{MOST} requests were not enough");
}

const UP: [[&str; 3]; 6] = [
    ["no table", "no table", "no table"],
    ["", "no table", "no table"],
    ["1", "1", ""],
    ["1 2", "1 2", ""],
    ["1 2", "1 2", "by_n"],
    ["1 2 3", "1 2", "by_n"],
];
const DOWN: [[&str; 3]; 5] = [
    ["1 2 3", "1 2", "by_n"],
    ["1 2 3", "1 2", ""],
    ["1 2", "1 2", ""],
    ["1", "-2 1", ""],
    ["", "no table", "no table"],
];

#[tokio::test]
async fn up_killed_after_any_answer_the_next_run_makes_the_rest() {
    at_every_step(When::Answered, None, &["up"], &UP).await;
}

#[tokio::test]
async fn up_killed_while_postgresql_works_the_next_run_makes_the_rest() {
    at_every_step(When::Sent, None, &["up"], &UP).await;
}

#[tokio::test]
async fn down_killed_after_any_answer_the_next_run_makes_the_rest() {
    at_every_step(When::Answered, Some("up"), &["down", "--to", "0"], &DOWN).await;
}
