//! sqlx: its own pool, and a hundred named statements kept for each connection.

use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use sqlx::postgres::{
    PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions, PgSslMode,
};
use sqlx::types::Json;
use sqlx::{Acquire, AssertSqlSafe, ConnectOptions, Connection, Error, Executor, Row};

use crate::{Result, TABLES, clients, note, striking, variable};

fn options() -> PgConnectOptions {
    PgConnectOptions::new()
        .host(&variable("PGHOST"))
        .port(variable("PGPORT").parse().expect("a port"))
        .username(&variable("PGUSER"))
        .password(&variable("PGPASSWORD"))
        .database(&variable("PGDATABASE"))
        .ssl_mode(PgSslMode::Disable)
        .disable_statement_logging()
}

fn state(error: &Error) -> Value {
    match error.as_database_error() {
        Some(told) => json!([told.code(), told.message(), told.constraint()]),
        None => json!(error.to_string()),
    }
}

fn outcome<T>(result: std::result::Result<T, Error>) -> Value {
    result.map_or_else(|error| state(&error), |_| json!("no error"))
}

/// One connection's work, the same statements over many short transactions.
async fn work(pool: &PgPool, me: i32) -> Result<Vec<Value>> {
    let mut seen = Vec::new();
    for turn in 0..12_i32 {
        let mut connection = pool.acquire().await?;
        let key = me * 1000 + turn;
        let mut transaction = connection.begin().await?;
        sqlx::query("INSERT INTO item VALUES ($1, $2, $3, $4, $5, $6, 'ok')")
            .bind(key)
            .bind(me)
            .bind(format!("name {key}"))
            .bind(vec![Some("a"), None])
            .bind(Json(json!({ "key": key })))
            .bind(vec![7_u8; usize::try_from(turn)?])
            .execute(&mut *transaction)
            .await?;
        let mut savepoint = transaction.begin().await?;
        let logged = sqlx::query("INSERT INTO log VALUES ($1, $2)")
            .bind(me)
            .bind(turn / 2)
            .execute(&mut *savepoint)
            .await;
        let fine = logged.is_ok();
        seen.push(outcome(logged));
        if fine {
            savepoint.commit().await?;
        } else {
            savepoint.rollback().await?;
        }
        match turn % 4 {
            0 => transaction.rollback().await?,
            // Forgotten: sqlx rolls it back when the connection is used next.
            1 => drop(transaction),
            _ => transaction.commit().await?,
        }
        let row = sqlx::query("SELECT name, tags, body, raw, mood::text FROM item WHERE id = $1")
            .bind(key)
            .fetch_optional(&mut *connection)
            .await?;
        seen.push(row.map_or(Value::Null, |row| {
            json!([
                row.get::<String, _>(0),
                row.get::<Vec<Option<String>>, _>(1),
                row.get::<Json<Value>, _>(2).0,
                row.get::<Vec<u8>, _>(3),
                row.get::<String, _>(4)
            ])
        }));
        let divided = sqlx::query_scalar::<_, i32>("SELECT 60 / $1::int")
            .bind(turn - 6)
            .fetch_one(&mut *connection)
            .await;
        seen.push(divided.map_or_else(|error| state(&error), Value::from));
        // A text of this client and turn alone: more of them than a connection keeps, all in all.
        let own =
            sqlx::query_scalar::<_, i32>(AssertSqlSafe(format!("SELECT $1::int * {me} + {turn}")));
        seen.push(json!(own.bind(turn).fetch_one(&mut *connection).await?));
        drop(connection);
        // Straight on the pool, on whichever connection it has.
        let counted = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM item WHERE owner = $1");
        seen.push(json!(counted.bind(me).fetch_one(pool).await?));
    }
    let mut connection = pool.acquire().await?;
    // A stream left early: the rest is read and thrown away when the connection is used next.
    {
        let mut rows = sqlx::query("SELECT n FROM generate_series(1, $1) n")
            .bind(50_000_i32)
            .fetch(&mut *connection);
        let mut sum = 0;
        while let Some(row) = rows.try_next().await? {
            sum += row.get::<i32, _>(0);
            if sum > 100 {
                break;
            }
        }
        seen.push(json!(sum));
    }
    let mut copy = connection.copy_in_raw("COPY log FROM STDIN").await?;
    let lines: String = (300..700).map(|step| format!("{me}\t{step}\n")).collect();
    copy.send(lines.as_bytes()).await?;
    seen.push(json!(copy.finish().await?));
    let mut copy = connection.copy_in_raw("COPY log FROM STDIN").await?;
    copy.send(format!("{me}\t300\n").as_bytes()).await?;
    seen.push(outcome(copy.finish().await));
    let copied: Vec<_> = connection
        .copy_out_raw("COPY (SELECT repeat('c', 1000) FROM generate_series(1, 500)) TO STDOUT")
        .await?
        .try_collect()
        .await?;
    seen.push(json!(copied.iter().map(|piece| piece.len()).sum::<usize>()));
    let big: String = sqlx::query_scalar("SELECT repeat('s', $1)")
        .bind(2_000_000_i32)
        .fetch_one(&mut *connection)
        .await?;
    seen.push(json!(big.len()));
    let row = sqlx::query("SELECT count(*), sum(step) FROM log WHERE owner = $1")
        .bind(me)
        .fetch_one(&mut *connection)
        .await?;
    seen.push(json!([row.get::<i64, _>(0), row.get::<i64, _>(1)]));
    Ok(seen)
}

async fn changed_beneath() -> Result<()> {
    let (mut first, mut second) = (options().connect().await?, options().connect().await?);
    first
        .execute("CREATE TABLE shape (a integer); INSERT INTO shape VALUES (1)")
        .await?;
    async fn ask(connection: &mut PgConnection) -> Value {
        let rows = sqlx::query("SELECT * FROM shape")
            .fetch_all(connection)
            .await;
        rows.map_or_else(
            |error| state(&error),
            |rows| json!([rows.len(), rows[0].len()]),
        )
    }
    note(
        "before",
        vec![ask(&mut first).await, ask(&mut second).await],
    );
    first
        .execute("ALTER TABLE shape ADD COLUMN b integer DEFAULT 2")
        .await?;
    for _ in 0..2 {
        note(
            "a column more",
            vec![ask(&mut second).await, ask(&mut first).await],
        );
    }
    first.clear_cached_statements().await?;
    note("cleared", ask(&mut first).await);
    first.close().await?;
    second.close().await?;
    Ok(())
}

async fn interrupted(pool: &PgPool) -> Result<()> {
    let mut victim = options().connect().await?;
    for (action, mark) in [
        ("pg_cancel_backend", "to be cancelled"),
        ("pg_terminate_backend", "to be terminated"),
    ] {
        let text = format!("SELECT pg_sleep($1), '{mark}'");
        let (slept, struck) = tokio::join!(
            sqlx::query(AssertSqlSafe(text))
                .bind(60.0_f64)
                .execute(&mut victim),
            async {
                while sqlx::raw_sql(AssertSqlSafe(striking(action, mark)))
                    .fetch_one(pool)
                    .await?
                    .get::<i64, _>(0)
                    == 0
                {}
                Ok::<_, Error>(())
            }
        );
        struck?;
        note(mark, outcome(slept));
        if mark == "to be cancelled" {
            note(
                "goes on",
                sqlx::query_scalar::<_, i32>("SELECT 1")
                    .fetch_one(&mut victim)
                    .await?,
            );
        }
    }
    let mut gone = options().connect().await?;
    gone.execute("BEGIN; INSERT INTO log VALUES (0, 1); LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
        .await?;
    // Its socket is closed without a Terminate.
    drop(gone);
    note(
        "the lock is free",
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM item")
            .fetch_one(pool)
            .await?,
    );
    note(
        "rolled back",
        sqlx::query("SELECT * FROM log WHERE owner = 0")
            .fetch_all(pool)
            .await?
            .len(),
    );
    Ok(())
}

async fn listening(pool: &PgPool) -> Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen_all(["news", "weather"]).await?;
    for number in 0..5 {
        sqlx::query("SELECT pg_notify('news', $1)")
            .bind(format!("number {number}"))
            .execute(pool)
            .await?;
    }
    let mut heard = Vec::new();
    while heard.len() < 5 {
        let news = tokio::time::timeout(Duration::from_secs(20), listener.recv()).await??;
        heard.push(format!("{}: {}", news.channel(), news.payload()));
    }
    note("heard", heard);
    listener.unlisten_all().await?;
    Ok(())
}

pub async fn run() -> Result<()> {
    let pool = PgPoolOptions::new()
        .max_connections(u32::try_from(clients())? - 2)
        .acquire_timeout(Duration::from_secs(30))
        .connect_with(options())
        .await?;
    pool.execute(TABLES).await?;
    let all = try_join_all((1..=clients()).map(|me| work(&pool, me))).await?;
    for (number, seen) in all.into_iter().enumerate() {
        note(&format!("client {}", number + 1), seen);
    }
    changed_beneath().await?;
    interrupted(&pool).await?;
    listening(&pool).await?;
    pool.close().await;
    Ok(())
}
