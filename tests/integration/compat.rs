//! Figures under names of others.

use std::time::Duration;

use crate::support::raw::{Raw, query};
use crate::support::{Postgres, Scrape, Sidecar, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// What Letta's gauges are to say: connections that there are, in use, idle, and beyond the size.
fn gauges(scrape: &Scrape) -> [f64; 4] {
    ["total", "checked_out", "available", "overflow"].map(|name| {
        let name = format!("gauge_db_pool_connections_{name}");
        let by_engine = scrape.by(&name, "engine_name");
        let pools = by_engine.iter().filter(|(engine, _)| *engine != "control");
        pools.map(|(_, value)| value).sum()
    })
}

#[tokio::test]
async fn lettas_gauges_are_what_their_names_say() {
    let database = Postgres::shared().await.database().await;
    let environment = [
        ("POOLWATCH_METRICS__COMPAT", "letta"),
        ("POOLWATCH_POOL__SIZE", "2"),
        ("POOLWATCH_POOL__MAX_OVERFLOW", "1"),
        ("POOLWATCH_POOL__TIMEOUT", "200ms"),
    ];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
    // Letta's own says that 25 are in use here.
    assert_eq!(gauges(&sidecar.scrape().await), [0.0; 4]);
    let mut clients = Vec::new();
    for held in [1.0, 2.0, 3.0] {
        let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
        client.ask(&query("BEGIN; SELECT 1")).await;
        clients.push(client);
        let beyond = (held - 2.0_f64).max(0.0);
        assert_eq!(gauges(&sidecar.scrape().await), [held, held, 0.0, beyond]);
    }
    let mut refused = Raw::login(sidecar.proxy_addr(), &database.name).await;
    let answer = refused.ask(&query("SELECT 1")).await;
    assert_eq!(answer[0].code(), "53300", "{answer:?}");
    for client in &mut clients {
        client.ask(&query("COMMIT")).await;
    }
    eventually(LIMIT, || async {
        match gauges(&sidecar.scrape().await) {
            [2.0, 0.0, 2.0, 0.0] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let scrape = sidecar.scrape().await;
    let count = |name: &str, label: &str, value: &str| {
        let all = scrape.sum(name, &[(label, value)]);
        all - scrape.sum(name, &[(label, value), ("engine_name", "control")])
    };
    let event = |event: &str| count("count_db_pool_connection_events", "event", event);
    assert_eq!(event("connect"), 3.0);
    assert_eq!(event("checkout"), event("checkin"), "all came back");
    assert!(event("checkout") >= 3.0);
    assert_eq!(
        (event("close"), event("invalidate")),
        (1.0, 0.0),
        "the one beyond the size"
    );
    let error = |kind: &str| count("count_db_pool_connection_errors", "exception_type", kind);
    assert_eq!(
        (error("TimeoutError"), error("OperationalError")),
        (1.0, 0.0)
    );
    // Milliseconds of what is in seconds elsewhere.
    let seconds = scrape.sum("db_client_connection_use_time_seconds_sum", &[]);
    let milliseconds = scrape.sum("hist_db_pool_connection_duration_ms_sum", &[]);
    assert!(
        (milliseconds - seconds * 1e3).abs() < 1e-6 * milliseconds,
        "{milliseconds} ms, {seconds} s"
    );
}

#[tokio::test]
async fn names_of_others_are_shown_only_where_they_are_asked_for() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&database).await;
    let (status, page) = sidecar.get("/metrics").await;
    assert_eq!(status, 200);
    for name in [
        "pgbouncer_",
        "gauge_db_pool",
        "hist_db_pool",
        "count_db_pool",
    ] {
        assert!(!page.contains(name), "{name}");
    }
    let environment = [("POOLWATCH_METRICS__COMPAT", "pgbouncer")];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
    let mut client = Raw::login(sidecar.proxy_addr(), &database.name).await;
    client.ask(&query("SELECT 1")).await;
    let scrape = sidecar.scrape().await;
    let labels = [("database", database.name.as_str())];
    for name in ["stats", "stats_totals"] {
        let name = format!("pgbouncer_{name}_queries_pooled_total");
        assert_eq!(scrape.sum(&name, &labels), 1.0, "{name}");
    }
    assert_eq!(
        scrape.sum("pgbouncer_pools_client_active_connections", &labels),
        1.0
    );
    assert_eq!(scrape.sum("pgbouncer_client_connections", &labels), 1.0);
    assert_eq!(scrape.sum("pgbouncer_up", &[]), 1.0);
    assert_eq!(scrape.sum("gauge_db_pool_connections_total", &[]), 0.0);
}
