//! Clients that break the protocol, by malice or by accident: an error for them, and nothing for others.

use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::support::raw::{Raw, bind, execute, message, packet, parse, query, startup, sync, tags};

const LIMIT: Duration = Duration::from_secs(20);

/// A message whose declared length is not that of its body.
pub(crate) fn lying(tag: u8, length: i32, body: &[u8]) -> Vec<u8> {
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_session_with_its_error() {
    let bench = Bench::new().await;
    let mut witness = bench.pooled().await;
    let cases = [
        ("unknown message", message(b'?', b"")),
        ("NUL message", message(0, b"abc")),
        ("a server's message", message(b'Z', b"I")),
        ("a password out of place", message(b'p', b"secret\0")),
        ("a negative length", lying(b'Q', -1, b"SELECT 1\0")),
        ("the least length", lying(b'Q', i32::MIN, b"")),
        ("a length below its own", lying(b'Q', 3, b"")),
        ("no length", lying(b'S', 0, b"")),
        (
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        (
            "after a good query",
            [query("SELECT 1"), message(b'?', b"")].concat(),
        ),
        (
            "in a transaction",
            [query("BEGIN"), message(b'?', b"")].concat(),
        ),
        (
            "in a batch",
            [parse("", "SELECT 1"), sync(), lying(b'B', -5, b"")].concat(),
        ),
    ];
    for (name, bytes) in cases {
        let mut client = bench.pooled().await;
        client.send(&bytes).await;
        let mut said = Vec::new();
        while let Some(message) = client.next().await {
            said.push(message);
        }
        let last = said.last().unwrap_or_else(|| panic!("{name}: nothing"));
        assert_eq!(last.tag, 'E', "{name}: {said:?}");
        assert_eq!(
            (last.field(b'V').as_str(), last.code().as_str()),
            ("FATAL", "08P01"),
            "{name}"
        );
        assert_eq!(witness.value("SELECT 'fine'").await, "fine", "{name}");
        bench.settled().await;
    }
}

#[tokio::test]
async fn malformed_bodies_are_for_postgresql_to_refuse() {
    let bench = Bench::new().await;
    let cases = [
        ("Query without its end", message(b'Q', b"SELECT 1")),
        ("empty Query", message(b'Q', b"")),
        (
            "Parse without its end",
            [message(b'P', b"name"), sync()].concat(),
        ),
        ("empty Parse", [message(b'P', b""), sync()].concat()),
        ("empty Bind", [message(b'B', b""), sync()].concat()),
        (
            "Bind of junk",
            [message(b'B', b"\0\0\xff\xff\xff\xff"), sync()].concat(),
        ),
        (
            "Bind with a negative length",
            [message(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\x00"), sync()].concat(),
        ),
        ("Describe of nothing", [message(b'D', b""), sync()].concat()),
        (
            "Describe of something else",
            [message(b'D', b"Xa\0"), sync()].concat(),
        ),
        (
            "Execute without count",
            [message(b'E', b"\0"), sync()].concat(),
        ),
        ("Close of nothing", [message(b'C', b""), sync()].concat()),
        ("FunctionCall of junk", message(b'F', b"\0")),
        ("Sync with a body", message(b'S', b"body")),
        (
            "a portal that never was",
            [execute("never was", 0), sync()].concat(),
        ),
        (
            "a statement that never was",
            [bind("", "never was", &[]), sync()].concat(),
        ),
        (
            "too many statements",
            [parse("a", "SELECT 1; SELECT 2"), sync()].concat(),
        ),
        ("a Query with NULs", message(b'Q', b"SELECT\0 1\0")),
        ("invalid UTF-8", message(b'Q', b"SELECT '\xff\xfe'\0")),
    ];
    for (name, bytes) in cases {
        let mut answers = Vec::new();
        for address in [bench.direct_address(), bench.sidecar.proxy_addr()] {
            let mut client = Raw::login(address, &bench.database.name).await;
            client
                .send(&[bytes.clone(), query("SELECT 'goes on'")].concat())
                .await;
            // The answer to the case, and whatever becomes of the query behind it.
            let mut said = client.until('Z').await;
            if said.last().is_some_and(|last| last.tag == 'Z') {
                said.extend(client.until('Z').await);
            }
            answers.push(said);
        }
        // Sync is answered by us, who do not mind its body.
        if name != "Sync with a body" {
            let codes = |said: &[crate::support::raw::Message]| {
                (
                    tags(said),
                    said.iter()
                        .filter(|m| m.tag == 'E')
                        .map(|m| m.code())
                        .collect::<Vec<_>>(),
                )
            };
            assert_eq!(codes(&answers[1]), codes(&answers[0]), "{name}");
        }
        bench.settled().await;
    }
    assert_eq!(bench.pooled().await.value("SELECT 'fine'").await, "fine");
}

#[tokio::test]
async fn messages_that_never_end_free_what_they_took() {
    let bench = Bench::new().await;
    let cases = [
        ("half a header", vec![b'Q', 0, 0]),
        ("half a query", lying(b'Q', 100, b"SELECT 1")),
        ("2 GiB declared", lying(b'Q', i32::MAX, b"SELECT 1")),
        ("2 GiB begun", lying(b'Q', i32::MAX, &vec![b' '; 300_000])),
        (
            "2 GiB of Parse",
            lying(b'P', i32::MAX, &vec![b' '; 300_000]),
        ),
        (
            "2 GiB of Bind",
            [
                parse("", "SELECT 1"),
                lying(b'B', i32::MAX, &vec![0; 300_000]),
            ]
            .concat(),
        ),
        ("2 GiB of Sync", lying(b'S', i32::MAX, &vec![0; 300_000])),
        (
            "2 GiB of Terminate",
            lying(b'X', i32::MAX, &vec![0; 300_000]),
        ),
        (
            "a batch without Sync",
            [parse("", "SELECT 1"), bind("", "", &[]), execute("", 0)].concat(),
        ),
        (
            "a transaction and half a query",
            [query("BEGIN"), lying(b'Q', 100, b"SELECT")].concat(),
        ),
    ];
    for (name, bytes) in cases {
        let mut client = bench.pooled().await;
        // PostgreSQL itself may refuse and close before all is sent.
        let _ = client.try_send(&bytes).await;
        drop(client);
        let mut next = bench.pooled().await;
        assert_eq!(next.value("SELECT 'fine'").await, "fine", "{name}");
        drop(next);
        bench.settled().await;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench.sidecar.pid())).unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(
        peak < 128 * 1024,
        "{peak} KiB: declared lengths reserve nothing"
    );
}

#[tokio::test]
async fn copy_out_of_order() {
    let bench = Bench::new().await;
    bench.direct().await.rows("CREATE TABLE k (a int)").await;
    let mut client = bench.pooled().await;
    // Outside of COPY its messages are ignored, as by PostgreSQL.
    let stray = [
        message(b'd', b"1\n"),
        message(b'c', b""),
        message(b'f', b"x\0"),
    ]
    .concat();
    let answer = client.ask(&[stray, query("SELECT 1")].concat()).await;
    assert_eq!(tags(&answer), "TDCZ");
    // Inside of it nothing else may come.
    client.send(&query("COPY k FROM STDIN")).await;
    assert_eq!(tags(&client.take(1).await), "G");
    client.send(&query("SELECT 1")).await;
    let said = client.take(1).await;
    assert_eq!((said[0].tag, said[0].code().as_str()), ('E', "08P01"));
    drop(client);
    bench.settled().await;
    let mut next = bench.pooled().await;
    assert_eq!(next.value("SELECT count(*) FROM k").await, "0");
}

#[tokio::test]
async fn a_login_that_takes_too_long_is_ended() {
    let bench = Bench::with(&[("POOLWATCH_LISTEN__LOGIN_TIMEOUT", "1s")]).await;
    let beginnings = [
        Vec::new(),
        vec![0, 0],
        startup(196_608, &bench.database.name, &[])[..20].to_vec(),
        packet(&80_877_104_u32.to_be_bytes()),
        packet(&80_877_103_u32.to_be_bytes()),
    ];
    let started = Instant::now();
    let mut clients = Vec::new();
    for bytes in &beginnings {
        let mut client = Raw::dial(bench.sidecar.proxy_addr()).await;
        client.send(bytes).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert!(client.drain().await);
    }
    let took = started.elapsed();
    assert!(
        took >= Duration::from_millis(900) && took < LIMIT,
        "{took:?}"
    );
    let scrape = bench.sidecar.scrape().await;
    assert_eq!(
        scrape.sum("poolwatch_logins_total", &[("outcome", "timeout")]),
        5.0
    );
    // A session that is in may take its time.
    let mut client = bench.pooled().await;
    assert_eq!(client.value("SELECT pg_sleep(1.2), 1").await, "|1");
}

/// A generator that gives the same numbers for the same seed (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % limit
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        let count = self.below(limit);
        (0..count).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

/// Messages of valid types in any order, some with bodies that make sense, some cut or lying.
fn nonsense(numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..numbers.below(12) {
        let piece = match numbers.below(16) {
            0 => query("SELECT 1"),
            1 => query("SELECT 1/0; SELECT 2"),
            2 => query("COPY (SELECT 1) TO STDOUT"),
            3 => query("BEGIN"),
            4 => parse("", "SELECT 1"),
            5 => parse("n", "SELECT 1"),
            6 => bind("", "", &[]),
            7 => bind("", "n", &[]),
            8 => execute("", 1),
            9 | 10 => sync(),
            11 => message(b'H', b""),
            12 => query("CREATE TEMP TABLE IF NOT EXISTS nt (a int); COPY nt FROM STDIN"),
            13 => message(b'd', b"1\n"),
            14 => message(b'c', b""),
            _ => {
                let tag = b"QPBDECHSFdcfXp?\0"[numbers.below(16)];
                message(tag, &numbers.bytes(40))
            }
        };
        bytes.extend(piece);
    }
    if numbers.below(3) == 0 {
        bytes.truncate(numbers.below(bytes.len() + 1));
    }
    bytes
}

#[tokio::test]
async fn random_bytes_harm_nobody() {
    let bench = Bench::new().await;
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..300 {
        let mut client = if round % 3 == 0 {
            let mut client = Raw::dial(bench.sidecar.proxy_addr()).await;
            let _ = client.try_send(&numbers.bytes(200)).await;
            client
        } else {
            let mut client = bench.pooled().await;
            let _ = client.try_send(&nonsense(&mut numbers)).await;
            client
        };
        // Some read an answer, all leave.
        if numbers.below(2) == 0 {
            let _ = tokio::time::timeout(Duration::from_millis(5), client.next()).await;
        }
        drop(client);
        if round % 20 == 0 {
            let mut witness = bench.pooled().await;
            let clean = "SELECT count(*) FROM pg_class WHERE relpersistence = 't'";
            assert_eq!(witness.value(clean).await, "0", "round {round}");
        }
    }
    bench.settled().await;
    let scrape = bench.sidecar.scrape().await;
    assert_eq!(scrape.sum("poolwatch_pinned_sessions", &[]), 0.0);
    assert_eq!(scrape.sum("poolwatch_pool_bugs_total", &[]), 0.0);
    assert!(
        !bench
            .sidecar
            .logs()
            .iter()
            .any(|line| line.contains("panicked"))
    );
}
