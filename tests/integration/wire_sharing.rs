//! Clients that take turns on one server: what is theirs comes with them, and nothing of anybody else's.

use std::time::Duration;

use crate::bench::{Bench, ONE};
use crate::support::raw::{
    Raw, bind, close, describe, execute, flush, message, packet, parse, query, run, sync, tags,
    terminate,
};
use crate::support::{Faults, Postgres, Sidecar, Trouble, eventually};

const LIMIT: Duration = Duration::from_secs(30);

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
        // Its answer comes by itself, after those before it.
        query("SELECT 'drops it' FROM pg_sleep(0.2)"),
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
    // A server that has not read its query yet ignores a cancel request, with or without a pool.
    eventually(LIMIT, || async {
        let asleep = "SELECT count(*) FROM pg_stat_activity \
                      WHERE wait_event = 'PgSleep' AND datname = current_database()";
        bench.direct().await.value(asleep).await == "1"
    })
    .await;
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

/// On a direct connection a request's own connection ends after the signals were sent (PostgreSQL sends two, to the process and
/// to its group). Who waits for that end, as libpq and asyncpg do, may trust that the request hits nothing that comes later.
#[tokio::test]
async fn a_cancel_requests_own_connection_lasts_until_it_is_over() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let sidecar = Sidecar::start_with(&database, &faults.through(&database.url), &[], &ONE).await;
    let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    let key = client.greeting.iter().find(|message| message.tag == 'K');
    let key = key.expect("BackendKeyData").body.clone();
    client
        .send(&query(
            "DO $$ BEGIN RAISE NOTICE 'at it'; PERFORM pg_sleep(600); END $$",
        ))
        .await;
    client.until('N').await;
    faults.set(Trouble::BlackHole);
    let before = faults.accepted();
    let mut canceller = Raw::dial(sidecar.proxy_addr()).await;
    let request = [&80_877_102_u32.to_be_bytes()[..], &key].concat();
    canceller.send(&packet(&request)).await;
    tokio::select! {
        biased;
        _ = canceller.drain() => panic!("over before PostgreSQL got the request"),
        () = eventually(LIMIT, || async { faults.accepted() > before }) => {}
    }
    faults.set(Trouble::None);
    assert!(canceller.drain().await);
    assert_eq!(client.until('Z').await[0].code(), "57014");
}

#[tokio::test]
async fn a_skipped_parse_never_uncovers_another_clients_statement() {
    let bench = Bench::new().await;
    let (mut one, mut two) = (bench.pooled().await, bench.pooled().await);
    let left = two
        .ask(&[parse("", "SELECT 'of two'"), sync()].concat())
        .await;
    assert_eq!(tags(&left), "1Z");
    // The Execute fails, so the Parse is skipped; the Bind behind the Sync has nothing to bind to.
    let batches = [
        execute("nope", 0),
        parse("", "SELECT 'of one'"),
        sync(),
        bind("", "", &[]),
        execute("", 0),
        sync(),
    ];
    one.send(&batches.concat()).await;
    let mut answer = one.until('Z').await;
    answer.extend(one.until('Z').await);
    assert_eq!(tags(&answer), "EZEZ", "{answer:?}");
    assert_eq!(answer[2].code(), "26000");
    // The same in one go without the failure still works.
    let good = [
        parse("", "SELECT 'of one'"),
        sync(),
        bind("", "", &[]),
        execute("", 0),
        sync(),
    ];
    one.send(&good.concat()).await;
    let mut answer = one.until('Z').await;
    answer.extend(one.until('Z').await);
    assert_eq!(tags(&answer), "1Z2DCZ", "{answer:?}");
    assert_eq!(answer[3].row(), ["of one"]);
    // Its Close in the batch of its Bind, on a server that two has used meanwhile.
    one.ask(&[parse("", "SELECT 'of one'"), sync()].concat())
        .await;
    two.ask(&[parse("", "SELECT 'of two'"), sync()].concat())
        .await;
    let closed = [close(b'S', ""), bind("", "", &[]), execute("", 0), sync()];
    let answer = one.ask(&closed.concat()).await;
    assert_eq!(tags(&answer), "3EZ", "{answer:?}");
    assert_eq!(answer[1].code(), "26000");
}

#[tokio::test]
async fn a_lone_sync_with_a_false_length_ends_nobody() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    client.send(b"S\0\0\0\x10").await;
    assert_eq!(tags(&client.until('Z').await), "Z");
    // The twelve bytes that it promised.
    client.send(&[0; 12]).await;
    assert_eq!(client.value("SELECT 'alive'").await, "alive");
}

#[tokio::test]
async fn the_rest_of_a_failed_copy_holds_no_server() {
    let bench = Bench::new().await;
    bench
        .direct()
        .await
        .rows("CREATE TABLE copied (a int)")
        .await;
    for goodbye in [false, true] {
        let mut client = bench.pooled().await;
        client.send(&query("COPY copied FROM STDIN")).await;
        client.until('G').await;
        let late = message(b'd', b"3\n4\n5\n");
        client
            .send(&[&message(b'd', b"no number\n")[..], &late[..7]].concat())
            .await;
        let answer = client.until('Z').await;
        assert_eq!(tags(&answer), "EZ", "{answer:?}");
        client.send(&late[7..]).await;
        client.send(&message(b'c', b"")).await;
        if goodbye {
            client.send(&terminate()).await;
        }
        bench.settled().await;
        if !goodbye {
            assert_eq!(client.value("SELECT 'next'").await, "next");
        }
    }
}
