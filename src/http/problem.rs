//! Errors as problem documents (RFC 9457, "Problem Details for HTTP APIs").

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of RFC 9457, section 3.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A refusal (RFC 9457). The status says what kind it is, so its `type` is `about:blank`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: `status` says what kind it is.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "about:blank")]
    kind: &'static str,
    /// The status in words.
    #[schema(value_type = String)]
    title: &'static str,
    /// The HTTP status.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16)]
    status: StatusCode,
    /// What is wrong, and what to do.
    #[schema(value_type = String)]
    detail: Cow<'static, str>,
}

impl Problem {
    /// The problem that a status stands for.
    pub(super) fn new(status: StatusCode) -> Self {
        Self::with(
            status,
            match status {
                StatusCode::NOT_FOUND => "Nothing is served at this path; / lists what is.",
                StatusCode::METHOD_NOT_ALLOWED => "This path does not take that method.",
                StatusCode::REQUEST_TIMEOUT => "The request did not arrive in time.",
                StatusCode::PAYLOAD_TOO_LARGE => "The request's body is larger than is accepted.",
                StatusCode::INTERNAL_SERVER_ERROR => "A fault of poolwatch; its log says more.",
                _ => "The request cannot be served.",
            },
        )
    }

    /// A problem, with what is wrong and what to do.
    pub(super) fn with(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status,
            detail: detail.into(),
        }
    }

    /// Something in the request is wrong.
    pub(super) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::with(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        response
    }
}

/// Gives the refusals of the router and its layers, which come with an empty or a plain body, the same form. Our own
/// answers are JSON and pass.
pub(super) async fn from_refusal(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || is_json(&response) {
        return response;
    }
    let allow = response.headers().get(ALLOW).cloned();
    let mut problem = Problem::new(status).into_response();
    if let Some(allow) = allow {
        problem.headers_mut().insert(ALLOW, allow);
    }
    problem
}

fn is_json(response: &Response) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().ends_with(b"json"))
}

fn as_number<S: serde::Serializer>(status: &StatusCode, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u16(status.as_u16())
}
