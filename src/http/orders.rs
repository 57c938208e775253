//! What changes something: the orders that the console gives, over HTTP. Each stands in the log with the request's id.

use std::future::Future;
use std::pin::Pin;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::guard::RequestId;
use super::openapi::{Refused, RefusedBody};
use super::problem::Problem;
use super::server::HttpState;
use crate::cluster::Cluster;

/// An answer that comes later.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is asked of the process as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Read the settings again.
    Reload,
    /// Change these settings, in this order, until the next reload.
    Set(Vec<(&'static str, String)>),
}

/// The ways to what carries orders out.
pub struct Orders {
    /// Where databases are paused and servers replaced.
    pub cluster: Cluster,
    /// Asks something of the process; the error says why it was not done.
    pub ask: Box<dyn Fn(Ask) -> Answer<Result<(), String>> + Send + Sync>,
    /// Ends the session of one client; false if there is none of that id.
    pub end_client: Box<dyn Fn(u64) -> Answer<bool> + Send + Sync>,
    /// Cancels what one client runs or waits with; false if there is nothing.
    pub cancel: Box<dyn Fn(u64) -> Answer<bool> + Send + Sync>,
}

impl std::fmt::Debug for Orders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orders").finish_non_exhaustive()
    }
}

/// Which database is meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Scope)]
pub(super) struct Scope {
    /// Its name; null or absent means all.
    database: Option<String>,
}

/// The new size of the pools.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Size)]
pub(super) struct Size {
    /// `pool.size`: connections that each pool keeps; 0 is no limit.
    #[serde(default, deserialize_with = "whole")]
    #[schema(minimum = 0, maximum = 100_000)]
    size: Option<i64>,
    /// `pool.max_overflow`: how many more there may be for a while; -1 is no limit.
    #[serde(default, deserialize_with = "whole")]
    #[schema(minimum = -1, maximum = 100_000)]
    max_overflow: Option<i64>,
}

/// The most that a size is set to by an order.
const LARGEST: i64 = 100_000;

/// An order that was carried out.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// False if it was so before.
    changed: bool,
    /// Connections that the databases meant have open now. After a pause they are released as transactions end.
    servers: u32,
}

/// What a body is made of, once it is known to be JSON.
type Given = Result<Json<Value>, JsonRejection>;
type Outcome<T> = Result<Json<T>, Problem>;

/// Gives no servers to clients until it is resumed.
///
/// Transactions under way end first; `servers` says how many connections are still open.
#[utoipa::path(post, path = "/api/v1/pause", tag = "orders", operation_id = "pause", request_body = Scope,
    responses((status = 200, body = Done), Refused, RefusedBody, (status = 404, body = Problem, content_type = "application/problem+json", description = "No such database")))]
pub(super) async fn pause(
    State(state): State<HttpState>,
    Extension(id): Extension<RequestId>,
    scope: Given,
) -> Outcome<Done> {
    steer(&state, &id, "pause", scope, |cluster, database| {
        cluster.pause(database)
    })
}

/// Ends a pause that was ordered in the same words.
#[utoipa::path(post, path = "/api/v1/resume", tag = "orders", operation_id = "resume", request_body = Scope,
    responses((status = 200, body = Done), Refused, RefusedBody, (status = 404, body = Problem, content_type = "application/problem+json", description = "No such database")))]
pub(super) async fn resume(
    State(state): State<HttpState>,
    Extension(id): Extension<RequestId>,
    scope: Given,
) -> Outcome<Done> {
    steer(&state, &id, "resume", scope, |cluster, database| {
        cluster.resume(database)
    })
}

/// Replaces the connections to PostgreSQL.
///
/// Idle ones are closed now, others when they come back.
#[utoipa::path(post, path = "/api/v1/reconnect", tag = "orders", operation_id = "reconnect", request_body = Scope,
    responses((status = 200, body = Done), Refused, RefusedBody, (status = 404, body = Problem, content_type = "application/problem+json", description = "No such database")))]
pub(super) async fn reconnect(
    State(state): State<HttpState>,
    Extension(id): Extension<RequestId>,
    scope: Given,
) -> Outcome<Done> {
    steer(&state, &id, "reconnect", scope, |cluster, database| {
        cluster.reconnect(database);
        true
    })
}

/// Changes the size of the pools until the next reload.
#[utoipa::path(post, path = "/api/v1/resize", tag = "orders", operation_id = "resize", request_body = Size,
    responses((status = 204, description = "Done"), Refused, RefusedBody, (status = 409, body = Problem, content_type = "application/problem+json", description = "The settings do not fit together")))]
pub(super) async fn resize(
    State(state): State<HttpState>,
    Extension(id): Extension<RequestId>,
    size: Given,
) -> Result<StatusCode, Problem> {
    let Size { size, max_overflow } = body(size)?;
    let fits = size.is_none_or(|size| (0..=LARGEST).contains(&size))
        && max_overflow.is_none_or(|overflow| (-1..=LARGEST).contains(&overflow));
    if !fits {
        let detail =
            format!("size must be from 0 to {LARGEST}, max_overflow from -1 to {LARGEST}.");
        return Err(Problem::with(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let size = size.map(|size| ("pool.size", size.to_string()));
    let overflow = max_overflow.map(|overflow| ("pool.max_overflow", overflow.to_string()));
    let settings: Vec<_> = size.into_iter().chain(overflow).collect();
    audit(&id, "resize", &format!("{settings:?}"));
    ask(&state, Ask::Set(settings)).await
}

/// Reads the settings and the files they name again.
#[utoipa::path(post, path = "/api/v1/reload", tag = "orders", operation_id = "reload",
    responses((status = 204, description = "Done"), Refused, (status = 409, body = Problem, content_type = "application/problem+json", description = "The settings cannot be used; nothing was changed")))]
pub(super) async fn reload(
    State(state): State<HttpState>,
    Extension(id): Extension<RequestId>,
) -> Result<StatusCode, Problem> {
    audit(&id, "reload", "");
    ask(&state, Ask::Reload).await
}

/// Cancels what a client runs, or ends its wait for a server. Its session stays.
#[utoipa::path(post, path = "/api/v1/clients/{id}/cancel", tag = "orders", operation_id = "cancel",
    params(("id" = u64, Path, description = "The client's id")),
    responses((status = 204, description = "Done"), Refused, (status = 404, body = Problem, content_type = "application/problem+json", description = "No such client, or it does nothing")))]
pub(super) async fn cancel(
    State(state): State<HttpState>,
    Extension(id): Extension<RequestId>,
    client: Result<Path<u64>, axum::extract::rejection::PathRejection>,
) -> Result<StatusCode, Problem> {
    let client = client_id(client)?;
    audit(&id, "cancel", &client.to_string());
    match (orders(&state)?.cancel)(client).await {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::with(
            StatusCode::NOT_FOUND,
            "There is no client of this id, or it neither runs nor waits for anything.",
        )),
    }
}

/// Ends a client's session, whatever it does. What it runs is cancelled.
#[utoipa::path(post, path = "/api/v1/clients/{id}/end", tag = "orders", operation_id = "end",
    params(("id" = u64, Path, description = "The client's id")),
    responses((status = 204, description = "Done"), Refused, (status = 404, body = Problem, content_type = "application/problem+json", description = "No such client")))]
pub(super) async fn end(
    State(state): State<HttpState>,
    Extension(id): Extension<RequestId>,
    client: Result<Path<u64>, axum::extract::rejection::PathRejection>,
) -> Result<StatusCode, Problem> {
    let client = client_id(client)?;
    audit(&id, "end", &client.to_string());
    match (orders(&state)?.end_client)(client).await {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::with(
            StatusCode::NOT_FOUND,
            "There is no client of this id.",
        )),
    }
}

fn steer(
    state: &HttpState,
    id: &RequestId,
    order: &'static str,
    scope: Given,
    does: impl FnOnce(&Cluster, Option<&str>) -> bool,
) -> Outcome<Done> {
    let Scope { database } = body(scope)?;
    let cluster = &orders(state)?.cluster;
    let database = database.as_deref();
    if let Some(name) = database.filter(|name| !cluster.knows(name)) {
        let detail = format!("There is no database {name:?}; /api/v1/databases lists them.");
        return Err(Problem::with(StatusCode::NOT_FOUND, detail));
    }
    audit(id, order, database.unwrap_or("all databases"));
    let changed = does(cluster, database);
    let pools = cluster.pools();
    let meant = pools
        .iter()
        .filter(|pool| database.is_none_or(|name| pool.target().database == name));
    let servers = meant.map(|pool| pool.pool.status().live()).sum();
    Ok(Json(Done { changed, servers }))
}

async fn ask(state: &HttpState, ask: Ask) -> Result<StatusCode, Problem> {
    let asked = (orders(state)?.ask)(ask).await;
    asked.map_err(|why| Problem::with(StatusCode::CONFLICT, why))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who gave an order is known by its token; which request it was, by its id.
fn audit(id: &RequestId, order: &'static str, of: &str) {
    tracing::info!(
        part = "http",
        order,
        of,
        request_id = &*id.0,
        role = "operator",
        "an order"
    );
}

fn orders(state: &HttpState) -> Result<&Orders, Problem> {
    state.orders.as_deref().ok_or_else(|| {
        Problem::with(
            StatusCode::SERVICE_UNAVAILABLE,
            "The process takes no orders.",
        )
    })
}

/// An object of this type, and nothing else: serde alone would take a list of its fields, too.
fn body<T: DeserializeOwned>(given: Given) -> Result<T, Problem> {
    let Json(value) =
        given.map_err(|rejection| Problem::with(rejection.status(), rejection.body_text()))?;
    let unfit = |detail: String| Problem::with(StatusCode::UNPROCESSABLE_ENTITY, detail);
    if !value.is_object() {
        return Err(unfit("The body must be a JSON object.".to_owned()));
    }
    serde_json::from_value(value).map_err(|error| unfit(error.to_string()))
}

/// A whole number, which JSON may write as 3.0, too.
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(from)? else {
        return Ok(None);
    };
    let float = || number.as_f64().filter(|float| float.fract() == 0.0);
    // A float beyond i64 becomes its end, which is out of bounds as well.
    let whole = number
        .as_i64()
        .or_else(|| float().map(|float| float as i64));
    let not_whole = || D::Error::custom(format!("{number} is not a whole number"));
    whole.map(Some).ok_or_else(not_whole)
}

fn client_id(
    given: Result<Path<u64>, axum::extract::rejection::PathRejection>,
) -> Result<u64, Problem> {
    let not_an_id = |_| Problem::bad_request("A client's id is a number; /api/v1/clients has it.");
    given.map(|Path(id)| id).map_err(not_an_id)
}
