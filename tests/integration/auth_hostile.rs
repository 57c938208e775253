//! Clients that break the protocol while they log in: an error for them, and nothing for others.

use std::time::Duration;

use crate::auth::{asked, guarded};
use crate::hostile::lying;
use crate::support::Sidecar;
use crate::support::raw::{Raw, message, query, tags};

const LIMIT: Duration = Duration::from_secs(20);

/// SASLInitialResponse.
fn initial(mechanism: &str, length: i32, data: &[u8]) -> Vec<u8> {
    message(
        b'p',
        &[mechanism.as_bytes(), b"\0", &length.to_be_bytes(), data].concat(),
    )
}

fn first(data: &str) -> Vec<u8> {
    let length = i32::try_from(data.len()).expect("a short message");
    initial("SCRAM-SHA-256", length, data.as_bytes())
}

/// The last thing said before the connection ends: its severity and SQLSTATE.
async fn verdict(raw: &mut Raw) -> (String, String) {
    let mut last = None;
    while let Some(message) = raw.next().await {
        last = Some(message);
    }
    let last = last.expect("something was said");
    assert_eq!(last.tag, 'E', "{last:?}");
    (last.field(b'V'), last.code())
}

#[tokio::test]
async fn what_is_no_answer_ends_the_login_with_its_error() {
    let (_server, database) = guarded().await;
    let sidecar = Sidecar::start(&database).await;
    let witness = sidecar.connect().await;
    let good = "n,,n=,r=rOprNGfwEbeRWgbNEkqO";
    let long = "x".repeat(60_000);
    for (name, bytes, code) in [
        ("a query", query("SELECT 1"), "08P01"),
        ("an unknown message", message(b'?', b""), "08P01"),
        ("nothing", message(b'p', b""), "08P01"),
        ("a password", message(b'p', b"secret\0"), "08P01"),
        (
            "no mechanism's end",
            message(b'p', b"SCRAM-SHA-256"),
            "08P01",
        ),
        ("an unknown mechanism", initial("PLAIN", 0, b""), "08P01"),
        (
            "binding that was not offered",
            initial("SCRAM-SHA-256-PLUS", 0, b""),
            "08P01",
        ),
        (
            "a length that lies",
            initial("SCRAM-SHA-256", 1000, good.as_bytes()),
            "08P01",
        ),
        (
            "a negative length",
            initial("SCRAM-SHA-256", -7, good.as_bytes()),
            "08P01",
        ),
        (
            "no UTF-8",
            initial("SCRAM-SHA-256", 3, b"\xff\xfe\xfd"),
            "08P01",
        ),
        ("no nonce", first("n,,n=,r="), "08P01"),
        (
            "somebody else's authority",
            first("n,a=root,n=,r=abc"),
            "0A000",
        ),
        ("an extension", first("n,,m=x,n=,r=abc"), "0A000"),
        (
            "a proof at once",
            first(&format!("c=biws,r=abc,p={}", "A".repeat(44))),
            "08P01",
        ),
        ("a negative message", lying(b'p', -1, b""), "08P01"),
        ("2 GiB", lying(b'p', i32::MAX, b"SCRAM-SHA-256"), "08P01"),
        ("too much", lying(b'p', 70_000, b"SCRAM-SHA-256"), "08P01"),
        (
            "a long nonce and junk",
            [first(&format!("n,,n=,r={long}")), message(b'p', b"junk")].concat(),
            "08P01",
        ),
        (
            "a proof of nothing",
            [first(good), message(b'p', b"")].concat(),
            "08P01",
        ),
        (
            "a proof that is none",
            [first(good), message(b'p', b"c=biws,r=x,p=AAAA")].concat(),
            "08P01",
        ),
        (
            "another binding",
            [
                first(good),
                message(b'p', format!("c=eSws,r=x,p={}", "A".repeat(44)).as_bytes()),
            ]
            .concat(),
            "28000",
        ),
    ] {
        for user in ["postgres", "nobody"] {
            let (mut raw, _) = asked(&sidecar, &database, user).await;
            raw.send(&bytes).await;
            let said = verdict(&mut raw).await;
            assert_eq!(
                said,
                ("FATAL".to_owned(), code.to_owned()),
                "{name}, {user}"
            );
        }
        witness.batch_execute("SELECT 1").await.expect(name);
    }
    assert!(!sidecar.logs().iter().any(|line| line.contains("panicked")));
}

#[tokio::test]
async fn an_empty_first_answer_is_asked_for_again() {
    let (_server, database) = guarded().await;
    let sidecar = Sidecar::start(&database).await;
    let (mut raw, _) = asked(&sidecar, &database, "postgres").await;
    raw.send(&initial("SCRAM-SHA-256", -1, b"")).await;
    let empty = raw.next().await.expect("a challenge");
    assert_eq!((empty.tag, &empty.body[..]), ('R', &b"\0\0\0\x0b"[..]));
    raw.send(&message(b'p', b"n,,n=,r=abc")).await;
    let challenge = raw.next().await.expect("a challenge");
    assert!(
        challenge.body.starts_with(b"\0\0\0\x0br=abc"),
        "{challenge:?}"
    );
}

/// As PostgreSQL does: what is spoken is settled before anything is asked.
#[tokio::test]
async fn the_protocols_version_is_negotiated_before_the_proof() {
    let (_server, database) = guarded().await;
    let sidecar = Sidecar::start(&database).await;
    let mut raw = Raw::dial(sidecar.proxy_addr()).await;
    let (newest, option) = (196_608 + 9_999, [("_pq_.unknown", "on")]);
    raw.send(&crate::support::raw::startup(
        newest,
        &database.name,
        &option,
    ))
    .await;
    let said = raw.take(2).await;
    assert_eq!(tags(&said), "vR", "{said:?}");
    assert!(said[0].text().contains("_pq_.unknown"), "{said:?}");
    assert!(said[1].text().contains("SCRAM-SHA-256"), "{said:?}");
}

#[tokio::test]
async fn messages_behind_a_login_that_fails_are_not_read() {
    let (_server, database) = guarded().await;
    let sidecar = Sidecar::start(&database).await;
    let (mut raw, _) = asked(&sidecar, &database, "postgres").await;
    raw.send(&[first("nonsense"), query("DROP DATABASE postgres")].concat())
        .await;
    let mut said = Vec::new();
    while let Some(message) = raw.next().await {
        said.push(message);
    }
    assert_eq!(tags(&said), "E");
}

#[tokio::test]
async fn clients_in_their_login_take_no_place_and_do_not_hold_up_the_end() {
    let (_server, database) = guarded().await;
    let one = [("POOLWATCH_LISTEN__MAX_CLIENTS", "1")];
    let mut sidecar = Sidecar::start_with(&database, &database.url, &[], &one).await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(asked(&sidecar, &database, "postgres").await.0);
    }
    let client = sidecar.connect().await;
    client.batch_execute("SELECT 1").await.expect("an answer");
    drop(client);
    sidecar.signal(nix::sys::signal::Signal::SIGTERM);
    for mut raw in silent {
        assert_eq!(
            verdict(&mut raw).await,
            ("FATAL".to_owned(), "57P01".to_owned())
        );
    }
    assert_eq!(sidecar.wait_exit(LIMIT).await.code, Some(0));
}

#[tokio::test]
async fn guessing_gets_slower_for_who_guesses_and_for_nobody_else() {
    let (_server, database) = guarded().await;
    let sidecar = Sidecar::start(&database).await;
    // No clock: those who wait for their turn are seen waiting, while others come and go.
    let wrong = async || {
        let mut config = sidecar.client_config();
        config.user("ann").password("wrong");
        config
            .connect(tokio_postgres::NoTls)
            .await
            .err()
            .expect("refused")
    };
    for _ in 0..7 {
        wrong().await;
    }
    let scrape = sidecar.scrape().await;
    let failed = |scrape: &crate::support::Scrape| {
        scrape.sum("poolwatch_authentication_failures_total", &[])
    };
    assert_eq!(failed(&scrape), 7.0);
    let startup = crate::support::raw::startup(196_608, &database.name, &[("user", "ann")]);
    let mut logins = Vec::new();
    for _ in 0..200 {
        let mut raw = Raw::dial(sidecar.proxy_addr()).await;
        raw.send(&startup).await;
        logins.push(raw);
    }
    let client = sidecar.connect().await;
    client
        .batch_execute("SELECT 1")
        .await
        .expect("another user does not wait");
    // Those who may wait are asked in the end, the others were turned away.
    let (mut asked, mut turned_away) = (0, 0);
    for mut raw in logins {
        let answer = raw.next().await.expect("an answer");
        match answer.tag {
            'R' => asked += 1,
            _ => {
                assert_eq!(answer.code(), "53300", "{answer:?}");
                turned_away += 1;
            }
        }
    }
    assert!(asked >= 64 && turned_away > 0, "{asked} {turned_away}");
    let scrape = sidecar.scrape().await;
    let limited = [("limit", "failed_logins")];
    let counted = scrape.sum("poolwatch_limit_rejections_total", &limited);
    assert_eq!(counted, f64::from(turned_away));
}
