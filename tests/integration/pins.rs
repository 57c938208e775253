//! Which statements keep a server, until when, and who is told of it.

use std::time::Duration;

use crate::bench::Bench;
use crate::support::eventually;
use crate::support::raw::{Raw, bind, execute, parse, query, run, sync, tags};

const LIMIT: Duration = Duration::from_secs(20);

/// The reasons that the API gives for the only pinned session.
async fn reasons(bench: &Bench) -> Vec<String> {
    let (status, body) = bench.sidecar.get("/api/v1/pins").await;
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let pinned = body["pinned"].as_array().expect("a list").clone();
    let mut found: Vec<String> = pinned
        .iter()
        .flat_map(|session| session["pins"].as_array().cloned().unwrap_or_default())
        .map(|pin| pin["reason"].as_str().expect("a reason").to_owned())
        .collect();
    found.sort();
    let scrape = bench.sidecar.scrape().await;
    for reason in &found {
        let counted = scrape.sum("poolwatch_pinned_sessions", &[("reason", reason)]);
        assert_eq!(counted, 1.0, "{reason}");
    }
    assert_eq!(
        scrape.sum("poolwatch_pinned_sessions", &[]),
        found.len() as f64
    );
    found
}

/// Asks until it is done. With a `statement_timeout` of a millisecond a busy machine cancels any statement.
async fn in_time(client: &mut Raw, sql: &str) {
    for _ in 0..1000 {
        let answer = client.ask(&query(sql)).await;
        if tags(&answer) == "CZ" {
            return;
        }
        assert_eq!(tags(&answer), "EZ", "{sql}");
        assert_eq!(answer[0].code(), "57014", "{sql}");
    }
    panic!("{sql} was cancelled a thousand times");
}

/// Sends as a simple query, or in the extended protocol, one statement at a time.
async fn send(client: &mut Raw, sql: &str, extended: bool) {
    let bytes = match extended {
        true => [run(sql, &[]), sync()].concat(),
        false => query(sql),
    };
    let answer = client.ask(&bytes).await;
    assert!(!tags(&answer).contains('E'), "{sql}: {answer:?}");
}

#[tokio::test]
async fn a_session_is_pinned_while_its_state_is_there() {
    let bench = Bench::new().await;
    bench
        .direct()
        .await
        .rows("CREATE TABLE plain (a int)")
        .await;
    let mut one = bench.pooled().await;
    let cases: [(&[&str], &str, &[&str]); 19] = [
        (
            &["SET work_mem = '5MB'"],
            "set_parameter",
            &["RESET work_mem"],
        ),
        (
            &["SET work_mem = '5MB'", "SET geqo = off"],
            "set_parameter",
            &["RESET ALL"],
        ),
        (
            &["SELECT set_config('work_mem', '5MB', false)"],
            "set_config",
            &["SET work_mem TO DEFAULT"],
        ),
        (&["SET ROLE pg_read_all_data"], "set_role", &["RESET ROLE"]),
        (
            &["SET SESSION AUTHORIZATION pg_read_all_data"],
            "set_role",
            &["SET SESSION AUTHORIZATION DEFAULT"],
        ),
        (&["LISTEN a", "LISTEN b"], "listen", &["UNLISTEN *"]),
        (&["LISTEN a"], "listen", &["UNLISTEN a"]),
        (
            &["CREATE TEMP TABLE t (a int)"],
            "temporary_table",
            &["DROP TABLE t"],
        ),
        (
            &["CREATE TEMP VIEW v AS SELECT 1"],
            "temporary_table",
            &["DISCARD TEMP"],
        ),
        (
            &["SELECT 1 AS a INTO TEMP t"],
            "temporary_table",
            &["DISCARD ALL"],
        ),
        (
            &["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT"],
            "hold_cursor",
            &["CLOSE c"],
        ),
        (
            &["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT"],
            "hold_cursor",
            &["CLOSE ALL"],
        ),
        (
            &["SELECT pg_advisory_lock(1)"],
            "advisory_lock",
            &["SELECT pg_advisory_unlock(1)"],
        ),
        (
            &["SELECT pg_advisory_lock(a) FROM (VALUES (1), (2)) v (a)"],
            "advisory_lock",
            &["SELECT pg_advisory_unlock_all()"],
        ),
        (&["PREPARE p AS SELECT 1"], "sql_prepare", &["DEALLOCATE p"]),
        (
            &["PREPARE p AS SELECT 1", "PREPARE q AS SELECT 1"],
            "sql_prepare",
            &["DEALLOCATE ALL"],
        ),
        (
            &["DO $$ BEGIN PERFORM 1; END $$"],
            "do_block",
            &["DISCARD ALL"],
        ),
        (
            &[
                "BEGIN",
                "SAVEPOINT s",
                "SET work_mem = '5MB'",
                "RELEASE s",
                "COMMIT",
            ],
            "set_parameter",
            &["BEGIN", "RESET work_mem", "COMMIT"],
        ),
        (
            &["SET work_mem = '5MB'"],
            "set_parameter",
            &["BEGIN", "RESET work_mem", "ROLLBACK", "RESET ALL"],
        ),
    ];
    for (number, (leaves, reason, clears)) in cases.iter().enumerate() {
        let extended = number % 2 == 0;
        let before = bench
            .sidecar
            .scrape()
            .await
            .sum("poolwatch_pins_total", &[]);
        for sql in *leaves {
            send(&mut one, sql, extended).await;
        }
        assert_eq!(reasons(&bench).await, [*reason], "{leaves:?}");
        let after = bench
            .sidecar
            .scrape()
            .await
            .sum("poolwatch_pins_total", &[]);
        assert_eq!(after - before, 1.0, "{leaves:?}");
        for sql in *clears {
            assert_eq!(reasons(&bench).await, [*reason], "{leaves:?} before {sql}");
            send(&mut one, sql, !extended).await;
        }
        assert!(
            reasons(&bench).await.is_empty(),
            "{leaves:?} after {clears:?}"
        );
    }
}

#[tokio::test]
async fn a_parameter_that_is_set_back_by_its_value_pins_no_more() {
    let bench = Bench::new().await;
    let mut one = bench.pooled().await;
    let source = "SELECT source FROM pg_settings WHERE name = 'jit'";
    let before = one.value("SHOW jit").await;
    let before_it = one.value(source).await;
    for extended in [false, true] {
        for back in [
            format!("SELECT set_config('jit', '{before}', false)"),
            format!("SET jit = {before}"),
            format!("BEGIN; SET jit = {before}; COMMIT"),
        ] {
            let off = "SELECT current_setting('jit'), set_config('jit', 'off', false)";
            send(&mut one, off, extended).await;
            assert_eq!(reasons(&bench).await, ["set_config"]);
            send(&mut one, &back, extended && !back.contains(';')).await;
            assert_eq!(reasons(&bench).await, [""; 0], "{back}");
            assert_eq!(one.value("SHOW jit").await, before);
            assert_eq!(one.value(source).await, before_it, "it was reset as well");
        }
        // As drivers do it: the value as a parameter of the statement, and the next request sent behind it.
        send(&mut one, "SET jit = off", extended).await;
        let back = run("SELECT set_config('jit', $1, false)", &[before.as_str()]);
        let sent = [back, sync(), run("SHOW jit", &[]), sync()].concat();
        one.send(&sent).await;
        assert_eq!(tags(&one.until('Z').await), "12DCZ");
        assert_eq!(tags(&one.until('Z').await), "12DCZ");
        assert_eq!(reasons(&bench).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_parameter_that_is_set_to_something_else_stays_pinned() {
    let bench = Bench::new().await;
    let mut one = bench.pooled().await;
    // Of two, one is not back; nor is one of the application's own, which other servers do not even know.
    for (sets, clean) in [
        (
            &[
                "SET geqo = off",
                "SET jit = off",
                "SET geqo = on",
                "SET jit = off",
            ][..],
            "RESET ALL",
        ),
        (&["SET my.own = 'a'", "SET my.own = ''"], "DISCARD ALL"),
        // The look at parameters may run into this. That is no error of the client's.
        (
            &["SET statement_timeout = 2", "SET statement_timeout = 1"],
            "RESET statement_timeout",
        ),
    ] {
        for sql in sets {
            in_time(&mut one, sql).await;
            assert_eq!(reasons(&bench).await, ["set_parameter"], "{sql}");
        }
        in_time(&mut one, clean).await;
        assert_eq!(reasons(&bench).await, [""; 0], "{clean}");
    }
    // Several that share one server see nothing of it.
    let mut two = bench.pooled().await;
    one.rows("SET geqo = off").await;
    one.rows("SET geqo = on").await;
    assert_eq!(two.value("SHOW geqo").await, "on");
    assert_eq!(reasons(&bench).await, [""; 0]);
    // It is not asked about for ever.
    for value in ["1MB", "2MB", "3MB", "5MB", "1MB", "4MB"] {
        one.rows(&format!("SET work_mem = '{value}'")).await;
        assert_eq!(reasons(&bench).await, ["set_parameter"]);
    }
    assert_eq!(one.value("SHOW work_mem").await, "4MB");
}

#[tokio::test]
async fn what_leaves_nothing_does_not_pin() {
    let bench = Bench::new().await;
    let mut one = bench.pooled().await;
    let mut two = bench.pooled().await;
    for sql in [
        "CREATE TABLE t (a int PRIMARY KEY)",
        "CREATE INDEX i ON t (a)",
        "ALTER TABLE t ADD b int",
        "EXPLAIN SELECT * FROM t",
        "VACUUM t",
        "ANALYZE t",
        "TRUNCATE t",
        "GRANT SELECT ON t TO PUBLIC",
        "COMMENT ON TABLE t IS 'SET x; LISTEN y'",
        "CREATE MATERIALIZED VIEW m AS SELECT 1 AS a",
        "REFRESH MATERIALIZED VIEW m",
        "BEGIN; LOCK TABLE t; SET LOCAL work_mem = '5MB'; SET CONSTRAINTS ALL DEFERRED; COMMIT",
        "BEGIN; SET TRANSACTION READ ONLY; COMMIT",
        "BEGIN; CREATE TEMP TABLE now (a int) ON COMMIT DROP; COMMIT",
        "BEGIN; SET work_mem = '5MB'; LISTEN a; CREATE TEMP TABLE x (a int); ROLLBACK",
        "BEGIN; SAVEPOINT s; SET work_mem = '5MB'; ROLLBACK TO s; COMMIT",
        "BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH c; MOVE c; CLOSE c; COMMIT",
        "SELECT set_config('work_mem', '5MB', true)",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT 'pg_advisory_lock(1)', 'into temp', $$ set_config('a', 'b', false) $$",
        "SET TimeZone = 'UTC'; RESET TimeZone; RESET ALL",
        "NOTIFY a, 'LISTEN b'",
        "DO $$ BEGIN RAISE NOTICE 'SET x'; END $$",
        "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'",
        "CALL p()",
        "UNLISTEN *",
        "DISCARD PLANS",
        "DISCARD ALL",
        "CLOSE ALL",
        "DEALLOCATE ALL",
        "COPY t FROM PROGRAM 'true'",
        "DROP TABLE t",
    ] {
        send(&mut one, sql, !sql.contains("; ")).await;
        assert_eq!(reasons(&bench).await, [""; 0], "{sql}");
        two.rows("SELECT 1").await;
    }
}

#[tokio::test]
async fn a_statement_that_is_prepared_counts_when_it_is_run() {
    let bench = Bench::new().await;
    let mut one = bench.pooled().await;
    let prepared = [
        parse("listen", "LISTEN a"),
        parse("lock", "SELECT pg_advisory_lock($1)"),
        parse("free", "SELECT pg_advisory_unlock($1)"),
        sync(),
    ];
    one.ask(&prepared.concat()).await;
    assert!(reasons(&bench).await.is_empty());
    let run = |name: &str, parameters: &[&str]| {
        [bind("", name, parameters), execute("", 0), sync()].concat()
    };
    one.ask(&run("lock", &["1"])).await;
    assert_eq!(reasons(&bench).await, ["advisory_lock"]);
    one.ask(&run("free", &["2"])).await;
    assert_eq!(reasons(&bench).await, ["advisory_lock"], "another lock");
    one.ask(&run("free", &["1"])).await;
    assert!(reasons(&bench).await.is_empty());
    let failing = [
        bind("", "listen", &[]),
        execute("", 0),
        parse("", "SELEKT"),
        sync(),
    ];
    one.ask(&failing.concat()).await;
    assert!(reasons(&bench).await.is_empty(), "it was rolled back");
    one.ask(&run("listen", &[])).await;
    assert_eq!(reasons(&bench).await, ["listen"]);
}

#[tokio::test]
async fn a_text_of_any_length_is_looked_at() {
    let bench = Bench::new().await;
    let mut one = bench.pooled().await;
    let filler = "x".repeat(100_000);
    one.rows(&format!("SELECT length('{filler}; LISTEN a')"))
        .await;
    assert!(
        reasons(&bench).await.is_empty(),
        "a word in a literal is none"
    );
    one.rows(&format!("SELECT length('{filler}'); LISTEN a"))
        .await;
    assert_eq!(reasons(&bench).await, ["listen"]);
    one.rows(&format!("/* {filler} */ UNLISTEN *")).await;
    assert!(reasons(&bench).await.is_empty());
}

#[tokio::test]
async fn who_is_pinned_is_told_once_and_in_words_of_ours() {
    let bench = Bench::new().await;
    let mut one = bench.pooled_with(&[("application_name", "reports")]).await;
    one.rows("SET custom.secret = 'hunter2'").await;
    one.rows("LISTEN hunter2").await;
    let (_, body) = bench.sidecar.get("/api/v1/pins").await;
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let session = &body["pinned"][0];
    assert_eq!(session["application_name"], "reports");
    assert_eq!(session["pins"][0]["command"], "SET");
    assert_eq!(session["pins"][1]["command"], "LISTEN");
    assert!(
        session["pins"][0]["for_seconds"]
            .as_f64()
            .is_some_and(|seconds| seconds >= 0.0)
    );
    assert!(
        session["pins"][0]["since"]
            .as_str()
            .is_some_and(|since| since.ends_with('Z'))
    );
    assert!(
        session["pool"]
            .as_str()
            .is_some_and(|pool| pool.contains(&bench.database.name))
    );
    drop(one);
    eventually(LIMIT, || async { bench.pinned().await == 0.0 }).await;
    assert!(reasons(&bench).await.is_empty());
    let log = bench.sidecar.logs().join("\n");
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("keeps its server"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("SET LOCAL"), "{}", lines[0]);
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn a_pinned_server_is_read_while_its_client_is_idle() {
    let bench = Bench::new().await;
    let mut one = bench.pooled().await;
    one.rows("LISTEN news").await;
    let pid = one.value("SELECT pg_backend_pid()").await;
    let mut direct = bench.direct().await;
    direct.rows("NOTIFY news, 'now'").await;
    assert_eq!(one.next().await.map(|message| message.tag), Some('A'));
    direct
        .rows(&format!("SELECT pg_terminate_backend({pid})"))
        .await;
    let last = one.next().await.expect("the server's own words");
    assert_eq!((last.tag, last.code()), ('E', "57P01".to_owned()));
    assert!(one.next().await.is_none());
    eventually(LIMIT, || async { bench.pinned().await == 0.0 }).await;
    assert!(reasons(&bench).await.is_empty());
}
