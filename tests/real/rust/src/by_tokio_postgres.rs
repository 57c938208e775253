//! tokio-postgres: every query with parameters is a named statement, and what is sent at once is pipelined.

use std::future::Future;
use std::io::Cursor;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, SimpleQueryMessage};

use crate::{Result, TABLES, clients, note, striking, variable};

async fn connect() -> Result<Client> {
    let (client, connection) = config().connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .host(variable("PGHOST"))
        .port(variable("PGPORT").parse().expect("a port"))
        .user(variable("PGUSER"))
        .password(variable("PGPASSWORD"))
        .dbname(variable("PGDATABASE"));
    config
}

fn state(error: &Error) -> Value {
    match error.as_db_error() {
        // Its message has the statement's name, a number that counts all of this process.
        Some(told) if told.code().code() == "26000" => json!("26000"),
        Some(told) => json!([told.code().code(), told.message()]),
        None => json!(error.to_string()),
    }
}

fn outcome<T>(result: std::result::Result<T, Error>) -> Value {
    result.map_or_else(|error| state(&error), |_| json!("no error"))
}

async fn work(me: i32) -> Result<Vec<Value>> {
    let mut client = connect().await?;
    let mut seen = Vec::new();
    let insert = client
        .prepare("INSERT INTO item VALUES ($1, $2, $3, $4, $5, $6, 'ok')")
        .await?;
    let own = client.prepare(&format!("SELECT $1::int * {me}")).await?;
    for turn in 0..12 {
        let key = me * 1000 + turn;
        let mut transaction = client.transaction().await?;
        let (name, tags) = (format!("name {key}"), vec![Some("a"), None]);
        let raw = vec![0_u8; usize::try_from(turn)?];
        let body = json!({ "key": key });
        transaction
            .execute(&insert, &[&key, &me, &name, &tags, &body, &raw])
            .await?;
        let savepoint = transaction.savepoint("s").await?;
        let step = turn / 2;
        let logged = savepoint
            .execute("INSERT INTO log VALUES ($1, $2)", &[&me, &step])
            .await;
        seen.push(outcome(logged));
        savepoint.rollback().await?;
        let steps: Vec<i32> = vec![100 + turn, 100 + turn - turn % 3];
        for step in steps {
            let savepoint = transaction.savepoint("t").await?;
            let logged = savepoint
                .execute("INSERT INTO log VALUES ($1, $2)", &[&me, &step])
                .await;
            let fine = logged.is_ok();
            seen.push(outcome(logged));
            if fine {
                savepoint.commit().await?;
            } else {
                savepoint.rollback().await?;
            }
        }
        if turn % 4 == 3 {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
        let row = client
            .query_opt(
                "SELECT name, tags, body, raw, mood::text FROM item WHERE id = $1",
                &[&key],
            )
            .await?;
        seen.push(row.map_or(Value::Null, |row| {
            json!([
                row.get::<_, String>(0),
                row.get::<_, Vec<Option<String>>>(1),
                row.get::<_, Value>(2),
                row.get::<_, Vec<u8>>(3),
                row.get::<_, String>(4)
            ])
        }));
        // Several requests at once, each with a Sync of its own, one of them failing.
        let divisors = [turn - 5, turn - 6, 1];
        let divided = divisors.iter().map(|divisor| async {
            let row = client.query_one("SELECT 60 / $1::int", &[divisor]).await;
            row.map_or_else(|error| state(&error), |row| json!(row.get::<_, i32>(0)))
        });
        seen.push(json!(join_all(divided).await));
        let products = (0..8).map(|number| {
            let (client, own) = (&client, &own);
            async move { client.query_one(own, &[&(turn * number)]).await }
        });
        let products = try_join_all(products).await?;
        seen.push(json!(
            products
                .iter()
                .map(|row| row.get::<_, i32>(0))
                .collect::<Vec<_>>()
        ));
        // Prepared and closed in every turn.
        let brief = client.prepare(&format!("SELECT {turn} + {me}")).await?;
        seen.push(json!(client.query_one(&brief, &[]).await?.get::<_, i32>(0)));
    }
    portals_and_copies(&mut client, me, &mut seen).await?;
    Ok(seen)
}

async fn portals_and_copies(client: &mut Client, me: i32, seen: &mut Vec<Value>) -> Result<()> {
    let transaction = client.transaction().await?;
    let (first, second) = (
        transaction
            .bind("SELECT n FROM generate_series(1, $1) n", &[&50_i32])
            .await?,
        transaction
            .bind("SELECT n FROM generate_series(1, $1) n", &[&70_i32])
            .await?,
    );
    let mut counts = Vec::new();
    for rows in [20, 20, 20, 20] {
        counts.push(transaction.query_portal(&first, rows).await?.len());
        counts.push(transaction.query_portal(&second, rows).await?.len());
    }
    seen.push(json!(counts));
    transaction.commit().await?;
    let mut sink = pin!(
        client
            .copy_in::<_, Cursor<Vec<u8>>>("COPY log FROM STDIN")
            .await?
    );
    for step in 300..700 {
        sink.feed(Cursor::new(format!("{me}\t{step}\n").into_bytes()))
            .await?;
    }
    seen.push(json!(sink.finish().await?));
    {
        // Dropped half-way: the driver sends CopyFail.
        let mut sink = pin!(
            client
                .copy_in::<_, Cursor<Vec<u8>>>("COPY log FROM STDIN")
                .await?
        );
        sink.send(Cursor::new(b"1\t999\n".to_vec())).await?;
    }
    let copied = client
        .copy_out("COPY (SELECT repeat('c', 1000) FROM generate_series(1, 500)) TO STDOUT")
        .await?;
    let copied: Vec<_> = copied.try_collect().await?;
    seen.push(json!(copied.iter().map(|piece| piece.len()).sum::<usize>()));
    let row = client
        .query_one(
            "SELECT count(*), sum(step) FROM log WHERE owner = $1",
            &[&me],
        )
        .await?;
    seen.push(json!([row.get::<_, i64>(0), row.get::<_, i64>(1)]));
    let big: String = client
        .query_one("SELECT repeat('t', $1)", &[&2_000_000_i32])
        .await?
        .get(0);
    seen.push(json!(big.len()));
    // Futures dropped after a few polls: their replies still come and must not be taken for others'.
    for polls in 0..6 {
        {
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&me];
            let mut asked =
                pin!(client.query("SELECT n, $1::int FROM generate_series(1, 100) n", &values));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if let Poll::Ready(rows) = asked.as_mut().poll(&mut context) {
                    rows?;
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        seen.push(json!(
            client
                .query_one("SELECT $1::int", &[&polls])
                .await?
                .get::<_, i32>(0)
        ));
    }
    // A transaction that is forgotten is rolled back by the driver.
    let forgotten = client.transaction().await?;
    forgotten
        .execute("DELETE FROM log WHERE owner = $1", &[&me])
        .await?;
    drop(forgotten);
    let row = client
        .query_one("SELECT count(*) FROM log WHERE owner = $1", &[&me])
        .await?;
    seen.push(json!(row.get::<_, i64>(0)));
    Ok(())
}

async fn changed_beneath(first: &Client, second: &Client) -> Result<()> {
    first
        .batch_execute("CREATE TABLE shape (a integer); INSERT INTO shape VALUES (1)")
        .await?;
    let reads = [
        first.prepare("SELECT * FROM shape").await?,
        second.prepare("SELECT * FROM shape").await?,
    ];
    let ask = |place: usize| {
        let (client, read) = ([first, second][place], &reads[place]);
        async move {
            let rows = client.query(read, &[]).await;
            rows.map_or_else(
                |error| state(&error),
                |rows| json!([rows.len(), rows[0].len()]),
            )
        }
    };
    note("before", vec![ask(0).await, ask(1).await]);
    first
        .batch_execute("ALTER TABLE shape ADD COLUMN b integer DEFAULT 2")
        .await?;
    note(
        "a column more",
        vec![ask(1).await, ask(0).await, ask(1).await],
    );
    first.batch_execute("DEALLOCATE ALL").await?;
    note("deallocated", vec![ask(0).await, ask(1).await]);
    let anew = first.prepare("SELECT * FROM shape").await?;
    note("anew", first.query_one(&anew, &[]).await?.len());
    Ok(())
}

async fn interrupted(other: &Client) -> Result<()> {
    let victim = connect().await?;
    for _ in 0..3 {
        let cancel = async {
            until_struck(other, "abs", "to be cancelled").await?;
            Ok::<_, crate::Result<()>>(victim.cancel_token().cancel_query(NoTls).await)
        };
        let (slept, cancelled) = tokio::join!(
            victim.batch_execute("SELECT pg_sleep(60), 'to be cancelled'"),
            cancel
        );
        cancelled.map_err(|error| format!("{error:?}"))??;
        note("cancelled", outcome(slept));
        note(
            "goes on",
            victim.query_one("SELECT 1", &[]).await?.get::<_, i32>(0),
        );
    }
    let (slept, struck) = tokio::join!(
        victim.query("SELECT pg_sleep($1), 'to be terminated'", &[&60.0_f64]),
        until_struck(other, "pg_terminate_backend", "to be terminated")
    );
    struck.map_err(|error| format!("{error:?}"))?;
    note("terminated", outcome(slept));
    let (gone, connection) = config().connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    gone.batch_execute(
        "BEGIN; INSERT INTO log VALUES (0, 1); LOCK TABLE item IN ACCESS EXCLUSIVE MODE",
    )
    .await?;
    // Without a Terminate.
    connection.abort();
    note(
        "the lock is free",
        other
            .query_one("SELECT count(*) FROM item", &[])
            .await?
            .get::<_, i64>(0),
    );
    note(
        "rolled back",
        other
            .query("SELECT * FROM log WHERE owner = 0", &[])
            .await?
            .len(),
    );
    Ok(())
}

async fn until_struck(
    other: &Client,
    action: &str,
    mark: &str,
) -> std::result::Result<(), crate::Result<()>> {
    loop {
        let found = other
            .simple_query(&striking(action, mark))
            .await
            .map_err(|error| Err(error.into()))?;
        let count = found.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        if count.is_some_and(|count| count != "0") {
            return Ok(());
        }
    }
}

async fn listening(other: &Client) -> Result<()> {
    let (listener, mut connection) = config().connect(NoTls).await?;
    let (heard, mut told) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let mut messages = pin!(futures_util::stream::poll_fn(
            |context| connection.poll_message(context)
        ));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(news) = message {
                let _ = heard
                    .send(format!("{}: {}", news.channel(), news.payload()))
                    .await;
            }
        }
    });
    listener.batch_execute("LISTEN news").await?;
    for number in 0..5 {
        other
            .query(
                "SELECT pg_notify('news', $1)",
                &[&format!("number {number}")],
            )
            .await?;
    }
    let mut all = Vec::new();
    while all.len() < 5 {
        all.push(told.recv().await.ok_or("the listener's connection ended")?);
    }
    note("heard", all);
    listener.batch_execute("UNLISTEN news").await?;
    Ok(())
}

pub async fn run() -> Result<()> {
    let first = connect().await?;
    first.batch_execute(TABLES).await?;
    let all = try_join_all((1..=clients()).map(work)).await?;
    for (number, seen) in all.into_iter().enumerate() {
        note(&format!("client {}", number + 1), seen);
    }
    let second = connect().await?;
    changed_beneath(&first, &second).await?;
    interrupted(&second).await?;
    listening(&second).await
}
