//! `GET /api/v1/clients`, `/servers` and `/waits`: who is there, who has which server, and who waits for one.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::{Refused, RefusedPage};
use super::paging::Paging;
use super::problem::Problem;
use super::server::HttpState;
use crate::status::{ClientAddr, ClientSnapshot, ClientState, Holding, PoolServer};

/// Clients.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Clients {
    clients: Vec<Client>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// One client.
#[derive(Debug, Serialize, ToSchema)]
struct Client {
    /// Unique in the life of the process, ascending.
    id: u64,
    user: String,
    database: String,
    application_name: String,
    /// Its address and port; null over a Unix socket.
    address: Option<String>,
    /// The version and the cipher of TLS; null where it is not encrypted.
    tls: Option<String>,
    /// `login`, `active`, `idle`, `idle_in_transaction` or `waiting`, as in `poolwatch_clients`.
    #[schema(value_type = String)]
    state: &'static str,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    connected_at: String,
    connected_seconds: f64,
    /// How long ago it last asked for something; null if it has not.
    last_request_seconds: Option<f64>,
    /// The server that it has; null where it has none.
    server: Option<u64>,
    /// For how long it has had it.
    held_seconds: Option<f64>,
    /// Prepared statements with names that it has.
    prepared_statements: usize,
}

/// Servers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Servers {
    servers: Vec<Server>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// One connection to PostgreSQL.
#[derive(Debug, Serialize, ToSchema)]
struct Server {
    /// Unique in the life of the process, ascending.
    id: u64,
    pool: String,
    user: String,
    database: String,
    /// Of its process, as in `pg_stat_activity`.
    process_id: i32,
    /// PostgreSQL's address and port; null over a Unix socket.
    address: Option<String>,
    /// The version and the cipher of TLS; null where it is not encrypted.
    tls: Option<String>,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    opened_at: String,
    open_seconds: f64,
    /// Whether it is in somebody's hands: a client's, or checked or cleaned for one.
    in_use: bool,
    /// Whether it is closed as soon as nobody holds it.
    stale: bool,
    /// The client that has it; null where none has.
    client: Option<u64>,
    /// For how long that client has had it.
    held_seconds: Option<f64>,
    /// Prepared statements that it has for clients to share.
    prepared_statements: usize,
}

/// Who waits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Waits {
    waits: Vec<Wait>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// A client that waits for a server.
#[derive(Debug, Serialize, ToSchema)]
struct Wait {
    /// The client's id.
    client: u64,
    user: String,
    database: String,
    application_name: String,
    /// How long ago it asked for what it waits with.
    waiting_seconds: f64,
}

/// All clients, those that came first in front.
#[utoipa::path(get, path = "/api/v1/clients", tag = "sessions", operation_id = "clients", params(Paging),
    responses((status = 200, body = Clients), Refused, RefusedPage))]
pub(super) async fn clients(
    State(state): State<HttpState>,
    paging: Paging,
) -> Result<Json<Clients>, Problem> {
    let sessions = state.status.sessions();
    let (page, next_cursor) = paging.page("clients", sessions.clients, |client| client.id)?;
    let held = &sessions.by_client;
    let body = |client: ClientSnapshot| Client::new(client, held);
    let clients = page.into_iter().map(body).collect();
    Ok(Json(Clients {
        clients,
        next_cursor,
    }))
}

/// All connections to PostgreSQL that clients share, oldest first.
#[utoipa::path(get, path = "/api/v1/servers", tag = "sessions", operation_id = "servers", params(Paging),
    responses((status = 200, body = Servers), Refused, RefusedPage))]
pub(super) async fn servers(
    State(state): State<HttpState>,
    paging: Paging,
) -> Result<Json<Servers>, Problem> {
    let sessions = state.status.sessions();
    let (page, next_cursor) = paging.page("servers", sessions.servers, |of| of.server.id)?;
    let body = |of: PoolServer| {
        let held = sessions.by_server.get(&of.server.id).copied();
        Server::new(of, held)
    };
    let servers = page.into_iter().map(body).collect();
    Ok(Json(Servers {
        servers,
        next_cursor,
    }))
}

/// The clients that wait for a server, and how long, those that came first in front.
#[utoipa::path(get, path = "/api/v1/waits", tag = "sessions", operation_id = "waits", params(Paging),
    responses((status = 200, body = Waits), Refused, RefusedPage))]
pub(super) async fn waits(
    State(state): State<HttpState>,
    paging: Paging,
) -> Result<Json<Waits>, Problem> {
    let mut waiting = state.status.sessions().clients;
    waiting.retain(|client| client.state == ClientState::Waiting);
    let (page, next_cursor) = paging.page("waits", waiting, |client| client.id)?;
    let wait = |client: ClientSnapshot| Wait {
        client: client.id,
        waiting_seconds: since_request(&client).unwrap_or_default().as_secs_f64(),
        user: client.info.user,
        database: client.info.database,
        application_name: client.info.application_name,
    };
    let waits = page.into_iter().map(wait).collect();
    Ok(Json(Waits { waits, next_cursor }))
}

impl Client {
    fn new(client: ClientSnapshot, held: &std::collections::HashMap<u64, Holding>) -> Self {
        let holding = held.get(&client.id);
        Self {
            id: client.id,
            last_request_seconds: since_request(&client).map(|since| since.as_secs_f64()),
            connected_seconds: client.connected.elapsed().as_secs_f64(),
            connected_at: time(client.connected_at),
            state: client.state.label(),
            server: holding.map(|holding| holding.server),
            held_seconds: holding.map(|holding| holding.held.as_secs_f64()),
            prepared_statements: client.statements,
            address: match client.info.addr {
                ClientAddr::Tcp(address) => Some(address.to_string()),
                ClientAddr::Unix => None,
            },
            tls: client.info.connection.tls,
            user: client.info.user,
            database: client.info.database,
            application_name: client.info.application_name,
        }
    }
}

impl Server {
    fn new(of: PoolServer, held: Option<Holding>) -> Self {
        let server = of.server;
        // A clock that was set back meanwhile makes it nothing.
        let open = SystemTime::now().duration_since(server.opened_at);
        Self {
            id: server.id,
            pool: of.pool,
            user: of.user,
            database: of.database,
            process_id: server.process_id,
            address: server.address.map(|address| address.to_string()),
            tls: server.tls,
            opened_at: time(server.opened_at),
            open_seconds: open.unwrap_or_default().as_secs_f64(),
            in_use: server.held,
            stale: server.stale,
            client: held.map(|held| held.client),
            held_seconds: held.map(|held| held.held.as_secs_f64()),
            prepared_statements: server.statements,
        }
    }
}

fn since_request(client: &ClientSnapshot) -> Option<Duration> {
    let asked = client.asked?;
    Some(client.connected.elapsed().saturating_sub(asked))
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
