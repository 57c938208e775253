//! PAUSE and SUSPEND: what they wait for, who waits for their end, and what they say when it does not come.

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
    let client = guarded.in_transaction().await;
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
    // Once more is no mistake.
    done(&other, &format!("PAUSE {database}")).await;
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
    let client = guarded.in_transaction().await;
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
    let _client = guarded.in_transaction().await;
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

#[tokio::test]
async fn who_waits_for_a_pause_is_told_of_its_end() {
    let guarded = Guarded::start().await;
    let (admin, other) = (guarded.admin().await, guarded.admin().await);
    let client = guarded.in_transaction().await;
    let database = &guarded.database.name;
    for (pause, resume) in [
        ("PAUSE".to_owned(), "RESUME".to_owned()),
        (format!("PAUSE {database}"), format!("RESUME {database}")),
    ] {
        let shown = || async {
            let databases = done(&other, "SHOW DATABASES").await;
            row(&databases, "name", database)["paused"] == "1"
        };
        let resumed = async {
            eventually(LIMIT, shown).await;
            done(&other, &resume).await
        };
        let (paused, _) = tokio::join!(refused(&admin, &pause), resumed);
        assert_eq!(
            paused,
            ("55000".to_owned(), "resumed before it was done".to_owned())
        );
    }
    client.batch_execute("COMMIT").await.expect("COMMIT");
}

#[tokio::test]
async fn a_session_keeps_its_server_from_a_pause_until_it_ends() {
    let guarded = Guarded::start_with(&[("POOLWATCH_POOL__MODE", "session")]).await;
    let (admin, other) = (guarded.admin().await, guarded.admin().await);
    let client = guarded.sidecar.connect().await;
    client.batch_execute("SELECT 1").await.expect("an answer");
    let paused = tokio::spawn(async move { done(&admin, "PAUSE").await });
    eventually(LIMIT, || async {
        let state = done(&other, "SHOW STATE").await;
        row(&state, "key", "paused")["value"] == "yes"
    })
    .await;
    client.batch_execute("SELECT 2").await.expect("an answer");
    assert!(!paused.is_finished(), "the session has its server still");
    drop(client);
    paused.await.expect("PAUSE is answered");
    assert!(done(&other, "SHOW SERVERS").await.is_empty());
    let config = guarded.sidecar.client_config();
    let late = tokio::spawn(async move { super::connect(&config).await });
    eventually(LIMIT, || async {
        let lists = done(&other, "SHOW LISTS").await;
        row(&lists, "list", "login_clients")["items"] == "1"
    })
    .await;
    done(&other, "RESUME").await;
    let late = late.await.expect("who came later is let in");
    late.batch_execute("SELECT 3").await.expect("an answer");
}

#[tokio::test]
async fn a_suspension_lets_those_who_wait_have_their_turn() {
    let settings = [
        ("POOLWATCH_POOL__SIZE", "1"),
        ("POOLWATCH_POOL__MAX_OVERFLOW", "0"),
    ];
    let guarded = Guarded::start_with(&settings).await;
    let (admin, other) = (guarded.admin().await, guarded.admin().await);
    let holder = guarded.in_transaction().await;
    let waiting = guarded.sidecar.connect().await;
    let idle = guarded.sidecar.connect().await;
    let waited = tokio::spawn(async move { waiting.batch_execute("SELECT 2").await });
    eventually(LIMIT, || async {
        let pools = done(&other, "SHOW POOLS").await;
        row(&pools, "database", &guarded.database.name)["cl_waiting"] == "1"
    })
    .await;
    let suspended = tokio::spawn(async move { done(&admin, "SUSPEND").await });
    eventually(LIMIT, || async {
        let state = done(&other, "SHOW STATE").await;
        row(&state, "key", "suspended")["value"] == "yes"
    })
    .await;
    let begun = tokio::spawn(async move { idle.batch_execute("SELECT 3").await });
    assert!(!suspended.is_finished() && !waited.is_finished());
    holder
        .batch_execute("COMMIT")
        .await
        .expect("a transaction that has begun is read to its end");
    waited
        .await
        .expect("no panic")
        .expect("who asked before has its turn");
    suspended.await.expect("SUSPEND is answered");
    assert!(!begun.is_finished(), "nothing new is begun");
    done(&other, "RESUME").await;
    begun
        .await
        .expect("no panic")
        .expect("an answer after RESUME");
}
