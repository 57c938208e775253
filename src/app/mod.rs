//! The composition root: settings become parts, parts become a running process.
//!
//! [`App::start`] binds everything, then serves; [`App::stop`] drains within `shutdown.timeout`. The data path and the
//! control path run on threads of their own, so that neither can starve the other: a scrape answers while every data
//! thread is busy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::auth::Admission;
use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::config::Settings;
use crate::console::Console;
use crate::control::Control;
use crate::diagnosis::Leak;
use crate::error::chain;
use crate::http::{self, HttpState, Latch, Readiness};
use crate::metrics::{Metrics, PoolLabels};
use crate::proxy::{Bound, Listener, Parts, Proxy};
use crate::query::Queries;
use crate::status::{PoolView, Status};
use crate::tasks::Tasks;
use crate::tls::ServerTls;

mod asks;
mod hooks;
mod leaks;
mod migrations;
mod parts;
mod probe;
mod queries;
mod threads;

pub use crate::console::{Ask, Shutdown};
pub use asks::Asked;
use asks::Asks;
pub use parts::StartError;
pub(crate) use parts::operating_system_user;
use threads::Threads;

/// After the pools are closed, how long cancelled queries may take to end before their clients are cut off.
const AFTER_CANCEL: Duration = Duration::from_secs(2);

/// Between two looks at clients that are to leave.
const LOOK: Duration = Duration::from_millis(50);

/// A running poolwatch.
#[derive(Debug)]
pub struct App {
    /// What it runs on now; a reload replaces it.
    settings: Arc<Mutex<Settings>>,
    /// What operators ask of the process.
    asks: Asks,
    bound: Vec<Bound>,
    http_address: SocketAddr,
    data: Threads,
    control_path: Threads,
    /// Accept loops, sessions, resets.
    sessions: Tasks,
    /// Probes and HTTP.
    background: Tasks,
    proxy: Proxy,
    queries: Option<Queries>,
    /// What the last look for leaks has found.
    leaks: Arc<Mutex<Vec<Leak>>>,
    clients: Clients,
    cluster: Cluster,
    control: Control,
    admission: Admission,
    tls: ServerTls,
    readiness: Readiness,
}

/// What was cut off because the time to stop was over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unfinished {
    /// Tasks that were cut off, by name.
    pub tasks: Vec<(&'static str, usize)>,
}

impl App {
    /// Binds, builds the parts, starts serving. Returns when connections are accepted; PostgreSQL need not be up.
    ///
    /// # Errors
    /// Something cannot be bound or built. Nothing is left running then.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let upstream = parts::upstream(&settings)?;
        let listeners = parts::listeners(&settings)?;
        let bound = parts::bound(&listeners)?;
        let http_listener = parts::http_listener(&settings)?;
        let http_address = http_listener.local_addr().map_err(StartError::Io)?;
        let access = parts::http_access(&settings, http_address)?;
        let data = Threads::start("data", settings.threads.data).map_err(StartError::Io)?;
        let control_path =
            Threads::start("control", settings.threads.control).map_err(StartError::Io)?;

        let metrics = Metrics::new();
        let (sessions, background) = (Tasks::new(), Tasks::new());
        let clients = Clients::new(parts::client_limits(&settings), &metrics);
        let cluster = Cluster::new(parts::cluster(&settings, &upstream), metrics.clone());
        let control = parts::control(&upstream, &settings, &metrics)?;
        let admission = parts::admission(&settings, &upstream, &control, control_path.first())?;
        let tls = ServerTls::new(&parts::server_files(&settings)?)?;
        let console = Console::new(
            parts::console(&settings, &bound),
            cluster.clone(),
            clients.clone(),
            metrics.proxy(),
        );
        let queries = queries::queries(&settings, &metrics);
        let proxy_parts = Parts {
            cluster: cluster.clone(),
            clients: clients.clone(),
            admission: admission.clone(),
            metrics: metrics.proxy(),
            queries: queries.clone(),
            tls: tls.clone(),
            tasks: sessions.clone(),
            console: console.clone(),
        };
        let proxy = Proxy::new(parts::proxy(&settings), proxy_parts);
        cluster.set_own_servers(parts::own_servers(&upstream, &control));
        let readiness = Readiness::new();
        let (asking, asks) = asks::channel();
        let app = Self {
            settings: Arc::new(Mutex::new(settings)),
            asks,
            bound,
            http_address,
            data,
            control_path,
            sessions,
            background,
            proxy,
            queries,
            leaks: Arc::default(),
            clients,
            cluster,
            control,
            admission,
            tls,
            readiness,
        };
        let status = Arc::new(app.status());
        app.open_console(&console, status.clone(), asking.clone(), &metrics);
        app.watch_leaks(status.clone());
        let mut http = HttpState::new(metrics.clone(), status, app.readiness.clone());
        http.access = Arc::new(access);
        app.open_http(&mut http, asking);
        app.serve_http(http_listener, http)?;
        app.begin(&metrics);
        app.accept(listeners);
        Ok(app)
    }

    /// What goes on beside the clients.
    fn begin(&self, metrics: &Metrics) {
        let upstream_latch = self.readiness.latch("upstream");
        self.probe(metrics, upstream_latch);
        self.watch_migrations(metrics);
        self.enforce_limits();
        self.observe_queries();
    }

    fn serve_http(
        &self,
        listener: std::net::TcpListener,
        state: HttpState,
    ) -> Result<(), StartError> {
        let runtime = self.control_path.first();
        let entered = runtime.enter();
        let listener = TcpListener::from_std(listener).map_err(StartError::Io)?;
        drop(entered);
        tracing::info!(part = "http", address = %self.http_address, "listening");
        let stopping = self.background.stopping();
        self.background
            .spawn_on(&runtime, "http", http::serve(listener, state, stopping));
        Ok(())
    }

    fn status(&self) -> Status {
        let (cluster, control) = (self.cluster.clone(), self.control.clone());
        let pinned = self.proxy.pinned().clone();
        let (clients, servers) = (self.clients.clone(), self.cluster.clone());
        let (sessions, leaks) = (self.proxy.sessions(), self.leaks.clone());
        Status::new(move || {
            let mut pools: Vec<PoolView> = cluster
                .pools()
                .iter()
                .map(|pool| PoolView {
                    name: pool.name().to_owned(),
                    user: pool.target().user.clone(),
                    host: pool.target().host().host.to_string(),
                    port: pool.target().host().port,
                    database: pool.target().database.clone(),
                    status: pool.pool.status(),
                    totals: pool.metrics.totals(),
                })
                .collect();
            pools.push(parts::control_view(&control));
            pools
        })
        .with_pinned(move || pinned.snapshot())
        .with_queries(self.queries.clone())
        .with_leaks(move || leaks.lock().clone())
        .with_sessions(
            move || clients.snapshot(),
            move || servers.pools().iter().flat_map(parts::servers).collect(),
            move || sessions.links().into_iter().map(parts::holding).collect(),
        )
    }

    fn probe(&self, metrics: &Metrics, latch: Latch) {
        let settings = self.settings.lock().clone();
        let probe = probe::Probe::new(self.control.clone(), metrics, &settings, latch);
        self.background.spawn_on(
            &self.control_path.first(),
            "probe",
            probe.run(self.background.stopping()),
        );
    }

    fn watch_migrations(&self, metrics: &Metrics) {
        let settings = self.settings.lock().clone();
        let watched = migrations::Migrations::new(self.control.clone(), metrics, &settings);
        if let Some(migrations) = watched {
            self.background.spawn_on(
                &self.control_path.first(),
                "migrations",
                migrations.run(self.background.stopping()),
            );
        }
    }

    fn enforce_limits(&self) {
        self.sessions.spawn_on(
            &self.control_path.first(),
            "limits",
            self.proxy.clone().enforce_limits(),
        );
        let Some(limit) = self.settings.lock().limits.idle_pool else {
            return;
        };
        let (cluster, stopping) = (self.cluster.clone(), self.sessions.stopping());
        self.sessions
            .spawn_on(&self.control_path.first(), "idle pools", async move {
                tokio::select! {
                    () = stopping => {}
                    () = cluster.forget_idle(limit) => {}
                }
            });
    }

    fn accept(&self, listeners: Vec<Listener>) {
        for (listener, bound) in listeners.into_iter().zip(&self.bound) {
            tracing::info!(part = "proxy", address = %bound, "listening");
            let accepting = self.proxy.clone().accept(listener, self.data.handles());
            self.sessions
                .spawn_on(&self.data.first(), "accept", async move {
                    if let Err(error) = accepting.await {
                        tracing::error!(%error, "a listener ended");
                    }
                });
        }
    }

    /// What it runs on now.
    pub fn settings(&self) -> Settings {
        self.settings.lock().clone()
    }

    /// The next thing that an operator asks of the process as a whole.
    pub async fn asked(&self) -> Asked {
        self.asks.next().await
    }

    /// Takes no new clients, and waits until those that are in have left, `admin.wait_timeout` at most.
    pub async fn clients_gone(&self) {
        self.readiness.set_stopping();
        self.proxy.close_to_new();
        let limit = self.settings.lock().admin.wait_timeout;
        let gone = async {
            while !self.clients.is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(limit, gone).await.is_err() {
            tracing::warn!(?limit, "not waiting any longer for clients to leave");
        }
    }

    /// Where clients connect.
    pub fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// Where metrics and health are answered.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Applies what can be changed while running and logs every difference.
    ///
    /// # Errors
    /// The pool's new rules contradict themselves; nothing was changed then.
    pub fn reload(&self, new: &Settings) -> Result<(), crate::pool::ConfigError> {
        let mut settings = self.settings.lock();
        let applied = settings.reloaded(new);
        self.cluster.reload(parts::pool(&applied))?;
        for change in settings.diff(new) {
            let crate::config::Change {
                key,
                old,
                new,
                reloadable,
            } = change;
            if reloadable {
                tracing::info!(key, old, new, "setting changed");
            } else {
                tracing::warn!(key, old, new, "setting not changed: it needs a restart");
            }
        }
        self.reload_queries(&applied);
        self.reload_files(&applied);
        *settings = applied;
        Ok(())
    }

    /// Reads again what stands in files of its own. What cannot be used leaves what is in use; sessions stay in any case.
    fn reload_files(&self, settings: &Settings) {
        self.admission
            .set_longest_wait(settings.auth.max_failure_delay);
        match parts::read_users(settings, &self.admission) {
            Ok(()) => {}
            Err(error) => tracing::error!(error = chain(&error), "users not read again"),
        }
        let files = parts::server_files(settings);
        match files.and_then(|files| self.tls.reload(&files)) {
            Ok(true) => tracing::info!("clients are shown another certificate from now on"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(error = chain(&error), "TLS with clients not changed");
            }
        }
    }

    /// Stops: not ready, no new connections, idle sessions told so, transactions finished, queries cancelled at the
    /// deadline, pools closed, HTTP last.
    ///
    /// # Errors
    /// What had to be cut off.
    pub async fn stop(self) -> Result<(), Unfinished> {
        let limit = self.settings.lock().shutdown.timeout;
        self.stop_within(limit).await
    }

    /// As [`stop`](Self::stop), with a limit of one's own for the transactions under way.
    ///
    /// # Errors
    /// What had to be cut off.
    pub async fn stop_within(self, limit: Duration) -> Result<(), Unfinished> {
        let started = Instant::now();
        tracing::info!(?limit, "stopping");
        self.readiness.set_stopping();
        self.sessions.stop();
        self.proxy.stop_sessions();
        self.clients.end_logins(|_, _| true);
        let mut unfinished = Unfinished::default();
        if let Err(tasks) = self.sessions.wait(limit).await {
            tracing::warn!(?limit, "cancelling what still runs");
            unfinished.tasks = tasks;
            self.cluster.close();
            self.proxy.cancel_all(AFTER_CANCEL).await;
            if let Err(tasks) = self.sessions.wait(AFTER_CANCEL).await {
                unfinished.tasks = tasks;
            }
        }
        self.cluster.close();
        self.control.close();
        tracing::info!(took = ?started.elapsed(), "sessions ended");
        self.background.stop();
        if let Err(tasks) = self.background.wait(AFTER_CANCEL).await {
            unfinished.tasks.extend(tasks);
        }
        for (name, count) in &unfinished.tasks {
            tracing::warn!(name, count, "cut off");
        }
        if unfinished.tasks.is_empty() {
            Ok(())
        } else {
            Err(unfinished)
        }
    }
}

/// The labels of the control pool.
fn control_labels(host: &crate::dsn::HostPort, database: &str) -> PoolLabels {
    PoolLabels {
        name: "control".to_owned(),
        namespace: database.to_owned(),
        host: host.host.to_string(),
        port: host.port,
    }
}

/// Something that could not be bound, with its address.
fn bind_error(address: impl std::fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    let address = address.to_string();
    move |source| StartError::Bind { address, source }
}
