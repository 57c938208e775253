//! SHOW CLIENTS, SERVERS, SOCKETS and ACTIVE_SOCKETS: connections one by one.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{CONSOLE, View, ago, waits};
use crate::console::Visitor;
use crate::console::table::{Column, Table, int, microseconds, seconds, text, time};
use crate::pgwire::ColumnType::{Int4, Text};
use crate::status::{ClientAddr, ClientSnapshot, ClientState, PoolServer, Sessions};

/// One row.
struct Socket {
    kind: &'static str,
    user: String,
    database: String,
    replication: &'static str,
    state: &'static str,
    address: (String, u16),
    local: (String, u16),
    connected: SystemTime,
    requested: SystemTime,
    /// For how long its request has been under way.
    wait: Duration,
    close_needed: bool,
    pointer: String,
    link: String,
    process_id: i32,
    tls: String,
    application_name: String,
    statements: usize,
    id: u64,
}

/// What does not replicate. The servers of those who do are in no pool.
const NO_REPLICATION: &str = "none";

/// Whether a socket moves something.
const ACTIVE: [&str; 5] = ["active", "waiting", "tested", "being_canceled", "new"];

const COLUMNS: [Column<Socket>; 21] = [
    Column("type", Text, |s| text(s.kind)),
    Column("user", Text, |s| text(&s.user)),
    Column("database", Text, |s| text(&s.database)),
    Column("replication", Text, |s| text(s.replication)),
    Column("state", Text, |s| text(s.state)),
    Column("addr", Text, |s| text(&s.address.0)),
    Column("port", Int4, |s| int(s.address.1)),
    Column("local_addr", Text, |s| text(&s.local.0)),
    Column("local_port", Int4, |s| int(s.local.1)),
    Column("connect_time", Text, |s| time(s.connected)),
    Column("request_time", Text, |s| time(s.requested)),
    Column("wait", Int4, |s| seconds(s.wait)),
    Column("wait_us", Int4, |s| microseconds(s.wait)),
    Column("close_needed", Int4, |s| int(i32::from(s.close_needed))),
    Column("ptr", Text, |s| text(&s.pointer)),
    Column("link", Text, |s| text(&s.link)),
    Column("remote_pid", Int4, |s| int(s.process_id)),
    Column("tls", Text, |s| text(&s.tls)),
    Column("application_name", Text, |s| text(&s.application_name)),
    Column("prepared_statements", Int4, |s| int(s.statements)),
    Column("id", Int4, |s| int(s.id)),
];

/// Where a socket's buffers stand, which is not looked into from outside: they are its session's alone.
const BUFFERS: [&str; 7] = [
    "recv_pos",
    "pkt_pos",
    "pkt_remain",
    "send_pos",
    "send_remain",
    "pkt_avail",
    "send_avail",
];

/// PgBouncer shows addresses in its memory; these tell apart what they point to as well.
fn client_pointer(id: u64) -> String {
    format!("0xc{id:011x}")
}

fn server_pointer(id: u64) -> String {
    format!("0x5{id:011x}")
}

/// An address as PgBouncer writes it.
fn written(address: Option<SocketAddr>, port: u16) -> (String, u16) {
    match address {
        Some(address) => (address.ip().to_canonical().to_string(), address.port()),
        None => ("unix".to_owned(), port),
    }
}

fn tcp(address: ClientAddr) -> Option<SocketAddr> {
    match address {
        ClientAddr::Tcp(address) => Some(address),
        ClientAddr::Unix => None,
    }
}

fn of_client(client: ClientSnapshot, sessions: &Sessions, port: u16) -> Socket {
    let holding = sessions.by_client.get(&client.id);
    // A replication connection has a server as long as it lasts, and no other state.
    let waiting = holding.is_none() && waits(client.state);
    let state = match holding {
        _ if waiting => "waiting",
        Some(_) => "active",
        None => "idle",
    };
    let asked = client.connected_at + client.asked.unwrap_or_default();
    let pending = client.state == ClientState::Active || waiting;
    let info = client.info;
    Socket {
        kind: "C",
        user: info.user,
        database: info.database,
        replication: info.connection.replication.unwrap_or(NO_REPLICATION),
        state,
        address: written(tcp(info.addr), port),
        local: written(info.connection.local, port),
        connected: client.connected_at,
        requested: asked,
        wait: if pending { ago(asked) } else { Duration::ZERO },
        close_needed: false,
        pointer: client_pointer(client.id),
        link: holding.map_or(String::new(), |held| server_pointer(held.server)),
        process_id: info.connection.process_id.unwrap_or_default(),
        tls: info.connection.tls.unwrap_or_default(),
        application_name: info.application_name,
        statements: client.statements,
        id: client.id,
    }
}

fn of_visitor(visitor: &Visitor, port: u16) -> Socket {
    let connection = &visitor.connection;
    Socket {
        kind: "C",
        user: visitor.user.clone(),
        database: CONSOLE.to_owned(),
        replication: NO_REPLICATION,
        state: "active",
        address: written(tcp(visitor.addr), port),
        local: written(connection.local, port),
        connected: visitor.connected_at,
        requested: *visitor.asked_at.lock(),
        wait: Duration::ZERO,
        close_needed: false,
        pointer: client_pointer(visitor.id),
        link: String::new(),
        process_id: connection.process_id.unwrap_or_default(),
        tls: connection.tls.clone().unwrap_or_default(),
        application_name: visitor.application_name.clone(),
        statements: 0,
        id: visitor.id,
    }
}

fn of_server(server: PoolServer, sessions: &Sessions) -> Socket {
    let PoolServer {
        user,
        database,
        server,
        port,
        ..
    } = server;
    let holding = sessions.by_server.get(&server.id);
    let state = match holding {
        Some(_) => "active",
        None if server.cancels > 0 => "being_canceled",
        None if server.held => "tested",
        None => "idle",
    };
    let client = holding.and_then(|held| {
        let mut clients = sessions.clients.iter();
        clients.find(|client| client.id == held.client)
    });
    let name = client.map(|client| client.info.application_name.clone());
    Socket {
        kind: "S",
        user,
        database,
        replication: NO_REPLICATION,
        state,
        address: written(server.address, port),
        local: written(server.local_address, port),
        connected: server.opened_at,
        requested: server.asked_at,
        wait: Duration::ZERO,
        close_needed: server.stale,
        pointer: server_pointer(server.id),
        link: holding.map_or(String::new(), |held| client_pointer(held.client)),
        process_id: server.process_id,
        tls: server.tls.unwrap_or_default(),
        application_name: name.unwrap_or_default(),
        statements: server.statements,
        id: server.id,
    }
}

fn client_rows(view: &View<'_>, sessions: &Sessions) -> Vec<Socket> {
    let port = view.shared.config.port;
    let clients = sessions.clients.iter().cloned();
    let visitors = view.visitors();
    let visitors = visitors.iter().map(|visitor| of_visitor(visitor, port));
    clients
        .map(|client| of_client(client, sessions, port))
        .chain(visitors)
        .collect()
}

fn server_rows(sessions: &Sessions) -> Vec<Socket> {
    let servers = sessions.servers.iter().cloned();
    servers.map(|server| of_server(server, sessions)).collect()
}

pub(in crate::console) fn clients(view: &View<'_>) -> Table {
    Table::of(&COLUMNS, client_rows(view, &view.sessions()))
}

pub(in crate::console) fn servers(view: &View<'_>) -> Table {
    Table::of(&COLUMNS, server_rows(&view.sessions()))
}

pub(in crate::console) fn sockets(view: &View<'_>) -> Table {
    every(view, |_| true)
}

pub(in crate::console) fn active_sockets(view: &View<'_>) -> Table {
    every(view, |row| ACTIVE.contains(&row.state))
}

/// Clients and servers, with where their buffers stand.
fn every(view: &View<'_>, chosen: impl Fn(&Socket) -> bool) -> Table {
    let sessions = view.sessions();
    let clients = client_rows(view, &sessions).into_iter();
    let all = clients.chain(server_rows(&sessions)).filter(chosen);
    let mut table = Table::of(&COLUMNS, all.map(prefixed));
    for name in BUFFERS {
        table.columns.push((name.to_owned(), Int4));
    }
    for row in &mut table.rows {
        row.resize(table.columns.len(), int(0));
    }
    table
}

/// Here the states of clients and servers are told apart by name.
fn prefixed(mut socket: Socket) -> Socket {
    socket.state = match (socket.kind, socket.state) {
        ("C", "waiting") => "cl_waiting",
        ("C", _) => "cl_active",
        (_, "active") => "sv_active",
        (_, "tested") => "sv_tested",
        (_, "being_canceled") => "sv_being_canceled",
        (_, _) => "sv_idle",
    };
    socket
}
