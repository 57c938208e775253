use super::*;
use crate::sql::classify;

/// Runs statements, each in the words of its tag's first: BEGIN and COMMIT are told by their text here.
fn run(left: &mut Left, text: &str) {
    for statement in text.split(';').map(str::trim) {
        match statement {
            "BEGIN" => {}
            "COMMIT" => left.on_commit(),
            "ROLLBACK" => left.on_rollback(),
            _ => {
                let found = classify(statement.as_bytes()).unwrap_or_default();
                for statement in &found.statements {
                    left.on_statement(statement, 0, |name| name == "timezone");
                }
            }
        }
    }
}

fn after(text: &str) -> Vec<&'static str> {
    let mut left = Left::default();
    run(&mut left, text);
    left.reasons().map(PinReason::label).collect()
}

#[test]
fn what_is_set_is_there_until_it_is_reset() {
    for (text, reasons) in [
        ("SET work_mem = 1", &["set_parameter"][..]),
        ("SET timezone = 'UTC'", &[]),
        ("SET work_mem = 1; RESET work_mem", &[]),
        (
            "SET work_mem = 1; SET geqo = off; RESET geqo",
            &["set_parameter"],
        ),
        ("SET work_mem = 1; SET geqo = off; RESET ALL", &[]),
        ("SELECT set_config('geqo', 'off', false)", &["set_config"]),
        (
            "SELECT set_config('geqo', 'off', false); SET geqo TO DEFAULT",
            &[],
        ),
        (
            "SELECT set_config($1, 'off', false); RESET geqo",
            &["set_config"],
        ),
        ("SELECT set_config($1, 'off', false); RESET ALL", &[]),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; RESET x",
            &["set_parameter"],
        ),
        ("SET ROLE r; RESET ALL", &["set_role"]),
        ("SET ROLE r; RESET ROLE", &[]),
        ("SET SESSION AUTHORIZATION r; RESET ROLE", &["set_role"]),
        ("LISTEN a; LISTEN b; UNLISTEN a", &["listen"]),
        ("LISTEN a; LISTEN b; UNLISTEN *", &[]),
        ("CREATE TEMP TABLE t (a int)", &["temporary_table"]),
        ("CREATE TEMP TABLE t (a int); DROP TABLE t", &[]),
        (
            "CREATE TEMP VIEW t AS SELECT 1; DROP TABLE t",
            &["temporary_table"],
        ),
        ("CREATE TEMP VIEW t AS SELECT 1; DISCARD TEMP", &[]),
        ("CREATE TABLE t (a int)", &[]),
        (
            "SET timezone = 'pg_temp'; CREATE TABLE t (a int)",
            &["temporary_table"],
        ),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", &["hold_cursor"]),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1; CLOSE c", &[]),
        (
            "PREPARE p AS SELECT 1; PREPARE q AS SELECT 1; DEALLOCATE q",
            &["sql_prepare"],
        ),
        ("PREPARE p AS SELECT 1; DEALLOCATE ALL", &[]),
        (
            "SELECT pg_advisory_lock(1); SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1)",
            &["advisory_lock"],
        ),
        (
            "SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(2)",
            &["advisory_lock"],
        ),
        (
            "SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1)",
            &[],
        ),
        (
            "SELECT pg_advisory_lock(a) FROM t; SELECT pg_advisory_unlock(a) FROM t",
            &["advisory_lock"],
        ),
        (
            "SELECT pg_advisory_lock(a) FROM t; SELECT pg_advisory_unlock_all()",
            &[],
        ),
        (
            "PREPARE p AS SELECT pg_advisory_lock($1); SELECT pg_advisory_unlock_all(); DEALLOCATE p",
            &["command"],
        ),
        (
            "SELECT U&\"pg_advisory_lo\\0063k\"(1)",
            &["set_config", "advisory_lock"],
        ),
        (
            "CREATE TEMP TABLE t (a int); SET search_path = public, pg_temp; RESET ALL; DROP TABLE t",
            &["temporary_table"],
        ),
        ("LOAD 'x'; DISCARD ALL", &["load"]),
        (
            "SET work_mem = 1; LISTEN a; PREPARE p AS SELECT 1; DO 'SET x = 1'; DISCARD ALL",
            &[],
        ),
    ] {
        assert_eq!(after(text), reasons, "{text}");
    }
}

#[test]
fn a_rollback_undoes_what_it_undoes_in_postgresql() {
    for (text, reasons) in [
        ("BEGIN; SET work_mem = 1; ROLLBACK", &[][..]),
        (
            "BEGIN; SET work_mem = 1; COMMIT; BEGIN; SET geqo = off; ROLLBACK",
            &["set_parameter"],
        ),
        (
            "SET work_mem = 1; COMMIT; BEGIN; RESET work_mem; ROLLBACK",
            &["set_parameter"],
        ),
        (
            "BEGIN; LISTEN a; CREATE TEMP TABLE t (a int); ROLLBACK",
            &[],
        ),
        (
            "BEGIN; SELECT pg_advisory_lock(1); PREPARE p AS SELECT 1; ROLLBACK",
            &["advisory_lock", "sql_prepare"],
        ),
        (
            "BEGIN; SAVEPOINT a; SET work_mem = 1; ROLLBACK TO a; COMMIT",
            &[],
        ),
        (
            "BEGIN; SET work_mem = 1; SAVEPOINT a; RESET work_mem; ROLLBACK TO a; COMMIT",
            &["set_parameter"],
        ),
        (
            "BEGIN; SAVEPOINT a; SET work_mem = 1; RELEASE a; COMMIT",
            &["set_parameter"],
        ),
        (
            "BEGIN; SAVEPOINT a; SAVEPOINT a; SET work_mem = 1; RELEASE a; ROLLBACK TO a; COMMIT",
            &[],
        ),
        (
            "BEGIN; SAVEPOINT a; SET work_mem = 1; SAVEPOINT b; ROLLBACK TO b; COMMIT",
            &["set_parameter"],
        ),
        (
            "BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; COMMIT",
            &[],
        ),
        ("BEGIN; SET LOCAL work_mem = 1; COMMIT", &[]),
        // In doubt.
        ("BEGIN; ROLLBACK TO unseen; COMMIT", &["command"]),
    ] {
        assert_eq!(after(text), reasons, "{text}");
    }
}

#[test]
fn what_has_the_servers_default_is_undone_with_the_rest() {
    for (text, has) in [
        ("RESET work_mem", true),
        ("BEGIN; RESET work_mem; COMMIT; ROLLBACK", true),
        ("BEGIN; RESET work_mem; ROLLBACK", false),
        ("BEGIN; SAVEPOINT a; RESET work_mem; ROLLBACK TO a", false),
        (
            "BEGIN; RESET work_mem; SAVEPOINT a; SET work_mem = 1; ROLLBACK TO a",
            true,
        ),
        (
            "BEGIN; RESET ALL; COMMIT; BEGIN; SET work_mem = 1; ROLLBACK",
            true,
        ),
        ("RESET ALL; SET work_mem = 1", false),
        (
            "DISCARD ALL; COMMIT; BEGIN; SELECT set_config('work_mem', '1', false); ROLLBACK",
            true,
        ),
    ] {
        let mut left = Left::default();
        run(&mut left, text);
        assert_eq!(left.defaulted().has("work_mem"), has, "{text}");
    }
    // What was given back within a transaction goes with it.
    let mut left = Left::default();
    run(&mut left, "DISCARD ALL; COMMIT; BEGIN");
    assert!(left.take_defaulted(true).has("work_mem"));
    assert!(!left.defaulted().any());
    left.on_rollback();
    assert!(left.defaulted().has("work_mem"));
}

#[test]
fn what_a_block_committed_or_locked_outlives_its_error() {
    for (text, expected) in [
        (
            "DO 'BEGIN SET x = 1; COMMIT; RAISE EXCEPTION $$x$$; END'",
            true,
        ),
        ("DO 'BEGIN PERFORM pg_advisory_lock(1); END'", true),
        ("DO 'BEGIN SET x = 1; END'", false),
    ] {
        let mut left = Left::default();
        let found = classify(text.as_bytes()).unwrap();
        left.on_failed(&found.statements[0], 0);
        left.on_rollback();
        assert_eq!(left.reset().has(Reset::EVERYTHING), expected, "{text}");
    }
}

#[test]
fn of_savepoints_only_the_newest_are_remembered() {
    let mut left = Left::default();
    for number in 0..3 * SAVEPOINTS {
        run(&mut left, &format!("SAVEPOINT s{number}"));
    }
    assert!(left.saved.len() <= SAVEPOINTS);
    run(&mut left, "ROLLBACK TO s0");
    assert!(left.reset().has(Reset::EVERYTHING), "in doubt");
}

#[test]
fn what_failed_may_hold_its_lock() {
    let mut left = Left::default();
    let found = classify(b"SELECT pg_advisory_lock(1), 1/0").unwrap();
    left.on_failed(&found.statements[0], 0);
    left.on_rollback();
    assert!(left.reset().has(Reset::LOCKS));
}

#[test]
fn a_reset_covers_both_ends_of_an_open_transaction() {
    let mut left = Left::default();
    run(
        &mut left,
        "SET work_mem = 1; LISTEN a; COMMIT; BEGIN; RESET ALL; UNLISTEN *",
    );
    assert_eq!(left.reset(), Reset::PARAMETERS.and(Reset::CHANNELS));
    left.on_commit();
    assert_eq!(left.reset(), Reset::NOTHING);
}

#[test]
fn locks_that_are_written_alike_are_told_apart_by_what_they_are_bound_to() {
    let lock = classify(b"SELECT pg_advisory_lock($1)").unwrap();
    let unlock = classify(b"SELECT pg_advisory_unlock($1)").unwrap();
    let mut left = Left::default();
    left.on_statement(&lock.statements[0], 7, |_| false);
    left.on_statement(&unlock.statements[0], 8, |_| false);
    assert!(!left.is_empty());
    left.on_statement(&unlock.statements[0], 7, |_| false);
    assert!(left.is_empty());
}
