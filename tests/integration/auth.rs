//! Clients prove who they are: the upstream URL's own user and password, every method, and what is told and counted when
//! they do not.

use std::process::{Command, Output, Stdio};

use poolwatch::ops::postgres::Options;
use poolwatch::secret::Secret;

use crate::support::raw::{Message, Raw, startup};
use crate::support::{Database, Postgres, Sidecar};

pub(crate) const PASSWORD: &str = "p@ss wörd/%";

/// A server that lets nobody in over TCP without SCRAM, and a database on it.
pub(crate) async fn guarded() -> (Postgres, Database) {
    let server = Postgres::own(Options {
        password: Some(Secret::from(PASSWORD)),
        auth: "scram-sha-256".to_owned(),
        ..Options::default()
    })
    .await;
    let database = server.database().await;
    (server, database)
}

/// psql through the sidecar: its standard output, or its errors.
pub(crate) async fn psql(
    sidecar: &Sidecar,
    database: &Database,
    conninfo: &str,
    environment: &[(&str, &str)],
    sql: &str,
) -> Result<String, String> {
    let port = sidecar.proxy_addr().port();
    let info = format!(
        "host=localhost hostaddr=127.0.0.1 port={port} dbname={} {conninfo}",
        database.name
    );
    let output = tokio::process::Command::new(&database.program)
        .args([
            "-X",
            "-A",
            "-t",
            "-w",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
            &info,
        ])
        .env("LC_ALL", "C")
        .env("HOME", "/nonexistent")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("start psql");
    said(&output)
}

fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

/// What the proxy answers to a startup packet, and nothing more is said.
pub(crate) async fn asked(sidecar: &Sidecar, database: &Database, user: &str) -> (Raw, Message) {
    let mut raw = Raw::dial(sidecar.proxy_addr()).await;
    raw.send(&startup(196_608, &database.name, &[("user", user)]))
        .await;
    let first = raw.next().await.expect("an answer");
    (raw, first)
}

pub(crate) async fn failures(sidecar: &Sidecar, reason: &str) -> f64 {
    let scrape = sidecar.scrape().await;
    scrape.sum(
        "poolwatch_authentication_failures_total",
        &[("reason", reason)],
    )
}

#[tokio::test]
async fn the_upstreams_user_comes_in_with_its_password_and_nobody_else() {
    let (server, database) = guarded().await;
    let sidecar = Sidecar::start(&database).await;
    let right = [("PGPASSWORD", PASSWORD)];
    let query = "SELECT current_user";
    let log_in = async |user: &str, environment: &[(&str, &str)]| {
        let info = format!("user={user} sslmode=disable");
        psql(&sidecar, &database, &info, environment, query).await
    };
    assert_eq!(
        log_in("postgres", &right[..]).await.as_deref(),
        Ok("postgres")
    );
    for (user, password) in [
        ("postgres", "wrong"),
        ("nobody", PASSWORD),
        ("nobody", "wrong"),
    ] {
        let said = log_in(user, &[("PGPASSWORD", password)]).await.unwrap_err();
        let expected = format!("FATAL:  password authentication failed for user \"{user}\"");
        assert!(said.ends_with(&expected), "{said}");
    }
    // psql leaves when it is asked for a password and has none: no failure of a proof.
    let said = log_in("postgres", &[]).await.unwrap_err();
    assert!(said.contains("no password supplied"), "{said}");
    assert_eq!(failures(&sidecar, "wrong_password").await, 1.0);
    assert_eq!(failures(&sidecar, "unknown_user").await, 2.0);
    let scrape = sidecar.scrape().await;
    let outcome = |name| scrape.sum("poolwatch_logins_total", &[("outcome", name)]);
    assert_eq!(
        (outcome("ok"), outcome("authentication_failed")),
        (1.0, 3.0)
    );
    let log = sidecar.logs().join("\n");
    assert!(
        log.contains("reason=\"wrong_password\"") && log.contains("unknown_user"),
        "{log}"
    );
    for secret in ["wrong\n", PASSWORD, "SCRAM-SHA-256$", "127.0.0.1:5"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    drop(server);
}

#[tokio::test]
async fn a_wrong_password_is_28p01_to_a_driver() {
    let (_server, database) = guarded().await;
    let sidecar = Sidecar::start(&database).await;
    for (user, password) in [("postgres", "wrong"), ("nobody", "wrong")] {
        let mut config = sidecar.client_config();
        config.user(user).password(password);
        let error = config
            .connect(tokio_postgres::NoTls)
            .await
            .err()
            .expect("refused");
        let error = error.as_db_error().expect("an ErrorResponse");
        assert_eq!(error.code().code(), "28P01");
        assert_eq!(error.severity(), "FATAL");
    }
    // Both are asked in the same way.
    let (_, known) = asked(&sidecar, &database, "postgres").await;
    let (_, unknown) = asked(&sidecar, &database, "nobody").await;
    assert_eq!(known, unknown);
    assert_eq!(known.body, b"\0\0\0\x0aSCRAM-SHA-256\0\0");
}

#[tokio::test]
async fn the_channel_is_bound_over_tls() {
    let (_server, database) = guarded().await;
    let sidecar = Sidecar::start(&database).await;
    let connect = |more: &'static str, binding: &'static str| {
        let info = format!("user=postgres {more}");
        let (sidecar, database) = (&sidecar, &database);
        async move {
            let environment = [("PGPASSWORD", PASSWORD), ("PGCHANNELBINDING", binding)];
            psql(sidecar, database, &info, &environment, "SELECT 6 * 7").await
        }
    };
    for (more, binding) in [
        ("sslmode=require", "require"),
        ("sslmode=require", "prefer"),
        ("sslmode=require", "disable"),
        ("sslmode=disable", "prefer"),
    ] {
        let said = connect(more, binding).await;
        assert_eq!(said.as_deref(), Ok("42"), "{more} {binding}");
    }
    let said = connect("sslmode=disable", "require").await.unwrap_err();
    assert!(said.contains("channel binding"), "{said}");
    let environment = [("PGPASSWORD", "wrong"), ("PGCHANNELBINDING", "require")];
    let said = psql(
        &sidecar,
        &database,
        "user=postgres sslmode=require",
        &environment,
        "SELECT 1",
    )
    .await;
    assert!(said.unwrap_err().contains("password authentication failed"));
}

#[tokio::test]
async fn beyond_this_machine_only_with_a_proof() {
    let (_server, database) = guarded().await;
    let everywhere = ["--set", "listen.address=0.0.0.0:0"];
    let sidecar = Sidecar::start_with(&database, &database.url, &everywhere, &[]).await;
    let info = "user=postgres sslmode=disable";
    let said = psql(
        &sidecar,
        &database,
        info,
        &[("PGPASSWORD", PASSWORD)],
        "SELECT 1",
    )
    .await;
    assert_eq!(said.as_deref(), Ok("1"));
    let refused = |url: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_poolwatch"));
        command.args(["serve", "--http", "127.0.0.1:0", "--upstream-url", url]);
        command.args(everywhere).args(more);
        let output = command.output().expect("start poolwatch");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        text
    };
    let text = refused("postgres://a@127.0.0.1:1/d", &[]);
    assert!(text.contains("trusted without a proof"), "{text}");
    let text = refused(
        "postgres://a:b@127.0.0.1:1/d",
        &["--set", "auth.method=trust"],
    );
    assert!(text.contains("trusted without a proof"), "{text}");
}

#[tokio::test]
async fn trust_is_for_who_sets_it_or_has_no_password() {
    let (_server, database) = guarded().await;
    let trust = ["--set", "auth.method=trust"];
    let sidecar = Sidecar::start_with(&database, &database.url, &trust, &[]).await;
    let info = "user=postgres sslmode=disable";
    let said = psql(&sidecar, &database, info, &[], "SELECT 'in'").await;
    assert_eq!(said.as_deref(), Ok("in"));
    let said = psql(
        &sidecar,
        &database,
        "user=root sslmode=disable",
        &[],
        "SELECT 1",
    )
    .await;
    assert!(
        said.unwrap_err()
            .contains("no credentials for user \"root\"")
    );
    let open = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&open).await;
    let said = psql(&sidecar, &open, info, &[], "SELECT 'in'").await;
    assert_eq!(said.as_deref(), Ok("in"));
    let log = sidecar.logs().join("\n");
    assert!(log.contains("clients are trusted without a proof"), "{log}");
}

#[tokio::test]
async fn a_password_in_clear_comes_in_over_tls_only() {
    let (_server, database) = guarded().await;
    let password = ["--set", "auth.method=password"];
    let sidecar = Sidecar::start_with(&database, &database.url, &password, &[]).await;
    let log_in = |info: &'static str, password: &'static str| {
        let (sidecar, database) = (&sidecar, &database);
        async move {
            let environment = [("PGPASSWORD", password)];
            psql(sidecar, database, info, &environment, "SELECT 'in'").await
        }
    };
    let tls = "user=postgres sslmode=require";
    assert_eq!(log_in(tls, PASSWORD).await.as_deref(), Ok("in"));
    let said = log_in(tls, "wrong").await.unwrap_err();
    assert!(said.contains("password authentication failed"), "{said}");
    let said = log_in("user=nobody sslmode=require", PASSWORD)
        .await
        .unwrap_err();
    assert!(said.contains("password authentication failed"), "{said}");
    let said = log_in("user=postgres sslmode=disable", PASSWORD)
        .await
        .unwrap_err();
    assert!(said.contains("over TLS only"), "{said}");
    assert_eq!(failures(&sidecar, "tls_required").await, 1.0);
    let (_, refusal) = asked(&sidecar, &database, "postgres").await;
    assert_eq!((refusal.tag, refusal.code().as_str()), ('E', "28000"));
}

#[tokio::test]
async fn health_and_metrics_need_no_login() {
    let (_server, database) = guarded().await;
    let sidecar = Sidecar::start(&database).await;
    let output = Command::new(env!("CARGO_BIN_EXE_poolwatch"))
        .args(["health", "--http", &sidecar.http_addr().to_string()])
        .output()
        .expect("start poolwatch");
    assert!(output.status.success(), "{output:?}");
}
