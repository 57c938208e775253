//! What `poolwatch init` says when it cannot, and that it leaves nothing half-done then.

use std::time::Duration;

use poolwatch::ops::postgres::{Mode, Options};
use poolwatch::secret::Secret;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::init::{Pair, WHOLE, superuser};
use crate::support::program::{poolwatch, run};
use crate::support::{Postgres, eventually};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_server_without_pgvector_is_told_and_nothing_is_made() {
    let server = Postgres::shared().await;
    let (pair, url) = (Pair::new(), superuser(server));
    let ended = pair.init(&url, &["--vector", "required"]).await.expect(1);
    ended.says("the server has no extension \"vector\" (pgvector): install it there");
    assert_eq!(pair.state(server).await, "");
    let ended = pair.init(&url, &["--vector", "optional"]).await.expect(0);
    ended.prints("skipped   extension \"vector\": the server does not have it");
    assert_eq!(pair.state(server).await, WHOLE);
}

#[tokio::test]
async fn the_password_works_and_is_nowhere_in_the_log() {
    let server = Postgres::own(Options {
        password: Some(Secret::new("of-the-superuser")),
        auth: "scram-sha-256".to_owned(),
        conf: "log_statement = all\nlog_min_duration_statement = 0".to_owned(),
        ..Options::default()
    })
    .await;
    let pair = Pair::new();
    pair.init(&superuser(&server), &[]).await.expect(0);
    let login = |password: &str| {
        let mut config = server.client_config(&pair.database);
        config.user(&pair.role).password(password);
        async move { config.connect(tokio_postgres::NoTls).await.map(|_| ()) }
    };
    login("hunter2").await.unwrap();
    login("hunter3").await.unwrap_err();
    let log = std::fs::read_to_string(server.socket_dir().join("server.log")).unwrap();
    assert!(
        log.contains("CREATE ROLE") && !log.contains("hunter2"),
        "{log}"
    );

    // A verifier is taken as it is.
    let client = server.connect("postgres").await;
    let sql = format!(
        "SELECT rolpassword FROM pg_authid WHERE rolname = '{}'",
        pair.role
    );
    let verifier: String = client.query_one(&sql, &[]).await.unwrap().get(0);
    let second = Pair::new();
    let environment = [("POSTGRES_PASSWORD", verifier.as_str())];
    second
        .init_with(&superuser(&server), &[], &environment)
        .await
        .expect(0);
    let mut config = server.client_config(&second.database);
    config.user(&second.role).password("hunter2");
    config
        .connect(tokio_postgres::NoTls)
        .await
        .map(|_| ())
        .unwrap();

    let wrong = superuser(&server).replace("superuser", "nobody");
    let ended = pair.init(&wrong, &[]).await.expect(1);
    ended.says("refuses the login of user \"postgres\": password authentication failed");
    let without = superuser(&server).replace(":of%2Dthe%2Dsuperuser", "");
    assert_ne!(without, superuser(&server));
    let ended = pair.init(&without, &[]).await.expect(1);
    ended.says("refuses the login of user \"postgres\": ");
}

#[tokio::test]
async fn the_default_password_is_refused_for_another_machine() {
    let server = Postgres::shared().await;
    let pair = Pair::new();
    // A way of writing 127.0.0.1 that the resolver knows and we do not take for this machine.
    let elsewhere = superuser(server).replace("127.0.0.1", "127.1");
    let ended = pair.init_with(&elsewhere, &[], &[]).await.expect(2);
    ended.says("would get the default password, and the server is not on this machine");
    assert_eq!(pair.state(server).await, "");
    let ended = pair.init_with(&superuser(server), &[], &[]).await.expect(0);
    ended.says("warning: no password is given");
    // Nothing is made any more that would get it.
    // By a database of its own: for the lock of `postgres`, which other tests take, it would have to wait and say so.
    let entry = server.database().await.url.replace("127.0.0.1", "127.1");
    let entry = format!("init.url={entry}");
    let ended = pair.init_with(&elsewhere, &["--set", &entry], &[]).await;
    assert_eq!(ended.expect(0).err, "");
}

#[tokio::test]
async fn missing_rights_are_told_before_anything_is_made() {
    let server = Postgres::shared().await;
    let (pair, nobody) = (Pair::new(), Pair::new().role);
    let client = server.connect("postgres").await;
    client
        .batch_execute(&format!("CREATE ROLE {nobody} LOGIN"))
        .await
        .unwrap();
    let url = server.url(&nobody, "postgres");
    let ended = pair.init(&url, &[]).await.expect(1);
    for told in [
        format!(
            "user \"{nobody}\" may not create the role \"{}\"",
            pair.role
        ),
        format!(
            "user \"{nobody}\" may not create the database \"{}\"",
            pair.database
        ),
        "CREATEROLE".to_owned(),
        "CREATEDB".to_owned(),
    ] {
        ended.says(&told);
    }
    assert_eq!(pair.state(server).await, "");
    // A right that only PostgreSQL knows of.
    pair.init(&superuser(server), &[]).await.expect(0);
    let ended = pair.init(&url, &["--json"]).await.expect(1);
    let document: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let message = document["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("permission denied") || message.contains("refuses the login"),
        "{message}"
    );
}

#[tokio::test]
async fn no_superuser_is_needed() {
    let server = Postgres::shared().await;
    let (pair, admin) = (Pair::new(), Pair::new().role);
    let client = server.connect("postgres").await;
    let sql = format!("CREATE ROLE {admin} LOGIN CREATEROLE CREATEDB");
    client.batch_execute(&sql).await.unwrap();
    let url = server.url(&admin, "postgres");
    let ended = pair.init(&url, &[]).await.expect(0);
    assert!(
        ended.out.contains(&format!(
            "\"{admin}\" is a member of \"{}\", to act for it",
            pair.role
        )),
        "{}",
        ended.out
    );
    assert_eq!(pair.state(server).await, WHOLE);
    let again = pair.init(&url, &[]).await.expect(0);
    assert!(!again.out.contains("done"), "{}", again.out);
}

#[tokio::test]
async fn a_standby_and_a_read_only_server_are_told_apart() {
    let mut server = Postgres::own(Options::default()).await;
    let pair = Pair::new();
    server
        .add_conf("default_transaction_read_only = on")
        .unwrap();
    server.stop(Mode::Fast).await.unwrap();
    server.start_again().await.unwrap();
    let ended = pair.init(&superuser(&server), &[]).await.expect(1);
    ended.says("default_transaction_read_only is on");
    server.stop(Mode::Fast).await.unwrap();
    std::fs::write(server.socket_dir().join("data/standby.signal"), "").unwrap();
    server.start_again().await.unwrap();
    let ended = pair.init(&superuser(&server), &[]).await.expect(1);
    ended.says("the server is a read-only standby: connect to its primary");
}

/// The file of pg_db_role_setting, empty until init writes a row, is /dev/full, which answers every write as a full disk does.
#[tokio::test]
async fn a_full_disk_is_told_and_the_next_run_makes_the_rest() {
    let mut server = Postgres::own(Options::default()).await;
    let pair = Pair::new();
    let client = server.connect("postgres").await;
    let path = "SELECT pg_relation_filepath('pg_db_role_setting')";
    let path: String = client.query_one(path, &[]).await.unwrap().get(0);
    drop(client);
    let file = server.socket_dir().join("data").join(path);
    let kept = file.with_extension("kept");
    // A stopped server has no file open.
    server.stop(Mode::Fast).await.unwrap();
    std::fs::rename(&file, &kept).unwrap();
    assert_eq!(std::fs::metadata(&kept).unwrap().len(), 0);
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    server.start_again().await.unwrap();
    let ended = pair.init(&superuser(&server), &[]).await.expect(1);
    assert!(
        ended.err.contains("No space left on device") && ended.err.contains("53100"),
        "{}",
        ended.err
    );
    // Of what happens in the database, nothing: no schema either, which came before.
    let left = pair.state(&server).await;
    assert!(
        left.contains("database") && !left.contains("schema ROLE"),
        "{left}"
    );
    assert_ne!(left, WHOLE);
    server.stop(Mode::Fast).await.unwrap();
    std::fs::rename(&kept, &file).unwrap();
    server.start_again().await.unwrap();
    pair.init(&superuser(&server), &[]).await.expect(0);
    assert_eq!(pair.state(&server).await, WHOLE);
}

#[tokio::test]
async fn another_encoding_is_an_error() {
    let server = Postgres::shared().await;
    let pair = Pair::new();
    let client = server.connect("postgres").await;
    let sql = format!(
        "CREATE DATABASE {} ENCODING 'SQL_ASCII' TEMPLATE template0",
        pair.database
    );
    client.batch_execute(&sql).await.unwrap();
    let before = pair.state(server).await;
    let ended = pair.init(&superuser(server), &[]).await.expect(1);
    ended.says("exists with the encoding SQL_ASCII, not UTF8");
    assert_eq!(pair.state(server).await, before);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let mut server = Postgres::own(Options::default()).await;
    let (pair, url) = (Pair::new(), superuser(&server));
    server.stop(Mode::Fast).await.unwrap();
    let refused = pair.init(&url, &["--wait", "0s"]).await.expect(1);
    assert!(
        refused
            .err
            .contains(&format!("nothing listens at 127.0.0.1:{}", server.port())),
        "{}",
        refused.err
    );
    let refused = pair.init(&url, &["--wait", "300ms"]).await.expect(1);
    refused.says("waiting for PostgreSQL, 300ms at most");

    let arguments = [
        "init",
        "--upstream-url",
        &url,
        "--vector",
        "off",
        "--user",
        &pair.role,
        "--database",
        &pair.database,
    ];
    let mut child = poolwatch(&arguments, &[("POSTGRES_PASSWORD", "hunter2")])
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = tokio::time::timeout(LIMIT, told.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(line.starts_with("waiting for PostgreSQL"), "{line}");
    server.start_again().await.unwrap();
    let status = tokio::time::timeout(LIMIT, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(pair.state(&server).await, WHOLE);
}

#[tokio::test]
async fn a_name_without_an_address_is_told() {
    let pair = Pair::new();
    let ended = pair
        .init("postgres://ann@no-such-host.invalid/d", &["--wait", "0s"])
        .await
        .expect(1);
    ended.says("the name no-such-host.invalid has no address");
}

#[tokio::test]
async fn a_server_without_tls_is_told() {
    let server = Postgres::shared().await;
    let url = format!("{}?sslmode=require", superuser(server));
    let ended = Pair::new().init(&url, &[]).await.expect(1);
    let told = format!("TLS with 127.0.0.1:{} failed", server.port());
    ended.says(&told);
}

#[tokio::test]
async fn who_has_the_lock_is_told_and_waited_for() {
    let server = Postgres::shared().await;
    // In a database of its own: other tests take the lock of `postgres`.
    let (pair, entry) = (Pair::new(), server.database().await);
    let holder = entry.connect().await;
    holder
        .batch_execute(
            "SET application_name TO 'the other run'; SELECT pg_advisory_lock(8101816766312838243)",
        )
        .await
        .unwrap();
    let pid: i32 = holder
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let told = format!(
        "process {pid}, user \"postgres\", application \"the other run\", from 127.0.0.1, connected for "
    );
    let set = format!("init.url={}", entry.url);
    let ended = pair
        .init(&entry.url, &["--set", &set, "--lock-timeout", "200ms"])
        .await
        .expect(1);
    ended.says("another run has the lock and did not end within");
    assert_eq!(ended.err.matches(&told).count(), 2, "{told}\n{}", ended.err);
    assert_eq!(pair.state(server).await, "");

    let arguments = [
        "init",
        "--set",
        &set,
        "--vector",
        "off",
        "--user",
        &pair.role,
        "--database",
        &pair.database,
    ];
    // The session of the run before may still be there, and its last question with it.
    let began = "SELECT pg_catalog.clock_timestamp()::text";
    let began: String = holder.query_one(began, &[]).await.unwrap().get(0);
    let waiting = tokio::spawn(run(poolwatch(
        &arguments,
        &[("POSTGRES_PASSWORD", "hunter2")],
    )));
    eventually(LIMIT, || async {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_locks l%' \
             AND backend_start > '{began}' AND state = 'idle'"
        );
        let count: i64 = holder.query_one(&sql, &[]).await.unwrap().get(0);
        count > 0
    })
    .await;
    drop(holder);
    let ended = waiting.await.unwrap().expect(0);
    ended.says("waiting for another run to end");
    assert_eq!(pair.state(server).await, WHOLE);
}

#[tokio::test]
async fn wrong_usage_ends_with_2() {
    let server = Postgres::shared().await;
    let url = superuser(server);
    for (arguments, told) in [
        (
            &["init", "--vector", "perhaps"][..],
            "required, optional, off",
        ),
        (&["init", "--drop-public", "all"], "empty, cascade, keep"),
        (&["init"], "no PostgreSQL server is named"),
        (
            &["init", "--upstream-url", &url, "--database", "pg_shop"],
            "begins with pg_",
        ),
        (
            &[
                "init",
                "--upstream-url",
                &url,
                "--user",
                "poolwatch",
                "--sidecar",
                "--vector",
                "off",
            ],
            "is what poolwatch calls its own",
        ),
        (&["init", "--print-sql", "--dry-run"], "cannot be used with"),
        (&["init", "--wait", "60"], "write a number with its unit"),
    ] {
        let ended = run(poolwatch(arguments, &[("POSTGRES_PASSWORD", "hunter2")]))
            .await
            .expect(2);
        assert!(
            ended.err.contains(told),
            "{arguments:?}: {told} is not in\n{}",
            ended.err
        );
    }
}
