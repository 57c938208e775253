//! Who may ask for what: open, with a reader's token, with an operator's; and no page from elsewhere.
//!
//! A browser on this machine can be led here by any page it shows: by a form, or by a name that is made to point at
//! loopback. So without a token a request must name loopback in `Host`, and one that changes something must not come
//! from a page of another origin. A token that is right is proof enough for `Host`: no page from elsewhere has it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;
use crate::secret::Secret;

/// The tokens, and where they are asked for.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Who has it may read.
    pub reader: Option<Secret>,
    /// Who has it may read and change.
    pub operator: Option<Secret>,
    /// The address is reachable from this machine only: reading needs no token.
    pub loopback: bool,
    /// `/metrics` needs what reading needs, and a token on loopback, too.
    pub protect_metrics: bool,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Reader,
    Operator,
}

const NO_TOKEN: &str =
    "This needs a token: Authorization: Bearer … with the content of http.reader_token_file.";
const NO_OPERATOR_TOKEN: &str = "This changes something and needs the operator's token: Authorization: Bearer … with the content of \
     http.operator_token_file.";
const WRONG_TOKEN: &str = "The token is not one of this poolwatch's.";
const NONE_SET: &str = "Nothing can be changed over HTTP: http.operator_token_file is not set, so nobody is an operator.";
const READER_ONLY: &str =
    "This changes something, and the token is a reader's; an operator's is needed.";
const WRONG_HOST: &str = "Without a token, the Host of a request must be localhost or a loopback address, as a page from elsewhere \
     could have sent it.";
const WRONG_ORIGIN: &str = "A page of another origin must not change anything here.";

impl Access {
    /// Whether this request may do what `needed` may.
    fn check(&self, headers: &HeaderMap, needed: Role) -> Result<(), Problem> {
        if needed == Role::Operator && from_elsewhere(headers) {
            return Err(Problem::with(StatusCode::FORBIDDEN, WRONG_ORIGIN));
        }
        match (self.role(headers)?, needed) {
            (Some(role), needed) if role >= needed => Ok(()),
            (Some(_), _) => Err(Problem::with(StatusCode::FORBIDDEN, READER_ONLY)),
            (None, Role::Reader) if self.loopback => match is_loopback(headers) {
                true => Ok(()),
                false => Err(Problem::with(StatusCode::FORBIDDEN, WRONG_HOST)),
            },
            (None, Role::Reader) => Err(Problem::with(StatusCode::UNAUTHORIZED, NO_TOKEN)),
            (None, Role::Operator) if self.operator.is_none() => {
                Err(Problem::with(StatusCode::FORBIDDEN, NONE_SET))
            }
            (None, Role::Operator) => {
                Err(Problem::with(StatusCode::UNAUTHORIZED, NO_OPERATOR_TOKEN))
            }
        }
    }

    /// What the token says, if there is one; one that is wrong is not the same as none.
    fn role(&self, headers: &HeaderMap) -> Result<Option<Role>, Problem> {
        let Some(given) = headers.get(AUTHORIZATION) else {
            return Ok(None);
        };
        let wrong = || Problem::with(StatusCode::UNAUTHORIZED, WRONG_TOKEN);
        let text = given.to_str().map_err(|_| wrong())?;
        let (scheme, token) = text.split_once(' ').ok_or_else(wrong)?;
        let token = Secret::new(token.trim());
        let is = |known: &Option<Secret>| known.as_ref().is_some_and(|known| *known == token);
        match scheme.eq_ignore_ascii_case("bearer") {
            true if is(&self.operator) => Ok(Some(Role::Operator)),
            true if is(&self.reader) => Ok(Some(Role::Reader)),
            _ => Err(wrong()),
        }
    }
}

/// For what reads.
pub(super) async fn reading(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    admit(&access, Role::Reader, request, next).await
}

/// For what changes something.
pub(super) async fn changing(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    admit(&access, Role::Operator, request, next).await
}

/// For `/metrics`.
pub(super) async fn scraping(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    match access.protect_metrics {
        false => next.run(request).await,
        true => {
            let strict = Access {
                loopback: false,
                ..(*access).clone()
            };
            admit(&strict, Role::Reader, request, next).await
        }
    }
}

async fn admit(access: &Access, needed: Role, request: Request, next: Next) -> Response {
    let Err(problem) = access.check(request.headers(), needed) else {
        return next.run(request).await;
    };
    if needed == Role::Operator {
        tracing::warn!(
            part = "http",
            path = request.uri().path(),
            status = problem.status().as_u16(),
            "refused an order"
        );
    }
    let asks = problem.status() == StatusCode::UNAUTHORIZED;
    let mut response = problem.into_response();
    if asks {
        let bearer = HeaderValue::from_static("Bearer realm=\"poolwatch\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
    }
    response
}

/// Whether a browser says that a page of another origin sent this. Programs send no `Origin`.
fn from_elsewhere(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok();
    let authority = origin.and_then(|origin| origin.split_once("://"));
    // The scheme is not compared: TLS may end in front of us.
    match (authority, own) {
        (Some((_, authority)), Some(own)) => !authority.eq_ignore_ascii_case(own),
        _ => true,
    }
}

/// Whether the request was sent to a name that is this machine's for sure.
fn is_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(authority) = host.and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
