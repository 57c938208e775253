use proptest::prelude::*;

use super::*;

fn statements(text: &str) -> Vec<Statement> {
    classify(text.as_bytes()).unwrap_or_default().statements
}

/// The action of the only statement.
fn action(text: &str) -> Action {
    let mut found = statements(text);
    assert!(found.len() < 2, "{text}: {found:?}");
    found.pop().map_or(Action::Other, |found| found.action)
}

fn calls(text: &str) -> Vec<Call> {
    statements(text)
        .into_iter()
        .flat_map(|statement| statement.calls)
        .collect()
}

fn owned(name: &str) -> String {
    name.to_owned()
}

#[test]
fn settings_are_told_apart() {
    for (text, expected) in [
        ("SET work_mem = '5MB'", Action::Set(owned("work_mem"))),
        (
            "set session \"Work_Mem\" to 5",
            Action::Set(owned("work_mem")),
        ),
        ("SET/**/Custom.Mark=1;", Action::Set(owned("custom.mark"))),
        ("SET x TO DEFAULT", Action::Reset(owned("x"))),
        ("SET x = default", Action::Reset(owned("x"))),
        ("SET x = 'default'", Action::Set(owned("x"))),
        (
            "SET search_path = a, default",
            Action::Set(owned("search_path")),
        ),
        ("SET LOCAL x = 1", Action::SetLocal),
        ("SET LOCAL TIME ZONE 'UTC'", Action::SetLocal),
        ("SET TRANSACTION READ ONLY", Action::SetLocal),
        ("SET CONSTRAINTS ALL DEFERRED", Action::SetLocal),
        ("SET TIME ZONE 'UTC'", Action::Set(owned("timezone"))),
        ("SET TIME ZONE LOCAL", Action::Reset(owned("timezone"))),
        (
            "SET SESSION TIME ZONE DEFAULT",
            Action::Reset(owned("timezone")),
        ),
        ("SET NAMES 'latin1'", Action::Set(owned("client_encoding"))),
        ("SET SCHEMA 'a'", Action::Set(owned("search_path"))),
        ("SET ROLE bob", Action::Set(owned("role"))),
        ("SET role TO bob", Action::Set(owned("role"))),
        ("SET ROLE NONE", Action::NoRole),
        ("SET ROLE \"none\"", Action::Set(owned("role"))),
        ("SET SESSION ROLE bob", Action::Set(owned("role"))),
        (
            "SET SESSION AUTHORIZATION bob",
            Action::Set(owned("session_authorization")),
        ),
        (
            "SET SESSION SESSION AUTHORIZATION DEFAULT",
            Action::Reset(owned("session_authorization")),
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            Action::SetCharacteristics,
        ),
        ("SET XML OPTION DOCUMENT", Action::Set(owned("xmloption"))),
        ("RESET ALL", Action::ResetAll),
        ("RESET work_mem", Action::Reset(owned("work_mem"))),
        ("RESET TIME ZONE", Action::Reset(owned("timezone"))),
        (
            "RESET SESSION AUTHORIZATION",
            Action::Reset(owned("session_authorization")),
        ),
        ("UPDATE t SET x = 1", Action::Other),
        ("ALTER SYSTEM SET x = 1", Action::Other),
        ("ALTER ROLE r SET x = 1", Action::Other),
        ("-- SET x = 1\nSELECT 1", Action::Other),
    ] {
        assert_eq!(action(text), expected, "{text}");
    }
}

#[test]
fn temporary_objects_are_found() {
    for text in [
        "CREATE TEMP VIEW v AS SELECT 1",
        "create or replace temporary view v as select 1",
        "CREATE GLOBAL TEMPORARY SEQUENCE s",
        "CREATE TABLE pg_temp.t (a int)",
        "CREATE TABLE \"pg_temp_3\".t (a int)",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT 1 INTO TEMP t",
        "select 1 into/* x /* y */ */temporary t",
        "select 1 into -- why\n local temp t",
        "select 1 into pg_temp.t",
        "select 1 into \"pg_temp_3\".t",
        "select 1 into U&\"pg\\005ftemp\".t",
        "with x as (select 1) select * into temp t from x",
        "EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1",
    ] {
        assert_eq!(action(text), Action::Temporary(None), "{text}");
    }
    for text in [
        "CREATE TEMP TABLE t AS SELECT 1",
        "create local temporary table if not exists \"t\" (a int) on commit delete rows",
    ] {
        assert_eq!(action(text), Action::Temporary(Some(owned("t"))), "{text}");
    }
    for text in [
        "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
        "select 1 into local",
        "insert into temp values (1)",
        "INSERT INTO t SELECT 'into temp x'",
        "select temp, attempt from template",
        "select 'pg_temp' from temperatures",
        "/* into temp */ select 1",
        "with x as (insert into temp select 1 returning a) select * from x",
    ] {
        assert_eq!(action(text), Action::Other, "{text}");
    }
    assert_eq!(action("CREATE TABLE t (temp int)"), Action::Create);
    assert_eq!(
        action("DROP TABLE IF EXISTS t, \"U\" CASCADE"),
        Action::DropTables(vec![owned("t"), owned("U")])
    );
    assert_eq!(action("DROP TABLE s.t"), Action::Other);
    for (text, path) in [
        ("SET search_path = pg_temp, public", true),
        ("SET search_path TO 'pg_temp'", true),
        ("select set_config('search_path', 'pg_temp', true)", true),
        ("SET search_path = public", false),
    ] {
        let found = statements(text);
        assert_eq!(found[0].temporary_path, path, "{text}");
    }
}

#[test]
fn other_state_is_found() {
    for (text, expected) in [
        ("LISTEN \"News\"", Action::Listen(owned("News"))),
        ("UNLISTEN *", Action::Unlisten(None)),
        ("unlisten News", Action::Unlisten(Some(owned("news")))),
        (
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            Action::HoldCursor(owned("c")),
        ),
        (
            "DECLARE c INSENSITIVE SCROLL CURSOR WITHOUT HOLD FOR SELECT 1",
            Action::Other,
        ),
        ("CLOSE c", Action::Close(Some(owned("c")))),
        ("CLOSE ALL", Action::Close(None)),
        ("PREPARE p (int) AS SELECT 1", Action::Prepare(owned("p"))),
        ("PREPARE TRANSACTION 'x'", Action::Other),
        ("DEALLOCATE PREPARE p", Action::Deallocate(Some(owned("p")))),
        ("DEALLOCATE ALL", Action::Deallocate(None)),
        ("LOAD 'auto_explain'", Action::Load),
        ("DISCARD ALL", Action::DiscardAll),
        ("DISCARD TEMPORARY", Action::DiscardTemporary),
        ("DISCARD PLANS", Action::Other),
        ("SAVEPOINT s", Action::Savepoint(owned("s"))),
        ("RELEASE SAVEPOINT s", Action::Release(owned("s"))),
        ("ROLLBACK TO s", Action::RollbackTo(owned("s"))),
        (
            "rollback work to savepoint s",
            Action::RollbackTo(owned("s")),
        ),
        ("ROLLBACK", Action::Other),
        ("ROLLBACK AND CHAIN", Action::Other),
        (
            "DO $$ BEGIN CREATE TYPE t AS ENUM ('set'); END $$",
            Action::Other,
        ),
        (
            "DO $$ BEGIN PERFORM f(); END $$",
            Action::Do { survives: true },
        ),
        (
            "DO LANGUAGE plpgsql 'BEGIN SET x = 1; END'",
            Action::Do { survives: false },
        ),
        ("CALL p()", Action::Other),
    ] {
        assert_eq!(action(text), expected, "{text}");
    }
}

#[test]
fn calls_are_found_where_they_are_calls() {
    let named = |name: &str| vec![Call::SetConfig(Some(owned(name)))];
    for (text, expected) in [
        (
            "select set_config('Work_Mem', '5MB', false)",
            named("work_mem"),
        ),
        (
            "SELECT pg_catalog . \"set_config\" ('a', $1, $2)",
            named("a"),
        ),
        (
            "select set_config($1, $2, false)",
            vec![Call::SetConfig(None)],
        ),
        ("select set_config($1, f(1, 2), true)", vec![]),
        ("select set_config('a', 'b', 'true'::bool)", named("a")),
        ("select set_config from t", vec![]),
        ("select 'set_config(''a'',''b'',false)'", vec![]),
        ("insert into t values ('set_config(1)', 'x;y')", vec![]),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT set_config('a','b',false); SELECT 1; END",
            vec![],
        ),
        ("select pg_advisory_xact_lock(1)", vec![]),
        ("select pg_advisory_unlock_all()", vec![Call::UnlockAll]),
        ("select pg_advisory_unlock_all() from t", vec![]),
        ("select pg_advisory_lock(id) from t", vec![Call::Lock(None)]),
        (
            "select set_config('a', set_config('b', 'c', false), true)",
            vec![Call::SetConfig(None)],
        ),
    ] {
        assert_eq!(calls(text), expected, "{text}");
    }
}

#[test]
fn a_lock_is_known_again_where_it_is_written_the_same() {
    let key = |text: &str| match calls(text).pop() {
        Some(Call::Lock(key) | Call::Unlock(key)) => key,
        other => panic!("{text}: {other:?}"),
    };
    let same = [
        "SELECT pg_advisory_lock( 1,2)",
        "select pg_try_advisory_lock(1, 2) as got",
        "select pg_catalog.pg_advisory_unlock(1 ,2);",
    ];
    for text in same {
        assert_eq!(key(text), key(same[0]), "{text}");
        assert!(key(text).is_some_and(|key| !key.parameters));
    }
    for text in [
        "select pg_advisory_lock_shared(1, 2)",
        "select pg_advisory_lock(12)",
        "select pg_advisory_lock('1', 2)",
    ] {
        assert_ne!(key(text), key(same[0]), "{text}");
    }
    for text in [
        "select pg_advisory_lock(f(1))",
        "select pg_advisory_lock(1), generate_series(1, 3)",
        "select case when x then pg_advisory_lock(1) end",
    ] {
        assert_eq!(key(text), None, "{text}");
    }
    assert!(key("select pg_advisory_lock($1)").is_some_and(|key| key.parameters));
}

#[test]
fn statements_are_counted_as_postgresql_counts_them() {
    for (text, count) in [
        ("BEGIN; SET x = 1; COMMIT", 3),
        (";; SET x = 1;;", 1),
        ("SELECT ';'; SET x = 1", 2),
        (
            "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM a; DELETE FROM b); SET x = 1",
            2,
        ),
        (
            "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SET x = 1",
            2,
        ),
        ("SELECT 1 /* ; */; SET x = $$;$$", 2),
    ] {
        assert_eq!(statements(text).len(), count, "{text}");
    }
}

#[test]
fn a_backslash_is_told() {
    let found = |text: &str| classify(text.as_bytes()).unwrap_or_default();
    assert!(found(r"SET x = 'a\'").backslash);
    assert!(!found(r"SET x = E'a\''").backslash);
}

/// Texts made of what the lexer and the rest of it know.
fn texts() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "SET ",
        "x",
        " = ",
        "'",
        "''",
        "\\'",
        "E'",
        "\"",
        "U&\"",
        "$$",
        "$a$",
        "$1",
        ";",
        "--",
        "\n",
        "/*",
        "*/",
        "(",
        ")",
        ",",
        "select ",
        "set_config",
        "pg_advisory_lock",
        "true",
        "into ",
        "temp ",
        "begin ",
        "atomic ",
        "end ",
        "create ",
        "function ",
        "local ",
        "é",
        "1",
        " ",
    ]);
    prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

fn in_pieces(text: &[u8], mut cuts: Vec<usize>) -> Option<Found> {
    cuts.sort_unstable();
    let mut scan = Scan::default();
    let mut start = 0;
    for cut in cuts {
        let cut = cut.clamp(start, text.len());
        scan.feed(&text[start..cut]);
        start = cut;
    }
    scan.feed(&text[start..]);
    scan.finish()
}

proptest! {
    #[test]
    fn it_does_not_matter_where_a_text_is_cut(
        text in texts(),
        cuts in prop::collection::vec(0usize..200, 0..8),
    ) {
        let text = text.as_bytes();
        let whole = in_pieces(text, Vec::new());
        prop_assert_eq!(&in_pieces(text, cuts), &whole);
        prop_assert_eq!(&in_pieces(text, (0..text.len()).collect()), &whole);
        // What the scan of bytes calls plain is plain to the lexer too.
        match classify(text) {
            None => {
                let found = Found { backslash: false, ..whole.unwrap_or_default() };
                let nothing = found.leaves_nothing();
                prop_assert!(nothing);
            }
            found => prop_assert_eq!(found, whole),
        }
    }

    #[test]
    fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
        let _ = classify(&text);
        let _ = in_pieces(&text, vec![cut]);
    }
}
