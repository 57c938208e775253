//! `GET /api/v1/pins`: the sessions that keep their servers now, and why.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::paging::Paging;
use super::problem::Problem;
use super::server::HttpState;
use crate::status::{Pin, PinnedSession};

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Pins {
    pinned: Vec<SessionBody>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// One session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PinnedSession)]
struct SessionBody {
    /// Unique in the life of the process.
    client: u64,
    pool: String,
    application_name: String,
    pins: Vec<PinBody>,
}

/// One reason.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pin)]
struct PinBody {
    /// As in the label of `poolwatch_pinned_sessions`.
    reason: &'static str,
    /// The kind of statement that was it.
    command: &'static str,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    since: String,
    /// How long ago that was.
    for_seconds: f64,
}

impl From<PinnedSession> for SessionBody {
    fn from(session: PinnedSession) -> Self {
        Self {
            client: session.client,
            pool: session.pool,
            application_name: session.application_name,
            pins: session.pins.into_iter().map(PinBody::from).collect(),
        }
    }
}

impl From<Pin> for PinBody {
    fn from(pin: Pin) -> Self {
        // A clock that was set back meanwhile makes it nothing.
        let lasted = SystemTime::now().duration_since(pin.since);
        Self {
            reason: pin.reason.label(),
            command: pin.command,
            since: humantime::format_rfc3339_millis(pin.since).to_string(),
            for_seconds: lasted.unwrap_or_default().as_secs_f64(),
        }
    }
}

/// All pinned sessions, those that came first in front.
#[utoipa::path(get, path = "/api/v1/pins", tag = "sessions", operation_id = "pins", params(Paging),
    responses((status = 200, body = Pins), super::openapi::Refused, super::openapi::RefusedPage))]
pub(super) async fn pins(
    State(state): State<HttpState>,
    paging: Paging,
) -> Result<Json<Pins>, Problem> {
    let pinned = state.status.pinned();
    let (pinned, next_cursor) = paging.page("pins", pinned, |session| session.client)?;
    let pinned = pinned.into_iter().map(SessionBody::from).collect();
    Ok(Json(Pins {
        pinned,
        next_cursor,
    }))
}
