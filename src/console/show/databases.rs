//! SHOW DATABASES and USERS.

use std::collections::BTreeMap;

use super::{CONSOLE, View};
use crate::console::table::{Cell, Column, Table, int, text};
use crate::pgwire::ColumnType::{Int4, Text};

/// One row of SHOW DATABASES.
struct Database {
    name: String,
    /// Where its servers are; `None` for the console, which has none.
    host: Option<String>,
    port: u16,
    user: Option<&'static str>,
    size: u32,
    overflow: i32,
    lifetime: Option<u64>,
    mode: &'static str,
    servers: u32,
    clients: usize,
    paused: bool,
    disabled: bool,
}

const DATABASES: &[Column<Database>] = &[
    Column("name", Text, |d| text(&d.name)),
    Column("host", Text, |d| d.host.clone()),
    Column("port", Int4, |d| int(d.port)),
    Column("database", Text, |d| text(&d.name)),
    Column("force_user", Text, |d| d.user.and_then(text)),
    Column("pool_size", Int4, |d| int(d.size)),
    Column("min_pool_size", Int4, |_| int(0)),
    // What there may be beyond the size; -1 is no limit.
    Column("reserve_pool_size", Int4, |d| int(d.overflow)),
    Column("server_lifetime", Int4, |d| d.lifetime.and_then(int)),
    Column("pool_mode", Text, |d| text(d.mode)),
    Column("load_balance_hosts", Text, |_| None),
    // Of one database there is none.
    Column("max_connections", Int4, |_| int(0)),
    Column("current_connections", Int4, |d| int(d.servers)),
    Column("max_client_connections", Int4, |_| int(0)),
    Column("current_client_connections", Int4, |d| int(d.clients)),
    Column("paused", Int4, |d| int(i32::from(d.paused))),
    Column("disabled", Int4, |d| int(i32::from(d.disabled))),
];

pub(in crate::console) fn databases(view: &View<'_>) -> Table {
    let mut databases = known(view);
    for pool in view.pools() {
        if let Some(database) = databases.get_mut(&pool.database) {
            (database.host, database.port) = (Some(pool.host), pool.port);
            database.servers += pool.status.live();
        }
    }
    for client in &view.sessions().clients {
        if let Some(database) = databases.get_mut(&client.info.database) {
            database.clients += 1;
        }
    }
    let console = Database {
        name: CONSOLE.to_owned(),
        host: None,
        port: view.shared.config.port,
        user: Some(CONSOLE),
        size: 0,
        overflow: 0,
        lifetime: None,
        mode: "statement",
        servers: 0,
        clients: view.visitors().len(),
        paused: false,
        disabled: false,
    };
    let all = databases.into_values().chain([console]);
    Table::of(DATABASES, all)
}

/// The database of the upstream URL, those that have pools, and those that something is ordered about.
fn known(view: &View<'_>) -> BTreeMap<String, Database> {
    let ordered = view.shared.cluster.ordered();
    let rules = view.shared.cluster.rules();
    let (home, main) = view.shared.cluster.upstream();
    let pools = view.pools().into_iter().map(|pool| pool.database);
    let named = ordered.paused.iter().chain(&ordered.disabled).cloned();
    let database = |name: String| Database {
        host: Some(home.host.to_string()),
        port: home.port,
        user: None,
        size: rules.size,
        overflow: rules.max_overflow,
        lifetime: rules.recycle.map(|lifetime| lifetime.as_secs()),
        mode: view.pool_mode(),
        servers: 0,
        clients: 0,
        paused: ordered.is_paused(&name),
        disabled: ordered.disabled.contains(&name),
        name,
    };
    let names = [main].into_iter().chain(pools).chain(named);
    names.map(|name| (name.clone(), database(name))).collect()
}

/// One row of SHOW USERS.
#[derive(Default)]
struct User {
    name: String,
    servers: u32,
    clients: usize,
    most_clients: u32,
}

/// No user has a pool size or a mode of its own.
const fn nothing(_: &User) -> Cell {
    None
}

const USERS: &[Column<User>] = &[
    Column("name", Text, |u| text(&u.name)),
    Column("pool_size", Text, nothing),
    Column("reserve_pool_size", Text, nothing),
    Column("pool_mode", Text, nothing),
    // Of one user's servers there is no limit of its own.
    Column("max_user_connections", Int4, |_| int(0)),
    Column("current_connections", Int4, |u| int(u.servers)),
    Column("max_user_client_connections", Int4, |u| int(u.most_clients)),
    Column("current_client_connections", Int4, |u| int(u.clients)),
];

pub(in crate::console) fn users(view: &View<'_>) -> Table {
    let most_clients = view.shared.config.max_clients_per_user;
    let mut users: BTreeMap<String, User> = BTreeMap::new();
    for pool in view.pools() {
        users.entry(pool.user).or_default().servers += pool.status.live();
    }
    for client in view.sessions().clients {
        users.entry(client.info.user).or_default().clients += 1;
    }
    for visitor in view.visitors() {
        users.entry(visitor.user.clone()).or_default().clients += 1;
    }
    let row = |(name, user)| User {
        name,
        most_clients,
        ..user
    };
    Table::of(USERS, users.into_iter().map(row))
}
