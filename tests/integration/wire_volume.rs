//! Large messages pass through: what they cost in memory does not depend on their size.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;

use crate::bench::{Bench, ONE};
use crate::support::raw::{
    Raw, execute, flush, message, parse, prepare, query, run, sync, tags, use_of,
};
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

/// For a server that takes nothing for a while: a beginning, megabytes, an end; and what is answered to it.
struct Flood {
    head: Vec<u8>,
    megabyte: Vec<u8>,
    tail: Vec<u8>,
    answer: Vec<u8>,
}

impl Flood {
    /// One message, whose body is the megabytes between these.
    fn one(tag: u8, before: &[u8], after: &[u8]) -> Self {
        let length = 4 + before.len() + MEGABYTES * 1_000_000 + after.len();
        let length = u32::try_from(length).expect("a length");
        Self {
            head: [&[tag], &length.to_be_bytes()[..], before].concat(),
            megabyte: vec![b'x'; 1_000_000],
            tail: after.to_vec(),
            answer: Vec::new(),
        }
    }

    /// Execution of this statement, which asks for the length of its parameter.
    fn parameter(statement: &str) -> Self {
        let length = u32::try_from(MEGABYTES * 1_000_000).expect("a length");
        let names = ["\0", statement, "\0"].concat();
        let before = [names.as_bytes(), b"\0\0\0\x01", &length.to_be_bytes()].concat();
        let mut flood = Self::one(b'B', &before, b"\0\0");
        flood.tail.extend([execute("", 0), sync()].concat());
        flood.answer = [
            message(b'2', b""),
            message(b'D', b"\0\x01\0\0\0\x09200000000"),
            message(b'C', b"SELECT 1\0"),
        ]
        .concat();
        flood
    }

    /// What ends a COPY of so many rows.
    fn copied(mut self, rows: usize) -> Self {
        self.tail.extend(message(b'c', b""));
        self.answer = message(b'C', format!("COPY {rows}\0").as_bytes());
        self
    }

    async fn write(self, mut write: OwnedWriteHalf) -> OwnedWriteHalf {
        write.write_all(&self.head).await.expect("send");
        for _ in 0..MEGABYTES {
            write.write_all(&self.megabyte).await.expect("send");
        }
        write.write_all(&self.tail).await.expect("send");
        write
    }
}

/// Sends the flood while nothing reaches the server, until poolwatch reads no more; then lets it through.
async fn slow_server(before: &[Vec<u8>], flood: Flood) {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let direct = database.connect().await;
    let table = "CREATE UNLOGGED TABLE big (a text)";
    direct.batch_execute(table).await.expect("a table");
    let faults = Faults::before(server.port()).await;
    let few = [
        ONE[0],
        ONE[1],
        ("POOLWATCH_POOL__MAX_PREPARED_STATEMENTS", "1"),
    ];
    let sidecar = Sidecar::start_with(&database, &faults.through(&database.url), &[], &few).await;
    let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    // A transaction, so that the server is this client's already when nothing reaches it any more.
    client.rows("BEGIN").await;
    let resident = reset_high_water(sidecar.pid());
    for request in before {
        client.send(request).await;
        let answer = client.take(1).await;
        assert!(["1", "G"].contains(&&tags(&answer)[..]), "{answer:?}");
    }
    faults.set(Trouble::BlackHole);
    let (mut read, write) = client.into_halves();
    let expected = [&flood.answer[..], &message(b'Z', b"T")].concat();
    let writing = tokio::spawn(flood.write(write));
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
    let mut answer = vec![0; expected.len()];
    tokio::time::timeout(Duration::from_secs(120), read.read_exact(&mut answer))
        .await
        .expect("an answer")
        .expect("read");
    let text = String::from_utf8_lossy(&answer);
    assert!(answer == expected, "{text}");
    drop(writing.await);
    assert_grew_little(sidecar.pid(), resident);
}

#[tokio::test]
async fn a_large_copy_to_a_slow_server_costs_no_memory() {
    let row = [&vec![b'x'; 999_999][..], b"\n"].concat();
    let flood = Flood {
        head: Vec::new(),
        megabyte: message(b'd', &row),
        tail: Vec::new(),
        answer: Vec::new(),
    };
    slow_server(&[query("COPY big FROM STDIN")], flood.copied(MEGABYTES)).await;
}

#[tokio::test]
async fn one_large_copied_row_to_a_slow_server_costs_no_memory() {
    let flood = Flood::one(b'd', b"", b"\n").copied(1);
    slow_server(&[query("COPY big FROM STDIN")], flood).await;
}

const LENGTH: &str = "SELECT length($1::text)";

#[tokio::test]
async fn one_large_parameter_to_a_slow_server_costs_no_memory() {
    let prepare = [parse("", LENGTH), flush()].concat();
    slow_server(&[prepare], Flood::parameter("")).await;
}

#[tokio::test]
async fn one_large_parameter_of_a_statement_to_be_prepared_again_costs_no_memory() {
    // The server keeps one statement: the second takes the place of the first.
    let first = [parse("first", LENGTH), flush()].concat();
    let second = [parse("second", "SELECT 2"), flush()].concat();
    slow_server(&[first, second], Flood::parameter("first")).await;
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
