//! `GET /api/v1/holders` and `/leaks`: who has a server, with which statement, and who has one and does nothing.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::{Refused, RefusedPage};
use super::paging::Paging;
use super::problem::Problem;
use super::server::HttpState;
use crate::status::{ClientSnapshot, Leak, Status};

/// Who has a server.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Holders {
    holders: Vec<Holder>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// A client that has a server.
#[derive(Debug, Serialize, ToSchema)]
struct Holder {
    /// The client's id.
    client: u64,
    user: String,
    database: String,
    application_name: String,
    /// As in `poolwatch_clients`; `active` where a statement runs.
    #[schema(value_type = String)]
    state: &'static str,
    /// The server's id.
    server: u64,
    held_seconds: f64,
    /// Why it keeps the server between transactions; empty where it does not.
    pinned_by: Vec<&'static str>,
    last_statement: Option<Statement>,
}

/// A statement without its literals.
#[derive(Debug, Serialize, ToSchema)]
struct Statement {
    fingerprint: String,
    summary: String,
    text: String,
}

/// Suspected leaks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Leaks {
    leaks: Vec<LeakBody>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// A client that has a server and has run nothing on it for `pool.leak_threshold` or longer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Leak)]
struct LeakBody {
    /// The client's id.
    client: u64,
    pool: String,
    user: String,
    application_name: String,
    held_seconds: f64,
    /// For how long nothing has run on the server, at least.
    idle_seconds: f64,
    /// Why it keeps the server between transactions; null in a transaction.
    pinned_by: Option<String>,
    last_statement: Option<Statement>,
}

/// The clients that have a server, and the statement that each has sent last, those that came first in front.
#[utoipa::path(get, path = "/api/v1/holders", tag = "sessions", operation_id = "holders", params(Paging),
    responses((status = 200, body = Holders), Refused, RefusedPage))]
pub(super) async fn holders(
    State(state): State<HttpState>,
    paging: Paging,
) -> Result<Json<Holders>, Problem> {
    let sessions = state.status.sessions();
    let pinned = state.status.pinned();
    let mut clients = sessions.clients;
    clients.retain(|client| sessions.by_client.contains_key(&client.id));
    let (page, next_cursor) = paging.page("holders", clients, |client| client.id)?;
    let holder = |client: ClientSnapshot| {
        let holding = sessions.by_client.get(&client.id)?;
        let pins = pinned.iter().find(|session| session.client == client.id);
        let reasons = pins.into_iter().flat_map(|session| &session.pins);
        Some(Holder {
            client: client.id,
            state: client.state.label(),
            server: holding.server,
            held_seconds: holding.held.as_secs_f64(),
            pinned_by: reasons.map(|pin| pin.reason.label()).collect(),
            last_statement: Statement::of(client.last, &state.status),
            user: client.info.user,
            database: client.info.database,
            application_name: client.info.application_name,
        })
    };
    let holders = page.into_iter().filter_map(holder).collect();
    Ok(Json(Holders {
        holders,
        next_cursor,
    }))
}

/// Suspected leaks, as they were found at the last look, a second ago at most.
#[utoipa::path(get, path = "/api/v1/leaks", tag = "sessions", operation_id = "leaks", params(Paging),
    responses((status = 200, body = Leaks), Refused, RefusedPage))]
pub(super) async fn leaks(
    State(state): State<HttpState>,
    paging: Paging,
) -> Result<Json<Leaks>, Problem> {
    let leaks = state.status.leaks();
    let (page, next_cursor) = paging.page("leaks", leaks, |leak| leak.holder.client)?;
    let body = |leak: Leak| LeakBody {
        client: leak.holder.client,
        pool: leak.holder.pool,
        user: leak.holder.user,
        application_name: leak.holder.application,
        held_seconds: leak.holder.held.as_secs_f64(),
        idle_seconds: leak.idle.as_secs_f64(),
        pinned_by: leak.holder.pinned_by,
        last_statement: Statement::of(leak.holder.last.map(|last| last.0), &state.status),
    };
    let leaks = page.into_iter().map(body).collect();
    Ok(Json(Leaks { leaks, next_cursor }))
}

impl Statement {
    fn of(fingerprint: Option<u64>, status: &Status) -> Option<Self> {
        let description = status.statement(fingerprint?)?;
        Some(Self {
            fingerprint: description.fingerprint.to_string(),
            summary: description.summary.to_string(),
            text: description.text.to_string(),
        })
    }
}
