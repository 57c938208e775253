//! Several users: a file in PgBouncer's format, asking PostgreSQL, and their own proofs passed on where no password is stored.

use std::time::Duration;

use nix::sys::signal::Signal;
use poolwatch::ops::postgres::Options;
use tokio_postgres::{Client, NoTls};

use crate::auth::{failures, guarded, psql};
use crate::support::{Database, Postgres, Sidecar, eventually};
use crate::tls::Directory;

const LIMIT: Duration = Duration::from_secs(20);
const QUERY: &str = "SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = $1";

/// What PostgreSQL stores of a user's password.
async fn stored(server: &Postgres, user: &str) -> String {
    let client = server.connect("postgres").await;
    let row = client.query_one(QUERY, &[&user]).await.expect("a user");
    row.get(1)
}

async fn run(server: &Postgres, sql: &str) {
    let client = server.connect("postgres").await;
    client.batch_execute(sql).await.expect(sql);
}

async fn log_in(
    sidecar: &Sidecar,
    database: &Database,
    user: &str,
    password: &str,
) -> Result<String, String> {
    let info = format!("user={user} sslmode=disable");
    let environment = [("PGPASSWORD", password)];
    psql(
        sidecar,
        database,
        &info,
        &environment,
        "SELECT current_user",
    )
    .await
}

async fn client(sidecar: &Sidecar, user: &str, password: &str) -> Client {
    let mut config = sidecar.client_config();
    config.user(user).password(password);
    let (client, connection) = config.connect(NoTls).await.expect("a login");
    tokio::spawn(connection);
    client
}

async fn logged(sidecar: &Sidecar, wanted: &str) {
    eventually(LIMIT, || async {
        sidecar.logs().iter().any(|line| line.contains(wanted))
    })
    .await;
}

async fn with_users(database: &Database, path: &str) -> Sidecar {
    let users = [("POOLWATCH_AUTH__USERS_FILE", path)];
    Sidecar::start_with(database, &database.url, &[], &users).await
}

/// Each wants `message`; psql says more around it.
fn refused(said: Result<String, String>, message: &str) {
    let said = said.expect_err(message);
    assert!(said.contains(message), "{said}");
}

#[tokio::test]
async fn users_of_a_file_log_in_to_postgresql_as_themselves() {
    let (server, database) = guarded().await;
    run(
        &server,
        "CREATE ROLE ann LOGIN PASSWORD 'a secret'; CREATE ROLE \"b\"\"ob\" LOGIN PASSWORD 'bobs'; CREATE ROLE eve LOGIN PASSWORD 'eves'",
    )
    .await;
    let directory = Directory::new();
    let text = format!(
        "; users\n\"ann\" \"{}\"\n\"b\"\"ob\" \"bobs\"\n\"eve\" \"\"\n",
        stored(&server, "ann").await
    );
    let sidecar = with_users(&database, &directory.file("userlist.txt", &text)).await;
    for _ in 0..2 {
        let said = log_in(&sidecar, &database, "ann", "a secret").await;
        assert_eq!(said.as_deref(), Ok("ann"), "by her own proof");
    }
    let said = log_in(&sidecar, &database, "b\"ob", "bobs").await;
    assert_eq!(said.as_deref(), Ok("b\"ob"));
    // The file is all there is: the upstream's own user is not in it.
    for (user, password) in [
        ("ann", "wrong"),
        ("eve", "eves"),
        ("eve", ""),
        ("postgres", crate::auth::PASSWORD),
    ] {
        let message = "password authentication failed for user";
        if password.is_empty() {
            refused(log_in(&sidecar, &database, user, " ").await, message);
        } else {
            refused(log_in(&sidecar, &database, user, password).await, message);
        }
    }
    assert_eq!(failures(&sidecar, "no_password").await, 2.0);
    // And in another database.
    let other = server.database().await;
    let said = log_in(&sidecar, &other, "ann", "a secret").await;
    assert_eq!(said.as_deref(), Ok("ann"));
}

#[tokio::test]
async fn a_reload_changes_users_and_ends_no_session() {
    let (server, database) = guarded().await;
    run(&server, "CREATE ROLE ann LOGIN PASSWORD 'one'").await;
    let directory = Directory::new();
    let write = |text: &str| directory.file("userlist.txt", text);
    let before = stored(&server, "ann").await;
    let sidecar = with_users(&database, &write(&format!("\"ann\" \"{before}\""))).await;
    let session = client(&sidecar, "ann", "one").await;
    session.batch_execute("SELECT 1").await.expect("an answer");

    write("\"ann\" no quotes");
    sidecar.signal(Signal::SIGHUP);
    logged(&sidecar, "users not read again").await;
    assert_eq!(
        log_in(&sidecar, &database, "ann", "one").await.as_deref(),
        Ok("ann")
    );

    run(&server, "ALTER ROLE ann PASSWORD 'two'").await;
    let after = stored(&server, "ann").await;
    write(&format!(
        "\"ann\" \"{after}\"\n\"postgres\" \"{}\"",
        crate::auth::PASSWORD
    ));
    sidecar.signal(Signal::SIGHUP);
    eventually(LIMIT, || async {
        log_in(&sidecar, &database, "ann", "two").await
    })
    .await;
    refused(
        log_in(&sidecar, &database, "ann", "one").await,
        "password authentication failed",
    );
    let said = log_in(&sidecar, &database, "postgres", crate::auth::PASSWORD).await;
    assert_eq!(said.as_deref(), Ok("postgres"));
    // The session of before goes on.
    session.batch_execute("SELECT 1").await.expect("an answer");
}

#[tokio::test]
async fn a_key_opens_servers_only_where_the_verifier_is_the_same() {
    let (server, database) = guarded().await;
    run(&server, "CREATE ROLE ann LOGIN PASSWORD 'secret'").await;
    let directory = Directory::new();
    let known = stored(&server, "ann").await;
    let sidecar = with_users(
        &database,
        &directory.file("users", &format!("\"ann\" \"{known}\"")),
    )
    .await;
    assert_eq!(
        log_in(&sidecar, &database, "ann", "secret")
            .await
            .as_deref(),
        Ok("ann")
    );
    // The same password, another salt: the file is behind.
    run(&server, "ALTER ROLE ann PASSWORD 'secret'").await;
    let other = server.database().await;
    let said = log_in(&sidecar, &other, "ann", "secret").await.unwrap_err();
    assert!(said.contains("another salt or iteration count"), "{said}");
}

#[tokio::test]
async fn a_verifier_that_changes_takes_the_key_away() {
    let (server, database) = guarded().await;
    run(&server, "CREATE ROLE ann LOGIN PASSWORD 'one'").await;
    let directory = Directory::new();
    let write = |secret: &str| directory.file("users", &format!("\"ann\" \"{secret}\""));
    let path = write(&stored(&server, "ann").await);
    let environment = [
        ("POOLWATCH_AUTH__USERS_FILE", path.as_str()),
        // No server is kept: each transaction opens one.
        ("POOLWATCH_POOL__ENABLED", "false"),
    ];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
    let session = client(&sidecar, "ann", "one").await;
    session.batch_execute("SELECT 1").await.expect("an answer");
    run(&server, "ALTER ROLE ann PASSWORD 'two'").await;
    write(&stored(&server, "ann").await);
    sidecar.signal(Signal::SIGHUP);
    logged(&sidecar, "settings read again").await;
    let error = session.batch_execute("SELECT 1").await.unwrap_err();
    let error = error.as_db_error().expect("an ErrorResponse");
    assert!(
        error.message().contains("has none for user \"ann\""),
        "{error}"
    );
    // Whoever logs in now opens servers for the session of before too: they are one user's.
    assert_eq!(
        log_in(&sidecar, &database, "ann", "two").await.as_deref(),
        Ok("ann")
    );
    session.batch_execute("SELECT 1").await.expect("an answer");
}

#[tokio::test]
async fn md5_hashes_of_a_file_are_good_for_servers_that_ask_for_md5() {
    let server = Postgres::own(Options {
        conf: "password_encryption = 'md5'".to_owned(),
        hba: Some(
            "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 md5\n"
                .to_owned(),
        ),
        ..Options::default()
    })
    .await;
    let database = server.database().await;
    run(&server, "CREATE ROLE ann LOGIN PASSWORD 'secret'").await;
    let hash = stored(&server, "ann").await;
    assert!(hash.starts_with("md5"), "{hash}");
    let directory = Directory::new();
    let sidecar = with_users(
        &database,
        &directory.file("users", &format!("\"ann\" \"{hash}\"")),
    )
    .await;
    assert_eq!(
        log_in(&sidecar, &database, "ann", "secret")
            .await
            .as_deref(),
        Ok("ann")
    );
    refused(
        log_in(&sidecar, &database, "ann", "wrong").await,
        "password authentication failed",
    );
}

#[tokio::test]
async fn postgresql_is_asked_for_users() {
    let (server, database) = guarded().await;
    run(
        &server,
        "CREATE ROLE ann LOGIN PASSWORD 'one'; CREATE ROLE blank LOGIN",
    )
    .await;
    let environment = [("POOLWATCH_AUTH__QUERY", QUERY)];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
    let log = async |user: &str, password: &str| log_in(&sidecar, &database, user, password).await;
    assert_eq!(log("ann", "one").await.as_deref(), Ok("ann"));
    assert_eq!(
        log("postgres", crate::auth::PASSWORD).await.as_deref(),
        Ok("postgres")
    );
    for user in ["nobody", "blank", "ann"] {
        refused(log(user, "wrong").await, "password authentication failed");
    }
    assert_eq!(failures(&sidecar, "unknown_user").await, 1.0);
    assert_eq!(failures(&sidecar, "no_password").await, 1.0);
    assert_eq!(failures(&sidecar, "wrong_password").await, 1.0);
    assert_eq!(log("ann", "one").await.as_deref(), Ok("ann"));
    // Whoever comes after a change is judged by it, the same password with another salt included.
    run(&server, "ALTER ROLE ann PASSWORD 'two'").await;
    assert_eq!(log("ann", "two").await.as_deref(), Ok("ann"));
    refused(log("ann", "one").await, "password authentication failed");
    for _ in 0..3 {
        run(
            &server,
            "DROP ROLE ann; CREATE ROLE ann LOGIN PASSWORD 'two'",
        )
        .await;
        assert_eq!(log("ann", "two").await.as_deref(), Ok("ann"));
    }
    let all = (0..20).map(|_| log("ann", "two"));
    let all = futures_util::future::join_all(all).await;
    assert!(
        all.iter().all(|said| said.as_deref() == Ok("ann")),
        "{all:?}"
    );
}

#[tokio::test]
async fn a_query_that_fails_is_no_wrong_password() {
    let (_server, database) = guarded().await;
    let log_in_with = async |query: &str| {
        let environment = [("POOLWATCH_AUTH__QUERY", query)];
        let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
        let said = log_in(&sidecar, &database, "postgres", "x").await;
        assert_eq!(failures(&sidecar, "lookup").await, 1.0);
        (said, sidecar.logs().join("\n"))
    };
    let (said, log) = log_in_with("SELECT nothing FROM nowhere WHERE $1 = 'x'").await;
    refused(said, "could not look up the user in PostgreSQL");
    assert!(log.contains("nowhere"), "the reason is in the log: {log}");
    let (said, log) = log_in_with("SELECT usename FROM pg_shadow WHERE usename = $1").await;
    refused(said, "could not look up the user in PostgreSQL");
    assert!(log.contains("1 columns"), "{log}");
}

#[tokio::test]
async fn a_file_of_users_comes_before_the_question() {
    let (server, database) = guarded().await;
    run(
        &server,
        "CREATE ROLE ann LOGIN PASSWORD 'one'; CREATE ROLE bob LOGIN PASSWORD 'two'",
    )
    .await;
    let directory = Directory::new();
    let path = directory.file("users", "\"ann\" \"\"");
    let environment = [
        ("POOLWATCH_AUTH__QUERY", QUERY),
        ("POOLWATCH_AUTH__USERS_FILE", path.as_str()),
    ];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
    refused(
        log_in(&sidecar, &database, "ann", "one").await,
        "password authentication failed",
    );
    assert_eq!(
        log_in(&sidecar, &database, "bob", "two").await.as_deref(),
        Ok("bob")
    );
}

/// As docs/authentication.md has it: poolwatch's own user need not be a superuser.
#[tokio::test]
async fn a_function_spares_poolwatch_from_being_a_superuser() {
    let (server, database) = guarded().await;
    run(
        &server,
        "CREATE ROLE ann LOGIN PASSWORD 'one'; CREATE ROLE poolwatch LOGIN PASSWORD 'own'",
    )
    .await;
    let admin = server.connect(&database.name).await;
    let function = "CREATE FUNCTION user_lookup(name) RETURNS TABLE (usename name, passwd text) \
                    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog \
                    AS 'SELECT usename, passwd FROM pg_shadow WHERE usename = $1'; \
                    REVOKE ALL ON FUNCTION user_lookup(name) FROM PUBLIC; \
                    GRANT EXECUTE ON FUNCTION user_lookup(name) TO poolwatch";
    admin.batch_execute(function).await.expect(function);
    let port = server.port();
    let upstream = format!(
        "postgres://poolwatch:own@127.0.0.1:{port}/{}",
        database.name
    );
    let environment = [("POOLWATCH_AUTH__QUERY", "SELECT * FROM user_lookup($1)")];
    let sidecar = Sidecar::start_with(&database, &upstream, &[], &environment).await;
    for (user, password) in [("ann", "one"), ("poolwatch", "own")] {
        let said = log_in(&sidecar, &database, user, password).await;
        assert_eq!(said.as_deref(), Ok(user));
    }
    let message = "password authentication failed";
    refused(log_in(&sidecar, &database, "ann", "wrong").await, message);
}
