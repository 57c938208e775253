//! Shared statements where it gets tight: pipelines, departures, statements dropped by SQL, clients that do not read. Each
//! test states what a direct connection does.

use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::support::raw::{
    Message, Raw, bind, close, execute, parse, query, sync, tags, terminate,
};

fn use_of(name: &str, parameters: &[&str]) -> Vec<u8> {
    [bind("", name, parameters), execute("", 0), sync()].concat()
}

fn prepare(name: &str, sql: &str) -> Vec<u8> {
    [parse(name, sql), sync()].concat()
}

fn seen(answer: &[Message]) -> Vec<String> {
    answer
        .iter()
        .map(|message| match message.tag {
            'E' => format!("E {} {}", message.code(), message.field(b'M')),
            tag => format!("{tag} {:?}", String::from_utf8_lossy(&message.body)),
        })
        .collect()
}

/// Each item is sent in one write, and that many ReadyForQuery are read.
async fn same_as_direct(bench: &Bench, batches: &[(usize, Vec<u8>)]) {
    let mut direct = Raw::login(bench.direct_address(), &bench.twin.name).await;
    let mut pooled = bench.pooled().await;
    for (at, (ends, batch)) in batches.iter().enumerate() {
        let (mut expected, mut answer) = (direct.ask(batch).await, pooled.ask(batch).await);
        for _ in 1..*ends {
            expected.extend(direct.until('Z').await);
            answer.extend(pooled.until('Z').await);
        }
        assert_eq!(seen(&answer), seen(&expected), "batch {at}");
    }
}

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

/// Two DEALLOCATE in one pipeline.
#[tokio::test]
async fn two_statements_dropped_in_a_pipeline() {
    let bench = Bench::new().await;
    same_as_direct(
        &bench,
        &[
            (1, prepare("a", "SELECT 'a'")),
            (1, prepare("b", "SELECT 'b'")),
            (2, [query("DEALLOCATE a"), query("DEALLOCATE b")].concat()),
            (1, use_of("a", &[])),
            (1, use_of("b", &[])),
            (1, prepare("a", "SELECT 'new a'")),
        ],
    )
    .await;
}

/// DEALLOCATE behind a query that fails.
#[tokio::test]
async fn a_statement_dropped_behind_an_error_in_a_pipeline() {
    let bench = Bench::new().await;
    same_as_direct(
        &bench,
        &[
            (1, prepare("a", "SELECT 'a'")),
            (2, [query("SELECT 1/0"), query("DEALLOCATE a")].concat()),
            (1, use_of("a", &[])),
        ],
    )
    .await;
}

/// DEALLOCATE and what follows it about the same name, in one pipeline.
#[tokio::test]
async fn a_name_is_prepared_anew_behind_its_deallocate() {
    let bench = Bench::new().await;
    same_as_direct(
        &bench,
        &[
            (1, prepare("a", "SELECT 'a'")),
            (
                3,
                [
                    query("DEALLOCATE a"),
                    prepare("a", "SELECT 'new a'"),
                    use_of("a", &[]),
                ]
                .concat(),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_name_is_used_behind_its_deallocate() {
    let bench = Bench::new().await;
    same_as_direct(
        &bench,
        &[
            (1, prepare("a", "SELECT 'a'")),
            (2, [query("DEALLOCATE a"), use_of("a", &[])].concat()),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_name_is_prepared_anew_behind_deallocate_all() {
    let bench = Bench::new().await;
    same_as_direct(
        &bench,
        &[
            (1, prepare("a", "SELECT 'a'")),
            (
                3,
                [
                    query("DEALLOCATE ALL"),
                    prepare("a", "SELECT 'new a'"),
                    use_of("a", &[]),
                ]
                .concat(),
            ),
        ],
    )
    .await;
}

/// In one batch of the extended protocol, as drivers in pipeline mode send it.
#[tokio::test]
async fn deallocate_and_parse_in_one_batch() {
    let bench = Bench::new().await;
    let drop_it = |name: &str| {
        [
            parse("", &format!("DEALLOCATE {name}")),
            bind("", "", &[]),
            execute("", 0),
        ]
        .concat()
    };
    same_as_direct(
        &bench,
        &[
            (1, prepare("a", "SELECT 'a'")),
            (1, prepare("b", "SELECT 'b'")),
            (1, [drop_it("a"), drop_it("b"), sync()].concat()),
            (1, use_of("a", &[])),
            (1, use_of("b", &[])),
            (1, [close(b'S', "a"), close(b'S', "b"), sync()].concat()),
            (1, prepare("a", "SELECT 'a'")),
            (
                1,
                [
                    drop_it("a"),
                    parse("a", "SELECT 'new a'"),
                    bind("", "a", &[]),
                    execute("", 0),
                    sync(),
                ]
                .concat(),
            ),
        ],
    )
    .await;
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .expect("VmRSS");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("kB")
}

/// Errors in the client's words, for a client that does not read them.
#[tokio::test]
async fn a_client_that_does_not_read_costs_two_buffers() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    client.ask(&prepare("s", "SELECT repeat('x', 20000)")).await;
    let before = resident(bench.sidecar.pid());
    let one = [use_of("s", &[]), use_of("s", &["too many"])].concat();
    let (_read, mut write) = client.into_halves();
    let many = one.repeat(20_000);
    let sending = async {
        use tokio::io::AsyncWriteExt as _;
        let _ = tokio::time::timeout(Duration::from_secs(25), write.write_all(&many)).await;
    };
    sending.await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = resident(bench.sidecar.pid());
    assert!(
        after < before + 20_000,
        "{before} kB before, {after} kB after"
    );
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
    same_as_direct(
        &bench,
        &[(
            1,
            [
                parse("a", "SELECT $1::int"),
                bind("", "a", &[]),
                execute("", 0),
                close(b'S', "a"),
                sync(),
            ]
            .concat(),
        )],
    )
    .await;
}

/// A request and a goodbye, and nobody who reads. A direct connection carries it out.
#[tokio::test]
async fn a_request_followed_by_a_goodbye_is_carried_out() {
    for pooled in [false, true] {
        let bench = Bench::with(&[("POOLWATCH_POOL__MAX_PREPARED_STATEMENTS", "1")]).await;
        let mut direct = bench.direct().await;
        direct.rows("CREATE TABLE done (at int)").await;
        for at in 0..20 {
            let mut client = if pooled {
                bench.pooled().await
            } else {
                bench.direct().await
            };
            client
                .ask(&prepare("ins", "INSERT INTO done VALUES ($1)"))
                .await;
            if pooled {
                // Somebody else's takes its place.
                let mut other = bench.pooled().await;
                other
                    .ask(&prepare("o", &format!("SELECT 'other {at}'")))
                    .await;
            }
            client
                .send(&[use_of("ins", &[&at.to_string()]), terminate()].concat())
                .await;
            drop(client);
        }
        tokio::time::sleep(Duration::from_millis(1000)).await;
        let count = direct.value("SELECT count(*) FROM done").await;
        assert_eq!(count, "20", "pooled: {pooled}");
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
        use tokio::io::AsyncWriteExt as _;
        let mut bytes = query("SELECT pg_sleep(20)");
        bytes.extend(close(b'S', "x").repeat(600_000));
        let _ = write.write_all(&bytes).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
    });
    let mut worst = Duration::ZERO;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(15) {
        let started = Instant::now();
        assert_eq!(other.value("SELECT 1").await, "1");
        worst = worst.max(started.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sending.abort();
    assert!(
        worst < Duration::from_millis(200),
        "another client waited {worst:?}"
    );
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

/// C: a COPY by a named statement that the server lacks, in one write.
#[tokio::test]
async fn copy_by_a_statement_that_is_made_again() {
    let bench = Bench::with(&[("POOLWATCH_POOL__MAX_PREPARED_STATEMENTS", "1")]).await;
    let mut direct = bench.direct().await;
    direct.rows("CREATE TABLE t (at int)").await;
    let mut client = bench.pooled().await;
    let mut other = bench.pooled().await;
    client.ask(&prepare("copy", "COPY t FROM STDIN")).await;
    other.ask(&prepare("o", "SELECT 1")).await;
    let data = crate::support::raw::message(b'd', b"1\n2\n");
    let done = crate::support::raw::message(b'c', b"");
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
    same_as_direct(
        &bench,
        &[
            (1, prepare("a", "SELECT 'a'")),
            (1, prepare("a", &long)),
            (1, use_of("a", &[])),
        ],
    )
    .await;
}

/// The same by the limit of names.
#[tokio::test]
async fn a_taken_name_beyond_the_limit_of_names() {
    let bench = Bench::with(&[("POOLWATCH_POOL__MAX_CLIENT_PREPARED_STATEMENTS", "1")]).await;
    same_as_direct(
        &bench,
        &[
            (1, prepare("a", "SELECT 'a'")),
            (1, prepare("a", "SELECT 'second a'")),
            (1, use_of("a", &[])),
        ],
    )
    .await;
}

/// The name of a statement that went with the others.
#[tokio::test]
async fn a_name_used_behind_deallocate_all() {
    let bench = Bench::new().await;
    same_as_direct(
        &bench,
        &[
            (1, prepare("a", "SELECT 'a'")),
            (2, [query("DEALLOCATE ALL"), use_of("a", &[])].concat()),
        ],
    )
    .await;
}

/// R9, to compare: the server has the statement, so nothing is held back.
#[tokio::test]
async fn control_without_a_copy_to_make() {
    let bench = Bench::new().await;
    let mut direct = bench.direct().await;
    direct.rows("CREATE TABLE done (at int)").await;
    for at in 0..20 {
        let mut client = bench.pooled().await;
        client
            .ask(&prepare("ins", "INSERT INTO done VALUES ($1)"))
            .await;
        client
            .send(&[use_of("ins", &[&at.to_string()]), terminate()].concat())
            .await;
        drop(client);
    }
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(direct.value("SELECT count(*) FROM done").await, "20");
}
