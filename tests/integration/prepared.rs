//! Named statements in transaction pooling: clients share servers and notice nothing.

use std::time::Duration;

use crate::bench::Bench;
use crate::support::raw::{
    Message, Raw, bind, close, describe, execute, flush, message, parse, prepare, query, seen,
    sync, tags, use_of,
};

/// A pool of one server that keeps so many statements.
async fn keeping(limit: &str) -> Bench {
    Bench::with(&[("POOLWATCH_POOL__MAX_PREPARED_STATEMENTS", limit)]).await
}

#[tokio::test]
async fn names_mean_what_their_client_said_on_whatever_server() {
    let batches = [
        prepare("a", "SELECT 'mine'"),
        use_of("a", &[]),
        prepare("b", "SELECT $1::int + 1"),
        use_of("b", &["41"]),
        use_of("a", &[]),
        [describe(b'S', "b"), sync()].concat(),
        [
            bind("p", "b", &["1"]),
            describe(b'P', "p"),
            execute("p", 0),
            sync(),
        ]
        .concat(),
        // Many in one batch, one name twice.
        [
            parse("c", "SELECT 'c'"),
            bind("", "a", &[]),
            execute("", 0),
            bind("", "c", &[]),
            execute("", 0),
            close(b'S', "c"),
            parse("c", "SELECT 'new c'"),
            bind("", "c", &[]),
            execute("", 0),
            sync(),
        ]
        .concat(),
        use_of("c", &[]),
        [close(b'S', "c"), close(b'S', "never"), sync()].concat(),
        use_of("c", &[]),
        use_of("a", &[]),
    ];
    for limit in ["256", "2", "1"] {
        keeping(limit).await.same_as_direct(&batches).await;
    }
}

#[tokio::test]
async fn errors_speak_of_the_clients_names() {
    let batches = [
        prepare("a", "SELECT $1::int"),
        // 42P05: the name is taken. The text is looked at first.
        prepare("a", "SELECT 2"),
        prepare("a", "SELEKT"),
        use_of("a", &["7"]),
        // 08P01: the statement's name is in the message.
        use_of("a", &[]),
        use_of("a", &["1", "2"]),
        // Two names of one text.
        prepare("twin", "SELECT $1::int"),
        use_of("twin", &[]),
        use_of("a", &[]),
        // Both before an answer.
        [use_of("twin", &[]), use_of("a", &["1"])].concat(),
        [use_of("a", &["1"]), use_of("twin", &[]), use_of("a", &[])].concat(),
        // 26000
        use_of("nobody", &[]),
        [describe(b'S', "nobody"), sync()].concat(),
        // What was skipped did not happen.
        [
            bind("", "a", &["x"]),
            close(b'S', "a"),
            parse("b", "SELECT 1"),
            sync(),
        ]
        .concat(),
        use_of("a", &["8"]),
        use_of("b", &[]),
        [parse("b", "SELEKT"), parse("b", "SELECT 'b'"), sync()].concat(),
        use_of("b", &[]),
        [
            close(b'S', "a"),
            parse("a", "SELECT 'a'"),
            parse("b", "SELEKT"),
            sync(),
        ]
        .concat(),
        use_of("a", &[]),
    ];
    for limit in ["256", "1"] {
        keeping(limit).await.same_as_direct(&batches).await;
    }
}

#[tokio::test]
async fn transactions_that_fail_take_no_names_with_them() {
    let batches = [
        prepare("a", "SELECT 'a'"),
        prepare("end", "ROLLBACK"),
        query("BEGIN"),
        use_of("a", &[]),
        prepare("b", "SELECT 'b'"),
        query("SELECT 1/0"),
        use_of("a", &[]),
        prepare("c", "SELECT 'c'"),
        [close(b'S', "b"), sync()].concat(),
        [describe(b'S', "a"), sync()].concat(),
        use_of("end", &[]),
        // Statements outlive the transaction that made them, whatever becomes of it.
        use_of("a", &[]),
        use_of("b", &[]),
        use_of("c", &[]),
        query("BEGIN; SELECT 1/0"),
        use_of("end", &[]),
    ];
    for limit in ["256", "1"] {
        keeping(limit).await.same_as_direct(&batches).await;
    }
}

#[tokio::test]
async fn a_pipeline_of_several_batches() {
    let batches = [
        [
            prepare("a", "SELECT 'a'"),
            use_of("a", &[]),
            prepare("a", "SELECT 'second a'"),
            use_of("a", &[]),
            [close(b'S', "a"), sync()].concat(),
            prepare("a", "SELECT 'third a'"),
            use_of("a", &[]),
        ]
        .concat(),
        [
            use_of("a", &[]),
            prepare("b", "SELEKT"),
            use_of("b", &[]),
            prepare("b", "SELECT 'b'"),
            query("SELECT 'in between'"),
            use_of("b", &[]),
            use_of("a", &[]),
        ]
        .concat(),
    ];
    for limit in ["256", "1"] {
        keeping(limit).await.same_as_direct(&batches).await;
    }
}

#[tokio::test]
async fn statements_dropped_by_sql() {
    let batches = [
        prepare("a", "SELECT 'a'"),
        prepare("b b", "SELECT 'b'"),
        query("DEALLOCATE a"),
        use_of("a", &[]),
        query("DEALLOCATE a"),
        use_of("b b", &[]),
        [
            parse("", "deallocate prepare \"b b\";"),
            bind("", "", &[]),
            execute("", 0),
            sync(),
        ]
        .concat(),
        use_of("b b", &[]),
        prepare("a", "SELECT 'a'"),
        query("BEGIN; SELECT 1/0"),
        query("DEALLOCATE a"),
        query("ROLLBACK"),
        use_of("a", &[]),
        prepare("b", "SELECT 'b'"),
        query("DEALLOCATE ALL"),
        use_of("a", &[]),
        use_of("b", &[]),
        prepare("a", "SELECT 'a'"),
        use_of("a", &[]),
    ];
    for limit in ["256", "1"] {
        keeping(limit).await.same_as_direct(&batches).await;
    }
}

#[tokio::test]
async fn a_change_of_schema_is_seen_as_on_a_direct_connection() {
    for limit in ["256", "1"] {
        let batches = [
            query("CREATE TABLE cached (id int, name text); INSERT INTO cached VALUES (1, 'x')"),
            prepare("a", "SELECT * FROM cached WHERE id = $1"),
            use_of("a", &["1"]),
            query("ALTER TABLE cached ADD more int"),
            // 0A000: the plan's result type changed; and again, until it is prepared anew.
            use_of("a", &["1"]),
            [describe(b'S', "a"), sync()].concat(),
            use_of("a", &["1"]),
            [
                close(b'S', "a"),
                parse("a", "SELECT * FROM cached WHERE id = $1"),
                sync(),
            ]
            .concat(),
            use_of("a", &["1"]),
            query("ALTER TABLE cached DROP more"),
            query("BEGIN"),
            use_of("a", &["1"]),
            query("SELECT 1"),
            query("ROLLBACK"),
            query("DROP TABLE cached"),
            use_of("a", &["1"]),
        ];
        // DDL keeps its server in this version, so it is given by somebody else.
        let bench = keeping(limit).await;
        let mut direct = Raw::login(bench.direct_address(), &bench.twin.name).await;
        let mut elsewhere = bench.direct().await;
        let (mut one, mut other) = (bench.pooled().await, bench.pooled().await);
        other.ask(&prepare("x", "SELECT 'x'")).await;
        let mut in_transaction = false;
        for (at, batch) in batches.iter().enumerate() {
            if !in_transaction {
                assert_eq!(tags(&other.ask(&use_of("x", &[])).await), "2DCZ");
            }
            let expected = direct.ask(batch).await;
            let ddl = tags(&expected).starts_with('C') && expected.len() <= 3 && {
                let text = String::from_utf8_lossy(&expected[0].body).into_owned();
                ["CREATE", "ALTER", "DROP"]
                    .iter()
                    .any(|word| text.starts_with(word))
            };
            let answer = if ddl {
                elsewhere.ask(batch).await
            } else {
                one.ask(batch).await
            };
            let masked = |answer: &[Message]| {
                // A RowDescription holds the table's OID.
                seen(answer)
                    .into_iter()
                    .filter(|line| !line.starts_with('T'))
                    .collect::<Vec<_>>()
            };
            assert_eq!(masked(&answer), masked(&expected), "batch {at}");
            in_transaction = answer.last().expect("ReadyForQuery").body != b"I";
        }
    }
}

#[tokio::test]
async fn a_client_that_prepares_after_a_change_never_hears_of_others_plans() {
    let bench = Bench::new().await;
    let mut direct = bench.direct().await;
    direct.rows("CREATE TABLE shared (id int)").await;
    direct.rows("INSERT INTO shared VALUES (1)").await;
    let (mut old, mut new) = (bench.pooled().await, bench.pooled().await);
    old.ask(&prepare("s", "SELECT * FROM shared")).await;
    assert_eq!(tags(&old.ask(&use_of("s", &[])).await), "2DCZ");
    direct.rows("ALTER TABLE shared ADD more int").await;
    assert_eq!(
        tags(&new.ask(&prepare("s", "SELECT * FROM shared")).await),
        "1Z"
    );
    for _ in 0..3 {
        let answer = new.ask(&use_of("s", &[])).await;
        assert_eq!(tags(&answer), "2DCZ", "{answer:?}");
        let refused = old.ask(&use_of("s", &[])).await;
        assert_eq!(refused[0].code(), "0A000", "{refused:?}");
    }
}

#[tokio::test]
async fn a_statement_is_prepared_once_a_server_however_many_use_it() {
    let bench = keeping("3").await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = bench.pooled().await;
        for (name, text) in [("a", "SELECT 'a'"), ("b", "SELECT $1::text")] {
            assert_eq!(tags(&client.ask(&prepare(name, text)).await), "1Z");
        }
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(tags(&client.ask(&use_of("a", &[])).await), "2DCZ");
        assert_eq!(tags(&client.ask(&use_of("b", &["x"])).await), "2DCZ");
    }
    // Closing what is not needed any more comes with the next message about a name.
    let close_one = [close(b'S', "a"), sync()].concat();
    assert_eq!(tags(&clients[3].ask(&close_one).await), "3Z");
    let count = "SELECT count(*) FROM pg_prepared_statements";
    assert_eq!(clients[0].value(count).await, "2");
    // A hundred distinct ones pass through the three places, and all of them work.
    for round in 0..2 {
        for at in 0..100 {
            let name = format!("s{at}");
            if round == 0 {
                clients[1]
                    .ask(&prepare(&name, &format!("SELECT {at}")))
                    .await;
            }
            let answer = clients[1].ask(&use_of(&name, &[])).await;
            assert_eq!(answer[1].row(), [at.to_string()]);
        }
    }
    let left: u32 = clients[2].value(count).await.parse().expect("a count");
    assert!((1..=4).contains(&left), "{left}");
}

#[tokio::test]
async fn a_flush_is_answered_before_the_sync() {
    // asyncpg asks so: Parse, Describe, Flush, and waits.
    let bench = Bench::new().await;
    let (mut one, mut two) = (bench.pooled().await, bench.pooled().await);
    for (client, text) in [(&mut one, "SELECT $1::int"), (&mut two, "SELECT $1::text")] {
        client
            .send(&[parse("s", text), describe(b'S', "s"), flush()].concat())
            .await;
        assert_eq!(tags(&client.until('T').await), "1tT");
        assert_eq!(tags(&client.ask(&sync()).await), "Z");
    }
    for (client, value) in [(&mut one, "5"), (&mut two, "five")] {
        client
            .send(&[bind("", "s", &[value]), execute("", 0), flush()].concat())
            .await;
        assert_eq!(tags(&client.until('C').await), "2DC");
        assert_eq!(tags(&client.ask(&sync()).await), "Z");
    }
}

#[tokio::test]
async fn long_binds_and_long_descriptions_pass() {
    let bench = keeping("1").await;
    let (mut one, mut other) = (bench.pooled().await, bench.pooled().await);
    let columns: Vec<_> = (0..1_600)
        .map(|at| format!("{at} AS a_rather_long_name_for_a_column_{at}"))
        .collect();
    let wide = format!("SELECT $1::text, $2::int, {}", columns[..1_500].join(", "));
    assert!(wide.len() > 32 * 1024, "more than a buffer");
    let narrow = format!(
        "SELECT length($1::text), x.* FROM (VALUES (1)) AS v, LATERAL (SELECT {}) AS x",
        (0..1_500)
            .map(|at| format!("1 a{at}"))
            .collect::<Vec<_>>()
            .join(",")
    );
    assert!(narrow.len() < 32 * 1024);
    assert_eq!(tags(&one.ask(&prepare("n", &narrow)).await), "1Z");
    let long = "x".repeat(3_000_000);
    for _ in 0..2 {
        assert_eq!(tags(&other.ask(&prepare("o", "SELECT 1")).await), "1Z");
        other.ask(&[close(b'S', "o"), sync()].concat()).await;
        let answer = one.ask_while_reading(&use_of("n", &[&long])).await;
        assert_eq!(tags(&answer), "2DCZ");
        assert_eq!(answer[1].row()[0], "3000000");
    }
    assert_eq!(bench.pinned().await, 0.0);
    // A text that does not fit into a buffer keeps its server.
    assert_eq!(
        tags(&one.ask_while_reading(&prepare("w", &wide)).await),
        "1Z"
    );
    assert_eq!(bench.pinned().await, 1.0);
    assert_eq!(tags(&one.ask(&use_of("w", &["x", "1"])).await), "2DCZ");
    assert_eq!(
        tags(&one.ask(&[close(b'S', "w"), sync()].concat()).await),
        "3Z"
    );
    assert_eq!(bench.pinned().await, 0.0);
    assert_eq!(tags(&other.ask(&query("SELECT 1")).await), "TDCZ");
}

#[tokio::test]
async fn a_client_that_vanishes_between_parse_and_sync_leaves_a_clean_server() {
    let bench = Bench::new().await;
    for bytes in [
        [parse("s", "SELECT 1"), flush()].concat(),
        [
            parse("s", "SELECT pg_sleep(30)"),
            flush(),
            bind("", "s", &[]),
            execute("", 0),
            sync(),
        ]
        .concat(),
        [parse("s", "SELECT 1"), sync(), bind("", "s", &[]), flush()].concat(),
    ] {
        let mut gone = bench.pooled().await;
        gone.send(&bytes).await;
        assert_eq!(gone.next().await.expect("ParseComplete").tag, '1');
        drop(gone);
        bench.settled().await;
        let mut next = bench.pooled().await;
        assert_eq!(tags(&next.ask(&prepare("s", "SELECT 2")).await), "1Z");
        assert_eq!(next.ask(&use_of("s", &[])).await[1].row(), ["2"]);
    }
}

#[tokio::test]
async fn malformed_messages_about_names_are_refused_as_by_postgresql() {
    let malformed = [
        message(b'P', b"s\0SELECT 1"),
        message(b'P', b"s\0SELECT 1\0\0"),
        message(b'P', b"s\0SELECT 1\0\0\x02\0\0\0\x17"),
        message(b'B', b"\0s"),
        message(b'D', b"S"),
        message(b'C', b"Ss"),
    ];
    for bad in malformed {
        let bench = Bench::new().await;
        let mut direct = Raw::login(bench.direct_address(), &bench.twin.name).await;
        let mut pooled = bench.pooled().await;
        let bytes = [bad.clone(), sync()].concat();
        let expected = tokio::time::timeout(Duration::from_secs(20), direct.ask(&bytes))
            .await
            .expect("an answer");
        let answer = pooled.ask(&bytes).await;
        assert_eq!(seen(&answer), seen(&expected), "{bad:?}");
        let mut next = bench.pooled().await;
        assert_eq!(next.value("SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn statements_are_prepared_within_a_transaction_that_a_statement_began() {
    let batches = [
        prepare("begin", "BEGIN"),
        use_of("begin", &[]),
        prepare("a", "SELECT 'a'"),
        use_of("a", &[]),
        prepare("end", "COMMIT"),
        use_of("end", &[]),
        use_of("begin", &[]),
        prepare("b", "SELECT 'b'"),
        use_of("b", &[]),
        use_of("end", &[]),
    ];
    for limit in ["256", "1"] {
        keeping(limit).await.same_as_direct(&batches).await;
    }
}

#[tokio::test]
async fn statements_that_the_server_lacks_are_refused_in_a_failed_transaction_as_any() {
    let batches = [
        prepare("a", "SELECT $1::int, $2::text"),
        prepare("b", "DROP TABLE IF EXISTS nothing"),
        prepare("end", "ROLLBACK"),
        query("BEGIN; SELECT 1/0"),
        use_of("a", &["1", "x"]),
        // Too few parameters are found first.
        use_of("a", &["1"]),
        [describe(b'S', "b"), sync()].concat(),
        use_of("b", &[]),
        use_of("end", &[]),
        use_of("a", &["1", "x"]),
        // The same, where the failure is not answered yet.
        [
            query("BEGIN; SELECT 1/0"),
            use_of("a", &["1"]),
            use_of("end", &[]),
        ]
        .concat(),
    ];
    for limit in ["256", "1"] {
        keeping(limit).await.same_as_direct(&batches).await;
    }
}
