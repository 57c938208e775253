//! The launcher of throw-away servers: what it starts works, belongs to the right user, and is gone afterwards.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use poolwatch::ops::postgres::{LaunchError, Mode, Options, ServerCertificate};
use poolwatch::secret::Secret;
use tokio::net::TcpStream;

use crate::support::{Postgres, eventually};

const LIMIT: Duration = Duration::from_secs(30);

fn is_alive(pid: i32) -> bool {
    // A zombie is dead: whoever inherited it has not looked yet.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    match stat {
        Ok(stat) => !stat.contains(") Z "),
        Err(_) if Path::new("/proc/self").exists() => false,
        Err(_) => kill(Pid::from_raw(pid), None).is_ok(),
    }
}

async fn one(client: &tokio_postgres::Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.expect(sql).get(0)
}

#[tokio::test]
async fn a_server_runs_as_an_ordinary_user_in_a_private_directory() {
    let server = Postgres::shared().await;
    let metadata = std::fs::metadata(server.socket_dir()).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o700);
    assert_ne!(metadata.uid(), 0);
    let pid = server.postmaster_pid().unwrap();
    if Path::new("/proc/self").exists() {
        assert_eq!(
            std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(),
            metadata.uid()
        );
        let groups = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let groups = groups.lines().find(|line| line.starts_with("Groups:"));
        let of_root = groups.unwrap().split_whitespace().any(|group| group == "0");
        assert!(!of_root, "root's groups were kept: {groups:?}");
    }
}

#[tokio::test]
async fn tests_get_databases_of_their_own() {
    let server = Postgres::shared().await;
    let (first, second) = (server.database().await, server.database().await);
    assert_ne!(first.name, second.name);
    let client = first.connect().await;
    assert_eq!(
        one(&client, "SELECT current_database()::text").await,
        first.name
    );
    eventually(LIMIT, || async { first.sessions().await == 1 }).await;
    assert_eq!(second.sessions().await, 0);
}

#[tokio::test]
async fn dropping_a_server_leaves_nothing_behind() {
    let mut server = Postgres::own(Options::default()).await;
    let _client = server.connect("postgres").await;
    let directory = server.socket_dir().to_owned();
    let mut pids = server.children();
    pids.extend(server.postmaster_pid());
    assert!(pids.len() > 2, "{pids:?}");
    // A stopped server is the hardest to get rid of.
    server.pause().unwrap();
    drop(server);
    assert!(!directory.exists());
    eventually(LIMIT, || async { !pids.iter().any(|pid| is_alive(*pid)) }).await;
}

/// Not a test of its own: the owner that the next test kills.
#[tokio::test]
#[ignore = "run by an_owner_that_is_killed_leaves_nothing_behind"]
async fn owner_that_waits_to_be_killed() {
    let mut server = Postgres::own(Options::default()).await;
    let pid = server.postmaster_pid().unwrap();
    if std::env::var_os("POOLWATCH_TEST_PAUSE").is_some() {
        server.pause().unwrap();
    }
    println!("\nserver {pid} {}", server.socket_dir().display());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_owner_that_is_killed_leaves_nothing_behind() {
    for pause in [false, true] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "launcher::owner_that_waits_to_be_killed"])
            .args(["--ignored", "--nocapture"])
            .stdout(Stdio::piped());
        if pause {
            command.env("POOLWATCH_TEST_PAUSE", "1");
        }
        let mut owner = command.spawn().unwrap();
        let output = BufReader::new(owner.stdout.take().unwrap());
        let line = output
            .lines()
            .map_while(Result::ok)
            .find(|line| line.starts_with("server "))
            .expect("the owner says what it started");
        let words: Vec<&str> = line.split(' ').collect();
        let (pid, directory) = (words[1].parse().unwrap(), PathBuf::from(words[2]));
        assert!(is_alive(pid) && directory.exists());
        owner.kill().unwrap();
        owner.wait().unwrap();
        eventually(LIMIT, || async { !is_alive(pid) && !directory.exists() }).await;
    }
}

#[tokio::test]
async fn a_restart_keeps_the_data_and_the_port() {
    let mut server = Postgres::own(Options::default()).await;
    let port = server.port();
    for (mode, kept) in [(Mode::Fast, 1_i64), (Mode::Immediate, 2)] {
        let client = server.connect("postgres").await;
        client
            .batch_execute("CREATE TABLE IF NOT EXISTS kept (); INSERT INTO kept DEFAULT VALUES")
            .await
            .unwrap();
        server.stop(mode).await.unwrap();
        assert!(server.postmaster_pid().is_none());
        let refused = TcpStream::connect(("127.0.0.1", port)).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        server.start_again().await.unwrap();
        assert_eq!(server.port(), port);
        let client = server.connect("postgres").await;
        let row = client
            .query_one("SELECT count(*) FROM kept", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, i64>(0), kept, "after {mode:?}");
    }
}

#[tokio::test]
async fn a_smart_stop_waits_for_clients_and_says_so_at_the_limit() {
    let mut server = Postgres::own(Options::default()).await;
    let client = server.connect("postgres").await;
    let stopped = tokio::time::timeout(Duration::from_millis(300), server.stop(Mode::Smart)).await;
    assert!(stopped.is_err(), "it stopped under its client: {stopped:?}");
    drop(client);
    server.stop(Mode::Smart).await.unwrap();
}

#[tokio::test]
async fn a_paused_server_hangs_and_then_goes_on() {
    let mut server = Postgres::own(Options::default()).await;
    let client = server.connect("postgres").await;
    server.pause().unwrap();
    let short = Duration::from_millis(200);
    let query = tokio::time::timeout(short, client.simple_query("SELECT 1")).await;
    assert!(query.is_err(), "a paused server answered: {query:?}");
    let connecting = server.connect("postgres");
    let connected = tokio::time::timeout(short, connecting).await;
    assert!(connected.is_err(), "a paused server let a client in");
    server.resume().unwrap();
    client.simple_query("SELECT 1").await.unwrap();
    server.connect("postgres").await;
}

#[tokio::test]
async fn a_backend_is_killed_with_the_code_an_administrator_gives() {
    let server = Postgres::shared().await;
    let client = server.connect("postgres").await;
    let pid: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let watcher = server.connect("postgres").await;
    let asleep = async {
        let killed = client
            .batch_execute("SELECT pg_sleep(60)")
            .await
            .unwrap_err();
        assert_eq!(killed.code().map(|code| code.code()), Some("57P01"));
    };
    let killing = async {
        eventually(LIMIT, || async {
            let state = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
            watcher.query_opt(state, &[&pid]).await.unwrap()
        })
        .await;
        server.kill_backend(pid).unwrap();
    };
    tokio::join!(asleep, killing);
    let own = i32::try_from(std::process::id()).unwrap();
    let refused = server.kill_backend(own);
    assert!(
        matches!(refused, Err(LaunchError::NotRunning)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn passwords_hba_conf_and_certificates_are_as_asked() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut server = Postgres::own(Options {
        user: "odd name".to_owned(),
        password: Some(Secret::from("p@ss/wörd")),
        auth: "scram-sha-256".to_owned(),
        conf: "work_mem = '5MB'".to_owned(),
        tls: Some(ServerCertificate {
            certificate: certified.cert.pem(),
            key: Secret::from(certified.signing_key.serialize_pem()),
        }),
        ..Options::default()
    })
    .await;
    let url = server.url("odd name", "postgres");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .expect("the URL lets its reader in");
    tokio::spawn(connection);
    assert_eq!(one(&client, "SHOW ssl").await, "on");
    assert_eq!(one(&client, "SHOW work_mem").await, "5MB");
    let without = server.url("other", "postgres");
    let refused = tokio_postgres::connect(&without, tokio_postgres::NoTls).await;
    assert!(refused.is_err());
    server
        .replace_hba("local all all trust\nhost all all 127.0.0.1/32 reject\n")
        .unwrap();
    server.add_conf("work_mem = '6MB'").unwrap();
    server.stop(Mode::Fast).await.unwrap();
    server.start_again().await.unwrap();
    let refused = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
    let code = refused.err().and_then(|error| error.code().cloned());
    assert_eq!(
        code.map(|code| code.code().to_owned()).as_deref(),
        Some("28000")
    );
    let mut config = server.client_config("postgres");
    config = {
        let mut local = tokio_postgres::Config::new();
        local.host_path(server.socket_dir()).port(server.port());
        local.user(config.get_user().unwrap()).dbname("postgres");
        local
    };
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(one(&client, "SHOW work_mem").await, "6MB");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why_and_leaves_nothing() {
    let failed = poolwatch::ops::postgres::Postgres::start(Options {
        conf: "no_such_setting = 1".to_owned(),
        ..Options::default()
    })
    .await;
    match failed {
        Err(LaunchError::Exited { log, .. }) => assert!(log.contains("no_such_setting"), "{log}"),
        other => panic!("{other:?}"),
    }
}
