//! What PgBouncer does not show: who has a server, and who keeps one between transactions and why.

use std::sync::Arc;
use std::time::Duration;

use super::{View, ago};
use crate::console::table::{Column, Table, int, microseconds, number, seconds, text, time};
use crate::pgwire::ColumnType::{Int4, Int8, Text};
use crate::status::{
    ClientSnapshot, ClientState, Description, Holding, Pin, PinnedSession, PoolServer,
};

/// One row of SHOW HOLDERS.
struct Holder {
    client: ClientSnapshot,
    server: Option<PoolServer>,
    held: Duration,
    pinned: Option<String>,
    last: Option<Arc<Description>>,
}

fn state(state: ClientState) -> &'static str {
    match state {
        ClientState::Active => "active",
        ClientState::IdleInTransaction => "idle in transaction",
        ClientState::Waiting => "waiting",
        ClientState::Idle => "idle",
        ClientState::Login => "login",
    }
}

const HOLDERS: &[Column<Holder>] = &[
    Column("id", Int8, |h| number(h.client.id)),
    Column("database", Text, |h| text(&h.client.info.database)),
    Column("user", Text, |h| text(&h.client.info.user)),
    Column("application_name", Text, |h| {
        text(&h.client.info.application_name)
    }),
    Column("state", Text, |h| text(state(h.client.state))),
    Column("held", Int4, |h| seconds(h.held)),
    Column("held_us", Int4, |h| microseconds(h.held)),
    // NULL is a server outside the pools: a replication connection's.
    Column("server_id", Int8, |h| {
        h.server.as_ref().and_then(|of| number(of.server.id))
    }),
    Column("server_pid", Int4, |h| {
        h.server.as_ref().and_then(|of| int(of.server.process_id))
    }),
    Column("pinned_by", Text, |h| h.pinned.clone()),
    Column("fingerprint", Text, |h| {
        h.last
            .as_ref()
            .and_then(|last| text(last.fingerprint.to_string()))
    }),
    Column("query", Text, |h| {
        h.last.as_ref().and_then(|last| text(&*last.text))
    }),
];

/// Who has a server, those that have had it longest in front.
pub(in crate::console) fn holders(view: &View<'_>) -> Table {
    let sessions = view.sessions();
    let pinned = view.hooks.status.pinned();
    let mut holdings: Vec<&Holding> = sessions.by_client.values().collect();
    holdings.sort_by_key(|holding| std::cmp::Reverse(holding.held));
    let holder = |holding: &Holding| {
        let client = sessions.clients.iter().find(|c| c.id == holding.client)?;
        let mut servers = sessions.servers.iter();
        let pins = pinned.iter().find(|pin| pin.client == holding.client);
        Some(Holder {
            client: client.clone(),
            server: servers.find(|of| of.server.id == holding.server).cloned(),
            held: holding.held,
            pinned: pins.map(reasons),
            last: client
                .last
                .and_then(|last| view.hooks.status.statement(last)),
        })
    };
    Table::of(HOLDERS, holdings.into_iter().filter_map(holder))
}

fn reasons(session: &PinnedSession) -> String {
    let reasons: Vec<_> = session.pins.iter().map(|pin| pin.reason.label()).collect();
    reasons.join(", ")
}

/// One row of SHOW PINS: one reason of one session.
struct PinOf {
    session: PinnedSession,
    pin: Pin,
}

const PINS: &[Column<PinOf>] = &[
    Column("id", Int8, |p| number(p.session.client)),
    Column("pool", Text, |p| text(&p.session.pool)),
    Column("application_name", Text, |p| {
        text(&p.session.application_name)
    }),
    Column("reason", Text, |p| text(p.pin.reason.label())),
    Column("command", Text, |p| text(p.pin.command)),
    Column("since", Text, |p| time(p.pin.since)),
    Column("pinned", Int4, |p| seconds(ago(p.pin.since))),
];

/// The sessions that keep their servers between transactions, those that came first in front.
pub(in crate::console) fn pins(view: &View<'_>) -> Table {
    let pinned = view.hooks.status.pinned().into_iter();
    let each = pinned.flat_map(|session| {
        let pins = session.pins.clone().into_iter();
        pins.map(move |pin| PinOf {
            session: session.clone(),
            pin,
        })
    });
    Table::of(PINS, each)
}
