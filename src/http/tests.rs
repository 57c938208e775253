//! The surface as a client sees it: raw requests to a real listener.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::metrics::Metrics;
use crate::query::{Config, Queries, Slow};
use crate::status::{PoolStatus, PoolView, Status};

/// Of which none has run.
fn queries() -> Queries {
    Queries::new(Config {
        max_fingerprints: 10,
        top_k: 1,
        slow: Slow {
            threshold: Duration::from_secs(1),
            rules: Vec::new(),
        },
        slow_log_size: 10,
        slow_log_rate: 10,
        log_literals: false,
    })
}

struct Server {
    address: SocketAddr,
    readiness: Readiness,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Server {
    async fn start(pools: Vec<PoolView>) -> Self {
        Self::start_with(pools, |_| {}).await
    }

    async fn start_with(pools: Vec<PoolView>, change: impl FnOnce(&mut HttpState)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let readiness = Readiness::new();
        let status = Status::new(move || pools.clone()).with_queries(Some(queries()));
        let status = std::sync::Arc::new(status);
        let mut state = HttpState::new(Metrics::new(), status, readiness.clone());
        change(&mut state);
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, state, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            readiness,
            stop,
            served,
        }
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        self.ask_with(method, path, "").await
    }

    async fn ask_with(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head[9..12].parse().unwrap(),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

#[tokio::test]
async fn metrics_are_answered_in_the_text_format() {
    let server = Server::start(vec![]).await;
    let answer = server.ask("GET", "/metrics").await;
    assert_eq!(answer.status, 200);
    let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
    assert!(answer.head.contains(kind), "{}", answer.head);
    assert!(answer.body.contains("# TYPE poolwatch_build_info gauge\n"));
    assert!(answer.body.ends_with('\n'));
}

#[tokio::test]
async fn refusals_are_problem_documents() {
    let server = Server::start(vec![]).await;
    let missing = server.ask("GET", "/nothing").await;
    let method = server.ask("DELETE", "/metrics").await;
    let large = server
        .ask_with("POST", "/metrics", "Content-Length: 99999999\r\n")
        .await;
    for (answer, status, title) in [
        (&missing, 404, "Not Found"),
        (&method, 405, "Method Not Allowed"),
        (&large, 413, "Payload Too Large"),
    ] {
        assert_eq!(answer.status, status);
        assert!(
            answer
                .head
                .contains("content-type: application/problem+json")
        );
        let body = answer.json();
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["title"], title);
        assert_eq!(body["status"], status);
        assert!(body["detail"].as_str().is_some_and(|text| !text.is_empty()));
    }
    assert!(method.head.contains("allow: get,head"), "{}", method.head);
}

#[tokio::test]
async fn ready_says_what_is_missing_and_alive_does_not_care() {
    let server = Server::start(vec![]).await;
    let latch = server.readiness.latch("the first probe of PostgreSQL");
    let answer = server.ask("GET", "/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({"ready": false, "reasons": ["the first probe of PostgreSQL"]})
    );
    assert_eq!(server.ask("GET", "/healthz").await.status, 200);

    drop(latch);
    let answer = server.ask("GET", "/readyz").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({"ready": true, "reasons": []}));

    server.readiness.set_stopping();
    assert_eq!(server.ask("GET", "/readyz").await.status, 503);
    assert_eq!(server.ask("GET", "/healthz").await.status, 200);
}

fn view(name: &str, max_overflow: i32) -> PoolView {
    PoolView {
        name: name.to_owned(),
        user: "app".to_owned(),
        host: "db".to_owned(),
        port: 5432,
        database: "orders".to_owned(),
        status: PoolStatus {
            size: 25,
            max_overflow,
            idle: 3,
            in_use: 24,
            connecting: 1,
            waiting: 7,
            permits_in_use: 25,
            oldest_wait: Duration::from_millis(1500),
            ..Default::default()
        },
        totals: Default::default(),
    }
}

#[tokio::test]
async fn pools_are_listed_by_name_with_durations_in_seconds() {
    let server = Server::start(vec![view("b", -1), view("a", 10)]).await;
    let answer = server.ask("GET", "/api/v1/pools").await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(
        body["pools"][0],
        json!({
            "name": "a", "user": "app", "host": "db", "port": 5432, "database": "orders",
            "size": 25, "max_overflow": 10, "max": 35,
            "idle": 3, "in_use": 24, "live": 27, "overflow": 2,
            "connecting": 1, "pinging": 0, "waiting": 7, "permits_in_use": 25,
            "oldest_wait_seconds": 1.5, "oldest_use_seconds": 0.0,
            "paused": false, "closed": false,
        })
    );
    assert_eq!(body["pools"][1]["name"], "b");
    assert_eq!(body["pools"][1]["max"], Value::Null);
    assert_eq!(body["pools"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn pages_follow_each_other_by_their_cursors() {
    let server = Server::start(vec![view("b", 0), view("c", 0), view("a", 0)]).await;
    let mut seen = Vec::new();
    let mut path = "/api/v1/pools?limit=2".to_owned();
    loop {
        let body = server.ask("GET", &path).await.json();
        let pools = body["pools"].as_array().unwrap().clone();
        seen.extend(pools.iter().map(|pool| pool["name"].to_string()));
        match body["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/pools?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ["\"a\"", "\"b\"", "\"c\""]);
    for query in ["limit=0", "limit=x", "limit=10001", "sort=a"] {
        let refused = server.ask("GET", &format!("/api/v1/pools?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.head.contains("application/problem+json"), "{query}");
    }
    let refused = server.ask("GET", "/api/v1/pools?cursor=YQ").await;
    assert_eq!(refused.status, 404);
}

/// What the document says there is, is there, and what it says needs a token, needs one.
#[tokio::test]
async fn every_operation_of_the_document_is_served_and_asks_for_what_it_says() {
    let server = Server::start(vec![]).await;
    let document = server.ask("GET", "/api/v1/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut seen = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let answer = server
                .ask(&method.to_uppercase(), &path.replace("{id}", "1"))
                .await;
            let expected = match method.as_str() {
                "get" => 200,
                _ => 403,
            };
            assert_eq!(answer.status, expected, "{method} {path}");
            let documented = &operation["responses"][answer.status.to_string()];
            assert!(documented.is_object(), "{method} {path}");
            seen += 1;
        }
    }
    assert_eq!(seen, 18);
    let page = server.ask("GET", "/api/v1/docs").await;
    assert_eq!(page.status, 200);
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(page.body.contains(path.as_str()), "{path}");
    }
    assert!(!page.body.contains("<script"));
}

#[tokio::test]
async fn a_page_that_is_known_is_not_sent_again() {
    let server = Server::start(vec![]).await;
    let first = server.ask("GET", "/api/v1/openapi.json").await;
    let line = first.head.lines().find(|line| line.starts_with("etag: "));
    let tag = line.unwrap().trim_start_matches("etag: w");
    let known = format!("If-None-Match: W{tag}\r\n");
    let again = server.ask_with("GET", "/api/v1/openapi.json", &known).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let other = "If-None-Match: W/\"0\"\r\n";
    let other = server.ask_with("GET", "/api/v1/openapi.json", other).await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn an_answer_has_its_requests_id_or_one_of_its_own() {
    let server = Server::start(vec![]).await;
    let id = "X-Request-Id: abc-1\r\n";
    let given = server.ask_with("GET", "/api/v1/pools", id).await;
    assert!(given.head.contains("x-request-id: abc-1"), "{}", given.head);
    let id = "X-Request-Id: a b\r\n";
    let made = server.ask_with("GET", "/nothing", id).await;
    let line = made
        .head
        .lines()
        .find(|line| line.starts_with("x-request-id: "));
    assert_eq!(line.map(str::len), Some("x-request-id: ".len() + 32));
}

#[tokio::test]
async fn a_refusal_asks_for_a_token_and_metrics_are_open_unless_protected() {
    let token = "0123456789abcdef";
    let beyond = |protect_metrics| {
        move |state: &mut HttpState| {
            state.access = std::sync::Arc::new(Access {
                reader: Some(token.into()),
                operator: None,
                loopback: false,
                protect_metrics,
            });
        }
    };
    let with = format!("Authorization: Bearer {token}\r\n");
    let server = Server::start_with(vec![], beyond(false)).await;
    let refused = server.ask("GET", "/api/v1/pools").await;
    assert_eq!(refused.status, 401);
    assert!(refused.head.contains("www-authenticate: bearer"));
    assert_eq!(
        server.ask_with("GET", "/api/v1/pools", &with).await.status,
        200
    );
    for open in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(server.ask("GET", open).await.status, 200, "{open}");
    }
    let server = Server::start_with(vec![], beyond(true)).await;
    assert_eq!(server.ask("GET", "/metrics").await.status, 401);
    assert_eq!(server.ask_with("GET", "/metrics", &with).await.status, 200);
    assert_eq!(server.ask("GET", "/readyz").await.status, 200);
}

#[tokio::test]
async fn what_a_limit_refuses_is_counted() {
    let server = Server::start(vec![]).await;
    let large = "Content-Length: 99999999\r\n";
    let answer = server.ask_with("POST", "/api/v1/pause", large).await;
    assert_eq!(answer.status, 413);
    let page = server.ask("GET", "/metrics").await.body;
    let line = "poolwatch_limit_rejections_total{limit=\"http_size\"} 1";
    assert!(page.contains(line), "{page}");
}

#[tokio::test]
async fn the_index_names_what_there_is() {
    let server = Server::start(vec![]).await;
    let index = server.ask("GET", "/").await;
    assert_eq!(index.status, 200);
    let paths: Vec<_> = index.body.lines().filter(|l| l.starts_with('/')).collect();
    assert_eq!(paths.len(), 5, "{paths:?}");
    for line in paths {
        let path = line.split_whitespace().next().unwrap();
        assert_eq!(server.ask("GET", path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_stop_lets_idle_connections_go_and_ends() {
    let server = Server::start(vec![]).await;
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut byte = [0];
    kept.read_exact(&mut byte).await.unwrap(); // the answer has begun: the connection is kept from now on
    server.stop.send(()).unwrap();
    server.served.await.unwrap();
    let mut rest = Vec::new();
    kept.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"ok\n"));
}

/// Under paused time the limits pass at once when nothing else can happen.
#[tokio::test(start_paused = true)]
async fn half_a_request_does_not_hold_a_stop() {
    let server = Server::start(vec![]).await;
    let mut stuck = TcpStream::connect(server.address).await.unwrap();
    stuck.write_all(b"GET /met").await.unwrap();
    server.stop.send(()).unwrap();
    server.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn connections_that_say_nothing_are_ended() {
    let server = Server::start(vec![]).await;
    let mut silent = Vec::new();
    for _ in 0..listener::MOST_CONNECTIONS + 1 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    // All places are taken, so this is served only once a silent connection has had its time.
    let answer = tokio::time::timeout(listener::IDLE_LIMIT * 3, server.ask("GET", "/healthz"));
    assert_eq!(answer.await.unwrap().status, 200);
    let mut end = [0];
    let read = silent[0].read(&mut end).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}
