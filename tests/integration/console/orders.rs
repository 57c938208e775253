//! What the other commands do, and what they say when they cannot.

use super::{Guarded, LIMIT, done, refused, row, try_connect};
use crate::support::eventually;

#[tokio::test]
async fn reconnect_replaces_servers_and_wait_close_waits_for_the_last() {
    let guarded = Guarded::start().await;
    let (admin, other) = (guarded.admin().await, guarded.admin().await);
    let busy = guarded.in_transaction().await;
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
        .expect_err("a refusal");
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
    guarded.serves().await;
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
        let (code, _) = refused(&admin, &format!("{command} pgbouncer")).await;
        assert_eq!(code, "42809", "{command}");
    }
}

#[tokio::test]
async fn settings_can_be_changed_until_the_next_reload() {
    let guarded = Guarded::start().await;
    let admin = guarded.admin().await;
    let setting = |key: &'static str| {
        let admin = &admin;
        async move { row(&done(admin, "SHOW CONFIG").await, "key", key)["value"].clone() }
    };
    guarded.serves().await;
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
