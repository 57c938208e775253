//! `GET /api/v1/pools`: each pool and its state.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::paging::Paging;
use super::problem::Problem;
use super::server::HttpState;
use crate::status::PoolView;

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Pools {
    pools: Vec<PoolBody>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// One pool. Durations are seconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PoolBody {
    /// As in the label `db_client_connection_pool_name`.
    pub(super) name: String,
    /// Whom its servers are logged in as.
    user: String,
    host: String,
    port: u16,
    database: String,
    /// Connections that are kept.
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
///
/// Their state at this moment, from memory. The pool `control` is poolwatch's own; no client is in it.
#[utoipa::path(get, path = "/api/v1/pools", tag = "pools", operation_id = "pools", params(Paging),
    responses((status = 200, body = Pools), super::openapi::Refused, super::openapi::RefusedPage))]
pub(super) async fn pools(
    State(state): State<HttpState>,
    paging: Paging,
) -> Result<Json<Pools>, Problem> {
    let bodies = now(&state);
    let (pools, next_cursor) = paging.page("pools", bodies, |pool| pool.name.clone())?;
    Ok(Json(Pools { pools, next_cursor }))
}

/// Every pool at this moment, by name.
pub(super) fn now(state: &HttpState) -> Vec<PoolBody> {
    let mut views = state.status.pools();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views.into_iter().map(PoolBody::from).collect()
}
