//! What each command does, and what it says when it cannot.

use std::time::Duration;

use tokio_postgres::NoTls;

use super::{Guarded, LIMIT, done, refused, row, try_connect};
use crate::support::eventually;

/// Where the sessions of a database are in PostgreSQL, but for the one that asks.
const BACKENDS: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'control'";

#[tokio::test]
async fn a_pause_waits_for_transactions_and_those_who_come_wait_for_its_end() {
    let guarded = Guarded::start().await;
    let (admin, other) = (guarded.admin().await, guarded.admin().await);
    let client = guarded.sidecar.connect().await;
    client
        .batch_execute("BEGIN; SELECT 1")
        .await
        .expect("BEGIN");
    let database = guarded.database.name.clone();
    let command = format!("PAUSE {database}");
    let paused = tokio::spawn(async move { done(&admin, &command).await });
    eventually(LIMIT, || async {
        let databases = done(&other, "SHOW DATABASES").await;
        row(&databases, "name", &guarded.database.name)["paused"] == "1"
    })
    .await;
    // In the transaction everything goes on.
    client.batch_execute("SELECT 2").await.expect("an answer");
    assert!(!paused.is_finished());
    client.batch_execute("COMMIT").await.expect("COMMIT");
    paused.await.expect("PAUSE is answered");
    let servers = done(&other, "SHOW SERVERS").await;
    assert!(servers.is_empty(), "{servers:?}");

    let waiting = tokio::spawn(async move { client.batch_execute("SELECT 3").await });
    eventually(LIMIT, || async {
        let pools = done(&other, "SHOW POOLS").await;
        row(&pools, "database", &database)["cl_waiting"] == "1"
    })
    .await;
    assert_eq!(
        refused(&other, &format!("PAUSE {database}")).await.0,
        "55000"
    );
    done(&other, &format!("RESUME {database}")).await;
    waiting
        .await
        .expect("no panic")
        .expect("an answer after RESUME");
    let again = refused(&other, &format!("RESUME {database}")).await;
    assert_eq!(
        again,
        (
            "55000".to_owned(),
            format!("database {database} is not paused")
        )
    );
}

#[tokio::test]
async fn a_pause_says_what_it_waited_for_in_vain_and_can_be_cancelled() {
    let settings = [("POOLWATCH_ADMIN__WAIT_TIMEOUT", "200ms")];
    let guarded = Guarded::start_with(&settings).await;
    let admin = guarded.admin().await;
    let client = guarded.sidecar.connect().await;
    client
        .batch_execute("BEGIN; SELECT 1")
        .await
        .expect("BEGIN");
    let (code, said) = refused(&admin, "PAUSE").await;
    assert_eq!(code, "55006");
    assert!(
        said.contains("1 server connections were still in use after 200ms"),
        "{said}"
    );
    let state = done(&admin, "SHOW STATE").await;
    assert_eq!(
        (
            row(&state, "key", "paused")["value"].as_str(),
            row(&state, "key", "active")["value"].as_str()
        ),
        ("yes", "no")
    );
    assert_eq!(refused(&admin, "PAUSE").await.1, "already suspended/paused");
    assert_eq!(
        refused(&admin, "SUSPEND").await.1,
        "already suspended/paused"
    );
    done(&admin, "RESUME").await;
    client.batch_execute("COMMIT").await.expect("COMMIT");
    assert_eq!(
        refused(&admin, "RESUME").await.1,
        "pooler is not paused/suspended"
    );

    // With time enough, its own client can end the wait.
    let guarded = Guarded::start().await;
    let admin = guarded.admin().await;
    let client = guarded.sidecar.connect().await;
    client
        .batch_execute("BEGIN; SELECT 1")
        .await
        .expect("BEGIN");
    let cancel = admin.cancel_token();
    let other = guarded.admin().await;
    let paused = tokio::spawn(async move { refused(&admin, "PAUSE").await });
    eventually(LIMIT, || async {
        let state = done(&other, "SHOW STATE").await;
        row(&state, "key", "paused")["value"] == "yes"
    })
    .await;
    cancel.cancel_query(NoTls).await.expect("a cancel request");
    assert_eq!(paused.await.expect("no panic").0, "57014");
    done(&other, "RESUME").await;
}

#[tokio::test]
async fn reconnect_replaces_servers_and_wait_close_waits_for_the_last() {
    let guarded = Guarded::start().await;
    let (admin, other) = (guarded.admin().await, guarded.admin().await);
    let busy = guarded.sidecar.connect().await;
    busy.batch_execute("BEGIN; SELECT 1").await.expect("BEGIN");
    let before: i32 = busy
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .expect("a pid")
        .get(0);
    done(&other, "WAIT_CLOSE").await;
    done(&other, &format!("RECONNECT {}", guarded.database.name)).await;
    let servers = done(&other, "SHOW SERVERS").await;
    assert_eq!(
        row(&servers, "remote_pid", &before.to_string())["close_needed"],
        "1"
    );
    let waited = tokio::spawn(async move { done(&admin, "WAIT_CLOSE").await });
    let quick = guarded.sidecar.connect().await;
    let new: i32 = quick
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .expect("a pid")
        .get(0);
    assert_ne!(before, new);
    assert!(!waited.is_finished());
    busy.batch_execute("COMMIT").await.expect("COMMIT");
    waited.await.expect("WAIT_CLOSE is answered");
    let servers = done(&other, "SHOW SERVERS").await;
    assert!(
        servers
            .iter()
            .all(|row| row["close_needed"] == "0" && row["remote_pid"] != before.to_string())
    );
}

#[tokio::test]
async fn killing_ends_clients_in_the_middle_of_what_they_do() {
    let guarded = Guarded::start().await;
    let admin = guarded.admin().await;
    let direct = guarded.direct().await;
    direct
        .batch_execute("CREATE TABLE kept (n int)")
        .await
        .expect("a table");
    let mut config = guarded.sidecar.client_config();
    let client = super::connect(config.application_name("victim")).await;
    let witness = guarded.sidecar.connect().await;
    let victim = tokio::spawn(async move {
        client
            .batch_execute("BEGIN; INSERT INTO kept VALUES (1); SELECT pg_sleep(600)")
            .await
    });
    let active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%' AND datname = current_database() AND pid <> pg_backend_pid()";
    let count = || async {
        direct
            .query_one(active, &[])
            .await
            .expect("a count")
            .get::<_, i64>(0)
    };
    eventually(LIMIT, || async { count().await == 1 }).await;
    let clients = done(&admin, "SHOW CLIENTS").await;
    let id = row(&clients, "application_name", "victim")["id"].clone();
    done(&admin, &format!("KILL_CLIENT {id}")).await;
    let error = victim
        .await
        .expect("no panic")
        .expect_err("the session ends");
    assert!(
        error.is_closed()
            || error
                .code()
                .is_some_and(|code| ["57P01", "57014"].contains(&code.code())),
        "{error:?}"
    );
    eventually(LIMIT, || async { count().await == 0 }).await;
    witness
        .batch_execute("SELECT 1")
        .await
        .expect("others go on");
    let rows = direct
        .query_one("SELECT count(*) FROM kept", &[])
        .await
        .expect("a count");
    assert_eq!(
        rows.get::<_, i64>(0),
        0,
        "what was not committed is not there"
    );
    assert_eq!(
        refused(&admin, &format!("KILL_CLIENT {id}")).await.1,
        "client not found"
    );
    assert_eq!(refused(&admin, "KILL_CLIENT him").await.0, "42601");

    done(&admin, &format!("KILL {}", guarded.database.name)).await;
    witness
        .batch_execute("SELECT 1")
        .await
        .expect_err("its session ended");
    assert!(done(&admin, "SHOW SERVERS").await.is_empty());
    assert_eq!(
        done(&admin, "SHOW CLIENTS").await.len(),
        1,
        "the console stays"
    );
    let config = guarded.sidecar.client_config();
    let late = tokio::spawn(async move {
        let client = try_connect(&config).await?;
        client.batch_execute("SELECT 1").await
    });
    eventually(LIMIT, || async {
        let pools = done(&admin, "SHOW POOLS").await;
        row(&pools, "database", &guarded.database.name)["cl_waiting"] == "1"
            || done(&admin, "SHOW LISTS")
                .await
                .iter()
                .any(|row| row["list"] == "login_clients" && row["items"] == "1")
    })
    .await;
    done(&admin, &format!("RESUME {}", guarded.database.name)).await;
    late.await
        .expect("no panic")
        .expect("who came later is served");
}

#[tokio::test]
async fn a_disabled_database_takes_no_new_clients() {
    let guarded = Guarded::start().await;
    let admin = guarded.admin().await;
    let inside = guarded.sidecar.connect().await;
    inside.batch_execute("SELECT 1").await.expect("an answer");
    done(&admin, &format!("DISABLE \"{}\"", guarded.database.name)).await;
    let error = try_connect(&guarded.sidecar.client_config())
        .await
        .err()
        .expect("a refusal");
    assert!(
        error
            .as_db_error()
            .expect("an error")
            .message()
            .contains("disabled"),
        "{error:?}"
    );
    inside
        .batch_execute("SELECT 1")
        .await
        .expect("who is in stays");
    let databases = done(&admin, "SHOW DATABASES").await;
    assert_eq!(
        row(&databases, "name", &guarded.database.name)["disabled"],
        "1"
    );
    done(&admin, &format!("ENABLE \"{}\"", guarded.database.name)).await;
    guarded
        .sidecar
        .connect()
        .await
        .batch_execute("SELECT 1")
        .await
        .expect("an answer");
    for command in ["DISABLE", "ENABLE"] {
        assert_eq!(refused(&admin, command).await.1, "a database is required");
    }
    for command in [
        "PAUSE",
        "RESUME",
        "DISABLE",
        "ENABLE",
        "KILL",
        "RECONNECT",
        "WAIT_CLOSE",
    ] {
        let (code, said) = refused(&admin, &format!("{command} nowhere")).await;
        assert_eq!(
            (code.as_str(), said.as_str()),
            ("3D000", "no such database: nowhere"),
            "{command}"
        );
    }
}

#[tokio::test]
async fn suspended_clients_are_heard_again_after_resume() {
    let guarded = Guarded::start().await;
    let (admin, other) = (guarded.admin().await, guarded.admin().await);
    let client = guarded.sidecar.connect().await;
    let running = client.batch_execute("SELECT pg_sleep(0.3)");
    let (ran, suspended) = tokio::join!(running, async {
        eventually(LIMIT, || async {
            done(&other, "SHOW SERVERS")
                .await
                .iter()
                .any(|row| row["state"] == "active")
        })
        .await;
        done(&admin, "SUSPEND").await
    });
    ran.expect("what was asked before is answered");
    assert!(suspended.is_empty());
    let state = done(&admin, "SHOW STATE").await;
    assert_eq!(row(&state, "key", "suspended")["value"], "yes");
    assert_eq!(
        refused(&admin, "SUSPEND").await.1,
        "already suspended/paused"
    );
    let asked = tokio::spawn(async move { client.batch_execute("SELECT 1").await });
    let late = guarded.sidecar.client_config();
    let late = tokio::spawn(async move {
        let client = try_connect(&late).await?;
        client.batch_execute("SELECT 1").await
    });
    // Time for a request to come through, if it did.
    assert!(
        tokio::time::timeout(Duration::from_millis(300), async {
            while !(asked.is_finished() || late.is_finished()) {
                tokio::task::yield_now().await
            }
        })
        .await
        .is_err()
    );
    done(&admin, "RESUME").await;
    asked
        .await
        .expect("no panic")
        .expect("an answer after RESUME");
    late.await
        .expect("no panic")
        .expect("an answer after RESUME");
}

#[tokio::test]
async fn settings_can_be_changed_until_the_next_reload() {
    let guarded = Guarded::start().await;
    let admin = guarded.admin().await;
    let setting = |key: &'static str| {
        let admin = &admin;
        async move { row(&done(admin, "SHOW CONFIG").await, "key", key)["value"].clone() }
    };
    guarded
        .sidecar
        .connect()
        .await
        .batch_execute("SELECT 1")
        .await
        .expect("an answer");
    assert_eq!(setting("pool.size").await, "25");
    done(&admin, "SET pool.size = 3;").await;
    assert_eq!(setting("pool.size").await, "3");
    let databases = done(&admin, "SHOW DATABASES").await;
    assert_eq!(
        row(&databases, "name", &guarded.database.name)["pool_size"],
        "3"
    );
    for (wrong, said) in [
        ("SET pool.sise = 3", "no such setting: pool.sise"),
        (
            "SET pool.mode = session",
            "pool.mode cannot be changed while poolwatch runs",
        ),
        ("SET pool.size = many", "not a whole number"),
        (
            "SET pool.max_overflow = '-2'",
            "it must be -1 (no limit) or more",
        ),
    ] {
        let (code, message) = refused(&admin, wrong).await;
        assert_eq!(code, "55000", "{wrong}");
        assert!(message.contains(said), "{wrong}: {message}");
    }
    assert_eq!(
        setting("pool.size").await,
        "3",
        "what is wrong changes nothing"
    );
    done(&admin, "RELOAD").await;
    assert_eq!(setting("pool.size").await, "25");
    let config = done(&admin, "SHOW CONFIG").await;
    let url = &row(&config, "key", "upstream.url")["value"];
    assert!(!url.contains("password"), "{url}");
}

#[tokio::test]
async fn the_backends_are_gone_when_a_pause_is_answered() {
    let guarded = Guarded::start().await;
    let admin = guarded.admin().await;
    let clients = [
        guarded.sidecar.connect().await,
        guarded.sidecar.connect().await,
    ];
    for client in &clients {
        client.batch_execute("SELECT 1").await.expect("an answer");
    }
    let servers = done(&admin, "SHOW SERVERS").await;
    let pids: Vec<i32> = servers
        .iter()
        .map(|row| row["remote_pid"].parse().expect("a pid"))
        .collect();
    assert!(!pids.is_empty());
    done(&admin, "PAUSE").await;
    let direct = guarded.direct().await;
    // PostgreSQL takes a moment to end a process whose connection was closed.
    eventually(LIMIT, || async {
        let left = direct.query(BACKENDS, &[]).await.expect("the backends");
        left.iter().all(|row| !pids.contains(&row.get::<_, i32>(0)))
    })
    .await;
    done(&admin, "RESUME").await;
    clients[0]
        .batch_execute("SELECT 1")
        .await
        .expect("an answer");
}
