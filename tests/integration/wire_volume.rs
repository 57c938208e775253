//! Large messages pass through: what they cost in memory does not depend on their size.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bench::{Bench, ONE};
use crate::support::raw::{Raw, message, prepare, query, run, sync, tags, use_of};
use crate::support::{Faults, Postgres, Sidecar, Trouble, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// What the process has resident at most since the mark was reset, and now, in KiB.
fn resident(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .expect("the key");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

/// Starts the high-water mark afresh.
fn reset_high_water(pid: u32) -> u64 {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("clear_refs");
    resident(pid, "VmRSS:")
}

fn assert_grew_little(pid: u32, before: u64) {
    let grown = resident(pid, "VmHWM:").saturating_sub(before);
    assert!(grown <= 8 * 1024, "{grown} KiB more than before");
}

/// Waits until a figure has stopped to grow: the same in ten looks one after the other.
async fn stalled<F: Future<Output = u64>>(figure: impl Fn() -> F) {
    let last = parking_lot::Mutex::new((0_u64, 0_u32));
    eventually(LIMIT, || async {
        let now = figure().await;
        let mut last = last.lock();
        *last = if now > 0 && now == last.0 {
            (now, last.1 + 1)
        } else {
            (now, 0)
        };
        last.1 >= 10
    })
    .await;
}

const MEGABYTES: usize = 200;

async fn slow_result(sql: &str) {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    client.value("SELECT 1").await;
    let pid = bench.sidecar.pid();
    let before = reset_high_water(pid);
    client.send(&query(sql)).await;
    let received = || async {
        let scrape = bench.sidecar.scrape().await;
        scrape.sum(
            "poolwatch_bytes_total",
            &[("side", "client"), ("direction", "sent")],
        ) as u64
    };
    stalled(received).await;
    let (mut read, _write) = client.into_halves();
    let (mut buffer, mut total) = (vec![0; 256 * 1024], 0);
    let mut end = Vec::new();
    while !end.ends_with(b"Z\0\0\0\x05I") {
        let length = tokio::time::timeout(LIMIT, read.read(&mut buffer))
            .await
            .expect("data")
            .expect("read");
        assert!(length > 0, "ended after {total}");
        total += length;
        end.extend_from_slice(&buffer[length.saturating_sub(6)..length]);
        end.drain(..end.len().saturating_sub(6));
    }
    assert!(total > MEGABYTES * 1_000_000, "{total}");
    assert_grew_little(pid, before);
}

#[tokio::test]
async fn a_large_result_to_a_slow_client_costs_no_memory() {
    slow_result("SELECT repeat('x', 1000000) FROM generate_series(1, 200)").await;
}

#[tokio::test]
async fn one_large_row_to_a_slow_client_costs_no_memory() {
    slow_result("SELECT repeat('x', 200000000)").await;
}

#[tokio::test]
async fn a_large_copy_to_a_slow_server_costs_no_memory() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let sidecar = Sidecar::start_with(&database, &faults.through(&database.url), &[], &ONE).await;
    let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    client.rows("CREATE UNLOGGED TABLE big (a text)").await;
    let before = reset_high_water(sidecar.pid());
    client.send(&query("COPY big FROM STDIN")).await;
    assert_eq!(tags(&client.take(1).await), "G");
    faults.set(Trouble::BlackHole);
    let (mut read, mut write) = client.into_halves();
    let writing = tokio::spawn(async move {
        let row = [&vec![b'x'; 999_999][..], b"\n"].concat();
        let piece = message(b'd', &row);
        for _ in 0..MEGABYTES {
            write.write_all(&piece).await.expect("send");
        }
        write.write_all(&message(b'c', b"")).await.expect("send");
        write
    });
    stalled(|| async {
        let scrape = sidecar.scrape().await;
        scrape.sum(
            "poolwatch_bytes_total",
            &[("side", "client"), ("direction", "received")],
        ) as u64
    })
    .await;
    assert!(!writing.is_finished());
    faults.set(Trouble::None);
    let mut end = [0; 14 + 6];
    tokio::time::timeout(Duration::from_secs(120), read.read_exact(&mut end))
        .await
        .expect("an answer")
        .expect("read");
    assert_eq!(
        &end[..14],
        b"C\0\0\0\x0dCOPY 200\0",
        "{}",
        String::from_utf8_lossy(&end)
    );
    drop(writing.await);
    assert_grew_little(sidecar.pid(), before);
}

#[tokio::test]
async fn a_large_statement_is_relayed_whole() {
    let bench = Bench::new().await;
    let text = "y".repeat(3_000_000);
    let mut client = bench.pooled().await;
    let length = client.value(&format!("SELECT length('{text}')")).await;
    assert_eq!(length, "3000000");
    let answer = client
        .ask(&[run("SELECT length($1::text)", &[&text]), sync()].concat())
        .await;
    assert_eq!(tags(&answer), "12DCZ");
    assert_eq!(answer[2].row(), ["3000000"]);
    let answer = client
        .ask(&[run(&format!("SELECT length('{text}')"), &[]), sync()].concat())
        .await;
    assert_eq!(tags(&answer), "12DCZ");
    // An answer and a question that go both ways at once: neither side waits for the other forever.
    let mut all = Vec::new();
    for _ in 0..4 {
        all.extend(run("SELECT $1::text", &[&text]));
    }
    all.extend(sync());
    let mut reader = client;
    let answer = reader.ask_while_reading(&all).await;
    assert_eq!(tags(&answer), "12DC12DC12DC12DCZ");
}

/// Each error is told in the client's words, so it is no longer where the server's bytes are.
#[tokio::test]
async fn errors_about_shared_statements_to_a_slow_client_cost_no_memory() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    client.ask(&prepare("s", "SELECT repeat('x', 20000)")).await;
    let pid = bench.sidecar.pid();
    let before = reset_high_water(pid);
    let one = [use_of("s", &[]), use_of("s", &["too many"])].concat();
    let (_read, mut write) = client.into_halves();
    let sending = tokio::spawn(async move {
        let _ = write.write_all(&one.repeat(20_000)).await;
        write
    });
    stalled(|| async {
        let labels = [("side", "server"), ("direction", "received")];
        let scrape = bench.sidecar.scrape().await;
        scrape.sum("poolwatch_bytes_total", &labels) as u64
    })
    .await;
    sending.abort();
    assert_grew_little(pid, before);
}
