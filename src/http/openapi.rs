//! `GET /api/v1/openapi.json` and `/api/v1/docs`: the API described from its own types, for programs and for people.

use std::sync::LazyLock;

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi};

use super::problem::Problem;
use super::{configuration, databases, holders, orders, pins, pools, queries, reference, sessions};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "poolwatch",
        description = "The pools as they are, and the orders that an operator may give. Times are RFC 3339 in UTC; durations are seconds. Errors are problem documents (RFC 9457)."
    ),
    paths(
        pools::pools, databases::databases, sessions::clients, sessions::servers, sessions::waits, holders::holders,
        holders::leaks, pins::pins, queries::queries, queries::slow_queries,
        configuration::configuration, orders::pause, orders::resume, orders::reconnect, orders::resize, orders::reload,
        orders::cancel, orders::end
    ),
    components(schemas(Problem)),
    tags(
        (name = "pools", description = "Pools and databases"),
        (name = "sessions", description = "Clients, servers, and who has or wants which"),
        (name = "queries", description = "Queries by what they do, and slow ones"),
        (name = "process", description = "The process itself"),
        (name = "orders", description = "What changes something; each needs the operator's token")
    ),
    modifiers(&Tokens)
)]
struct Described;

/// What any request may be refused with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the macro only")]
pub(super) enum Refused {
    /// The request is not as described
    #[response(status = 400, content_type = "application/problem+json")]
    Wrong(#[to_schema] Problem),
    /// No token, or a wrong one
    #[response(status = 401, content_type = "application/problem+json")]
    NoToken(#[to_schema] Problem),
    /// The token's role, the Host or the Origin does not allow this
    #[response(status = 403, content_type = "application/problem+json")]
    NotAllowed(#[to_schema] Problem),
    /// The request did not arrive in time
    #[response(status = 408, content_type = "application/problem+json")]
    Late(#[to_schema] Problem),
    /// Too many requests at once; Retry-After says when to come again
    #[response(status = 503, content_type = "application/problem+json")]
    Busy(#[to_schema] Problem),
}

/// And one for a page of a list.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the macro only")]
pub(super) enum RefusedPage {
    /// The cursor is none of this list
    #[response(status = 404, content_type = "application/problem+json")]
    NoPage(#[to_schema] Problem),
}

/// And one with a body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the macro only")]
pub(super) enum RefusedBody {
    /// The body is too large
    #[response(status = 413, content_type = "application/problem+json")]
    Large(#[to_schema] Problem),
    /// The body is not called application/json
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(#[to_schema] Problem),
    /// The body is JSON of another form
    #[response(status = 422, content_type = "application/problem+json")]
    Unfit(#[to_schema] Problem),
}

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, about) in [
            (
                "reader",
                "The content of http.reader_token_file. Not needed where HTTP is served on loopback.",
            ),
            (
                "operator",
                "The content of http.operator_token_file. It may read, too.",
            ),
        ] {
            let mut scheme = Http::new(HttpAuthScheme::Bearer);
            scheme.description = Some(about.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
        use utoipa::openapi::SecurityRequirement as Needs;
        let none: [&str; 0] = [];
        for path in document.paths.paths.values_mut() {
            if let Some(read) = &mut path.get {
                let one_of = vec![
                    Needs::default(),
                    Needs::new("reader", none),
                    Needs::new("operator", none),
                ];
                read.security = Some(one_of);
            }
            if let Some(order) = &mut path.post {
                order.security = Some(vec![Needs::new("operator", none)]);
            }
        }
    }
}

/// A page that stays the same while the process lives.
struct Page {
    text: String,
    etag: HeaderValue,
}

static DOCUMENT: LazyLock<Page> = LazyLock::new(|| Page::new(document().to_string()));
static REFERENCE: LazyLock<Page> = LazyLock::new(|| Page::new(reference::page(&document())));

/// The document, as JSON.
pub(super) fn document() -> serde_json::Value {
    serde_json::to_value(Described::openapi()).unwrap_or_default()
}

/// The document.
pub(super) async fn openapi(request: Request) -> Response {
    DOCUMENT.answer(request.headers(), "application/json")
}

/// The same for people.
pub(super) async fn docs(request: Request) -> Response {
    let mut response = REFERENCE.answer(request.headers(), "text/html; charset=utf-8");
    // Nothing is loaded from anywhere, and no script runs.
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
    let policy = HeaderValue::from_static(policy);
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, policy);
    response
}

impl Page {
    fn new(text: String) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let hex: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
        // Weak: the same text goes out compressed and not.
        let etag = HeaderValue::from_str(&format!("W/\"{hex}\""));
        let etag = etag.unwrap_or(HeaderValue::from_static("W/\"0\""));
        Self { text, etag }
    }

    fn answer(&self, headers: &HeaderMap, kind: &'static str) -> Response {
        let known = headers
            .get(IF_NONE_MATCH)
            .and_then(|tags| tags.to_str().ok());
        let own = self.etag.to_str().unwrap_or_default();
        let same = known.is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == own));
        let about: [(HeaderName, HeaderValue); 3] = [
            (ETAG, self.etag.clone()),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (CONTENT_TYPE, HeaderValue::from_static(kind)),
        ];
        match same {
            true => (StatusCode::NOT_MODIFIED, about).into_response(),
            false => (about, self.text.clone()).into_response(),
        }
    }
}
