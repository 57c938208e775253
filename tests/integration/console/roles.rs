//! Who may do what.

use poolwatch::console::{Role, commands};

use super::{Guarded, LIMIT, done, refused, run};
use crate::support::{Postgres, Sidecar};

/// A command as it is written, with something that it can be about.
fn written(name: &str, argument: &str, database: &str) -> String {
    let argument = match argument {
        "" | "[WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]" => String::new(),
        "[<db>]" | "<db>" => format!(" {database}"),
        "<client_id>" => " 999999".to_owned(),
        "key = value" => " log.level = 'info'".to_owned(),
        other => panic!("{name} takes {other}: this test does not know that"),
    };
    format!("{name}{argument}")
}

#[tokio::test]
async fn every_command_is_for_those_it_is_for() {
    let mut guarded = Guarded::start().await;
    let database = guarded.database.name.clone();
    let refusal = guarded.try_console("other").await.expect_err("a refusal");
    let refusal = refusal
        .as_db_error()
        .expect("an error of the server's")
        .clone();
    assert_eq!(refusal.code().code(), "28000");
    assert!(
        refusal.message().contains("may not use the console"),
        "{refusal:?}"
    );

    let stats = guarded.console("stats").await;
    let admin = guarded.admin().await;
    // Nothing changed for what was refused: the admin finds everything as it was.
    for (name, argument, needs) in commands() {
        let command = written(name, argument, &database);
        let answer = run(&stats, &command).await;
        let code = answer
            .err()
            .and_then(|error| Some(error.code()?.code().to_owned()));
        match needs {
            Role::Admin => assert_eq!(code.as_deref(), Some("42501"), "{command} as stats"),
            Role::Stats => assert_ne!(code.as_deref(), Some("42501"), "{command} as stats"),
        }
        let looks = name.starts_with("SHOW ");
        assert!(needs == Role::Admin || looks, "{command} changes something");
    }
    let untouched = done(&admin, "SHOW DATABASES").await;
    assert!(
        untouched
            .iter()
            .all(|row| row["paused"] == "0" && row["disabled"] == "0")
    );
    for (name, argument, _) in commands() {
        let command = written(name, argument, &database);
        let answer = run(&admin, &command).await;
        let code = answer
            .err()
            .and_then(|error| Some(error.code()?.code().to_owned()));
        let expected = match name {
            "KILL_CLIENT" => Some("42704"),
            "SHOW FDS" | "SHOW DIAGNOSIS" => Some("0A000"),
            _ => None,
        };
        // SHUTDOWN is answered too, and then all connections end.
        if name == "SHUTDOWN" {
            assert_eq!(code, None, "{command} as admin");
            break;
        }
        assert_eq!(code.as_deref(), expected, "{command} as admin");
    }
    let exit = guarded.sidecar.wait_exit(LIMIT).await;
    assert_eq!(exit.code, Some(0));
}

#[tokio::test]
async fn where_clients_are_trusted_everybody_may_look_and_only_the_own_user_may_change() {
    let database = Postgres::shared().await.database().await;
    let directory = super::temporary(&database, "sockets");
    std::fs::create_dir(&directory).expect("a directory");
    let path = directory.to_str().expect("a path in UTF-8");
    let settings = [
        ("POOLWATCH_LISTEN__UNIX_SOCKET_DIR", path),
        // A name proves nothing here.
        ("POOLWATCH_ADMIN__USERS", "postgres"),
    ];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &settings).await;
    let mut config = sidecar.client_config();
    let tcp = super::connect(config.dbname("poolwatch")).await;
    assert_eq!(done(&tcp, "SHOW VERSION").await.len(), 1);
    assert_eq!(refused(&tcp, "PAUSE").await.0, "42501");

    let mut config = tokio_postgres::Config::new();
    config
        .host_path(&directory)
        .port(6432)
        .user("whoever")
        .dbname("pgbouncer");
    let own = super::connect(&config).await;
    done(&own, "PAUSE").await;
    done(&own, "RESUME").await;
    let clients = done(&own, "SHOW CLIENTS").await;
    let me = super::row(&clients, "user", "whoever");
    assert_eq!(
        (me["addr"].as_str(), me["remote_pid"].clone()),
        ("unix", std::process::id().to_string())
    );
    drop(sidecar);
    std::fs::remove_dir_all(&directory).expect("the directory");
}
