//! `poolwatch demo`: a throw-away PostgreSQL, poolwatch in front of it, a mixed load through it, and at the end a
//! report whose figures are read from poolwatch's own `/metrics`.
//!
//! - `load`: what the clients do;
//! - `figures`: a scrape as numbers;
//! - `report`: what of them is shown, each second and at the end;
//! - this file: the life of a demo.

mod figures;
mod load;
mod report;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use self::figures::Figures;
use self::load::Load;
use self::report::Watch;
use super::http_client;
use super::postgres::{self, Postgres};
use crate::app::App;
use crate::config::{Addresses, AuthMethod, Listen, Settings};
use crate::dsn::{Dsn, HostPort};
use crate::error::chain;
use crate::proxy::Bound;
use crate::secret::Secret;
use crate::telemetry;

/// Between two looks at our own metrics; a line is printed every fourth.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS_A_LINE: u32 = 4;
/// A scrape answers from memory: anything near this is a fault.
const SCRAPE_LIMIT: Duration = Duration::from_secs(5);
/// Short, so that a burst can run into it while somebody watches. The default is 30 s.
const POOL_TIMEOUT: Duration = Duration::from_secs(1);
/// The database, and its owner, whom the load logs in as.
const NAME: &str = "demo";
/// Accounts to read and write.
const ACCOUNTS: u32 = 10_000;

/// How a demo runs.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Ends by itself after so long; otherwise at Ctrl-C.
    pub duration: Option<Duration>,
    /// Leave both ports to the system, instead of only those that are taken.
    pub any_port: bool,
}

/// Runs a demo on a runtime of its own and prints what happens.
///
/// # Errors
/// There is no PostgreSQL and none can be fetched, or a part does not start.
pub fn demo(options: &Options) -> anyhow::Result<()> {
    // The figures are the show; what goes wrong still comes through.
    let log = telemetry::Config {
        format: telemetry::Format::Text,
        level: "error".to_owned(),
    };
    let _telemetry = telemetry::init(&log).context("the log could not be set up")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(run(options, &mut std::io::stdout()))
}

/// Runs a demo and writes what happens to `out`. Returns after the report, with nothing left running.
///
/// # Errors
/// As [`demo`]; also when `out` cannot be written to.
pub async fn run(options: &Options, out: &mut impl Write) -> anyhow::Result<()> {
    // Before anything is started, so that no Ctrl-C finds us without a way to clean up.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let ended = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(ended);
    writeln!(out, "Starting a throw-away PostgreSQL ...")?;
    let (server, settings) = tokio::select! {
        prepared = prepare(options) => prepared?,
        () = &mut ended => return Ok(()),
    };
    let app = App::start(settings).map_err(|error| anyhow::anyhow!(chain(&error)))?;
    let proxy = match app.bound().first() {
        Some(Bound::Tcp(address)) => *address,
        _ => bail!("poolwatch listens on no TCP address"),
    };
    let http = app.http_address();
    introduce(out, &server, proxy, http)?;
    let load = Load::start(proxy, server.client_config(NAME));
    let mut watch = Watch::default();
    let shown = tokio::select! {
        shown = show(http, options.duration, &mut watch, out) => shown,
        () = &mut ended => Ok(()),
    };
    load.stop().await;
    let reported = match shown {
        Ok(()) => report(http, &mut watch, out).await,
        Err(error) => Err(error),
    };
    if let Err(unfinished) = app.stop().await {
        writeln!(out, "poolwatch stopped with work left: {unfinished:?}")?;
    }
    drop(server);
    writeln!(out, "PostgreSQL and its files are gone again.")?;
    reported
}

/// Starts PostgreSQL and makes what the load works on.
async fn prepare(options: &Options) -> anyhow::Result<(Postgres, Settings)> {
    let (superuser, owner) = (random_password(), random_password());
    let server = Postgres::start(postgres::Options {
        // Other users of this machine can reach the port.
        password: Some(superuser),
        auth: "scram-sha-256".to_owned(),
        ..postgres::Options::default()
    })
    .await
    .map_err(|error| anyhow::anyhow!(chain(&error)))?;
    initialise(&server, &owner)
        .await
        .context("the demo's database could not be made")?;
    let url = format!(
        "postgres://{NAME}:{}@127.0.0.1:{}/{NAME}",
        owner.expose(),
        server.port()
    );
    let mut settings = Settings::default();
    settings.upstream.url = Some(Dsn::parse(&url)?);
    settings.pool.timeout = POOL_TIMEOUT;
    // So that the line of psql below needs no password: nothing here outlives the demo.
    settings.auth.method = AuthMethod::Trust;
    let port = |wanted| free_port(wanted, options.any_port);
    settings.http.address = HostPort::tcp("127.0.0.1", port(settings.http.address.port));
    let listen = port(Listen::PORT);
    settings.listen.address = Addresses(vec![HostPort::tcp("127.0.0.1", listen)]);
    Ok((server, settings))
}

/// Hexadecimal, so that it needs no quoting anywhere.
fn random_password() -> Secret {
    Secret::from(format!("{:032x}", rand::random::<u128>()))
}

async fn initialise(server: &Postgres, owner: &Secret) -> anyhow::Result<()> {
    let statements = [
        format!("CREATE ROLE {NAME} LOGIN PASSWORD '{}'", owner.expose()),
        format!("CREATE DATABASE {NAME} OWNER {NAME}"),
    ];
    let client = load::connect(&server.client_config("postgres")).await?;
    for statement in &statements {
        client.batch_execute(statement).await?;
    }
    let client = load::connect(&server.client_config(NAME)).await?;
    let tables = format!(
        "SET ROLE {NAME};
         CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL, changed timestamptz NOT NULL);
         CREATE TABLE transfers (slot int PRIMARY KEY, source int NOT NULL, target int NOT NULL, amount int NOT NULL);
         INSERT INTO accounts SELECT id, 1000, now() FROM generate_series(1, {ACCOUNTS}) AS id;
         ANALYZE accounts"
    );
    client.batch_execute(&tables).await?;
    Ok(())
}

/// The port that the documentation names, or 0 if that is taken.
fn free_port(wanted: u16, any: bool) -> u16 {
    let free = !any && TcpListener::bind(("127.0.0.1", wanted)).is_ok();
    if free { wanted } else { 0 }
}

fn introduce(
    out: &mut impl Write,
    server: &Postgres,
    proxy: SocketAddr,
    http: SocketAddr,
) -> std::io::Result<()> {
    writeln!(
        out,
        "PostgreSQL listens on 127.0.0.1:{}; poolwatch stands in front of it. Look at:
  psql 'postgres://{NAME}@{proxy}/{NAME}'
  http://{http}/metrics
  http://{http}/api/v1/pools
  http://{http}/api/v1/pins
  http://{http}/readyz
The load: fast reads and writes, slow queries, failing ones, bursts beyond the pool's 25 + 10 connections, a client
that forgets to commit, a killed server process. pool.timeout is {POOL_TIMEOUT:?} here. Ctrl-C ends it.",
        server.port()
    )
}

/// A line each second, until the time is over.
async fn show(
    http: SocketAddr,
    duration: Option<Duration>,
    watch: &mut Watch,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut looks = 0;
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while duration.is_none_or(|duration| started.elapsed() < duration) {
        tick.tick().await;
        watch.look(scrape(http).await?, started.elapsed());
        looks += 1;
        if looks % LOOKS_A_LINE == 0 {
            writeln!(out, "{}", watch.line())?;
            out.flush()?;
        }
    }
    Ok(())
}

/// Asks once more, now that the load has ended, and reports.
async fn report(http: SocketAddr, watch: &mut Watch, out: &mut impl Write) -> anyhow::Result<()> {
    watch.finish(scrape(http).await?);
    write!(out, "{}", watch.report())?;
    out.flush()?;
    Ok(())
}

async fn scrape(http: SocketAddr) -> anyhow::Result<Figures> {
    let answer = http_client::get(http, "/metrics", SCRAPE_LIMIT)
        .await
        .context("poolwatch did not answer a scrape")?;
    if answer.status != 200 {
        bail!("a scrape was answered with status {}", answer.status);
    }
    Ok(Figures::parse(&answer.body))
}
