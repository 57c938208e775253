//! What is shown: the columns and types that PgBouncer's tools rely on, and values that are true.

use super::{Guarded, done, refused, row};
use crate::support::raw::{self, Message, Raw, tags};
use crate::support::{Postgres, Sidecar};

const INT4: u32 = 23;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const NUMERIC: u32 = 1700;

/// Types as PgBouncer's source abbreviates them; `T` is a time, shown as text.
fn oids(types: &str) -> Vec<u32> {
    let oid = |letter| match letter {
        'i' => INT4,
        'q' => INT8,
        's' | 'T' => TEXT,
        'N' => NUMERIC,
        other => panic!("no type {other}"),
    };
    types.chars().map(oid).collect()
}

const SOCKET: &str = "type user database replication state addr port local_addr local_port connect_time request_time wait \
                      wait_us close_needed ptr link remote_pid tls application_name prepared_statements id";
const SOCKET_TYPES: &str = "ssssssisiTTiiississii";
const BUFFERS: &str = " recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail";
const COUNTS: &str = "server_assignment_count xact_count query_count";
const TIMES: &str = "xact_time query_time wait_time";

/// The tables, as docs/console.md promises them.
fn tables() -> Vec<(&'static str, String, String)> {
    let prefixed = |prefix: &str, names: &str| {
        let names = names.split(' ').map(|name| format!("{prefix}{name}"));
        names.collect::<Vec<_>>().join(" ")
    };
    let parses = "client_parse_count server_parse_count bind_count client_login_count";
    let stats = |prefix, received: &str| {
        let names = format!("{COUNTS} {received} {TIMES} {parses}");
        prefixed(prefix, &names)
    };
    let totals = format!("database {COUNTS} bytes_received bytes_sent {TIMES} {parses}");
    let averages = format!(
        "database {COUNTS} bytes_received bytes_sent {TIMES} {}",
        prefixed("avg_", parses)
    );
    let both = format!(
        "database {} {}",
        stats("total_", "received sent"),
        stats("avg_", "recv sent")
    );
    let table = |name, columns: &str, types: &str| (name, columns.to_owned(), types.to_owned());
    vec![
        table(
            "POOLS",
            "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel \
             sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
            "ssiiiiiiiiiiiiiss",
        ),
        table("STATS", &both, &format!("s{}", "N".repeat(24))),
        table("STATS_TOTALS", &totals, &format!("s{}", "N".repeat(12))),
        table("STATS_AVERAGES", &averages, &format!("s{}", "N".repeat(12))),
        table("TOTALS", "name value", "sN"),
        table("CLIENTS", SOCKET, SOCKET_TYPES),
        table("SERVERS", SOCKET, SOCKET_TYPES),
        table(
            "SOCKETS",
            &format!("{SOCKET}{BUFFERS}"),
            &format!("{SOCKET_TYPES}iiiiiii"),
        ),
        table(
            "ACTIVE_SOCKETS",
            &format!("{SOCKET}{BUFFERS}"),
            &format!("{SOCKET_TYPES}iiiiiii"),
        ),
        table(
            "DATABASES",
            "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode \
             load_balance_hosts max_connections current_connections max_client_connections current_client_connections \
             paused disabled",
            "ssissiiiissiiiiii",
        ),
        table(
            "USERS",
            "name pool_size reserve_pool_size pool_mode max_user_connections current_connections \
             max_user_client_connections current_client_connections",
            "ssssiiii",
        ),
        table("LISTS", "list items", "si"),
        table("CONFIG", "key value default changeable", "ssss"),
        table("VERSION", "version", "s"),
        table("STATE", "key value", "ss"),
        table("MEM", "name size used free memtotal", "siiii"),
        table("PEERS", "peer_id host port pool_size", "isii"),
        table(
            "PEER_POOLS",
            "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login",
            "iiiii",
        ),
        table("DNS_HOSTS", "hostname ttl addrs", "sqs"),
        table("DNS_ZONES", "zonename serial count", "sqi"),
    ]
}

/// Names and types of a RowDescription.
pub(super) fn columns(message: &Message) -> Vec<(String, u32)> {
    assert_eq!(message.tag, 'T', "{message:?}");
    let mut rest = &message.body[2..];
    let mut columns = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).expect("a name");
        let name = String::from_utf8(rest[..end].to_vec()).expect("UTF-8");
        let oid = u32::from_be_bytes(rest[end + 7..end + 11].try_into().expect("four bytes"));
        columns.push((name, oid));
        rest = &rest[end + 19..];
    }
    columns
}

#[tokio::test]
async fn every_table_has_pgbouncers_columns_and_types() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&database).await;
    let client = sidecar.connect().await;
    client.batch_execute("SELECT 1").await.expect("an answer");
    for name in ["pgbouncer", "poolwatch"] {
        let mut console = Raw::login(sidecar.proxy_addr(), name).await;
        for (table, names, types) in tables() {
            let answer = console.ask(&raw::query(&format!("SHOW {table};"))).await;
            let names: Vec<_> = names.split_ascii_whitespace().map(str::to_owned).collect();
            let expected: Vec<_> = names.into_iter().zip(oids(&types)).collect();
            assert_eq!(columns(&answer[0]), expected, "SHOW {table}");
            assert_eq!(tags(&answer[answer.len() - 2..]), "CZ", "SHOW {table}");
            assert_eq!(answer[answer.len() - 2].text(), "SHOW");
            let rows = answer.iter().filter(|message| message.tag == 'D');
            for row in rows {
                assert_eq!(row.row().len(), expected.len(), "SHOW {table}");
                for (cell, (name, oid)) in row.row().iter().zip(&expected) {
                    let number = cell == "~" || cell.parse::<i64>().is_ok();
                    assert!(*oid == TEXT || number, "SHOW {table}: {name} = {cell}");
                }
            }
        }
    }
}

#[tokio::test]
async fn commands_are_read_as_pgbouncer_reads_them() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&database).await;
    let mut console = Raw::login(sidecar.proxy_addr(), "pgbouncer").await;
    for same in [
        "SHOW VERSION",
        "show version;",
        "select VERSION",
        "\tShow \"version\"\n;",
    ] {
        let version = console.value(same).await;
        assert!(
            version.starts_with("poolwatch ") && version.contains("PgBouncer 1."),
            "{version}"
        );
    }
    assert_eq!(console.value("SHOW client_encoding").await, "UTF8");
    assert_eq!(
        console.value("SHOW default_transaction_isolation").await,
        "read committed"
    );
    assert_eq!(
        console.value("SHOW standard_conforming_strings").await,
        "on"
    );
    assert_eq!(console.value("SHOW DateStyle").await, "ISO");
    assert_eq!(console.value("SHOW timezone").await, "GMT");
    let help = console.ask(&raw::query("SHOW HELP")).await;
    assert_eq!(tags(&help), "NCZ");
    assert!(
        help[0].field(b'D').contains("KILL_CLIENT <client_id>"),
        "{}",
        help[0].text()
    );
    assert!(
        !help[0].field(b'D').contains("DIAGNOSIS"),
        "what is not there is not offered"
    );
    for (wrong, code) in [
        ("", "42601"),
        ("SHOW nothing", "42601"),
        ("SHOW pools pools", "42601"),
        ("SHOW pools; SHOW pools", "42601"),
        ("SELECT 1", "42601"),
        ("VACUUM", "42601"),
        ("SHOW diagnosis", "0A000"),
    ] {
        let answer = console.ask(&raw::query(wrong)).await;
        assert_eq!(
            (tags(&answer).as_str(), answer[0].code().as_str()),
            ("EZ", code),
            "{wrong}"
        );
    }
    // What PgBouncer does not answer either ends the session.
    for message in [
        raw::parse("", "SHOW VERSION"),
        raw::bind("", "", &[]),
        raw::execute("", 0),
    ] {
        let mut console = Raw::login(sidecar.proxy_addr(), "pgbouncer").await;
        console.send(&message).await;
        let said = console.next().await.expect("an error");
        assert_eq!(
            said.field(b'M'),
            "extended query protocol not supported by admin console"
        );
        let rest = [console.next().await, console.next().await];
        let rest = rest.map(|message| message.expect("a message"));
        assert_eq!(tags(&rest), "ZE");
        assert_eq!(
            (rest[1].field(b'S').as_str(), rest[1].field(b'M').as_str()),
            ("FATAL", "bad packet")
        );
        assert!(console.drain().await, "the connection ends");
    }
    for junk in [
        raw::message(b'Q', &[b'x'; 100_000]),
        raw::message(b'Q', b"no end"),
        vec![b'Q', 0, 0, 0, 1],
    ] {
        let mut console = Raw::login(sidecar.proxy_addr(), "pgbouncer").await;
        console.send(&junk).await;
        assert_eq!(console.next().await.expect("an error").code(), "08P01");
        assert!(console.drain().await, "the connection ends");
    }
}

#[tokio::test]
async fn the_console_and_the_metrics_have_one_set_of_figures() {
    let guarded = Guarded::start().await;
    let console = guarded.console("stats").await;
    let client = guarded.sidecar.connect().await;
    for _ in 0..7 {
        client
            .batch_execute("SELECT 1; SELECT 2")
            .await
            .expect("an answer");
    }
    let named = client.prepare("SELECT $1::int").await.expect("a statement");
    client.query(&named, &[&1]).await.expect("a row");
    let pool = format!("/{}", guarded.database.name);
    let stats = done(&console, "SHOW STATS_TOTALS").await;
    let stats = row(&stats, "database", &guarded.database.name);
    let scrape = guarded.sidecar.scrape().await;
    let pools = scrape.by(
        "poolwatch_transactions_total",
        "db_client_connection_pool_name",
    );
    let mut names = pools.keys();
    let name = names
        .find(|name| name.ends_with(&pool))
        .expect("the pool's series");
    let metric = |family: &str, labels: &[(&str, &str)]| {
        let mut all = vec![("db_client_connection_pool_name", name.as_str())];
        all.extend(labels);
        scrape.value(family, &all).to_string()
    };
    assert_eq!(
        stats["xact_count"],
        metric("poolwatch_transactions_total", &[])
    );
    assert_eq!(stats["query_count"], "15");
    assert_eq!(
        stats["bytes_received"],
        metric(
            "poolwatch_pool_client_bytes_total",
            &[("direction", "received")]
        )
    );
    assert_eq!(
        stats["bytes_sent"],
        metric(
            "poolwatch_pool_client_bytes_total",
            &[("direction", "sent")]
        )
    );
    assert_eq!(
        stats["client_parse_count"],
        metric(
            "poolwatch_prepared_statements_total",
            &[("message", "client_parse")]
        )
    );
    assert_eq!(stats["bind_count"], "1");
    assert_eq!(stats["client_login_count"], "1");
    let microseconds: f64 = stats["xact_time"].parse().expect("a number");
    let seconds: f64 = metric("poolwatch_transaction_seconds_total", &[])
        .parse()
        .expect("a number");
    assert!(
        (microseconds / 1e6 - seconds).abs() < 1e-5,
        "{microseconds} µs, {seconds} s"
    );
    assert_eq!(refused(&console, "SHOW DIAGNOSIS").await.0, "0A000");
}
