//! What is promised about figures, held against a real scrape: `docs/metrics.md`, the declarations in the code and
//! `/metrics` name the same metrics with the same types, labels and label values, and nothing that goes through the
//! proxy can add a series that is not on that page.

#[path = "contract/exposition.rs"]
mod exposition;
#[path = "contract/page.rs"]
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use poolwatch::clients::{ClientAddr, ClientInfo, Clients};
use poolwatch::error::Class;
use poolwatch::http::{HttpState, Readiness, serve};
use poolwatch::metrics::{
    AuthFailure, Blocker, ClientState, Kind, Limit, LoginOutcome, Metrics, MigrationRun,
    MigrationTool, Phase, PinReason, PoolLabels, PoolMetrics, QuerySamples, QuerySeries,
    StatementMessage, families,
};
use poolwatch::ops::http_client::get;
use poolwatch::pool::{self, CloseReason, Observer as _, Outcome, PoolEvent, PrePing};
use poolwatch::status::Status;
use tokio::net::TcpListener;

use exposition::{Sample, Scrape};
use page::{Contract, PAGE, declared, documented, rows, scraped, words};

const POOL: &str = "db_client_connection_pool_name";
/// What would break the text format if it were written as it is.
const HOSTILE: &str = "a\"b\\c\nd{}=,é 1\n# TYPE x counter\nx 1@h:1/d";
/// Labels that name things of the operator's; their values are as many as those things.
const NAMING: [&str; 8] = [
    POOL,
    "db_namespace",
    "server_address",
    "server_port",
    "version",
    "sqlstate_class",
    "fingerprint",
    "summary",
];

/// The product, as far as it shows figures, in this process.
struct Product {
    metrics: Metrics,
    clients: Clients,
    address: SocketAddr,
}

impl Product {
    async fn start() -> Self {
        let metrics = Metrics::new();
        let clients = Clients::new(8, &metrics);
        metrics.watch_queries(|| QuerySamples {
            top: vec![(
                "00000000000000aa".to_owned(),
                HOSTILE.to_owned(),
                QuerySeries::default(),
            )],
            ..QuerySamples::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let status = Arc::new(Status::new(Vec::new));
        let state = HttpState::new(metrics.clone(), status, Readiness::new());
        tokio::spawn(serve(listener, state, std::future::pending()));
        Self {
            metrics,
            clients,
            address,
        }
    }

    fn pool(&self, name: &str) -> Arc<PoolMetrics> {
        let pool = self.metrics.pool(PoolLabels {
            name: name.to_owned(),
            namespace: "orders".to_owned(),
            host: "db".to_owned(),
            port: 5433,
        });
        pool.watch(|| pool::Status {
            size: 25,
            max_overflow: 10,
            idle: 1,
            in_use: 2,
            ..Default::default()
        });
        pool
    }

    async fn scrape(&self) -> Scrape {
        let answer = get(self.address, "/metrics", Duration::from_secs(10)).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200);
        Scrape::parse(&answer.body)
    }
}

fn labels_of(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(POOL.to_owned(), name.to_owned())])
}

/// Every event, every enum's every value, and texts from the network where a method takes one.
fn record_everything(product: &Product, pool: &Arc<PoolMetrics>) {
    let ms = Duration::from_millis;
    let checkouts = Outcome::ALL.map(|outcome| PoolEvent::CheckedOut {
        outcome,
        took: ms(3),
    });
    let closes = CloseReason::ALL.map(|reason| PoolEvent::Closed { reason });
    let pings = PrePing::ALL.map(|outcome| PoolEvent::PrePing { outcome });
    let others = [
        PoolEvent::WaitStarted,
        PoolEvent::WaitEnded { waited: ms(40_000) },
        PoolEvent::Returned { held: ms(7) },
        PoolEvent::Connected {
            took: ms(20),
            ok: true,
        },
        PoolEvent::Connected {
            took: ms(9_000),
            ok: false,
        },
        PoolEvent::Invalidated,
        PoolEvent::Bug { what: "a test" },
    ];
    for event in checkouts
        .into_iter()
        .chain(closes)
        .chain(pings)
        .chain(others)
    {
        pool.on_event(event);
    }
    pool.query_finished(0.002, true);
    pool.query_finished(3.0, false);
    pool.transaction_finished(std::time::Duration::from_millis(5));
    pool.bytes_received_from_client(3);
    pool.bytes_sent_to_client(4);
    pool.logged_in();
    for message in StatementMessage::ALL {
        pool.statement(message);
    }
    for phase in Phase::ALL {
        pool.phase(phase, ms(1));
    }
    drop(PinReason::ALL.map(|reason| pool.pinned(reason)));
    let proxy = product.metrics.proxy();
    proxy.bytes_received_from_client(1);
    proxy.bytes_sent_to_client(2);
    proxy.bytes_received_from_server(3);
    proxy.bytes_sent_to_server(4);
    LoginOutcome::ALL
        .into_iter()
        .for_each(|outcome| proxy.login(outcome));
    AuthFailure::ALL
        .into_iter()
        .for_each(|reason| proxy.authentication_failed(reason));
    Limit::ALL
        .into_iter()
        .for_each(|limit| proxy.limit_rejected(limit));
    for sqlstate in ["42P01", "ZZZZZ", "", HOSTILE, "\u{1F600}"] {
        proxy.query_error(sqlstate);
        Class::ALL
            .into_iter()
            .for_each(|class| proxy.error(class, sqlstate));
    }
    product.metrics.upstream("db", 5433).probed(true);
    look_at_migrations(product);
}

/// Versions are texts out of a table, so they are as hostile as can be.
fn look_at_migrations(product: &Product) {
    let migrations = product.metrics.migrations();
    for tool in MigrationTool::ALL {
        migrations.stands(tool, &["20260101".to_owned(), HOSTILE.to_owned()], Some(3));
        let blockers = [1; Blocker::COUNT];
        let took = Duration::from_secs(4);
        migrations.running(tool, Some(MigrationRun { took, blockers }));
    }
    let collector = product.metrics.collector("migrations");
    collector.collected(Duration::from_millis(5), true);
}

#[tokio::test]
async fn page_code_and_scrape_name_the_same_metrics() {
    let product = Product::start().await;
    let _pool = product.pool("app@db:5433/orders");
    product.metrics.upstream("db", 5433);
    look_at_migrations(&product);
    let scrape = product.scrape().await;
    let process = |contract: &Contract, keep: bool| -> Contract {
        let mut part = contract.clone();
        part.retain(|name, _| name.starts_with("process_") == keep);
        part
    };
    let (page, exported) = (documented(), scraped(&scrape));
    assert_eq!(
        process(&page, false),
        declared(),
        "docs/metrics.md and code"
    );
    assert_eq!(process(&exported, false), declared(), "scrape and code");
    if cfg!(target_os = "linux") {
        assert_eq!(process(&page, true), process(&exported, true), "process_*");
    }
    for family in families::ALL {
        assert_eq!(scrape.help[family.name], family.help);
    }
}

#[tokio::test]
async fn page_and_scrape_have_the_same_label_values() {
    let product = Product::start().await;
    let pool = product.pool("app@db:5433/orders");
    record_everything(&product, &pool);
    let mut found: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for Sample { series, .. } in product.scrape().await.samples {
        for (label, value) in series.labels {
            if label != "le" && !NAMING.contains(&label.as_str()) {
                let key = (series.family.clone(), label);
                found.entry(key).or_default().insert(value);
            }
        }
    }
    let page: BTreeMap<_, BTreeSet<String>> = rows(|heading| heading == "Label values")
        .iter()
        .map(|row| {
            let [metric, label, values] = row[..] else {
                panic!("not three cells: {row:?}");
            };
            let key = (
                metric.trim_matches('`').into(),
                label.trim_matches('`').into(),
            );
            (key, words(values).into_iter().map(String::from).collect())
        })
        .collect();
    assert_eq!(found, page);
}

#[tokio::test]
async fn every_series_is_there_from_the_start_and_traffic_adds_none() {
    let product = Product::start().await;
    let pool = product.pool("app@db:5433/orders");
    product.metrics.upstream("db", 5433);
    look_at_migrations(&product);
    let before = product.scrape().await;
    record_everything(&product, &pool);
    let after = product.scrape().await;
    let new: Vec<_> = after
        .series()
        .difference(&before.series())
        .cloned()
        .collect();
    // The documented exception: our own errors with an unusual SQLSTATE, here class 42 and "other" for each class.
    assert!(
        new.iter().all(|s| s.name == "poolwatch_errors_total"),
        "{new:#?}"
    );
    assert_eq!(new.len(), Class::ALL.len() * 2);
    assert!(before.series().is_subset(&after.series()));
    let counted = |s: &&Sample| {
        s.series.name.ends_with("_total") && s.series.family.starts_with("poolwatch_")
    };
    assert!(
        before
            .samples
            .iter()
            .filter(counted)
            .all(|s| s.value == 0.0)
    );
}

#[tokio::test]
async fn figures_that_mean_the_same_are_equal() {
    let product = Product::start().await;
    let pool = product.pool("app@db:5433/orders");
    for _ in 0..3 {
        record_everything(&product, &pool);
    }
    let scrape = product.scrape().await;
    let checkouts = scrape.sum("poolwatch_pool_checkouts_total");
    assert_eq!(checkouts, 3.0 * Outcome::ALL.len() as f64);
    assert_eq!(
        scrape.sum("db_client_connection_wait_time_seconds_count"),
        checkouts
    );
    assert_eq!(scrape.sum("db_client_connection_timeouts_total"), 3.0);
    assert_eq!(scrape.sum("poolwatch_pool_connections_opened_total"), 3.0);
    assert_eq!(
        scrape.sum("db_client_connection_create_time_seconds_count"),
        3.0
    );
    assert_eq!(
        scrape.sum("db_client_connection_use_time_seconds_count"),
        3.0
    );
    let phase = |phase| scrape.value("poolwatch_query_phase_seconds_count", &[("phase", phase)]);
    assert_eq!(phase("connect"), 6.0, "failed connects take their time too");
    assert_eq!(
        [phase("wait"), phase("execute"), phase("transfer")],
        [3.0; 3]
    );
    let waits = scrape.value("poolwatch_query_phase_seconds_sum", &[("phase", "wait")]);
    assert!((waits - 120.0).abs() < 1e-9, "{waits}");
    // A wait of 40 s is inside a bucket, not lost in +Inf.
    for (bound, expected) in [("30", 0.0), ("60", 3.0), ("+Inf", 3.0)] {
        let labels = [("phase", "wait"), ("le", bound)];
        let count = scrape.value("poolwatch_query_phase_seconds_bucket", &labels);
        assert_eq!(count, expected, "le={bound}");
    }
    let queries = |kind| {
        scrape.value(
            "db_client_operation_duration_seconds_count",
            &[("error_type", kind)],
        )
    };
    assert_eq!([queries(""), queries("_OTHER")], [3.0, 3.0]);
    let bytes = |side, direction| {
        scrape.value(
            "poolwatch_bytes_total",
            &[("side", side), ("direction", direction)],
        )
    };
    assert_eq!(
        [
            bytes("client", "received"),
            bytes("client", "sent"),
            bytes("server", "received"),
            bytes("server", "sent")
        ],
        [3.0, 6.0, 9.0, 12.0]
    );
    let other = [("class", "query"), ("sqlstate_class", "other")];
    assert_eq!(scrape.value("poolwatch_errors_total", &other), 12.0);
}

/// Differences that people compute (opened − closed, checkouts − returns) are never negative, also while it happens.
#[tokio::test]
async fn under_load_no_end_is_seen_without_its_beginning() {
    let product = Product::start().await;
    let pool = product.pool("app@db:5433/orders");
    let stop = Arc::new(AtomicBool::new(false));
    let workers = [(); 2].map(|()| {
        let (pool, stop) = (Arc::clone(&pool), Arc::clone(&stop));
        std::thread::spawn(move || {
            let took = Duration::from_micros(700);
            while !stop.load(Ordering::Relaxed) {
                pool.on_event(PoolEvent::Connected { took, ok: true });
                let outcome = Outcome::Direct;
                pool.on_event(PoolEvent::CheckedOut { outcome, took });
                pool.on_event(PoolEvent::Returned { held: took });
                let reason = CloseReason::Overflow;
                pool.on_event(PoolEvent::Closed { reason });
            }
        })
    });
    for round in 0..100 {
        let scrape = product.scrape().await;
        let opened = scrape.sum("poolwatch_pool_connections_opened_total");
        let closed = scrape.sum("poolwatch_pool_connections_closed_total");
        assert!(closed <= opened, "round {round}: {closed} of {opened}");
        let checkouts = scrape.sum("poolwatch_pool_checkouts_total");
        let returns = scrape.sum("db_client_connection_use_time_seconds_count");
        assert!(
            returns <= checkouts,
            "round {round}: {returns} of {checkouts}"
        );
        let last = [("le", "+Inf")];
        let in_buckets = scrape.value("db_client_connection_use_time_seconds_bucket", &last);
        assert_eq!(in_buckets, returns, "round {round}");
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.join().unwrap();
    }
    let scrape = product.scrape().await;
    let returns = scrape.sum("db_client_connection_use_time_seconds_count");
    assert!(returns > 0.0);
    for same in [
        "poolwatch_pool_connections_opened_total",
        "poolwatch_pool_connections_closed_total",
        "poolwatch_pool_checkouts_total",
        "db_client_connection_wait_time_seconds_count",
    ] {
        assert_eq!(scrape.sum(same), returns, "{same}");
    }
}

#[tokio::test]
async fn guards_take_back_what_they_added() {
    let product = Product::start().await;
    let pool = product.pool("app@db:5433/orders");
    let reason = [("reason", "advisory_lock")];
    let state = [("state", "waiting")];
    let pins = [PinReason::AdvisoryLock; 2].map(|reason| pool.pinned(reason));
    let client = product.clients.register(ClientInfo {
        user: "app".to_owned(),
        database: "orders".to_owned(),
        application_name: HOSTILE.to_owned(),
        addr: ClientAddr::Unix,
        connection: Default::default(),
    });
    let client = client.unwrap();
    client.set_state(ClientState::Waiting);
    let scrape = product.scrape().await;
    assert_eq!(scrape.value("poolwatch_pinned_sessions", &reason), 2.0);
    assert_eq!(scrape.value("poolwatch_clients", &state), 1.0);
    drop(pins);
    drop(client);
    let scrape = product.scrape().await;
    assert_eq!(scrape.sum("poolwatch_pinned_sessions"), 0.0);
    assert_eq!(scrape.value("poolwatch_pins_total", &reason), 2.0);
    assert_eq!(scrape.sum("poolwatch_clients"), 0.0);
}

#[tokio::test]
async fn gauges_show_the_pool_as_it_is_at_the_scrape() {
    let product = Product::start().await;
    let pool = product.pool("app@db:5433/orders");
    let scrape = product.scrape().await;
    let count = |s: &Scrape, state| {
        s.value(
            "db_client_connection_count",
            &[("db_client_connection_state", state)],
        )
    };
    assert_eq!([count(&scrape, "idle"), count(&scrape, "used")], [1.0, 2.0]);
    assert_eq!(scrape.sum("db_client_connection_max"), 35.0);

    pool.watch(|| pool::Status {
        size: 2,
        max_overflow: -1,
        in_use: 5,
        waiting: 4,
        oldest_wait: Duration::from_millis(250),
        paused: true,
        ..Default::default()
    });
    let scrape = product.scrape().await;
    assert_eq!([count(&scrape, "idle"), count(&scrape, "used")], [0.0, 5.0]);
    for (name, value) in [
        ("db_client_connection_max", f64::INFINITY),
        ("db_client_connection_idle_max", 2.0),
        ("db_client_connection_pending_requests", 4.0),
        ("poolwatch_pool_max_overflow", -1.0),
        ("poolwatch_pool_overflow_connections", 3.0),
        ("poolwatch_pool_oldest_wait_seconds", 0.25),
        ("poolwatch_pool_paused", 1.0),
    ] {
        assert_eq!(scrape.sum(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_pool_that_is_gone_leaves_nothing_and_starts_again_from_zero() {
    let product = Product::start().await;
    let (kept, gone) = (
        product.pool("kept@db:5433/orders"),
        product.pool("gone@db:5433/orders"),
    );
    kept.transaction_finished(std::time::Duration::ZERO);
    gone.transaction_finished(std::time::Duration::ZERO);
    let held = Arc::new(());
    let seen = Arc::downgrade(&held);
    gone.watch(move || {
        let _owned = &held;
        pool::Status::default()
    });
    assert_eq!(
        product.scrape().await.sum("poolwatch_transactions_total"),
        2.0
    );

    product.metrics.forget_pool("gone@db:5433/orders");
    assert!(seen.upgrade().is_none(), "what the closure owned is let go");
    gone.transaction_finished(std::time::Duration::ZERO); // a session that still ends
    let scrape = product.scrape().await;
    let names: BTreeSet<_> = scrape
        .samples
        .iter()
        .filter_map(|s| s.series.labels.get(POOL))
        .collect();
    assert_eq!(names, BTreeSet::from([&"kept@db:5433/orders".to_owned()]));
    assert_eq!(scrape.sum("poolwatch_transactions_total"), 1.0);

    product.pool("gone@db:5433/orders");
    assert_eq!(
        product.scrape().await.sum("poolwatch_transactions_total"),
        1.0
    );
}

#[tokio::test]
async fn a_hostile_pool_name_comes_back_as_it_went_in_and_forges_nothing() {
    let product = Product::start().await;
    let tame = product.pool("app@db:5433/orders");
    let hostile = product.pool(HOSTILE);
    tame.transaction_finished(std::time::Duration::ZERO);
    hostile.transaction_finished(std::time::Duration::ZERO);
    hostile.transaction_finished(std::time::Duration::ZERO);
    let scrape = product.scrape().await;
    assert_eq!(
        scrape.value("poolwatch_transactions_total", &[(POOL, HOSTILE)]),
        2.0
    );
    assert!(!scrape.types.contains_key("x"));
    let transactions: Vec<_> = scrape
        .samples
        .iter()
        .filter(|s| s.series.name == "poolwatch_transactions_total")
        .map(|s| s.series.labels.clone())
        .collect();
    assert_eq!(
        transactions,
        [labels_of(HOSTILE), labels_of("app@db:5433/orders")]
    );
}

#[tokio::test]
async fn metrics_of_one_host_can_be_joined_whatever_its_port() {
    let product = Product::start().await;
    for (port, label) in [(5432, ""), (6000, "6000")] {
        let host = format!("db{port}");
        product.metrics.pool(PoolLabels {
            name: host.clone(),
            namespace: "orders".to_owned(),
            host: host.clone(),
            port,
        });
        product.metrics.upstream(&host, port).probed(port == 6000);
        let server = [("server_address", host.as_str()), ("server_port", label)];
        let scrape = product.scrape().await;
        let up = scrape.value("poolwatch_upstream_up", &server);
        assert_eq!(up, f64::from(u8::from(port == 6000)));
        let ok = [server[0], server[1], ("error_type", "")];
        let queries = scrape.value("db_client_operation_duration_seconds_count", &ok);
        assert_eq!(queries, 0.0);
    }
}

/// The bound on series that the page gives for each pool.
#[tokio::test]
async fn a_pool_has_as_many_series_as_the_page_says() {
    let product = Product::start().await;
    let pool = product.pool("app@db:5433/orders");
    record_everything(&product, &pool);
    let after = product.scrape().await;
    let of_pool = after
        .samples
        .iter()
        .filter(|s| s.series.labels.contains_key(POOL))
        .count();
    let page = PAGE;
    assert!(
        page.contains(&format!("number of series: {of_pool} each")),
        "it is {of_pool}"
    );
}

#[test]
fn histograms_have_the_bounds_the_page_gives() {
    let bounds = |list: &[f64]| {
        list.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let page = rows(|heading| heading == "Buckets");
    for family in families::ALL {
        let Kind::Histogram(list) = family.kind else {
            continue;
        };
        match page
            .iter()
            .find(|row| row[0].trim_matches('`') == family.name)
        {
            Some(row) => assert_eq!(row[1], bounds(list), "{}", family.name),
            None => assert!(
                PAGE.contains(&format!("| all others | {} |", bounds(list))),
                "{}",
                family.name
            ),
        }
    }
}

/// A table that is not what it seems cannot fill a scrape, nor bring a series twice.
#[tokio::test]
async fn versions_are_bounded_in_number_and_length() {
    let product = Product::start().await;
    let long: Vec<String> = (0..40).map(|n| format!("{}{n}", "x".repeat(100))).collect();
    let many: Vec<String> = (0..40).map(|n| format!("v{n:02}")).collect();
    let migrations = product.metrics.migrations();
    migrations.stands(MigrationTool::Alembic, &long, None);
    migrations.stands(MigrationTool::Sqlx, &many, None);
    let scrape = product.scrape().await;
    let of_tool = |name: &str, tool: &str| -> Vec<(String, f64)> {
        let samples = scrape.samples.iter().filter(|s| s.series.name == name);
        let samples = samples.filter(|s| s.series.labels["tool"] == tool);
        samples
            .map(|s| {
                (
                    s.series.labels.get("version").cloned().unwrap_or_default(),
                    s.value,
                )
            })
            .collect()
    };
    let alembic = of_tool("poolwatch_migration_info", "alembic");
    assert_eq!(alembic, [("x".repeat(64), 1.0)]);
    assert_eq!(of_tool("poolwatch_migration_info", "sqlx").len(), 16);
    for tool in ["alembic", "sqlx"] {
        let heads = of_tool("poolwatch_migration_heads", tool);
        assert_eq!(heads, [(String::new(), 40.0)]);
    }
    // Nobody knows of scripts.
    assert_eq!(of_tool("poolwatch_migrations_pending", "sqlx"), []);
}
