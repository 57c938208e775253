//! The router with its limits, and its life on a listener.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use super::access::{self, Access};
use super::configuration::{self, Setting};
use super::listener::Limited;
use super::orders::{self, Orders};
use super::readiness::Readiness;
use super::{
    databases, guard, holders, index, openapi, pins, pools, probes, queries, scrape, sessions,
};
use crate::metrics::Metrics;
use crate::status::Status;

/// Answers come from memory, so only a client that does not send its request's body can take this long.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Far more than any order needs.
const BODY_LIMIT: usize = 64 * 1024;

/// How long a stop waits for answers under way: one that is in memory is out long before, and a peer that neither reads
/// nor hangs up must not hold the process.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Where HTTP is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The address to listen on. Loopback unless told otherwise: `/metrics` names users, hosts and databases.
    pub address: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9432)),
        }
    }
}

/// What the handlers show, and through what they act.
#[derive(Clone)]
pub struct HttpState {
    /// What `/metrics` encodes.
    pub metrics: Metrics,
    /// What the JSON API shows.
    pub status: Arc<Status>,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// Who may ask for what.
    pub access: Arc<Access>,
    /// The settings, in the order in which they are shown.
    pub settings: Arc<dyn Fn() -> Vec<Setting> + Send + Sync>,
    /// Where orders go; where there is nothing, none is taken.
    pub orders: Option<Arc<Orders>>,
}

impl HttpState {
    /// Shows these, on loopback, and takes no orders.
    pub fn new(metrics: Metrics, status: Arc<Status>, readiness: Readiness) -> Self {
        Self {
            metrics,
            status,
            readiness,
            access: Arc::new(Access {
                loopback: true,
                ..Access::default()
            }),
            settings: Arc::new(Vec::new),
            orders: None,
        }
    }
}

impl std::fmt::Debug for HttpState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpState").finish_non_exhaustive()
    }
}

/// All routes, with their limits.
pub fn router(state: HttpState) -> Router {
    let (access, metrics) = (state.access.clone(), state.metrics.clone());
    let scrape = Router::new()
        .route("/metrics", get(scrape::metrics))
        .route_layer(from_fn_with_state(access.clone(), access::scraping));
    let api = reading()
        .route_layer(from_fn_with_state(access.clone(), access::reading))
        .merge(changing().route_layer(from_fn_with_state(access, access::changing)));
    let free = Arc::new(Semaphore::new(guard::MOST_REQUESTS));
    let api = api.route_layer(from_fn_with_state((metrics.clone(), free), guard::bound));
    Router::new()
        .route("/", get(index::index))
        .route("/healthz", get(probes::healthz))
        .route("/readyz", get(probes::readyz))
        .merge(scrape)
        .merge(api)
        .with_state(state)
        .layer(RequestBodyLimitLayer::new(BODY_LIMIT))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_LIMIT,
        ))
        // So that what the router and the layers refuse is a problem document too.
        .layer(from_fn_with_state(metrics, guard::identify))
        .layer(CompressionLayer::new())
}

fn reading() -> Router<HttpState> {
    Router::new()
        .route("/api/v1/pools", get(pools::pools))
        .route("/api/v1/databases", get(databases::databases))
        .route("/api/v1/clients", get(sessions::clients))
        .route("/api/v1/servers", get(sessions::servers))
        .route("/api/v1/waits", get(sessions::waits))
        .route("/api/v1/holders", get(holders::holders))
        .route("/api/v1/leaks", get(holders::leaks))
        .route("/api/v1/pins", get(pins::pins))
        .route("/api/v1/queries", get(queries::queries))
        .route("/api/v1/slow-queries", get(queries::slow_queries))
        .route("/api/v1/configuration", get(configuration::configuration))
        .route("/api/v1/openapi.json", get(openapi::openapi))
        .route("/api/v1/docs", get(openapi::docs))
}

fn changing() -> Router<HttpState> {
    Router::new()
        .route("/api/v1/pause", post(orders::pause))
        .route("/api/v1/resume", post(orders::resume))
        .route("/api/v1/reconnect", post(orders::reconnect))
        .route("/api/v1/resize", post(orders::resize))
        .route("/api/v1/reload", post(orders::reload))
        .route("/api/v1/clients/{id}/cancel", post(orders::cancel))
        .route("/api/v1/clients/{id}/end", post(orders::end))
}

/// Serves until `shutdown` resolves and the answers under way are out, at most five seconds after it.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let (stopping, stopped) = oneshot::channel::<()>();
    let server = axum::serve(Limited::new(listener), router(state)).with_graceful_shutdown(async {
        shutdown.await;
        drop(stopping);
    });
    let limit = async {
        // Resolves with an error when the sender is dropped, which is the signal.
        let _ = stopped.await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        // Both arms end the server; what is dropped with the other one is a timer or connections past their time.
        _ = server => {}
        () = limit => tracing::warn!(limit = ?DRAIN_LIMIT, "http connections did not end in time"),
    }
}
