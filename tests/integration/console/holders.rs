//! Who has which server, and who waits for one.

use super::{Guarded, LIMIT, done, row, try_connect};
use crate::support::raw::Raw;
use crate::support::{Postgres, Sidecar, eventually};

#[tokio::test]
async fn who_has_which_server_is_shown_as_it_is() {
    let guarded = Guarded::start().await;
    let console = guarded.console("stats").await;
    let mut config = guarded.sidecar.client_config();
    let client = super::connect(config.application_name("holder")).await;
    let _idle = guarded.sidecar.connect().await;
    client
        .batch_execute("BEGIN; LISTEN nothing")
        .await
        .expect("BEGIN");
    let pid: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .expect("a pid")
        .get(0);

    // The driver closes its statement behind our backs, and a login is over a moment after the client has heard so.
    eventually(LIMIT, || async {
        let holders = done(&console, "SHOW HOLDERS").await;
        let clients = done(&console, "SHOW CLIENTS").await;
        let waiting = clients.iter().any(|row| row["state"] == "waiting");
        !waiting && holders.len() == 1 && holders[0]["state"] == "idle in transaction"
    })
    .await;
    let servers = done(&console, "SHOW SERVERS").await;
    let server = row(&servers, "remote_pid", &pid.to_string()).clone();
    assert_eq!(
        (
            server["state"].as_str(),
            server["application_name"].as_str()
        ),
        ("active", "holder")
    );
    let clients = done(&console, "SHOW CLIENTS").await;
    let holder = row(&clients, "application_name", "holder").clone();
    assert_eq!(holder["state"], "active");
    assert_eq!(
        (&holder["link"], &server["link"]),
        (&server["ptr"], &holder["ptr"])
    );
    let idle = clients
        .iter()
        .find(|row| row["database"] == guarded.database.name && row["link"].is_empty());
    assert_eq!(idle.expect("the idle client")["state"], "idle");
    let holders = done(&console, "SHOW HOLDERS").await;
    assert_eq!(holders.len(), 1);
    assert_eq!(
        (&holders[0]["id"], &holders[0]["server_pid"]),
        (&holder["id"], &server["remote_pid"])
    );

    client.batch_execute("COMMIT").await.expect("COMMIT");
    eventually(LIMIT, || async {
        let pins = done(&console, "SHOW PINS").await;
        pins.len() == 1 && pins[0]["reason"] == "listen" && pins[0]["id"] == holder["id"]
    })
    .await;
    let holders = done(&console, "SHOW HOLDERS").await;
    assert_eq!(holders[0]["pinned_by"], "listen");
    client.batch_execute("UNLISTEN *").await.expect("UNLISTEN");
    eventually(LIMIT, || async {
        done(&console, "SHOW HOLDERS").await.is_empty()
    })
    .await;
    let pools = done(&console, "SHOW POOLS").await;
    let pool = row(&pools, "database", &guarded.database.name);
    let state = [
        "cl_active",
        "cl_waiting",
        "sv_active",
        "sv_idle",
        "sv_tested",
        "sv_login",
    ]
    .map(|name| pool[name].as_str());
    assert_eq!(state, ["2", "0", "0", "1", "0", "0"]);
    drop(client);
    eventually(LIMIT, || async {
        done(&console, "SHOW CLIENTS").await.len() == 2
    })
    .await;
}

#[tokio::test]
async fn a_replication_connection_has_a_server_outside_the_pools() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&database).await;
    let replication = [
        ("replication", "database"),
        ("application_name", "walreceiver"),
    ];
    let walreceiver = Raw::login_with(sidecar.proxy_addr(), &database.name, &replication).await;
    let mut config = sidecar.client_config();
    let console = super::connect(config.dbname("pgbouncer")).await;
    let clients = || done(&console, "SHOW CLIENTS");
    eventually(LIMIT, || async {
        let clients = clients().await;
        row(&clients, "application_name", "walreceiver")["state"] == "active"
    })
    .await;
    let client = row(&clients().await, "application_name", "walreceiver").clone();
    assert_eq!(client["replication"], "logical");
    assert_eq!(
        row(&clients().await, "database", "pgbouncer")["replication"],
        "none"
    );
    let pools = done(&console, "SHOW POOLS").await;
    let pool = row(&pools, "database", &database.name);
    let counts = ["cl_active", "cl_waiting", "sv_active"].map(|name| pool[name].as_str());
    assert_eq!(counts, ["1", "0", "0"]);
    let holders = done(&console, "SHOW HOLDERS").await;
    assert_eq!(
        (&holders[0]["id"], holders[0]["server_pid"].as_str()),
        (&client["id"], "NULL")
    );
    drop(walreceiver);
    eventually(LIMIT, || async { clients().await.len() == 1 }).await;
}

#[tokio::test]
async fn who_waits_in_its_login_is_shown_and_can_be_ended() {
    let settings = [
        ("POOLWATCH_POOL__SIZE", "1"),
        ("POOLWATCH_POOL__MAX_OVERFLOW", "0"),
    ];
    let guarded = Guarded::start_with(&settings).await;
    let admin = guarded.admin().await;
    let holder = guarded.in_transaction().await;
    for command in ["KILL_CLIENT <id>", "KILL"] {
        // With a name of its own: these parameters are tried on a server first.
        let mut config = guarded.sidecar.client_config();
        config.application_name("late");
        let late = tokio::spawn(async move { try_connect(&config).await });
        let id = eventually(LIMIT, || async {
            let clients = done(&admin, "SHOW CLIENTS").await;
            let late = clients
                .iter()
                .find(|row| row["application_name"] == "late")?;
            (late["state"] == "waiting").then(|| late["id"].clone())
        })
        .await;
        done(&admin, &command.replace("<id>", &id)).await;
        let ended = late.await.expect("no panic").expect_err("it is not let in");
        assert_eq!(
            ended.code().map(|code| code.code()),
            Some("57P01"),
            "{command}"
        );
        assert_eq!(holder.is_closed(), command == "KILL");
    }
    done(&admin, "RESUME").await;
    let lists = done(&admin, "SHOW LISTS").await;
    assert_eq!(row(&lists, "list", "login_clients")["items"], "0");
    guarded.in_transaction().await;
}
