//! What a query costs more through poolwatch than straight to PostgreSQL, over loopback TCP both ways.
//!
//! `cargo bench --bench relay`. One process holds the client and poolwatch, each on threads of its own; PostgreSQL is a
//! throw-away server. In each group `direct` and `poolwatch` are measured one after the other, so their ratio within
//! one run means more than either figure. No log is written: at `info` none is for a query.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use poolwatch::app::App;
use poolwatch::config::{Addresses, Settings};
use poolwatch::dsn::{Dsn, HostPort};
use poolwatch::ops::postgres::{Options, Postgres};
use poolwatch::proxy::Bound;

const DATABASE: &str = "postgres";
const ROWS: usize = 1000;

/// The two ways to one server.
struct Ways {
    direct: Client,
    poolwatch: Client,
    app: App,
    _server: Postgres,
}

impl Ways {
    async fn open() -> Self {
        let server = Postgres::start(Options::default())
            .await
            .expect("a PostgreSQL server");
        let url = server.url(server.user(), DATABASE);
        let app = App::start(settings(&url)).expect("poolwatch");
        let through = match app.bound() {
            [Bound::Tcp(address)] => address.port(),
            other => panic!("one TCP address was asked for: {other:?}"),
        };
        Self {
            direct: connect(&server, server.port()).await,
            poolwatch: connect(&server, through).await,
            app,
            _server: server,
        }
    }

    async fn close(self) {
        // A client that stays would be waited for.
        drop((self.direct, self.poolwatch));
        self.app.stop().await.expect("nothing is left running");
    }
}

fn settings(url: &str) -> Settings {
    let mut settings = Settings::default();
    settings.upstream.url = Some(Dsn::parse(url).expect("the launcher's URL"));
    settings.listen.address = Addresses(vec![HostPort::tcp("127.0.0.1", 0)]);
    settings.http.address = HostPort::tcp("127.0.0.1", 0);
    settings
}

async fn connect(server: &Postgres, port: u16) -> Client {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user(server.user())
        .dbname(DATABASE);
    let (client, connection) = config.connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// One simple query; how many rows came.
async fn rows(client: &Client, sql: &str) -> usize {
    let replies = client.simple_query(sql).await.expect("an answer");
    let is_row = |reply: &&SimpleQueryMessage| matches!(reply, SimpleQueryMessage::Row(_));
    replies.iter().filter(is_row).count()
}

fn round_trips(c: &mut Criterion) {
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let ways = runtime.block_on(Ways::open());
    let thousand = format!("SELECT n, 'row ' || n, now() FROM generate_series(1, {ROWS}) AS n");
    for (name, sql, expected) in [
        ("select_1", "SELECT 1", 1),
        ("select_1000_rows", thousand.as_str(), ROWS),
    ] {
        let mut group = c.benchmark_group(name);
        for (way, client) in [("direct", &ways.direct), ("poolwatch", &ways.poolwatch)] {
            assert_eq!(runtime.block_on(rows(client, sql)), expected);
            group.bench_function(way, |bencher| {
                bencher.to_async(&runtime).iter(|| rows(client, sql));
            });
        }
        group.finish();
    }
    runtime.block_on(ways.close());
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = round_trips
}
criterion_main!(benches);
