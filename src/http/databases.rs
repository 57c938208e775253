//! `GET /api/v1/databases`: what there is of each database, and what is ordered about it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::{Refused, RefusedPage};
use super::paging::Paging;
use super::problem::Problem;
use super::server::HttpState;
use crate::status::CONTROL;

/// Databases.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Databases {
    databases: Vec<Database>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// One database that clients are or were in, or that something is ordered about.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Database {
    name: String,
    /// Its pools.
    pools: usize,
    /// Connections to it, of all its pools.
    servers: u32,
    /// Clients in it.
    clients: usize,
    /// Those that wait for a server.
    waiting: u32,
    /// Whether an operator has its clients wait.
    paused: bool,
    /// Whether it takes no new clients.
    disabled: bool,
}

/// All databases, by name.
#[utoipa::path(get, path = "/api/v1/databases", tag = "pools", operation_id = "databases", params(Paging),
    responses((status = 200, body = Databases), Refused, RefusedPage))]
pub(super) async fn databases(
    State(state): State<HttpState>,
    paging: Paging,
) -> Result<Json<Databases>, Problem> {
    let known = known(&state);
    let (databases, next_cursor) = paging.page("databases", known, |one| one.name.clone())?;
    Ok(Json(Databases {
        databases,
        next_cursor,
    }))
}

fn known(state: &HttpState) -> Vec<Database> {
    let mut databases = BTreeMap::<String, Database>::new();
    for pool in state.status.pools() {
        if pool.name != CONTROL {
            let database = databases.entry(pool.database).or_default();
            database.pools += 1;
            database.servers += pool.status.live();
            database.waiting += pool.status.waiting;
        }
    }
    for client in state.status.sessions().clients {
        databases.entry(client.info.database).or_default().clients += 1;
    }
    if let Some(orders) = &state.orders {
        let ordered = orders.cluster.ordered();
        for name in ordered.paused.iter().chain(&ordered.disabled) {
            databases.entry(name.clone()).or_default();
        }
        for (name, database) in &mut databases {
            database.paused = ordered.is_paused(name);
            database.disabled = ordered.disabled.contains(name);
        }
    }
    let named = |(name, database)| Database { name, ..database };
    databases.into_iter().map(named).collect()
}
