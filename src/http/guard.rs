//! What holds for every request: an id, bounds on requests at once, and a count of what a bound turned away.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;

use super::problem::{self, Problem};
use crate::metrics::{Limit, Metrics};

/// Requests of the API at once. Each is answered from memory, so more than this is a mistake or an attack; `/metrics` and
/// the probes are answered beyond it.
pub(super) const MOST_REQUESTS: usize = 64;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a request.
const LONGEST_ID: usize = 64;

/// By what a request is found again in the log.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// Gives the request an id, its own if it has a usable one, and the answer the same; counts what a limit refused.
pub(super) async fn identify(
    State(metrics): State<Metrics>,
    mut request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(REQUEST_ID);
    let given = given.and_then(|id| id.to_str().ok()).filter(|id| fits(id));
    let id: Arc<str> = match given {
        Some(id) => id.into(),
        None => format!("{:032x}", rand::random::<u128>()).into(),
    };
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = problem::from_refusal(next.run(request).await).await;
    let limit = match response.status() {
        StatusCode::REQUEST_TIMEOUT => Some(Limit::HttpTime),
        StatusCode::PAYLOAD_TOO_LARGE => Some(Limit::HttpSize),
        _ => None,
    };
    if let Some(limit) = limit {
        metrics.proxy().limit_rejected(limit);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Lets so many requests of the API in at once, and tells the others when to come again.
pub(super) async fn bound(
    State((metrics, free)): State<(Metrics, Arc<Semaphore>)>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(_permit) = free.try_acquire() else {
        metrics.proxy().limit_rejected(Limit::HttpRequests);
        let problem = Problem::with(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{MOST_REQUESTS} requests are being answered; ask again in a second."),
        );
        let mut response = problem.into_response();
        let second = HeaderValue::from_static("1");
        response.headers_mut().insert(RETRY_AFTER, second);
        return response;
    };
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    // What is true now is not true in a minute, and not for everybody.
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

fn fits(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(plain)
}
