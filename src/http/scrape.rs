//! `GET /metrics`.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};

use super::problem::Problem;
use super::server::HttpState;

/// Prometheus' text format; the parameter says that label values may be any Unicode.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One scrape. Nothing in it waits: see [`Metrics::encode`](crate::metrics::Metrics::encode).
pub(super) async fn metrics(
    State(state): State<HttpState>,
) -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    match state.metrics.encode() {
        Ok(text) => Ok(([(CONTENT_TYPE, TEXT_FORMAT)], text)),
        Err(error) => {
            tracing::error!(error = %crate::error::chain(&error), "a scrape could not be answered");
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR))
        }
    }
}
