//! SHOW commands of a few rows each, and those of things that poolwatch has none of.

use std::collections::BTreeSet;

use super::{CONSOLE, View};
use crate::console::Setting;
use crate::console::table::{Column, Table, int, text};
use crate::pgwire::ColumnType::{self, Int4, Int8, Text};
use crate::status::ClientState;

/// What SHOW VERSION says, for people and for tools that look for a version of PgBouncer in it.
const VERSION: &str = concat!(
    "poolwatch ",
    env!("CARGO_PKG_VERSION"),
    " (console of PgBouncer 1.25.0)"
);

pub(in crate::console) fn version(_: &View<'_>) -> Table {
    Table::of(&[Column("version", Text, |v| text(*v))], [VERSION])
}

const LISTS: &[Column<(&str, usize)>] = &[
    Column("list", Text, |(name, _)| text(*name)),
    Column("items", Int4, |(_, items)| int(*items)),
];

pub(in crate::console) fn lists(view: &View<'_>) -> Table {
    let pools = view.pools();
    let sessions = view.sessions();
    let visitors = view.visitors();
    let (cluster, console) = (&view.shared.cluster, CONSOLE.to_owned());
    let mut databases: BTreeSet<String> = [cluster.upstream().1, console].into();
    databases.extend(pools.iter().map(|pool| pool.database.clone()));
    let in_pools = pools.iter().map(|pool| &pool.user);
    let here = visitors.iter().map(|visitor| &visitor.user);
    let users: BTreeSet<&String> = in_pools.chain(here).collect();
    let clients = sessions.clients.iter();
    let entering = clients.filter(|client| client.state == ClientState::Login);
    // Nothing is kept of a client or a server that has gone, no names are looked up ahead, and there are no peers.
    let lists = [
        ("databases", databases.len()),
        ("users", users.len()),
        ("peers", 0),
        ("pools", pools.len() + 1),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", sessions.clients.len() + visitors.len()),
        ("login_clients", entering.count()),
        ("free_servers", 0),
        ("used_servers", sessions.servers.len()),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ];
    Table::of(LISTS, lists)
}

const CONFIG: &[Column<Setting>] = &[
    Column("key", Text, |s| text(&s.key)),
    Column("value", Text, |s| text(&s.value)),
    Column("default", Text, |s| text(&s.default)),
    Column("changeable", Text, |s| {
        text(if s.changeable { "yes" } else { "no" })
    }),
];

/// poolwatch's own settings, behind those that tools look for under PgBouncer's names.
pub(in crate::console) fn config(view: &View<'_>) -> Table {
    let config = &view.shared.config;
    let of_pgbouncer = [
        ("max_client_conn", config.max_clients),
        ("max_user_client_connections", config.max_clients_per_user),
        // Connections to PostgreSQL: of one database's or one user's there is no limit of its own.
        ("max_db_connections", 0),
        ("max_user_connections", 0),
    ];
    let of_pgbouncer = of_pgbouncer.map(|(key, value)| Setting {
        key: key.to_owned(),
        value: value.to_string(),
        default: String::new(),
        changeable: false,
    });
    let all = of_pgbouncer.into_iter().chain((view.hooks.settings)());
    Table::of(CONFIG, all)
}

const STATE: &[Column<(&str, bool)>] = &[
    Column("key", Text, |(key, _)| text(*key)),
    Column("value", Text, |(_, is)| {
        text(if *is { "yes" } else { "no" })
    }),
];

pub(in crate::console) fn state(view: &View<'_>) -> Table {
    let paused = view.shared.cluster.ordered().all_paused;
    let suspended = view.hooks.suspended();
    let states = [
        ("active", !paused && !suspended),
        ("paused", paused),
        ("suspended", suspended),
    ];
    Table::of(STATE, states)
}

/// A table without rows.
fn empty(columns: &[(&str, ColumnType)]) -> Table {
    let column = |(name, kind): &(&str, ColumnType)| ((*name).to_owned(), *kind);
    Table {
        columns: columns.iter().map(column).collect(),
        rows: Vec::new(),
    }
}

/// Memory is not taken from stocks of PgBouncer's kind.
pub(in crate::console) fn mem(_: &View<'_>) -> Table {
    empty(&[
        ("name", Text),
        ("size", Int4),
        ("used", Int4),
        ("free", Int4),
        ("memtotal", Int4),
    ])
}

pub(in crate::console) fn peers(_: &View<'_>) -> Table {
    empty(&[
        ("peer_id", Int4),
        ("host", Text),
        ("port", Int4),
        ("pool_size", Int4),
    ])
}

pub(in crate::console) fn peer_pools(_: &View<'_>) -> Table {
    empty(&[
        ("peer_id", Int4),
        ("cl_active_cancel_req", Int4),
        ("cl_waiting_cancel_req", Int4),
        ("sv_active_cancel", Int4),
        ("sv_login", Int4),
    ])
}

/// Names are looked up by the operating system at each connect.
pub(in crate::console) fn dns_hosts(_: &View<'_>) -> Table {
    empty(&[("hostname", Text), ("ttl", Int8), ("addrs", Text)])
}

pub(in crate::console) fn dns_zones(_: &View<'_>) -> Table {
    empty(&[("zonename", Text), ("serial", Int8), ("count", Int4)])
}
