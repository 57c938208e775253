use proptest::prelude::*;

use super::super::normalise::describe;
use super::super::tokens::Dialect;
use super::*;

fn dialect() -> Dialect {
    Dialect::reported(Some("on"), Some("UTF8"))
}

fn of(text: &str) -> Fingerprint {
    look(text.as_bytes(), dialect()).fingerprint
}

#[track_caller]
fn same(texts: &[&str]) {
    for text in &texts[1..] {
        assert_eq!(of(texts[0]), of(text), "{} | {text}", texts[0]);
    }
}

#[track_caller]
fn different(texts: &[&str]) {
    for (at, one) in texts.iter().enumerate() {
        for two in &texts[at + 1..] {
            assert_ne!(of(one), of(two), "{one} | {two}");
        }
    }
}

#[test]
fn literals_of_every_kind_make_no_difference() {
    same(&[
        "SELECT a FROM t WHERE b = 1",
        "select A from T where B='x'",
        "SELECT a FROM t WHERE b = E'x\\'y'",
        "SELECT a FROM t WHERE b = $$x$$;",
        "SELECT a FROM t WHERE b = $1",
        "SELECT a FROM t WHERE b = -1.5e3",
        "SELECT a FROM t WHERE b = + 1",
        "SELECT a FROM t WHERE b = true",
        "SELECT a FROM t WHERE b = NULL",
        "SELECT a FROM t WHERE b = U&'x'",
        "SELECT a -- c\n FROM \"t\" /* d */ WHERE b = x'ff'",
    ]);
}

#[test]
fn what_is_done_makes_a_difference() {
    different(&[
        "SELECT a FROM t WHERE b = 1",
        "SELECT a FROM t WHERE b > 1",
        "SELECT a FROM t WHERE c = 1",
        "SELECT a FROM u WHERE b = 1",
        "SELECT a FROM t WHERE b = c",
        "SELECT a FROM t WHERE b IS NULL",
        "SELECT a FROM t WHERE b IS NOT NULL",
        "SELECT a FROM t WHERE b IS TRUE",
        "SELECT a FROM t WHERE b = 1::text",
        "SELECT a FROM t WHERE b = 1 LIMIT 1",
        "SELECT a FROM t WHERE b - 1",
        "SELECT a FROM t",
        "SELECT a, b FROM t",
        "SELECT (a, b) FROM t",
        "SELECT a(b) FROM t",
        "SELECT a[b] FROM t",
        "",
    ]);
}

#[test]
fn lists_of_one_thing_have_one_length() {
    same(&[
        "SELECT a FROM t WHERE b IN (1)",
        "SELECT a FROM t WHERE b IN (1, 2, 3)",
        "SELECT a FROM t WHERE b IN ('x', NULL, -3, $4)",
    ]);
    same(&[
        "INSERT INTO t (a, b) VALUES (1, 'x')",
        "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y'), (3, 'z')",
    ]);
    same(&[
        "INSERT INTO t VALUES (1, now(), ARRAY[1])",
        "INSERT INTO t VALUES (1, now(), ARRAY[1, 2]), (3, now(), ARRAY[4])",
    ]);
    different(&[
        "INSERT INTO t VALUES (1, now())",
        "INSERT INTO t VALUES (1, now()), (2, DEFAULT)",
        "SELECT a FROM t WHERE b IN (1, c)",
        "SELECT a FROM t WHERE b IN (1)",
    ]);
}

#[test]
fn names_that_programs_number_make_no_difference() {
    same(&["SAVEPOINT sa_1", "SAVEPOINT sa_2", "savepoint \"x\""]);
    same(&["RELEASE SAVEPOINT a", "RELEASE SAVEPOINT b"]);
    same(&["ROLLBACK TO SAVEPOINT a", "ROLLBACK TO SAVEPOINT b"]);
    same(&["FETCH 10 FROM c1", "FETCH 20 FROM c2"]);
    same(&[
        "DECLARE a CURSOR FOR SELECT 1",
        "DECLARE b CURSOR FOR SELECT 2",
    ]);
    same(&["DEALLOCATE a", "DEALLOCATE b"]);
    different(&[
        "ROLLBACK",
        "ROLLBACK TO a",
        "DEALLOCATE a",
        "DEALLOCATE ALL",
        "FETCH NEXT FROM c",
        "FETCH PRIOR FROM c",
    ]);
    different(&[
        "PREPARE a AS SELECT 1",
        "PREPARE TRANSACTION 'a'",
        "PREPARE a AS SELECT b",
    ]);
}

#[test]
fn fingerprints_are_these_in_every_version() {
    for (text, fingerprint) in [
        ("", "cbf29ce484222325"),
        ("SELECT 1", "c730c15ea97a069d"),
        (
            "UPDATE a SET b = 1, c = 'x' WHERE d IN (1, 2)",
            "a04bd135c5b5815b",
        ),
    ] {
        assert_eq!(of(text).to_string(), fingerprint, "{text}");
    }
}

#[test]
fn what_is_shown_has_no_literals() {
    for (text, shown, summary, operation) in [
        ("select  1", "select $1", "SELECT", "SELECT"),
        (
            "SELECT a.b, count(*) FROM a, s.c AS d JOIN \"E\" ON x=-5 WHERE y IN (1,2,3) -- z",
            "SELECT a.b, count(*) FROM a, s.c AS d JOIN \"E\" ON x = $1 WHERE y IN ($2 /*, ... */)",
            "SELECT a s.c \"E\"",
            "SELECT",
        ),
        (
            "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y') ON CONFLICT DO UPDATE SET a = 1",
            "INSERT INTO t(a, b) VALUES ($1 /*, ... */) /*, ... */ ON CONFLICT DO UPDATE SET a = $2",
            "INSERT t",
            "INSERT",
        ),
        (
            "WITH x AS (SELECT 1 FROM y) INSERT INTO z SELECT * FROM x FOR UPDATE",
            "WITH x AS (SELECT $1 FROM y) INSERT INTO z SELECT * FROM x FOR UPDATE",
            "SELECT y INSERT z SELECT x",
            "INSERT",
        ),
        (
            "SELECT extract(day FROM now()) FROM f(1)",
            "SELECT extract(day FROM now()) FROM f($1)",
            "SELECT",
            "SELECT",
        ),
        (
            "CREATE TABLE IF NOT EXISTS a (b int DEFAULT 5)",
            "CREATE TABLE IF NOT EXISTS a(b int DEFAULT $1)",
            "CREATE TABLE a",
            "CREATE",
        ),
        (
            "UPDATE ONLY a SET b='c'::text",
            "UPDATE ONLY a SET b = $1::text",
            "UPDATE a",
            "UPDATE",
        ),
        (
            "COPY t FROM '/etc/passwd'",
            "COPY t FROM $1",
            "COPY t",
            "COPY",
        ),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "BEGIN",
            "BEGIN",
        ),
        ("SELECT 'unterminated", "SELECT $1", "SELECT", "SELECT"),
    ] {
        let described = describe(text.as_bytes(), dialect());
        assert_eq!(described.text, shown, "{text}");
        assert_eq!(described.summary, summary, "{text}");
        assert_eq!(described.operation, operation, "{text}");
        assert_eq!(described.fingerprint, of(text), "{text}");
    }
}

#[test]
fn brackets_without_end_are_bounded() {
    for text in [
        "(".repeat(100_000),
        ")".repeat(100_000),
        "([".repeat(50_000),
        "(1,".repeat(50_000),
    ] {
        of(&text);
        let described = describe(text.as_bytes(), dialect());
        assert!(described.text.len() < 8_192);
    }
}

/// Texts of words, symbols, literals with a mark, and comments, in any order.
fn anything() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z]{1,8}",
        prop::sample::select(vec![
            "SELECT",
            "FROM",
            "IN",
            "VALUES",
            "(",
            ")",
            "[",
            "]",
            ",",
            ",",
            "-",
            "+",
            "=",
            "::",
            ".",
            ";",
            "NULL",
            "IS",
            "AS",
            "SAVEPOINT",
            "CASE",
            "END",
            "->>",
            "$1",
            "/*secret*/",
            "--secret\n",
        ])
        .prop_map(str::to_owned),
        prop::sample::select(vec![
            "'secret'",
            "E'\\'secret'",
            "$$secret$$",
            "$x$secret$x$",
            "U&'secret'",
            "'a''secret'",
            "'a'\n'secret'",
            "7731",
            "-7731.5",
            "0x7731",
            "N'secret'",
            "B'7731'",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_literal_is_shown(text in anything()) {
        let described = describe(text.as_bytes(), dialect());
        for shown in [&described.text, &described.summary, &described.operation] {
            prop_assert!(!shown.contains("secret") && !shown.contains("7731"), "{text:?}: {shown:?}");
        }
    }

    #[test]
    fn what_is_shown_has_the_same_fingerprint(text in anything()) {
        let described = describe(text.as_bytes(), dialect());
        prop_assert_eq!(of(&described.text), described.fingerprint, "{:?}: {:?}", text, described.text);
    }

    #[test]
    fn white_space_and_comments_make_no_difference(text in anything()) {
        let spaced = text.replace(' ', "\t /* , */ ");
        prop_assert_eq!(of(&text), of(&spaced), "{:?}", text);
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300), on in any::<Option<bool>>(), sjis in any::<bool>()) {
        let conforming = on.map(|on| if on { "on" } else { "off" });
        let dialect = Dialect::reported(conforming, Some(if sjis { "SJIS" } else { "UTF8" }));
        let found = look(&bytes, dialect);
        prop_assert_eq!(describe(&bytes, dialect).fingerprint, found.fingerprint);
    }
}
