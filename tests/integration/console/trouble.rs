//! The console when it is needed most: nobody else gets through.

use super::{Guarded, LIMIT, done, row, try_connect};
use crate::support::{Postgres, eventually};

#[tokio::test]
async fn the_console_is_there_while_postgresql_is_not() {
    let database = Postgres::shared().await.database().await;
    // Nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let name = database.name.clone();
    let (before, _) = database.url.rsplit_once(':').expect("a port");
    let upstream = format!("{before}:{port}/{name}");
    let guarded = Guarded::start_on(database, &upstream, &[]).await;
    let refused = try_connect(&guarded.sidecar.client_config()).await;
    refused.expect_err("nobody gets through");
    let admin = guarded.admin().await;
    let databases = done(&admin, "SHOW DATABASES").await;
    assert_eq!(row(&databases, "name", &name)["port"], port.to_string());
    for command in [
        "SHOW POOLS",
        "SHOW SERVERS",
        "RELOAD",
        "RECONNECT",
        "WAIT_CLOSE",
    ] {
        done(&admin, command).await;
    }
    // Who is waited for in vain is not there.
    for command in ["PAUSE", "RESUME", "KILL", "RESUME"] {
        done(&admin, command).await;
    }
}

#[tokio::test]
async fn the_console_is_there_while_there_is_room_for_nobody() {
    let settings = [
        ("POOLWATCH_LISTEN__MAX_CLIENTS", "2"),
        ("POOLWATCH_POOL__SIZE", "1"),
        ("POOLWATCH_POOL__MAX_OVERFLOW", "0"),
    ];
    let guarded = Guarded::start_with(&settings).await;
    let _holder = guarded.in_transaction().await;
    let admin = guarded.admin().await;
    // With a name of its own: these parameters are tried on a server first, so it waits in its login.
    let mut config = guarded.sidecar.client_config();
    config.application_name("waiting");
    let waiting = tokio::spawn(async move { try_connect(&config).await });
    let waits = || async {
        let pools = done(&admin, "SHOW POOLS").await;
        let pool = row(&pools, "database", &guarded.database.name);
        let maxwait: u32 = pool["maxwait_us"].parse().expect("a number");
        pool["cl_waiting"] == "1" && pool["sv_active"] == "1" && maxwait > 0
    };
    eventually(LIMIT, waits).await;
    let refused = try_connect(&guarded.sidecar.client_config()).await;
    let refused = refused.expect_err("no room for a third");
    assert_eq!(refused.code().map(|code| code.code()), Some("53300"));
    guarded.console("stats").await;
    let clients = done(&admin, "SHOW CLIENTS").await;
    assert_eq!(
        row(&clients, "application_name", "waiting")["state"],
        "waiting"
    );
    let holders = done(&admin, "SHOW HOLDERS").await;
    assert_eq!(holders.len(), 1);
    done(&admin, &format!("KILL_CLIENT {}", holders[0]["id"])).await;
    let waited = waiting.await.expect("no panic");
    let client = waited.expect("who waited has its turn");
    client.batch_execute("SELECT 1").await.expect("an answer");
}
