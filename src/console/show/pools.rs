//! SHOW POOLS: what each pool's clients and servers are doing.

use std::collections::HashMap;

use super::{CONSOLE, View, waits};
use crate::console::table::{Column, Table, int, microseconds, seconds, text};
use crate::pgwire::ColumnType::{Int4, Text};
use crate::status::PoolStatus;

/// One row.
#[derive(Default)]
struct Pool {
    database: String,
    user: String,
    clients: Counts,
    status: PoolStatus,
    mode: &'static str,
}

/// What was counted of clients and servers one by one.
#[derive(Default, Clone, Copy)]
struct Counts {
    active: usize,
    waiting: usize,
    /// Servers in clients' hands.
    held: usize,
    /// Servers in nobody's hands that wait for cancel requests to end.
    being_canceled: usize,
    /// Cancel requests under way.
    cancels: usize,
}

impl Pool {
    /// Servers that are out, but in no client's hands: checked, readied or cleaned.
    fn tested(&self) -> usize {
        let out = self.status.in_use as usize;
        out.saturating_sub(self.clients.held + self.clients.being_canceled)
    }
}

const COLUMNS: &[Column<Pool>] = &[
    Column("database", Text, |p| text(&p.database)),
    Column("user", Text, |p| text(&p.user)),
    Column("cl_active", Int4, |p| int(p.clients.active)),
    Column("cl_waiting", Int4, |p| int(p.clients.waiting)),
    Column("cl_active_cancel_req", Int4, |p| int(p.clients.cancels)),
    // A cancel request never waits here: it is sent on at once.
    Column("cl_waiting_cancel_req", Int4, |_| int(0)),
    Column("sv_active", Int4, |p| int(p.clients.held)),
    Column("sv_active_cancel", Int4, |p| int(p.clients.cancels)),
    Column("sv_being_canceled", Int4, |p| int(p.clients.being_canceled)),
    Column("sv_idle", Int4, |p| int(p.status.idle)),
    // An idle server that must be looked at is looked at when it is taken, and shown as idle until then.
    Column("sv_used", Int4, |_| int(0)),
    Column("sv_tested", Int4, |p| int(p.tested())),
    Column("sv_login", Int4, |p| int(p.status.connecting)),
    Column("maxwait", Int4, |p| seconds(p.status.oldest_wait)),
    Column("maxwait_us", Int4, |p| microseconds(p.status.oldest_wait)),
    Column("pool_mode", Text, |p| text(p.mode)),
    Column("load_balance_hosts", Text, |_| None),
];

pub(in crate::console) fn pools(view: &View<'_>) -> Table {
    let counts = counts(view);
    let mode = view.pool_mode();
    let mut pools: Vec<Pool> = view
        .pools()
        .into_iter()
        .map(|pool| {
            let key = (pool.database.clone(), pool.user.clone());
            Pool {
                clients: counts.get(&key).copied().unwrap_or_default(),
                database: pool.database,
                user: pool.user,
                status: pool.status,
                mode,
            }
        })
        .collect();
    pools.push(Pool {
        database: CONSOLE.to_owned(),
        user: CONSOLE.to_owned(),
        clients: Counts {
            active: view.visitors().len(),
            ..Counts::default()
        },
        mode: "statement",
        ..Pool::default()
    });
    Table::of(COLUMNS, pools)
}

/// By database and user.
fn counts(view: &View<'_>) -> HashMap<(String, String), Counts> {
    let sessions = view.sessions();
    let mut counts: HashMap<_, Counts> = HashMap::new();
    for client in &sessions.clients {
        let key = (client.info.database.clone(), client.info.user.clone());
        let of = counts.entry(key).or_default();
        // A replication connection has its server from its login on.
        match waits(client.state) && !sessions.by_client.contains_key(&client.id) {
            true => of.waiting += 1,
            false => of.active += 1,
        }
    }
    for server in &sessions.servers {
        let key = (server.database.clone(), server.user.clone());
        let of = counts.entry(key).or_default();
        of.cancels += server.server.cancels;
        match sessions.by_server.contains_key(&server.server.id) {
            true => of.held += 1,
            false => of.being_canceled += usize::from(server.server.cancels > 0),
        }
    }
    counts
}
