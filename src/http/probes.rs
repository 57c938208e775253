//! `GET /healthz` and `GET /readyz`, for whoever starts and restarts processes.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::server::HttpState;

/// Alive: this process answers. PostgreSQL being down is no reason to restart us, so it is not asked.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// What `/readyz` answers.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    ready: bool,
    /// What is missing; empty when ready.
    reasons: Vec<&'static str>,
}

/// Ready: 200, or 503 with what is missing.
pub(super) async fn readyz(State(state): State<HttpState>) -> (StatusCode, Json<Ready>) {
    let reasons = state.readiness.reasons();
    let ready = reasons.is_empty();
    let status = match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(Ready { ready, reasons }))
}
