//! `poolwatch config check --connect`: every way in which PostgreSQL cannot be reached has its sentence.

use poolwatch::ops::postgres::{Mode, Options};
use poolwatch::secret::Secret;

use crate::support::Postgres;
use crate::support::program::{Ended, poolwatch, run};

async fn check(url: &str, more: &[&str]) -> Ended {
    let arguments = [&["config", "check", "--connect"], more].concat();
    let environment = [("POOLWATCH_UPSTREAM__URL", url)];
    let ended = run(poolwatch(&arguments, &environment)).await;
    assert!(!format!("{ended:?}").contains("hunter"), "{ended:?}");
    ended
}

#[tokio::test]
async fn what_answers_is_described() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let ended = check(&database.url, &[]).await.expect(0);
    ended.prints("the settings are fine\nupstream: postgresql://");
    ended.prints(&format!("127.0.0.1:{}: PostgreSQL ", server.port()));
    ended.prints(&format!(
        ", primary, database \"{}\" as user \"postgres\", no TLS, ",
        database.name
    ));
    assert_eq!(ended.err, "");

    let ended = check(&database.url, &["--json", "--pool-size", "5000"]).await;
    let document: serde_json::Value = serde_json::from_str(&ended.expect(0).out).expect("JSON");
    let answer = &document["hosts"][0]["answer"];
    let client = database.connect().await;
    let row = client
        .query_one(
            "SELECT current_setting('server_version'), current_setting('max_connections')::int",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(answer["version"], row.get::<_, &str>(0));
    assert_eq!(answer["max_connections"], row.get::<_, i32>(1));
    assert_eq!(answer["in_recovery"], false);
    assert_eq!(answer["tls"], serde_json::Value::Null);
    assert!(answer["connections"].as_i64().unwrap() >= 1, "{document}");
    let warning = document["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.contains("a pool may open 5010 connections"),
        "{warning}"
    );
    assert!(warning.contains("lower pool.size"), "{warning}");
}

#[tokio::test]
async fn wrong_settings_are_told_before_anything_is_tried() {
    let ended = check("postgresql://h/d", &["--set", "pool.size=many"]).await;
    ended.expect(2).says("pool.size");
    let ended = check("postgresql://h/d", &["--set", "pool.size=many", "--json"]).await;
    let document: serde_json::Value = serde_json::from_str(&ended.expect(2).out).expect("JSON");
    assert_eq!(document["problems"].as_array().unwrap().len(), 1);
    assert_eq!(document["hosts"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn who_does_not_answer_is_told() {
    let ended = check("postgresql://ann:hunter2@no-such-host.invalid/d", &[]).await;
    ended
        .expect(1)
        .says("the name no-such-host.invalid has no address");

    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let ended = check(&format!("postgresql://ann:hunter2@{address}/d"), &[]).await;
    ended
        .expect(1)
        .says(&format!("nothing listens at {address}"));

    // It takes connections and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let url = format!("postgresql://ann:hunter2@{address}/d");
    let ended = check(&url, &["--set", "upstream.connect_timeout=300ms"]).await;
    ended
        .expect(1)
        .says(&format!("no connection to {address} within 300ms"));

    let server = Postgres::shared().await;
    let url = server.url("postgres", "postgres");
    let ended = check(&format!("{url}?sslmode=require"), &[]).await;
    ended
        .expect(1)
        .says(&format!("TLS with 127.0.0.1:{} failed", server.port()));
    let ended = check(
        &format!("{url}?sslmode=verify-full&sslrootcert=/no/such.pem"),
        &[],
    )
    .await;
    ended.expect(1).says("/no/such.pem");
}

#[tokio::test]
async fn who_refuses_is_quoted() {
    let server = Postgres::own(Options {
        password: Some(Secret::new("hunter2")),
        auth: "scram-sha-256".to_owned(),
        ..Options::default()
    })
    .await;
    let url = server.url("postgres", "postgres");
    check(&url, &[]).await.expect(0);
    let ended = check(&url.replace("hunter2", "hunter3"), &[]).await;
    ended
        .expect(1)
        .says("refuses the login of user \"postgres\": password authentication failed");
    let ended = check(&server.url("postgres", "nowhere"), &[]).await;
    ended.expect(1).says("there is no database \"nowhere\"");

    let client = server.connect("postgres").await;
    client
        .batch_execute("CREATE ROLE few LOGIN PASSWORD 'hunter4' CONNECTION LIMIT 0")
        .await
        .unwrap();
    let few = url.replace("postgres:hunter2", "few:hunter4");
    assert_ne!(few, url);
    let ended = check(&few, &[]).await;
    ended
        .expect(1)
        .says("has no connection left: too many connections for role \"few\"");
}

#[tokio::test]
async fn a_standby_is_told_where_the_pool_would_use_it() {
    let mut standby = Postgres::own(Options::default()).await;
    standby.stop(Mode::Fast).await.unwrap();
    std::fs::write(standby.socket_dir().join("data/standby.signal"), "").unwrap();
    standby.start_again().await.unwrap();
    let told = format!("127.0.0.1:{} is in recovery (a standby)", standby.port());
    let ended = check(&standby.url("postgres", "postgres"), &[]).await;
    let ended = ended.expect(1);
    ended.says(&told);
    ended.prints(", standby, database \"postgres\"");

    // Behind a primary it is what one expects. A host that does not answer is not.
    let primary = Postgres::shared().await;
    let (first, second) = (primary.port(), standby.port());
    let url = |hosts: &str| format!("postgresql://postgres@{hosts}/postgres");
    let both = url(&format!("127.0.0.1:{first},127.0.0.1:{second}"));
    let ended = check(&both, &[]).await.expect(0);
    ended.prints(&format!("127.0.0.1:{first}: PostgreSQL "));
    ended.prints(&format!("127.0.0.1:{second}: PostgreSQL "));
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let ended = check(&url(&format!("{address},127.0.0.1:{second}")), &[]).await;
    let ended = ended.expect(1);
    ended.says(&format!("nothing listens at {address}"));
    ended.says(&told);
}
