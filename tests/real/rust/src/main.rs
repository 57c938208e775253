//! Rust's PostgreSQL drivers as an application uses them. Connects where libpq's variables say; prints what it saw, a JSON pair a
//! line.

mod by_sqlx;
mod by_tokio_postgres;
mod migrations;

use std::error::Error;

use serde_json::{Value, json};

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

pub const TABLES: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE item (id integer PRIMARY KEY, owner integer NOT NULL, name text, tags text[], body jsonb, raw bytea, mood mood);
    CREATE TABLE log (owner integer, step integer, UNIQUE (owner, step));";

/// Whether `action` found the query with this mark asleep. One that is merely active may be in its Parse, and an action there
/// strikes before there is anything to interrupt.
pub fn striking(action: &str, mark: &str) -> String {
    format!(
        "SELECT count({action}(pid)) FROM pg_stat_activity
         WHERE query LIKE '%{mark}%' AND wait_event = 'PgSleep' AND datname = current_database()"
    )
}

pub fn note(label: &str, value: impl Into<Value>) {
    println!("{}", json!([label, value.into()]));
}

pub fn clients() -> i32 {
    variable("CLIENTS").parse().expect("a number of clients")
}

pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("sqlx") => by_sqlx::run().await,
        Some("tokio-postgres") => by_tokio_postgres::run().await,
        Some("migrate") => migrations::run().await,
        other => Err(format!("sqlx, tokio-postgres or migrate, not {other:?}").into()),
    }
}
