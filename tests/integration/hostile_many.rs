//! Hostile connections while others work: the others notice nothing, and nothing is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use crate::bench::Bench;
use crate::hostile::lying;
use crate::support::eventually;
use crate::support::raw::{
    Message, Raw, bind, close, describe, execute, flush, message, packet, parse, query, startup,
    sync,
};

const LIMIT: Duration = Duration::from_secs(30);
/// Three servers: one for the bystander, the others for whoever is hostile.
const THREE: [(&str, &str); 2] = [
    ("POOLWATCH_POOL__SIZE", "3"),
    ("POOLWATCH_LISTEN__LOGIN_TIMEOUT", "2s"),
];

/// A client that goes on asking, and must be answered each time.
struct Bystander {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Bystander {
    async fn start(bench: &Bench) -> Self {
        let mut client = bench.pooled().await;
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopping, counted) = (stop.clone(), asked.clone());
        let task = tokio::spawn(async move {
            while !stopping.load(Ordering::Relaxed) {
                let number = counted.fetch_add(1, Ordering::Relaxed);
                let value = client.value(&format!("SELECT {number} + 1")).await;
                assert_eq!(value, (number + 1).to_string());
                let rows = client.rows("BEGIN; SELECT 'a'; SELECT 'b'; COMMIT").await;
                assert_eq!(rows, ["a", "b"]);
                // A pace, so that it leaves the machine to those it watches.
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        });
        Self { stop, asked, task }
    }

    /// How often it was answered; panics if it once was not.
    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task
            .await
            .expect("the bystander was answered each time");
        self.asked.load(Ordering::Relaxed)
    }
}

/// Nobody is left, what is open is idle, and nothing panicked.
async fn nothing_is_left(bench: &Bench) {
    bench.settled().await;
    eventually(LIMIT, || async {
        let scrape = bench.sidecar.scrape().await;
        let clients = scrape.sum("poolwatch_clients", &[]);
        let opened = scrape.sum("poolwatch_pool_connections_opened_total", &[]);
        let closed = scrape.sum("poolwatch_pool_connections_closed_total", &[]);
        let live = scrape.sum("db_client_connection_count", &[]);
        if clients == 0.0 && opened - closed == live {
            Ok(())
        } else {
            Err(format!(
                "{clients} clients, {opened} opened, {closed} closed, {live} live"
            ))
        }
    })
    .await;
    let scrape = bench.sidecar.scrape().await;
    for name in ["poolwatch_pool_bugs_total", "poolwatch_pinned_sessions"] {
        assert_eq!(scrape.sum(name, &[]), 0.0, "{name}");
    }
    let logs = bench.sidecar.logs();
    assert!(!logs.iter().any(|line| line.contains("panicked")));
    let mut next = bench.pooled().await;
    assert_eq!(next.value("SELECT 'fine'").await, "fine");
}

async fn said_to_the_end(mut client: Raw) -> Vec<Message> {
    let mut said = Vec::new();
    while let Some(message) = client.next().await {
        said.push(message);
    }
    said
}

#[tokio::test]
async fn two_hundred_slow_logins_are_ended_and_hinder_nobody() {
    let bench = Bench::with(&THREE).await;
    let bystander = Bystander::start(&bench).await;
    let whole = startup(196_608, &bench.database.name, &[]);
    let started = Instant::now();
    let slow = (0..200_usize).map(|number| {
        let (address, whole) = (bench.sidecar.proxy_addr(), whole.clone());
        async move {
            let mut client = Raw::dial(address).await;
            // A byte now and then, never the last: no byte buys more time.
            let known = number % (whole.len() - 1);
            let mut sent = 0;
            loop {
                let pause = tokio::time::timeout(Duration::from_millis(100), client.next());
                match pause.await {
                    Ok(Some(message)) => panic!("{message:?}"),
                    Ok(None) => break,
                    Err(_) if sent < known => {
                        // It may have been closed meanwhile.
                        let _ = client.try_send(&whole[sent..=sent]).await;
                        sent += 1;
                    }
                    Err(_) => {}
                }
            }
            started.elapsed()
        }
    });
    for took in join_all(slow).await {
        assert!(
            took >= Duration::from_millis(1900) && took < LIMIT,
            "{took:?}"
        );
    }
    assert!(bystander.stop().await > 10);
    let scrape = bench.sidecar.scrape().await;
    let outcome = [("outcome", "timeout")];
    assert_eq!(scrape.sum("poolwatch_logins_total", &outcome), 200.0);
    nothing_is_left(&bench).await;
}

#[tokio::test]
async fn startup_packets_that_cannot_be() {
    let bench = Bench::with(&THREE).await;
    let bystander = Bystander::start(&bench).await;
    let name = bench.database.name.clone();
    let session = startup(196_608, &name, &[]);
    let cases = [
        (
            "a huge length",
            [&[0x7f, 0xff, 0xff, 0xff], &session[4..]].concat(),
        ),
        ("a negative length", [&[0xff; 4], &session[4..]].concat()),
        ("no length", [&[0; 4], &session[4..]].concat()),
        ("just too long", packet(&[0; 10_001])),
        ("a query first", query("SELECT 1")),
        ("a Sync first", sync()),
        ("a password first", message(b'p', b"secret\0")),
        (
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        (
            "TLS at once",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
        ("another protocol", startup(131_072, &name, &[])),
        ("the far future", startup(4 << 16, &name, &[])),
        ("no parameters", packet(&196_608_u32.to_be_bytes())),
        (
            "no terminator",
            packet(&[&196_608_u32.to_be_bytes()[..], b"user\0me\0"].concat()),
        ),
        (
            "no user",
            packet(&[&196_608_u32.to_be_bytes()[..], b"database\0x\0\0"].concat()),
        ),
        (
            "not UTF-8",
            packet(&[&196_608_u32.to_be_bytes()[..], b"user\0\xff\xfe\0\0"].concat()),
        ),
        (
            "half a cancel request",
            packet(&80_877_102_u32.to_be_bytes()),
        ),
        (
            "a cancel request of nobody",
            packet(b"\x04\xd2\x16\x2e\0\0\0\x07\x01\x02\x03\x04"),
        ),
        (
            "a cancel request without end",
            packet(&[b"\x04\xd2\x16\x2e".to_vec(), vec![1; 9000]].concat()),
        ),
        ("noise", (0..=255).collect()),
    ];
    for (name, bytes) in cases {
        let mut client = Raw::dial(bench.sidecar.proxy_addr()).await;
        // It may be refused before all is sent.
        let _ = client.try_send(&bytes).await;
        let said = tokio::time::timeout(LIMIT, said_to_the_end(client)).await;
        let said = said.unwrap_or_else(|_| panic!("{name}: no end"));
        assert!(
            said.iter().all(|message| message.tag == 'E'),
            "{name}: {said:?}"
        );
        for error in said {
            assert_eq!(error.field(b'V'), "FATAL", "{name}");
        }
    }
    assert!(bystander.stop().await > 0);
    nothing_is_left(&bench).await;
}

/// Where a session may be when something comes that must not.
fn phases() -> Vec<(&'static str, Vec<u8>)> {
    let run = [parse("", "SELECT 1"), bind("", "", &[]), execute("", 0)].concat();
    vec![
        ("idle", Vec::new()),
        ("after a query", query("SELECT 1")),
        ("in a transaction", query("BEGIN")),
        ("in a failed transaction", query("BEGIN; SELECT 1/0")),
        ("in a batch", parse("", "SELECT 1")),
        ("in a flushed batch", [run.clone(), flush()].concat()),
        ("behind a Sync", [run.clone(), sync()].concat()),
        (
            "behind an error",
            [parse("", "SELEKT"), run.clone()].concat(),
        ),
        (
            "between Syncs",
            [run.clone(), sync(), run, sync(), parse("n", "SELECT 2")].concat(),
        ),
        ("pinned", query("SET work_mem = '5MB'; LISTEN news")),
        (
            "in COPY out",
            query("COPY (SELECT generate_series(1, 3000)) TO STDOUT"),
        ),
        (
            "in a large result",
            query("SELECT repeat('x', 1000) FROM generate_series(1, 500)"),
        ),
    ]
}

/// What must not come.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("an unknown message", message(b'?', b"")),
        ("zeros", vec![0; 64]),
        ("ones", vec![0xff; 64]),
        ("a server's message", message(b'Z', b"I")),
        ("a password", message(b'p', b"secret\0")),
        ("a length below its own", lying(b'Q', 3, b"")),
        ("a negative length", lying(b'B', -1, b"abc")),
        ("a startup packet", startup(196_608, "postgres", &[])),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
        ("text", b"hello?\r\n\r\n".to_vec()),
    ]
}

#[tokio::test]
async fn garbage_in_every_phase_costs_its_sender_only() {
    let bench = Bench::with(&THREE).await;
    bench.direct().await.rows("CREATE TABLE k (a int)").await;
    let bystander = Bystander::start(&bench).await;
    for (phase, before) in phases() {
        for (what, bytes) in garbage() {
            let mut client = bench.pooled().await;
            // It may be refused, and closed, before all is sent.
            let _ = client.try_send(&before).await;
            let _ = client
                .try_send(&[bytes, query("SELECT 'never'")].concat())
                .await;
            let ended = tokio::time::timeout(LIMIT, said_to_the_end(client)).await;
            let said = ended.unwrap_or_else(|_| panic!("{what} {phase}: no end"));
            let never = said.iter().any(|m| m.tag == 'D' && m.row() == ["never"]);
            assert!(!never, "{what} {phase}: what comes behind it is not run");
        }
    }
    assert!(bystander.stop().await > 10);
    let mut next = bench.pooled().await;
    assert_eq!(next.value("SELECT count(*) FROM k").await, "0");
    drop(next);
    nothing_is_left(&bench).await;
}

#[tokio::test]
async fn a_message_cut_anywhere_leaves_nothing() {
    let bench = Bench::with(&THREE).await;
    bench.direct().await.rows("CREATE TABLE k (a int)").await;
    let bystander = Bystander::start(&bench).await;
    let conversation = [
        query("BEGIN"),
        parse("n", "INSERT INTO k VALUES (1)"),
        bind("p", "n", &[]),
        describe(b'P', "p"),
        execute("p", 1),
        close(b'S', "n"),
        flush(),
        sync(),
        query("COPY k FROM STDIN"),
        message(b'd', b"1\n"),
        message(b'c', b""),
    ]
    .concat();
    for end in (0..conversation.len()).step_by(2) {
        let mut client = bench.pooled().await;
        client.send(&conversation[..end]).await;
        // Half of them wait for an answer, the others are gone at once.
        if end % 4 == 0 && end > 15 {
            client.next().await.expect("an answer");
        }
        drop(client);
    }
    assert!(bystander.stop().await > 0);
    let mut next = bench.pooled().await;
    assert_eq!(next.value("SELECT count(*) FROM k").await, "0");
    drop(next);
    nothing_is_left(&bench).await;
}

/// What comes before the server's CopyInResponse was read finds poolwatch unaware of the COPY: it asks to cancel and reads for
/// ReadyForQuery until `pool.reset_timeout`, while PostgreSQL waits for data and heeds no cancel (backend/lease.rs, `restore`).
/// The client's connection stays as long.
#[tokio::test]
async fn garbage_behind_a_copy_ends_the_session_at_once() {
    let bench = Bench::with(&THREE).await;
    bench.direct().await.rows("CREATE TABLE k (a int)").await;
    for data in [Vec::new(), message(b'd', b"1\n2\n")] {
        for (what, bytes) in garbage() {
            let mut client = bench.pooled().await;
            let started = Instant::now();
            let all = [query("COPY k FROM STDIN"), data.clone(), bytes].concat();
            let _ = client.try_send(&all).await;
            said_to_the_end(client).await;
            let took = started.elapsed();
            assert!(took < Duration::from_secs(3), "{what}: {took:?}");
        }
    }
    nothing_is_left(&bench).await;
}
