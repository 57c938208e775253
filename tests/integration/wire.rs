//! The protocol through the pool is, message by message and byte by byte, the protocol without it.
//!
//! Most tests are conversations that are held twice, straight with PostgreSQL and through a pool of one connection:
//! the answers must be the same bytes, and of the types written in the test.

use crate::bench::Bench;
use crate::support::raw::{
    Raw, bind, close, describe, execute, flush, message, parse, query, run, sync, tags,
};

impl Bench {
    /// Holds a conversation twice and compares. The pool is settled afterwards.
    async fn same(&self, steps: &[(Vec<u8>, &str)]) {
        let mut direct = Raw::login(self.direct_address(), &self.twin.name).await;
        let mut pooled = self.pooled().await;
        for (number, (bytes, expected)) in steps.iter().enumerate() {
            direct.send(bytes).await;
            let said = direct.take(expected.chars().count()).await;
            assert_eq!(tags(&said), *expected, "directly, step {number}: {said:?}");
            pooled.send(bytes).await;
            let heard = pooled.take(expected.chars().count()).await;
            assert_eq!(heard, said, "through the pool, step {number}");
        }
        // Nothing is left unsaid.
        let last = pooled.ask(&query("SELECT 'last'")).await;
        assert_eq!(tags(&last), "TDCZ", "{last:?}");
        drop(pooled);
        self.settled().await;
    }
}

fn step(bytes: impl Into<Vec<u8>>, expected: &str) -> (Vec<u8>, &str) {
    (bytes.into(), expected)
}

fn many(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

#[tokio::test]
async fn simple_queries() {
    let bench = Bench::new().await;
    bench
        .same(&[
            step(
                query("SELECT 1; SELECT 'two', NULL; VALUES (3), (4)"),
                "TDCTDCTDDCZ",
            ),
            step(query(""), "IZ"),
            step(query("  ;; "), "IZ"),
            step(
                query("SELECT 1; SELECT nothing FROM nowhere; SELECT 3"),
                "TDCEZ",
            ),
            step(query("SELEKT 1"), "EZ"),
            step(query("SELECT 1/0"), "EZ"),
            step(query("BEGIN; SELECT 1; COMMIT"), "CTDCCZ"),
            step(query("BEGIN"), "CZ"),
            step(query("SELECT nothing"), "EZ"),
            step(query("SELECT 1"), "EZ"),
            step(query("ROLLBACK"), "CZ"),
            step(query("COMMIT"), "NCZ"),
            step(
                [
                    query("SELECT 1"),
                    query("SELECT 2"),
                    query("x"),
                    query("SELECT 4"),
                ]
                .concat(),
                "TDCZTDCZEZTDCZ",
            ),
        ])
        .await;
}

#[tokio::test]
async fn errors_and_notices_come_with_every_field() {
    let bench = Bench::new().await;
    let raise = |level: &str| {
        query(&format!(
            "DO $$ BEGIN RAISE {level} 'was %', 1 USING ERRCODE = 'PX042', DETAIL = 'd', HINT = 'h', \
             COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 't', TABLE = 'b', SCHEMA = 's'; END $$"
        ))
    };
    bench
        .same(&[
            step(raise("NOTICE"), "NCZ"),
            step(raise("WARNING"), "NCZ"),
            step(raise("EXCEPTION"), "EZ"),
            step(
                query("CREATE TABLE u (a int PRIMARY KEY, b int CHECK (b > 0))"),
                "CZ",
            ),
            step(query("INSERT INTO u VALUES (1, 1)"), "CZ"),
            step(query("INSERT INTO u VALUES (1, 1)"), "EZ"),
            step(query("INSERT INTO u VALUES (2, -1)"), "EZ"),
            step(query("DROP TABLE u, unknown"), "EZ"),
            step(query("DROP TABLE IF EXISTS u, unknown"), "NCZ"),
        ])
        .await;
}

#[tokio::test]
async fn the_extended_protocol_with_the_unnamed_statement() {
    let bench = Bench::new().await;
    let bound = [bind("", "", &["41"]), execute("", 0), sync()].concat();
    bench
        .same(&[
            step(
                many(&[
                    parse("", "SELECT $1::int + 1"),
                    bind("", "", &["1"]),
                    describe(b'P', ""),
                    execute("", 0),
                    sync(),
                ]),
                "12TDCZ",
            ),
            // As asyncpg does: it flushes, waits for the description, and then goes on.
            step(
                many(&[parse("", "SELECT $1::int + 1"), describe(b'S', ""), flush()]),
                "1tT",
            ),
            step(bound.clone(), "2DCZ"),
            // The statement outlives its Sync.
            step(bound.clone(), "2DCZ"),
            step(many(&[describe(b'S', ""), sync()]), "tTZ"),
            step(many(&[describe(b'S', ""), flush()]), "tT"),
            step(sync(), "Z"),
            // A simple query drops it.
            step(query("SELECT 1"), "TDCZ"),
            step(bound.clone(), "EZ"),
            // So does Close, and a Parse that fails.
            step(many(&[parse("", "SELECT $1::int"), sync()]), "1Z"),
            step(many(&[close(b'S', ""), sync()]), "3Z"),
            step(bound.clone(), "EZ"),
            step(many(&[parse("", "SELECT $1::int"), sync()]), "1Z"),
            step(many(&[parse("", "SELEKT"), sync()]), "EZ"),
            step(bound.clone(), "EZ"),
            step(
                many(&[
                    parse("", ""),
                    bind("", "", &[]),
                    describe(b'P', ""),
                    execute("", 0),
                    sync(),
                ]),
                "12nIZ",
            ),
            step(many(&[bind("p", "nowhere", &[]), sync()]), "EZ"),
            step(
                many(&[close(b'S', "never was"), close(b'P', "never was"), sync()]),
                "33Z",
            ),
            step(many(&[describe(b'P', "never was"), sync()]), "EZ"),
        ])
        .await;
}

#[tokio::test]
async fn pipelines_with_several_syncs_and_errors_in_the_middle() {
    let bench = Bench::new().await;
    let good = |text: &str| [run("SELECT $1::text", &[text]), sync()].concat();
    let bad = [run("SELECT 1 / $1::int", &["0"]), sync()].concat();
    bench
        .same(&[
            step(many(&[good("a"), good("b"), good("c")]), "12DCZ12DCZ12DCZ"),
            step(many(&[good("a"), bad.clone(), good("c")]), "12DCZ1EZ12DCZ"),
            // All up to the Sync is skipped, Query and Flush and what would be another error too.
            step(
                many(&[
                    run("SELECT 'a'", &[]),
                    parse("", "SELEKT"),
                    bind("", "", &[]),
                    execute("", 0),
                    query("SELECT 'skipped'"),
                    flush(),
                    run("SELECT 'skipped too'", &[]),
                    sync(),
                    good("z"),
                ]),
                "12DCEZ12DCZ",
            ),
            // What a skipped Parse would have left is not there; what was before it is.
            step(many(&[parse("", "SELECT 'kept'"), sync()]), "1Z"),
            step(
                many(&[bind("", "gone", &[]), parse("", "SELECT 'skipped'"), sync()]),
                "EZ",
            ),
            step(many(&[bind("", "", &[]), execute("", 0), sync()]), "2DCZ"),
            // A Query inside of a pipeline.
            step(
                many(&[
                    run("SELECT 'a'", &[]),
                    query("SELECT 'b'"),
                    run("SELECT 'c'", &[]),
                    sync(),
                ]),
                "12DCTDCZ12DCZ",
            ),
            step(many(&[sync(), sync(), flush(), sync()]), "ZZZ"),
            step(
                many(&[
                    run("BEGIN", &[]),
                    sync(),
                    good("in it"),
                    run("COMMIT", &[]),
                    sync(),
                ]),
                "12CZ12DCZ12CZ",
            ),
        ])
        .await;
}

#[tokio::test]
async fn rows_in_portions() {
    let bench = Bench::new().await;
    let more = |rows| [execute("p", rows), sync()].concat();
    bench
        .same(&[
            step(query("BEGIN"), "CZ"),
            step(
                many(&[
                    parse("", "SELECT generate_series(1, 6)"),
                    bind("p", "", &[]),
                    more(2),
                ]),
                "12DDsZ",
            ),
            step(many(&[execute("p", 1), flush()]), "Ds"),
            step(more(2), "DDsZ"),
            step(more(0), "DCZ"),
            step(many(&[close(b'P', "p"), sync()]), "3Z"),
            step(query("COMMIT"), "CZ"),
            // Outside of a transaction a portal ends with its Sync.
            step(
                many(&[
                    parse("", "SELECT generate_series(1, 6)"),
                    bind("p", "", &[]),
                    more(2),
                ]),
                "12DDsZ",
            ),
            step(more(2), "EZ"),
        ])
        .await;
}

#[tokio::test]
async fn copy_in_and_out() {
    let bench = Bench::new().await;
    let data = |text: &str| message(b'd', text.as_bytes());
    let done = || message(b'c', b"");
    let copy_in = |sql: &str| {
        [
            parse("", sql),
            bind("", "", &[]),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat()
    };
    bench
        .same(&[
            step(query("CREATE TABLE c (a int, b text)"), "CZ"),
            step(query("COPY c FROM STDIN"), "G"),
            step(
                many(&[data("1\tone\n2\tt"), data("wo\n"), flush(), sync(), done()]),
                "CZ",
            ),
            step(query("COPY c TO STDOUT; SELECT 'after'"), "HddcCTDCZ"),
            // In libpq's order: the Sync goes ahead of the data, and another one behind.
            step(copy_in("COPY c FROM STDIN"), "12nG"),
            step(many(&[data("3\tthree\n"), done(), sync()]), "CZ"),
            step(
                copy_in("COPY (SELECT a FROM c ORDER BY a) TO STDOUT"),
                "12nHdddcCZ",
            ),
            step(query("COPY c FROM STDIN"), "G"),
            step(
                many(&[data("4\tfour\n"), message(b'f', b"no more\0")]),
                "EZ",
            ),
            step(copy_in("COPY c FROM STDIN"), "12nG"),
            step(
                many(&[data("4\tfour\n"), message(b'f', b"no more\0"), sync()]),
                "EZ",
            ),
            // The server finds an error while data still comes; what comes after it is ignored.
            step(query("COPY c FROM STDIN"), "G"),
            step(data("not a number\tx\n"), ""),
            step(data("5\tfive\n"), "EZ"),
            step(many(&[data("6\tsix\n"), done()]), ""),
            step(query("SELECT count(*) FROM c"), "TDCZ"),
            step(copy_in("COPY c FROM STDIN"), "12nG"),
            step(many(&[data("not a number\tx\n"), data("7\tseven\n")]), "E"),
            step(many(&[data("8\teight\n"), done(), sync()]), "Z"),
            step(query("SELECT count(*) FROM c"), "TDCZ"),
            // Two in one query, and one that fails at once.
            step(query("COPY c FROM STDIN; COPY c FROM STDIN; SELECT 1"), "G"),
            step(many(&[data("9\tnine\n"), done()]), "CG"),
            step(many(&[data("10\tten\n"), done()]), "CTDCZ"),
            step(query("COPY nowhere FROM STDIN"), "EZ"),
            step(query("DROP TABLE c"), "CZ"),
        ])
        .await;
}

#[tokio::test]
async fn function_calls() {
    let bench = Bench::new().await;
    // int4pl(20, 22), as text and as binary.
    let call = |format: u16, arguments: [&[u8]; 2]| {
        let mut body = 177_u32.to_be_bytes().to_vec();
        for number in [1, format, 2] {
            body.extend_from_slice(&number.to_be_bytes());
        }
        for argument in arguments {
            body.extend_from_slice(&u32::try_from(argument.len()).unwrap().to_be_bytes());
            body.extend_from_slice(argument);
        }
        body.extend_from_slice(&format.to_be_bytes());
        message(b'F', &body)
    };
    bench
        .same(&[
            step(call(0, [b"20", b"22"]), "VZ"),
            step(call(1, [&[0, 0, 0, 20], &[0, 0, 0, 22]]), "VZ"),
            step(call(0, [b"20", b"x"]), "EZ"),
            step(query("SELECT 1"), "TDCZ"),
        ])
        .await;
}
