//! From the first byte to ReadyForQuery: versions, parameters, requests for encryption, replication.

use std::time::Duration;

use crate::bench::Bench;
use crate::support::eventually;
use crate::support::raw::{Message, Raw, packet, query, startup, tags};

const LIMIT: Duration = Duration::from_secs(20);
const V3: u32 = 196_608;

/// All reported parameters, in an order of ours.
fn reported(client: &Raw) -> Vec<String> {
    let mut all: Vec<String> = client
        .greeting
        .iter()
        .filter(|message| message.tag == 'S')
        .map(Message::text)
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn each_client_has_its_own_parameters_on_the_one_server() {
    let bench = Bench::new().await;
    let sets: [&[(&str, &str)]; 3] = [
        &[
            ("application_name", "it's \\ one"),
            ("client_encoding", "LATIN1"),
            ("DateStyle", "German, DMY"),
            ("TimeZone", "Asia/Tokyo"),
        ],
        &[
            ("application_name", "two"),
            ("timezone", "UTC"),
            ("IntervalStyle", "iso_8601"),
        ],
        &[
            ("application_name", ""),
            ("options", "-c timezone=Europe/Oslo -c datestyle=SQL"),
        ],
    ];
    let show = "SELECT current_setting('application_name'), current_setting('client_encoding'), \
                current_setting('DateStyle'), current_setting('TimeZone'), current_setting('IntervalStyle'), \
                date '2024-12-31'";
    let mut clients = Vec::new();
    for parameters in sets {
        let mut direct =
            Raw::login_with(bench.direct_address(), &bench.database.name, parameters).await;
        let pooled = bench.pooled_with(parameters).await;
        assert_eq!(reported(&pooled), reported(&direct), "{parameters:?}");
        let expected = direct.value(show).await;
        clients.push((pooled, expected));
    }
    for _ in 0..3 {
        for (client, expected) in &mut clients {
            assert_eq!(client.value(show).await, *expected);
        }
    }
    assert_eq!(bench.pinned().await, 0.0);
}

#[tokio::test]
async fn what_the_server_does_not_report_follows_its_client() {
    let bench = Bench::new().await;
    let sets: [&[(&str, &str)]; 4] = [
        &[("extra_float_digits", "-3")],
        &[
            ("statement_timeout", "61s"),
            ("search_path", "pg_catalog, \"a b\""),
        ],
        &[("options", "-c geqo=off -c work_mem=5MB --lock-timeout=7s")],
        &[("options", r"-csearch_path=a,\ b"), ("custom.thing", "x")],
    ];
    let show = "SELECT current_setting('extra_float_digits'), current_setting('statement_timeout'), \
                current_setting('search_path'), current_setting('geqo'), current_setting('work_mem'), \
                current_setting('lock_timeout'), coalesce(current_setting('custom.thing', true), ''), 0.1::float8 / 3";
    let plain = bench.direct().await.value(show).await;
    let mut clients = Vec::new();
    for parameters in sets {
        let mut direct =
            Raw::login_with(bench.direct_address(), &bench.database.name, parameters).await;
        let expected = direct.value(show).await;
        assert_ne!(expected, plain);
        let pooled = bench.pooled_with(parameters).await;
        clients.push((pooled, expected));
    }
    clients.push((bench.pooled().await, plain));
    // All of them on the one server, in turns.
    for _ in 0..2 {
        for (client, expected) in &mut clients {
            assert_eq!(client.value(show).await.replace('~', ""), *expected);
            assert_eq!(client.value(show).await.replace('~', ""), *expected);
        }
    }
    assert_eq!(bench.pinned().await, 0.0);
}

#[tokio::test]
async fn parameters_that_cannot_be_are_refused_in_postgresqls_words() {
    let bench = Bench::new().await;
    let mut witness = bench.pooled().await;
    for parameter in [
        ("client_encoding", "nonsense"),
        ("TimeZone", "Nowhere/Land"),
        ("DateStyle", "x"),
        ("statement_timeout", "soon"),
        ("no_such_parameter", "1"),
        ("server_version", "99"),
        ("is_superuser", "off"),
        ("shared_buffers", "1GB"),
        ("options", "-c no_such_parameter=1"),
    ] {
        let mut refusals = Vec::new();
        for address in [bench.direct_address(), bench.sidecar.proxy_addr()] {
            let mut client = Raw::dial(address).await;
            client
                .send(&startup(V3, &bench.database.name, &[parameter]))
                .await;
            let said = client.greeted().await;
            let last = said
                .last()
                .unwrap_or_else(|| panic!("{parameter:?}: nothing"));
            assert_eq!(last.tag, 'E', "{parameter:?}: {said:?}");
            refusals.push((last.field(b'V'), last.code()));
            assert!(client.drain().await);
        }
        assert_eq!(refusals[1], refusals[0], "{parameter:?}");
        assert_eq!(refusals[1].0, "FATAL");
        assert_eq!(witness.value("SELECT 1").await, "1");
    }
    bench.settled().await;
}

#[tokio::test]
async fn newer_protocols_and_options_are_negotiated_as_postgresql_does() {
    let bench = Bench::new().await;
    // What PostgreSQL 18 answers: the version that is spoken, where it or an option is not what was asked for. The secret
    // has four bytes up to 3.1, and 32 from 3.2 on.
    type Case<'a> = (u32, &'a [(&'a str, &'a str)], Option<u32>, usize);
    let cases: [Case<'_>; 6] = [
        (V3, &[], None, 4),
        (V3 + 1, &[], None, 4),
        (V3 + 2, &[], None, 32),
        (V3, &[("_pq_.command_compression", "on")], Some(V3), 4),
        (
            V3 + 2,
            &[("_pq_.a", "1"), ("_pq_.b", "2")],
            Some(V3 + 2),
            32,
        ),
        (V3 + 9999, &[], Some(V3 + 2), 32),
    ];
    for (version, parameters, negotiated, secret) in cases {
        let mut client = Raw::dial(bench.sidecar.proxy_addr()).await;
        client
            .send(&startup(version, &bench.database.name, parameters))
            .await;
        let said = client.greeted().await;
        let of = |tag| said.iter().filter(move |message| message.tag == tag);
        let answers: Vec<_> = of('v').map(|message| message.body.clone()).collect();
        let expected = negotiated.map(|version| {
            let count = u32::try_from(parameters.len()).unwrap();
            let mut body = [version.to_be_bytes(), count.to_be_bytes()].concat();
            for (name, _) in parameters {
                body.extend_from_slice(name.as_bytes());
                body.push(0);
            }
            body
        });
        assert_eq!(
            answers,
            Vec::from_iter(expected),
            "{version} {parameters:?}"
        );
        let keys: Vec<_> = of('K').map(|message| message.body.len()).collect();
        assert_eq!(keys, [4 + secret], "{version}");
        assert_eq!(client.value("SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn encryption_is_offered_or_refused_by_one_byte() {
    let bench = Bench::new().await;
    let request = |code: u32| packet(&code.to_be_bytes());
    let mut client = Raw::dial(bench.sidecar.proxy_addr()).await;
    client.send(&request(80_877_104)).await;
    assert_eq!(client.byte().await.expect("an answer"), b'N');
    client.send(&startup(V3, &bench.database.name, &[])).await;
    assert_eq!(
        client.greeted().await.last().map(|last| last.tag),
        Some('Z')
    );
    assert_eq!(client.value("SELECT 1").await, "1");
    let mut client = Raw::dial(bench.sidecar.proxy_addr()).await;
    client.send(&request(80_877_104)).await;
    assert_eq!(client.byte().await.expect("an answer"), b'N');
    client.send(&request(80_877_103)).await;
    assert_eq!(client.byte().await.expect("an answer"), b'S');
    let mut client = Raw::dial(bench.sidecar.proxy_addr()).await;
    client
        .send(&[request(80_877_104), request(80_877_104)].concat())
        .await;
    assert_eq!(client.byte().await.expect("an answer"), b'N');
    assert!(client.drain().await, "twice is too often");
}

#[tokio::test]
async fn what_is_no_startup_packet_is_refused() {
    let bench = Bench::new().await;
    let nobody = packet(&[&V3.to_be_bytes()[..], b"database\0postgres\0\0"].concat());
    let long = startup(V3, &"d".repeat(10_001), &[]);
    let cases = [
        (
            "protocol 2",
            startup(0x0002_0000, &bench.database.name, &[]),
            Some("0A000"),
        ),
        (
            "protocol 4",
            startup(0x0004_0000, &bench.database.name, &[]),
            Some("0A000"),
        ),
        ("no user", nobody, Some("28000")),
        ("too long", long, None),
        ("2 GiB", vec![0x7f, 0xff, 0xff, 0xff], None),
        ("negative", vec![0xff, 0xff, 0xff, 0xff], None),
        ("too short", vec![0, 0, 0, 7], None),
        (
            "without end",
            packet(&[&V3.to_be_bytes()[..], b"user\0postgres"].concat()),
            Some("08P01"),
        ),
    ];
    for (name, bytes, code) in cases {
        let mut client = Raw::dial(bench.sidecar.proxy_addr()).await;
        // A long one may be refused before it is sent whole.
        let _ = client.try_send(&bytes).await;
        let said = client.greeted().await;
        assert!(
            said.iter().all(|message| message.tag == 'E'),
            "{name}: {said:?}"
        );
        if let Some(code) = code {
            let error = said.first().unwrap_or_else(|| panic!("{name}: nothing"));
            assert_eq!(error.field(b'V'), "FATAL", "{name}");
            assert_eq!(error.code(), code, "{name}: {}", error.text());
        }
    }
    assert_eq!(bench.pooled().await.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn a_replication_connection_has_a_server_of_its_own() {
    let bench = Bench::new().await;
    let mut holder = bench.pooled().await;
    holder.rows("BEGIN").await;
    let counted = || async {
        let scrape = bench.sidecar.scrape().await;
        scrape.sum("poolwatch_pinned_sessions", &[("reason", "replication")])
    };
    for mode in ["database", "on"] {
        let mut walsender = bench.pooled_with(&[("replication", mode)]).await;
        let answer = walsender.ask(&query("IDENTIFY_SYSTEM")).await;
        assert_eq!(tags(&answer), "TDCZ", "{mode}: {answer:?}");
        assert_eq!(answer[1].row().len(), 4);
        assert_eq!(counted().await, 1.0);
        drop(walsender);
        eventually(LIMIT, || async { counted().await == 0.0 }).await;
    }
    let mut ordinary = Raw::dial(bench.sidecar.proxy_addr()).await;
    holder.rows("COMMIT").await;
    ordinary
        .send(&startup(
            V3,
            &bench.database.name,
            &[("replication", "off")],
        ))
        .await;
    assert_eq!(
        ordinary.greeted().await.last().map(|last| last.tag),
        Some('Z')
    );
    assert_eq!(ordinary.value("SELECT 1").await, "1");
}
