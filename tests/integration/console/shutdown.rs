//! SHUTDOWN and its modes.

use std::time::{Duration, Instant};

use super::{Guarded, LIMIT, done, refused, row, try_connect};
use crate::support::eventually;

#[tokio::test]
async fn at_once_cuts_off_what_runs() {
    let mut guarded = Guarded::start().await;
    let client = guarded.sidecar.connect().await;
    let running = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(600)").await });
    let admin = guarded.admin().await;
    eventually(LIMIT, || async {
        done(&admin, "SHOW SERVERS")
            .await
            .iter()
            .any(|row| row["state"] == "active")
    })
    .await;
    let began = Instant::now();
    done(&admin, "SHUTDOWN").await;
    running
        .await
        .expect("no panic")
        .expect_err("it was cut off");
    // By default transactions under way are given 30 seconds.
    guarded.sidecar.wait_exit(LIMIT).await;
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn when_servers_are_released_transactions_end_first() {
    let mut guarded = Guarded::start().await;
    let client = guarded.sidecar.connect().await;
    client
        .batch_execute("CREATE TABLE kept (n int); BEGIN; INSERT INTO kept VALUES (1)")
        .await
        .expect("BEGIN");
    let admin = guarded.admin().await;
    assert_eq!(refused(&admin, "SHUTDOWN WHENEVER").await.0, "42601");
    done(&admin, "SHUTDOWN WAIT_FOR_SERVERS").await;
    client
        .batch_execute("INSERT INTO kept VALUES (2); COMMIT")
        .await
        .expect("the transaction ends");
    assert_eq!(guarded.sidecar.wait_exit(LIMIT).await.code, Some(0));
    let direct = guarded.direct().await;
    let kept = direct
        .query_one("SELECT count(*) FROM kept", &[])
        .await
        .expect("a count");
    assert_eq!(kept.get::<_, i64>(0), 2);
}

#[tokio::test]
async fn when_clients_have_left_they_are_served_until_then() {
    let mut guarded = Guarded::start().await;
    let client = guarded.sidecar.connect().await;
    let admin = guarded.admin().await;
    done(&admin, "shutdown wait_for_clients;").await;
    let config = guarded.sidecar.client_config();
    eventually(LIMIT, || async { try_connect(&config).await.is_err() }).await;
    for _ in 0..3 {
        client
            .batch_execute("BEGIN; SELECT 1; COMMIT")
            .await
            .expect("who is in is served");
    }
    assert_eq!(guarded.sidecar.get("/readyz").await.0, 503);
    drop(client);
    assert_eq!(guarded.sidecar.wait_exit(LIMIT).await.code, Some(0));
}

#[tokio::test]
async fn the_wait_for_clients_has_an_end() {
    let settings = [("POOLWATCH_ADMIN__WAIT_TIMEOUT", "300ms")];
    let mut guarded = Guarded::start_with(&settings).await;
    let client = guarded.sidecar.connect().await;
    let admin = guarded.admin().await;
    done(&admin, "SHUTDOWN WAIT_FOR_CLIENTS").await;
    assert_eq!(guarded.sidecar.wait_exit(LIMIT).await.code, Some(0));
    let logs = guarded.sidecar.logs();
    assert!(
        logs.iter()
            .any(|line| line.contains("not waiting any longer for clients")),
        "{logs:?}"
    );
    drop(client);
}

/// Well below `shutdown.timeout`, which is 30 seconds.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_pause_keeps_nobody_waiting_for_the_end() {
    let mut guarded = Guarded::start().await;
    let admin = guarded.admin().await;
    let client = guarded.sidecar.connect().await;
    done(&admin, "PAUSE").await;
    let asking = tokio::spawn(async move { client.batch_execute("SELECT 1").await });
    let mut config = guarded.sidecar.client_config();
    config.application_name("late");
    let late = tokio::spawn(async move { try_connect(&config).await.map(drop) });
    eventually(LIMIT, || async {
        let pools = done(&admin, "SHOW POOLS").await;
        row(&pools, "database", &guarded.database.name)["cl_waiting"] == "2"
    })
    .await;
    let began = Instant::now();
    done(&admin, "SHUTDOWN WAIT_FOR_SERVERS").await;
    for waiting in [asking, late] {
        let error = waiting
            .await
            .expect("no panic")
            .expect_err("nobody is served");
        let code = error.code().map(|code| code.code());
        assert_eq!(code, Some("57P01"), "{error:?}");
    }
    assert_eq!(guarded.sidecar.wait_exit(LIMIT).await.code, Some(0));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_suspension_keeps_no_transaction_from_its_end() {
    let mut guarded = Guarded::start().await;
    let admin = guarded.admin().await;
    let client = guarded.sidecar.connect().await;
    client
        .batch_execute("CREATE TABLE kept (n int); BEGIN; INSERT INTO kept VALUES (1)")
        .await
        .expect("BEGIN");
    done(&admin, "SUSPEND").await;
    let committed = tokio::spawn(async move { client.batch_execute("COMMIT").await });
    let began = Instant::now();
    done(&admin, "SHUTDOWN WAIT_FOR_SERVERS").await;
    committed
        .await
        .expect("no panic")
        .expect("the transaction ends");
    assert_eq!(guarded.sidecar.wait_exit(LIMIT).await.code, Some(0));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}
