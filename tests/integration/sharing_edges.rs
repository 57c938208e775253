//! Shared statements where it gets tight: pipelines, departures, statements dropped by SQL, clients that do not read. Each
//! test states what a direct connection does.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::bench::Bench;
use crate::support::eventually;
use crate::support::raw::{
    Raw, bind, close, execute, message, parse, prepare, query, seen, sync, tags, terminate, use_of,
};

const LIMIT: Duration = Duration::from_secs(30);
/// Who waits so long for an empty table's worth of an answer waits for somebody else.
const STUCK: Duration = Duration::from_secs(5);

/// Literals are folded while a statement is parsed, with the parameters of whoever parses it.
#[tokio::test]
async fn a_literal_means_what_it_means_in_the_clients_time_zone() {
    let bench = Bench::new().await;
    let text = "SELECT extract(epoch FROM timestamptz '2020-01-01 00:00')::bigint::text";
    let mut answers = Vec::new();
    for address in [bench.direct_address(), bench.sidecar.proxy_addr()] {
        let name = &bench.database.name;
        let mut one = Raw::login_with(address, name, &[("TimeZone", "UTC")]).await;
        let mut two = Raw::login_with(address, name, &[("TimeZone", "Asia/Tokyo")]).await;
        let mut rows = Vec::new();
        for client in [&mut one, &mut two] {
            assert_eq!(tags(&client.ask(&prepare("s", text)).await), "1Z");
            rows.extend(client.ask(&use_of("s", &[])).await[1].row());
        }
        answers.push(rows);
    }
    assert_eq!(answers[1], answers[0]);
}

/// The same bytes are another text in another encoding.
#[tokio::test]
async fn a_text_is_read_in_the_clients_encoding() {
    let bench = Bench::new().await;
    let text = "SELECT length('é')::text";
    let mut answers = Vec::new();
    for address in [bench.direct_address(), bench.sidecar.proxy_addr()] {
        let name = &bench.database.name;
        let mut rows = Vec::new();
        let mut one = Raw::login_with(address, name, &[("client_encoding", "UTF8")]).await;
        let mut two = Raw::login_with(address, name, &[("client_encoding", "LATIN1")]).await;
        for client in [&mut one, &mut two] {
            assert_eq!(tags(&client.ask(&prepare("s", text)).await), "1Z");
            rows.extend(client.ask(&use_of("s", &[])).await[1].row());
        }
        answers.push(rows);
    }
    assert_eq!(answers[1], answers[0]);
}

/// DEALLOCATE ALL of a client that leaves without reading its answer.
#[tokio::test]
async fn a_client_that_vanishes_after_deallocate_all_harms_nobody() {
    let bench = Bench::new().await;
    let mut victim = bench.pooled().await;
    victim.ask(&prepare("s", "SELECT 'mine'")).await;
    for round in 0..20 {
        let mut gone = bench.pooled().await;
        gone.send(&query("DEALLOCATE ALL")).await;
        drop(gone);
        bench.settled().await;
        let answer = victim.ask(&use_of("s", &[])).await;
        assert_eq!(tags(&answer), "2DCZ", "round {round}: {answer:?}");
    }
}

/// The same by a function of the database.
#[tokio::test]
async fn a_function_that_deallocates_all_harms_nobody_for_ever() {
    let bench = Bench::new().await;
    let mut direct = bench.direct().await;
    direct
        .rows("CREATE FUNCTION clean() RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 1; END$$")
        .await;
    let (mut victim, mut other) = (bench.pooled().await, bench.pooled().await);
    victim.ask(&prepare("s", "SELECT 'mine'")).await;
    assert_eq!(other.value("SELECT clean()").await, "1");
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        outcomes.push(tags(&victim.ask(&use_of("s", &[])).await));
    }
    assert_eq!(
        outcomes.last().map(String::as_str),
        Some("2DCZ"),
        "{outcomes:?}"
    );
}

/// One client drops by SQL what pg_prepared_statements shows.
#[tokio::test]
async fn a_client_that_cleans_up_what_the_view_shows_harms_nobody() {
    let bench = Bench::new().await;
    let (mut victim, mut other) = (bench.pooled().await, bench.pooled().await);
    victim.ask(&prepare("s", "SELECT 'mine'")).await;
    for name in other.rows("SELECT name FROM pg_prepared_statements").await {
        other.ask(&query(&format!("DEALLOCATE \"{name}\""))).await;
    }
    let answer = victim.ask(&use_of("s", &[])).await;
    assert_eq!(tags(&answer), "2DCZ", "{answer:?}");
}

/// DEALLOCATE, and what stands before and behind it in one pipeline.
#[tokio::test]
async fn statements_dropped_by_sql_in_a_pipeline() {
    let anew = [prepare("a", "SELECT 'new a'"), use_of("a", &[])].concat();
    let pipelines = [
        [query("DEALLOCATE a"), query("DEALLOCATE b")].concat(),
        [query("SELECT 1/0"), query("DEALLOCATE a")].concat(),
        [query("DEALLOCATE a"), anew.clone()].concat(),
        [query("DEALLOCATE a"), use_of("a", &[])].concat(),
        [query("DEALLOCATE ALL"), anew].concat(),
        [query("DEALLOCATE ALL"), use_of("a", &[])].concat(),
    ];
    for pipeline in pipelines {
        let batches = [
            prepare("a", "SELECT 'a'"),
            prepare("b", "SELECT 'b'"),
            pipeline,
            use_of("a", &[]),
            use_of("b", &[]),
            prepare("a", "SELECT 'another a'"),
        ];
        Bench::new().await.same_as_direct(&batches).await;
    }
}

/// In one batch of the extended protocol, as drivers in pipeline mode send it.
#[tokio::test]
async fn deallocate_and_parse_in_one_batch() {
    let drop_it = |name: &str| {
        [
            parse("", &format!("DEALLOCATE {name}")),
            bind("", "", &[]),
            execute("", 0),
        ]
        .concat()
    };
    let batches = [
        prepare("a", "SELECT 'a'"),
        prepare("b", "SELECT 'b'"),
        [drop_it("a"), drop_it("b"), sync()].concat(),
        use_of("a", &[]),
        use_of("b", &[]),
        [close(b'S', "a"), close(b'S', "b"), sync()].concat(),
        prepare("a", "SELECT 'a'"),
        [drop_it("a"), parse("a", "SELECT 'new a'"), use_of("a", &[])].concat(),
    ];
    Bench::new().await.same_as_direct(&batches).await;
}

/// More statements at once than a server may keep.
#[tokio::test]
async fn a_pipeline_of_parses_leaves_no_more_than_the_limit() {
    let bench = Bench::with(&[("POOLWATCH_POOL__MAX_PREPARED_STATEMENTS", "3")]).await;
    let mut client = bench.pooled().await;
    let mut many: Vec<u8> = (0..100)
        .flat_map(|at| parse(&format!("s{at}"), &format!("SELECT {at}")))
        .collect();
    many.extend(sync());
    client.ask(&many).await;
    for at in 0..50 {
        client
            .ask(&prepare(&format!("t{at}"), &format!("SELECT 't{at}'")))
            .await;
    }
    let left = client
        .value("SELECT count(*) FROM pg_prepared_statements")
        .await;
    assert!(
        left.parse::<u32>().expect("a count") <= 5,
        "{left} statements"
    );
}

/// A name that is taken, again and again.
#[tokio::test]
async fn a_taken_name_leaves_nothing_on_the_server() {
    let bench = Bench::with(&[("POOLWATCH_POOL__MAX_PREPARED_STATEMENTS", "3")]).await;
    let mut client = bench.pooled().await;
    client.ask(&prepare("s", "SELECT 1")).await;
    for _ in 0..1000 {
        assert_eq!(tags(&client.ask(&prepare("s", "SELECT 1")).await), "EZ");
        assert_eq!(tags(&client.ask(&use_of("s", &[])).await), "2DCZ");
    }
    let left = client
        .value("SELECT count(*) FROM pg_prepared_statements")
        .await;
    assert!(
        left.parse::<u32>().expect("a count") <= 5,
        "{left} statements"
    );
}

#[tokio::test]
async fn a_name_that_is_closed_in_the_same_batch() {
    let bench = Bench::new().await;
    let batch = [
        parse("a", "SELECT $1::int"),
        bind("", "a", &[]),
        execute("", 0),
        close(b'S', "a"),
        sync(),
    ];
    bench.same_as_direct(&[batch.concat()]).await;
}

/// A request and a goodbye, and nobody who reads. A direct connection carries it out, and so does a pool, whether the
/// server has the statement, lacks it, or is still busy with a query ahead; nor must the second of two requests find a server
/// at once.
#[tokio::test]
async fn a_request_followed_by_a_goodbye_is_carried_out() {
    let bench = Bench::with(&[("POOLWATCH_POOL__MAX_PREPARED_STATEMENTS", "1")]).await;
    let mut direct = bench.direct().await;
    direct.rows("CREATE TABLE done (at int)").await;
    let (mut sent, busy) = (0, query("SELECT pg_sleep(0.1)"));
    for ahead in [&[][..], &busy] {
        for intruder in [false, true] {
            for _ in 0..5 {
                let mut client = bench.pooled().await;
                let insert = "INSERT INTO done VALUES ($1)";
                client.ask(&prepare("ins", insert)).await;
                if intruder {
                    // Takes its place.
                    let mut other = bench.pooled().await;
                    other.ask(&prepare("o", &format!("SELECT {sent}"))).await;
                }
                let request = use_of("ins", &[&sent.to_string()]);
                client.send(&[ahead, &request, &terminate()].concat()).await;
                sent += 1;
            }
        }
    }
    let done = tokio::time::timeout(LIMIT, async {
        while direct.value("SELECT count(*) FROM done").await != sent.to_string() {}
    });
    if done.await.is_err() {
        panic!("not all of {sent}: {:?}", direct.rows("TABLE done").await);
    }
}

/// Many messages about names while the server is busy.
#[tokio::test]
async fn a_long_pipeline_about_names_does_not_stop_the_thread() {
    let bench = Bench::with(&[
        ("POOLWATCH_POOL__SIZE", "2"),
        ("POOLWATCH_THREADS__DATA", "1"),
    ])
    .await;
    let mut other = bench.pooled().await;
    assert_eq!(other.value("SELECT 1").await, "1");
    let client = bench.pooled().await;
    let (_read, mut write) = client.into_halves();
    let sending = tokio::spawn(async move {
        let mut bytes = query("SELECT pg_sleep(20)");
        bytes.extend(close(b'S', "x").repeat(600_000));
        let _ = write.write_all(&bytes).await;
        write
    });
    // What it sends is looked at meanwhile, as far as it is taken.
    let labels = [("side", "client"), ("direction", "received")];
    let taken = async || {
        bench
            .sidecar
            .scrape()
            .await
            .sum("poolwatch_bytes_total", &labels)
            > 32_768.0
    };
    eventually(LIMIT, taken).await;
    for _ in 0..200 {
        let answered = tokio::time::timeout(STUCK, other.value("SELECT 1")).await;
        assert_eq!(answered.expect("another client waits for it"), "1");
    }
    sending.abort();
}

/// An error of the batch before, heard of after this batch's Parse was sent and before it was answered.
#[tokio::test]
async fn the_unnamed_statement_is_the_newest() {
    let bench = Bench::new().await;
    let mut answers = Vec::new();
    for mut client in [bench.direct().await, bench.pooled().await] {
        assert_eq!(tags(&client.ask(&prepare("", "SELECT 'old'")).await), "1Z");
        // What follows a Sync is not flushed before the next one.
        client
            .send(
                &[
                    execute("no such portal", 0),
                    sync(),
                    parse("", "SELECT 'new'"),
                ]
                .concat(),
            )
            .await;
        assert_eq!(tags(&client.until('Z').await), "EZ");
        answers.push(seen(&client.ask(&use_of("", &[])).await));
    }
    assert_eq!(answers[1], answers[0]);
}

/// The same where the client had none before.
#[tokio::test]
async fn the_first_unnamed_statement_stays() {
    let bench = Bench::new().await;
    let mut answers = Vec::new();
    for mut client in [bench.direct().await, bench.pooled().await] {
        client
            .send(
                &[
                    execute("no such portal", 0),
                    sync(),
                    parse("", "SELECT 'new'"),
                ]
                .concat(),
            )
            .await;
        assert_eq!(tags(&client.until('Z').await), "EZ");
        answers.push(seen(&client.ask(&use_of("", &[])).await));
    }
    assert_eq!(answers[1], answers[0]);
}

/// A COPY by a named statement that the server lacks, in one write.
#[tokio::test]
async fn copy_by_a_statement_that_is_made_again() {
    let bench = Bench::with(&[("POOLWATCH_POOL__MAX_PREPARED_STATEMENTS", "1")]).await;
    let mut direct = bench.direct().await;
    direct.rows("CREATE TABLE t (at int)").await;
    let mut client = bench.pooled().await;
    let mut other = bench.pooled().await;
    client.ask(&prepare("copy", "COPY t FROM STDIN")).await;
    other.ask(&prepare("o", "SELECT 1")).await;
    let data = message(b'd', b"1\n2\n");
    let done = message(b'c', b"");
    let answer = client
        .ask(&[bind("", "copy", &[]), execute("", 0), data, done, sync()].concat())
        .await;
    assert_eq!(tags(&answer), "2GCZ", "{:?}", seen(&answer));
    assert_eq!(client.value("SELECT count(*) FROM t").await, "2");
    assert_eq!(tags(&other.ask(&use_of("o", &[])).await), "2DCZ");
}

/// A text that cannot be shared, under a name that is taken by a shared one.
#[tokio::test]
async fn a_long_text_for_a_taken_name() {
    let bench = Bench::new().await;
    let long = format!("SELECT '{}'", "x".repeat(40_000));
    let batches = [
        prepare("a", "SELECT 'a'"),
        prepare("a", &long),
        use_of("a", &[]),
    ];
    bench.same_as_direct(&batches).await;
}

/// The same by the limit of names.
#[tokio::test]
async fn a_taken_name_beyond_the_limit_of_names() {
    let bench = Bench::with(&[("POOLWATCH_POOL__MAX_CLIENT_PREPARED_STATEMENTS", "1")]).await;
    let mut direct = bench.direct().await;
    let mut pooled = bench.pooled().await;
    for batch in [
        prepare("a", "SELECT 'a'"),
        prepare("a", "SELECT 'second a'"),
        use_of("a", &[]),
    ] {
        let expected = direct.ask(&batch).await;
        assert_eq!(seen(&pooled.ask(&batch).await), seen(&expected));
    }
}
