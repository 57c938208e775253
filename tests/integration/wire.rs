//! The protocol through the pool is, message by message and byte by byte, the protocol without it.
//!
//! Most tests are conversations that are held twice, straight with PostgreSQL and through a pool of one connection:
//! the answers must be the same bytes, and of the types written in the test.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::raw::{
    Raw, bind, close, describe, execute, flush, message, packet, parse, query, run, sync, tags,
    terminate,
};
use crate::support::{Database, Faults, Postgres, Sidecar, Trouble, eventually};

const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const ONE: [(&str, &str); 2] = [
    ("POOLWATCH_POOL__SIZE", "1"),
    ("POOLWATCH_POOL__MAX_OVERFLOW", "0"),
];

/// A database, and a pool of one connection in front of it.
pub(crate) struct Bench {
    pub(crate) database: Database,
    /// Equal to the other one, for the side of a comparison without the pool.
    twin: Database,
    pub(crate) sidecar: Sidecar,
    direct: SocketAddr,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let server = Postgres::shared().await;
        let database = server.database().await;
        let mut environment = ONE.to_vec();
        environment.extend_from_slice(settings);
        let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
        Self {
            twin: server.database().await,
            database,
            sidecar,
            direct: SocketAddr::from(([127, 0, 0, 1], server.port())),
        }
    }

    /// In front of something that is not PostgreSQL.
    pub(crate) fn of(database: Database, sidecar: Sidecar, direct: SocketAddr) -> Self {
        Self {
            twin: database.clone(),
            database,
            sidecar,
            direct,
        }
    }

    /// A client straight to PostgreSQL.
    pub(crate) async fn direct(&self) -> Raw {
        Raw::login(self.direct, &self.database.name).await
    }

    pub(crate) fn direct_address(&self) -> SocketAddr {
        self.direct
    }

    /// A client through the pool.
    pub(crate) async fn pooled(&self) -> Raw {
        Raw::login(self.sidecar.proxy_addr(), &self.database.name).await
    }

    pub(crate) async fn pooled_with(&self, parameters: &[(&str, &str)]) -> Raw {
        Raw::login_with(self.sidecar.proxy_addr(), &self.database.name, parameters).await
    }

    /// Servers in clients' hands, as the API says.
    pub(crate) async fn in_use(&self) -> u64 {
        let (status, body) = self.sidecar.get("/api/v1/pools").await;
        assert_eq!(status, 200, "{body}");
        let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let pools = value["pools"].as_array().expect("pools");
        let sum = |key: &str| -> u64 { pools.iter().filter_map(|pool| pool[key].as_u64()).sum() };
        sum("in_use") + sum("permits_in_use") + sum("connecting")
    }

    /// Waits until every server was given back.
    pub(crate) async fn settled(&self) {
        eventually(LIMIT, || async {
            match self.in_use().await {
                0 => Ok(()),
                count => Err(format!("{count} in use")),
            }
        })
        .await;
    }

    pub(crate) async fn pinned(&self) -> f64 {
        self.sidecar
            .scrape()
            .await
            .sum("poolwatch_pinned_sessions", &[])
    }

    /// Holds a conversation twice and compares. The pool is settled afterwards.
    async fn same(&self, steps: &[(Vec<u8>, &str)]) {
        let mut direct = Raw::login(self.direct, &self.twin.name).await;
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

fn step<'a>(bytes: impl Into<Vec<u8>>, expected: &'a str) -> (Vec<u8>, &'a str) {
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

#[tokio::test]
async fn the_unnamed_statement_follows_its_client_to_another_server() {
    let bench = Bench::new().await;
    let (mut one, mut two, mut three) = (
        bench.pooled().await,
        bench.pooled().await,
        bench.pooled().await,
    );
    let bound = [bind("", "", &[]), execute("", 0), sync()].concat();
    for client in ["one", "two"] {
        let raw = if client == "one" { &mut one } else { &mut two };
        let parsed = raw
            .ask(&[parse("", &format!("SELECT '{client}'")), sync()].concat())
            .await;
        assert_eq!(tags(&parsed), "1Z");
    }
    for _ in 0..3 {
        for (raw, name) in [(&mut one, "one"), (&mut two, "two")] {
            let answer = raw.ask(&bound).await;
            assert_eq!(tags(&answer), "2DCZ", "{name}: {answer:?}");
            assert_eq!(answer[1].row(), [name]);
        }
    }
    let described = one.ask(&[describe(b'S', ""), sync()].concat()).await;
    assert_eq!(tags(&described), "tTZ");
    // Others left theirs on this server. That is none of this client's.
    let mut direct = bench.direct().await;
    let expected = direct.ask(&bound).await;
    assert_eq!(expected[0].code(), "26000");
    assert_eq!(three.ask(&bound).await, expected);
    assert_eq!(three.value("SELECT 3").await, "3");
    assert_eq!(one.ask(&bound).await[1].row(), ["one"]);
    assert_eq!(bench.pinned().await, 0.0);
}

#[tokio::test]
async fn a_statement_is_parsed_again_in_the_middle_of_a_pipeline() {
    let bench = Bench::new().await;
    let (mut one, mut two) = (bench.pooled().await, bench.pooled().await);
    one.ask(&[parse("", "SELECT 'mine'"), sync()].concat())
        .await;
    two.ask(&[run("SELECT 'other'", &[]), sync()].concat())
        .await;
    // A Query would drop it on the server; the Bind stands ahead of it, and behind an unrelated named portal's Close.
    let bytes = [
        close(b'P', "none"),
        bind("", "", &[]),
        execute("", 0),
        sync(),
        query("SELECT 'drops it'"),
        bind("", "", &[]),
        sync(),
    ]
    .concat();
    one.send(&bytes).await;
    let answer = one.take(11).await;
    assert_eq!(tags(&answer), "32DCZTDCZEZ", "{answer:?}");
    assert_eq!(answer[2].row(), ["mine"]);
    assert_eq!(answer[9].code(), "26000");
}

#[tokio::test]
async fn a_lone_sync_and_a_lone_flush_take_no_server() {
    let bench = Bench::new().await;
    let mut holder = bench.pooled().await;
    let mut client = bench.pooled().await;
    assert_eq!(tags(&holder.ask(&query("BEGIN")).await), "CZ");
    // The only server is taken, so whatever answers does it without one.
    let answer = client.ask(&[flush(), sync()].concat()).await;
    assert_eq!(tags(&answer), "Z");
    assert_eq!(answer[0].body, b"I");
    assert_eq!(
        bench
            .sidecar
            .scrape()
            .await
            .sum("poolwatch_pool_checkouts_total", &[("outcome", "waited")]),
        0.0
    );
    assert_eq!(tags(&holder.ask(&query("COMMIT")).await), "CZ");
}

#[tokio::test]
async fn a_query_is_done_though_its_client_says_goodbye_at_once() {
    let bench = Bench::new().await;
    let mut direct = bench.direct().await;
    direct.rows("CREATE TABLE g (a int)").await;
    let mut client = bench.pooled().await;
    client
        .send(&[query("INSERT INTO g VALUES (1)"), terminate()].concat())
        .await;
    assert!(client.drain().await);
    let mut client = bench.pooled().await;
    client
        .send(&[run("INSERT INTO g VALUES (2)", &[]), sync(), terminate()].concat())
        .await;
    assert!(client.drain().await);
    bench.settled().await;
    assert_eq!(direct.rows("SELECT a FROM g ORDER BY a").await, ["1", "2"]);
}

#[tokio::test]
async fn a_batch_without_its_sync_is_never_committed() {
    let bench = Bench::new().await;
    let mut direct = bench.direct().await;
    direct.rows("CREATE TABLE g (a int)").await;
    for polite in [true, false] {
        let mut client = bench.pooled().await;
        client
            .send(&[run("INSERT INTO g VALUES (3)", &[]), flush()].concat())
            .await;
        assert_eq!(tags(&client.take(3).await), "12C");
        if polite {
            client.send(&terminate()).await;
            assert!(client.drain().await);
        }
        drop(client);
        // Whoever comes next must not end it either.
        let mut next = bench.pooled().await;
        assert_eq!(next.value("SELECT count(*) FROM g").await, "0", "{polite}");
        drop(next);
        bench.settled().await;
        assert_eq!(
            direct.value("SELECT count(*) FROM g").await,
            "0",
            "{polite}"
        );
    }
}

#[tokio::test]
async fn goodbye_in_the_middle_frees_the_server() {
    let bench = Bench::new().await;
    bench.direct().await.rows("CREATE TABLE g (a int)").await;
    let middles = [
        (query("COPY g FROM STDIN"), "G"),
        (
            [query("COPY g FROM STDIN"), message(b'd', b"1\n")].concat(),
            "G",
        ),
        ([parse("", "SELEKT"), flush()].concat(), "E"),
        ([parse("", "SELECT 1"), flush()].concat(), "1"),
        (query("BEGIN"), "CZ"),
        (query("BEGIN; SELEKT"), "EZ"),
    ];
    for (bytes, expected) in middles {
        let mut client = bench.pooled().await;
        client.send(&bytes).await;
        assert_eq!(tags(&client.take(expected.len()).await), expected);
        client.send(&terminate()).await;
        let mut next = bench.pooled().await;
        assert_eq!(next.value("SELECT count(*) FROM g").await, "0");
        drop((client, next));
        bench.settled().await;
    }
}

#[tokio::test]
async fn a_cancel_request_reaches_its_own_query_and_no_other() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    let key = client.greeting.iter().find(|message| message.tag == 'K');
    let key = key.expect("BackendKeyData").body.clone();
    let request = packet(&[&80_877_102_u32.to_be_bytes()[..], &key].concat());
    let cancel = || async {
        let mut canceller = Raw::dial(bench.sidecar.proxy_addr()).await;
        canceller.send(&request).await;
        assert!(canceller.drain().await);
    };
    client.send(&query("SELECT pg_sleep(600)")).await;
    eventually(LIMIT, || async { bench.in_use().await > 0 }).await;
    cancel().await;
    let answer = client.until('Z').await;
    let error = answer
        .iter()
        .find(|message| message.tag == 'E')
        .expect("an error");
    assert_eq!(error.code(), "57014");
    // Requests that come around the end of a query cost no reply, nor anybody else's query.
    let mut other = bench.pooled().await;
    for _ in 0..50 {
        client.send(&query("SELECT 'mine'")).await;
        cancel().await;
        let answer = client.until('Z').await;
        assert!(tags(&answer).ends_with('Z'), "{answer:?}");
        assert_eq!(other.value("SELECT 'whole'").await, "whole");
    }
}

/// What the process has resident at most since the mark was reset, and now, in KiB.
fn resident(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .expect("the key");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

/// Starts the high-water mark afresh.
fn reset_high_water(pid: u32) -> u64 {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("clear_refs");
    resident(pid, "VmRSS:")
}

fn assert_grew_little(pid: u32, before: u64) {
    let grown = resident(pid, "VmHWM:").saturating_sub(before);
    assert!(grown <= 8 * 1024, "{grown} KiB more than before");
}

/// Waits until a figure has stopped to grow: the same in ten looks one after the other.
async fn stalled<F: Future<Output = u64>>(figure: impl Fn() -> F) {
    let last = parking_lot::Mutex::new((0_u64, 0_u32));
    eventually(LIMIT, || async {
        let now = figure().await;
        let mut last = last.lock();
        *last = if now > 0 && now == last.0 {
            (now, last.1 + 1)
        } else {
            (now, 0)
        };
        last.1 >= 10
    })
    .await;
}

const MEGABYTES: usize = 200;

async fn slow_result(sql: &str) {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    client.value("SELECT 1").await;
    let pid = bench.sidecar.pid();
    let before = reset_high_water(pid);
    client.send(&query(sql)).await;
    let received = || async {
        let scrape = bench.sidecar.scrape().await;
        scrape.sum(
            "poolwatch_bytes_total",
            &[("side", "client"), ("direction", "sent")],
        ) as u64
    };
    stalled(received).await;
    let (mut read, _write) = client.into_halves();
    let (mut buffer, mut total) = (vec![0; 256 * 1024], 0);
    let mut end = Vec::new();
    while !end.ends_with(b"Z\0\0\0\x05I") {
        let length = tokio::time::timeout(LIMIT, read.read(&mut buffer))
            .await
            .expect("data")
            .expect("read");
        assert!(length > 0, "ended after {total}");
        total += length;
        end.extend_from_slice(&buffer[length.saturating_sub(6)..length]);
        end.drain(..end.len().saturating_sub(6));
    }
    assert!(total > MEGABYTES * 1_000_000, "{total}");
    assert_grew_little(pid, before);
}

#[tokio::test]
async fn a_large_result_to_a_slow_client_costs_no_memory() {
    slow_result("SELECT repeat('x', 1000000) FROM generate_series(1, 200)").await;
}

#[tokio::test]
async fn one_large_row_to_a_slow_client_costs_no_memory() {
    slow_result("SELECT repeat('x', 200000000)").await;
}

#[tokio::test]
async fn a_large_copy_to_a_slow_server_costs_no_memory() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let sidecar = Sidecar::start_with(&database, &faults.through(&database.url), &[], &ONE).await;
    let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    client.rows("CREATE UNLOGGED TABLE big (a text)").await;
    let before = reset_high_water(sidecar.pid());
    client.send(&query("COPY big FROM STDIN")).await;
    assert_eq!(tags(&client.take(1).await), "G");
    faults.set(Trouble::BlackHole);
    let (mut read, mut write) = client.into_halves();
    let writing = tokio::spawn(async move {
        let row = [&vec![b'x'; 999_999][..], b"\n"].concat();
        let piece = message(b'd', &row);
        for _ in 0..MEGABYTES {
            write.write_all(&piece).await.expect("send");
        }
        write.write_all(&message(b'c', b"")).await.expect("send");
        write
    });
    stalled(|| async {
        let scrape = sidecar.scrape().await;
        scrape.sum(
            "poolwatch_bytes_total",
            &[("side", "client"), ("direction", "received")],
        ) as u64
    })
    .await;
    assert!(!writing.is_finished());
    faults.set(Trouble::None);
    let mut end = [0; 14 + 6];
    tokio::time::timeout(Duration::from_secs(120), read.read_exact(&mut end))
        .await
        .expect("an answer")
        .expect("read");
    assert_eq!(
        &end[..14],
        b"C\0\0\0\x0dCOPY 200\0",
        "{}",
        String::from_utf8_lossy(&end)
    );
    drop(writing.await);
    assert_grew_little(sidecar.pid(), before);
}

#[tokio::test]
async fn a_large_statement_is_relayed_whole() {
    let bench = Bench::new().await;
    let text = "y".repeat(3_000_000);
    let mut client = bench.pooled().await;
    let length = client.value(&format!("SELECT length('{text}')")).await;
    assert_eq!(length, "3000000");
    let answer = client
        .ask(&[run("SELECT length($1::text)", &[&text]), sync()].concat())
        .await;
    assert_eq!(tags(&answer), "12DCZ");
    assert_eq!(answer[2].row(), ["3000000"]);
    let answer = client
        .ask(&[run(&format!("SELECT length('{text}')"), &[]), sync()].concat())
        .await;
    assert_eq!(tags(&answer), "12DCZ");
    // An answer and a question that go both ways at once: neither side waits for the other forever.
    let mut all = Vec::new();
    for _ in 0..4 {
        all.extend(run("SELECT $1::text", &[&text]));
    }
    all.extend(sync());
    let mut reader = client;
    let answer = reader.ask_while_reading(&all).await;
    assert_eq!(tags(&answer), "12DC12DC12DC12DCZ");
}
