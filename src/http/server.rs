//! The router with its limits, and its life on a listener.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::map_response;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use super::listener::Limited;
use super::readiness::Readiness;
use super::{index, pins, pools, probes, problem, scrape};
use crate::metrics::Metrics;
use crate::status::Status;

/// Answers come from memory, so only a client that does not send its request's body can take this long.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// No endpoint takes a body yet; this is far more than any future command needs.
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

/// What the handlers show.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// What `/metrics` encodes.
    pub metrics: Metrics,
    /// What the JSON API shows.
    pub status: Arc<Status>,
    /// What `/readyz` says.
    pub readiness: Readiness,
}

/// All routes, with their limits.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/", get(index::index))
        .route("/metrics", get(scrape::metrics))
        .route("/healthz", get(probes::healthz))
        .route("/readyz", get(probes::readyz))
        .route("/api/v1/pools", get(pools::pools))
        .route("/api/v1/pins", get(pins::pins))
        .with_state(state)
        .layer(RequestBodyLimitLayer::new(BODY_LIMIT))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_LIMIT,
        ))
        // Outermost, so that what the router and the layers refuse is a problem document too.
        .layer(map_response(problem::from_refusal))
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
