//! The JSON API's orders on a running poolwatch: who may give them, that they come about, and that the log has them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::error::SqlState;

use crate::bench::ONE;
use crate::support::{Postgres, Sidecar, eventually};

const READER: &str = "reader-0123456789";
const OPERATOR: &str = "operator-0123456789";
const LIMIT: Duration = Duration::from_secs(20);

/// A poolwatch with a pool of one, and the files with its tokens.
struct Api {
    sidecar: Sidecar,
    database: String,
    files: [PathBuf; 2],
}

impl Api {
    async fn start() -> Self {
        let database = Postgres::shared().await.database().await;
        let files = ["reader", "operator"]
            .map(|role| std::env::temp_dir().join(format!("{}-{role}", database.name)));
        std::fs::write(&files[0], format!("{READER}\n")).expect("a token");
        std::fs::write(&files[1], format!("{OPERATOR}\n")).expect("a token");
        let mut environment = ONE.to_vec();
        let [reader, operator] = files.each_ref().map(|file| file.to_str().expect("UTF-8"));
        environment.push(("POOLWATCH_HTTP__READER_TOKEN_FILE", reader));
        environment.push(("POOLWATCH_HTTP__OPERATOR_TOKEN_FILE", operator));
        let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
        Self {
            sidecar,
            database: database.name,
            files,
        }
    }

    async fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.sidecar.http_addr())
            .await
            .expect("connect");
        let request = format!(
            "{method} /api/v1/{path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nX-Request-Id: id-of-{}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            path.replace('/', "-"),
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head[9..12].parse().expect("a status");
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    async fn order(&self, path: &str, body: &str) -> (u16, Value) {
        self.ask("POST", path, OPERATOR, body).await
    }

    async fn list(&self, name: &str) -> Vec<Value> {
        let (status, body) = self.ask("GET", name, READER, "").await;
        assert_eq!(status, 200, "{body}");
        body[name].as_array().expect("a list").clone()
    }

    /// Waits until a line of the log, which comes through a pipe, has all of these.
    async fn logged(&self, parts: &[&str]) {
        eventually(LIMIT, || async {
            let logs = self.sidecar.logs();
            let has = |line: &String| parts.iter().all(|part| line.contains(part));
            if logs.iter().any(has) {
                Ok(())
            } else {
                Err(format!("no line with {parts:?}: {logs:?}"))
            }
        })
        .await;
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        for file in &self.files {
            // Left to the system's cleaning where it fails.
            let _ = std::fs::remove_file(file);
        }
    }
}

#[tokio::test]
async fn a_pause_holds_until_it_is_resumed_and_readers_give_no_orders() {
    let api = Api::start().await;
    let client = api.sidecar.connect().await;
    client.batch_execute("SELECT 1").await.expect("an answer");

    let scope = json!({"database": api.database}).to_string();
    let (status, _) = api.ask("POST", "pause", READER, &scope).await;
    assert_eq!(status, 403);
    api.logged(&["refused an order", "/api/v1/pause"]).await;
    assert_eq!(
        api.order("pause", "{\"database\":\"nowhere\"}").await.0,
        404
    );
    assert_eq!(api.order("pause", "{\"databse\":\"x\"}").await.0, 422);
    assert_eq!(api.order("pause", "{").await.0, 400);
    assert_eq!(api.list("databases").await[0]["paused"], false);

    let (status, done) = api.order("pause", &scope).await;
    assert_eq!((status, &done["changed"]), (200, &json!(true)));
    api.logged(&["an order", "pause", &api.database, "id-of-pause"])
        .await;
    assert_eq!(api.order("pause", &scope).await.1["changed"], false);
    assert_eq!(api.list("databases").await[0]["paused"], true);
    let waiting = tokio::spawn(async move { client.batch_execute("SELECT 1").await });
    eventually(LIMIT, || async { api.list("waits").await.len() == 1 }).await;
    assert_eq!(api.order("resume", &scope).await.1["changed"], true);
    waiting.await.expect("a task").expect("served again");
    assert_eq!(api.list("waits").await, Vec::<Value>::new());
}

#[tokio::test]
async fn who_runs_and_who_waits_can_be_cancelled_and_ended() {
    let api = Api::start().await;
    let (holder, waiter) = (api.sidecar.connect().await, api.sidecar.connect().await);
    let runs = tokio::spawn(async move {
        let error = holder.batch_execute("SELECT pg_sleep(60)").await;
        (error.expect_err("cancelled"), holder)
    });
    let in_state = async |state: &str| -> Option<Value> {
        let mut clients = api.list("clients").await.into_iter();
        clients.find(|client| client["state"] == state)
    };
    eventually(LIMIT, || async { in_state("active").await.is_some() }).await;
    let waits = tokio::spawn(async move {
        let error = waiter.batch_execute("SELECT 1").await;
        error.expect_err("cancelled")
    });
    eventually(LIMIT, || async { in_state("waiting").await.is_some() }).await;

    let waiting = in_state("waiting").await.expect("who waits");
    assert_eq!(waiting["server"], Value::Null);
    let cancel = format!("clients/{}/cancel", waiting["id"]);
    assert_eq!(api.order(&cancel, "").await.0, 204);
    assert_eq!(
        waits.await.expect("a task").code(),
        Some(&SqlState::QUERY_CANCELED)
    );

    let active = in_state("active").await.expect("who runs");
    let servers = api.list("servers").await;
    assert_eq!(servers[0]["id"], active["server"]);
    assert_eq!(servers[0]["client"], active["id"]);
    let cancel = format!("clients/{}/cancel", active["id"]);
    assert_eq!(api.order(&cancel, "").await.0, 204);
    let (error, holder) = runs.await.expect("a task");
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    holder
        .batch_execute("SELECT 1")
        .await
        .expect("its session stays");

    assert_eq!(api.order(&cancel, "").await.0, 404, "it does nothing now");
    let end = format!("clients/{}/end", active["id"]);
    assert_eq!(api.order(&end, "").await.0, 204);
    eventually(LIMIT, || async { holder.is_closed() }).await;
    assert_eq!(api.order(&end, "").await.0, 404);
    api.logged(&[
        "an order",
        "end",
        &format!("id-of-clients-{}-end", active["id"]),
    ])
    .await;
}

#[tokio::test]
async fn pools_are_resized_servers_replaced_and_settings_read_again() {
    let api = Api::start().await;
    let client = api.sidecar.connect().await;
    client.batch_execute("SELECT 1").await.expect("an answer");
    let before = api.list("servers").await[0]["id"].clone();

    assert_eq!(
        api.order("resize", "{\"size\":3,\"max_overflow\":2}")
            .await
            .0,
        204
    );
    let pools = api.list("pools").await;
    let pool = pools
        .iter()
        .find(|pool| pool["name"] != "control")
        .expect("it");
    assert_eq!(
        (&pool["size"], &pool["max_overflow"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(api.order("resize", "{\"max_overflow\":-2}").await.0, 422);

    assert_eq!(api.order("resize", "[9, 9]").await.0, 422);
    assert_eq!(api.order("reconnect", "{}").await.0, 200);
    client.batch_execute("SELECT 1").await.expect("an answer");
    assert_ne!(api.list("servers").await[0]["id"], before);

    assert_eq!(api.order("reload", "").await.0, 204);
    let (_, configuration) = api.ask("GET", "configuration", READER, "").await;
    let settings = configuration["settings"].as_array().expect("settings");
    let size = settings.iter().find(|of| of["key"] == "pool.size");
    assert_eq!(size.expect("it")["value"], "1", "what the environment says");
    assert!(!configuration.to_string().contains(OPERATOR));
}

#[tokio::test]
async fn beyond_loopback_it_does_not_start_without_a_readers_token() {
    let database = Postgres::shared().await.database().await;
    let output = tokio::task::spawn_blocking(move || {
        Command::new(env!("CARGO_BIN_EXE_poolwatch"))
            .args(["serve", "--upstream-url", &database.url])
            .args(["--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"])
            .env_remove("POOLWATCH_HTTP__READER_TOKEN_FILE")
            .output()
            .expect("run")
    });
    let output = output.await.expect("a task");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("http.reader_token_file"), "{said}");
}
