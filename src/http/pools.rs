//! `GET /api/v1/pools`: each pool and its state.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::server::HttpState;
use crate::status::PoolView;

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Pools {
    pools: Vec<PoolBody>,
}

/// One pool. Durations are seconds.
#[derive(Debug, Serialize)]
struct PoolBody {
    name: String,
    user: String,
    host: String,
    port: u16,
    database: String,
    size: u32,
    /// -1 is no limit.
    max_overflow: i32,
    /// `size + max_overflow`; null when overflow has no limit.
    max: Option<i64>,
    idle: u32,
    in_use: u32,
    live: u32,
    overflow: u32,
    connecting: u32,
    pinging: u32,
    waiting: u32,
    permits_in_use: u32,
    oldest_wait_seconds: f64,
    oldest_use_seconds: f64,
    paused: bool,
    closed: bool,
}

impl From<PoolView> for PoolBody {
    fn from(view: PoolView) -> Self {
        let status = view.status;
        Self {
            name: view.name,
            user: view.user,
            host: view.host,
            port: view.port,
            database: view.database,
            size: status.size,
            max_overflow: status.max_overflow,
            max: (status.max_overflow >= 0)
                .then(|| i64::from(status.size) + i64::from(status.max_overflow)),
            idle: status.idle,
            in_use: status.in_use,
            live: status.live(),
            overflow: status.overflow(),
            connecting: status.connecting,
            pinging: status.pinging,
            waiting: status.waiting,
            permits_in_use: status.permits_in_use,
            oldest_wait_seconds: status.oldest_wait.as_secs_f64(),
            oldest_use_seconds: status.oldest_use.as_secs_f64(),
            paused: status.paused,
            closed: status.closed,
        }
    }
}

/// All pools, by name.
pub(super) async fn pools(State(state): State<HttpState>) -> Json<Pools> {
    let mut views = state.status.pools();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    Json(Pools {
        pools: views.into_iter().map(PoolBody::from).collect(),
    })
}
