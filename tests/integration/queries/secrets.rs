//! Nothing of what a query carries is shown anywhere: not in a figure, an answer or a line of the log.

use super::{LIMIT, shown};
use crate::bench::Bench;
use crate::support::eventually;
use crate::support::raw::{bind, execute, message, parse, query, sync};

/// In literals, parameters, comments, COPY data and in what PostgreSQL says of errors.
const SECRET: &str = "s3cr3t";

#[tokio::test]
async fn no_secret_is_shown_anywhere() {
    let settings = [
        ("POOLWATCH_QUERIES__SLOW_THRESHOLD", "0s"),
        ("POOLWATCH_QUERIES__SLOW_LOG_RATE", "1000"),
        ("POOLWATCH_LOG__LEVEL", "debug"),
    ];
    let bench = Bench::with(&settings).await;
    let mut client = bench.pooled().await;
    client
        .ask(&query("CREATE TABLE t (n text PRIMARY KEY)"))
        .await;
    for text in [
        "SELECT 's3cr3t'",
        "SELECT E'a\\'s3cr3t', $$s3cr3t$$, $x$ s3cr3t $x$, U&'s3cr3t', 's'\n's3cr3t'",
        "INSERT INTO t VALUES ('s3cr3t'), ('s3cr3t 2')",
        "INSERT INTO t VALUES ('s3cr3t')",
        "SELECT 's3cr3t'::int",
        "SELECT 1 /* s3cr3t */ -- s3cr3t",
        "SELECT 1 /*password='s3cr3t'*/",
        "SELECT 's3cr3t",
        "SET application_name = 's3cr3t'; RESET application_name",
        "DO $$BEGIN RAISE EXCEPTION 's3cr3t'; END$$",
        "SELECT * FROM t WHERE n IN ('s3cr3t', 's3cr3t') AND n = 's3cr3t'",
    ] {
        client.ask(&query(text)).await;
    }
    for value in [SECRET, "s3cr3t 3"] {
        let run = [
            parse("", "INSERT INTO t VALUES ($1)"),
            bind("", "", &[value]),
            execute("", 0),
            sync(),
        ];
        client.ask(&run.concat()).await;
    }
    client.send(&query("COPY t FROM STDIN")).await;
    client.until('G').await;
    client.send(&message(b'd', b"s3cr3t\ns3cr3t\n")).await;
    client.ask(&message(b'c', b"")).await;

    let address = bench.sidecar.proxy_addr();
    let mut seen = 0;
    for command in [
        "SHOW QUERIES",
        "SHOW SLOW",
        "SHOW CLIENTS",
        "SHOW SERVERS",
        "SHOW HOLDERS",
        "SHOW PINS",
    ] {
        let rows = shown(address, command).await;
        seen += rows.len();
        let text = format!("{rows:?}");
        assert!(!text.contains(SECRET), "{command}: {text}");
    }
    assert!(seen > 20, "what is looked through is there: {seen} rows");
    for path in [
        "/metrics",
        "/api/v1/pools",
        "/api/v1/pins",
        "/api/v1/queries",
        "/api/v1/slow-queries",
        "/api/v1/holders",
        "/api/v1/clients",
    ] {
        let (status, body) = bench.sidecar.get(path).await;
        assert_eq!(status, 200);
        assert!(!body.contains(SECRET), "{path}: {body}");
    }
    // The last of them is there, so those before it are, too.
    let logs = eventually(LIMIT, || async {
        let logs = bench.sidecar.logs();
        let last = |line: &String| line.contains("slow query") && line.contains("COPY t");
        logs.iter().any(last).then_some(logs)
    })
    .await;
    for line in logs {
        assert!(!line.contains(SECRET), "{line}");
    }
}

/// SQLCommenter's tags are what a comment is read for, and they are shown.
#[tokio::test]
async fn tags_and_traces_are_shown() {
    let settings = [("POOLWATCH_QUERIES__SLOW_THRESHOLD", "0s")];
    let bench = Bench::with(&settings).await;
    let mut client = bench.pooled().await;
    let trace = "5bd66ef5095369c7b0d1f8f4bd33716a";
    for action in ["index", "index", "show"] {
        let text = format!(
            "SELECT 1 AS tagged /*action='{action}',traceparent='00-{trace}-c532cb4098ac3dd2-01'*/"
        );
        let run = [parse("", &text), bind("", "", &[]), execute("", 0), sync()];
        client.ask(&run.concat()).await;
    }
    let address = bench.sidecar.proxy_addr();
    let slow = shown(address, "SHOW SLOW").await;
    let tags: Vec<_> = slow.iter().map(|row| row["tags"].as_str()).collect();
    assert_eq!(tags, ["action='show'", "action='index'", "action='index'"]);
    assert!(slow.iter().all(|row| row["trace_id"] == trace), "{slow:?}");
    let queries = shown(address, "SHOW QUERIES").await;
    assert_eq!(
        queries.len(),
        1,
        "tags are no part of a fingerprint: {queries:?}"
    );
    assert_eq!(queries[0]["tags"], "action='index'", "the most frequent");
}
