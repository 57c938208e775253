//! Queries by fingerprint, and the slow ones.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::View;
use crate::console::table::{Cell, Column, Table, int, number, text, time};
use crate::pgwire::ColumnType::{Int4, Int8, Text};
use crate::status::{QueryView, SlowQuery, SqlState, Window};

fn micros(duration: Duration) -> Cell {
    number(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// Times are in microseconds, as everywhere in the console.
const QUERIES: &[Column<QueryView>] = &[
    Column("fingerprint", Text, |q| {
        text(q.description.fingerprint.to_string())
    }),
    Column("calls", Int8, |q| number(q.figures.calls)),
    Column("errors", Int8, |q| number(q.figures.errors)),
    Column("unfinished", Int8, |q| number(q.unfinished)),
    Column("rows", Int8, |q| number(q.figures.rows)),
    Column("received", Int8, |q| number(q.figures.received)),
    Column("sent", Int8, |q| number(q.figures.sent)),
    Column("total_time", Int8, |q| micros(q.figures.total())),
    Column("mean_time", Int8, |q| q.figures.mean().and_then(micros)),
    Column("min_time", Int8, |q| q.figures.min.and_then(micros)),
    Column("max_time", Int8, |q| q.figures.max.and_then(micros)),
    Column("p50_time", Int8, |q| q.figures.p50.and_then(micros)),
    Column("p95_time", Int8, |q| q.figures.p95.and_then(micros)),
    Column("p99_time", Int8, |q| q.figures.p99.and_then(micros)),
    Column("wait_time", Int8, |q| micros(q.figures.phases.wait)),
    Column("connect_time", Int8, |q| micros(q.figures.phases.connect)),
    Column("execute_time", Int8, |q| micros(q.figures.phases.execute)),
    Column("transfer_time", Int8, |q| micros(q.figures.phases.transfer)),
    Column("missed_time", Int8, |q| micros(q.missed_at_most)),
    Column("first_seen", Text, |q| time(q.first_seen)),
    Column("last_seen", Text, |q| time(q.last_seen)),
    Column("last_error", Text, |q| {
        q.last_error.and_then(|(state, _)| text(state.as_str()))
    }),
    Column("tags", Text, |q| {
        q.tags.first().and_then(|(tags, _)| text(&**tags))
    }),
    Column("summary", Text, |q| text(&*q.description.summary)),
    Column("query", Text, |q| text(&*q.description.text)),
];

/// Queries by fingerprint since the start, those that took most time in front. None where they are not told apart.
pub(in crate::console) fn queries(view: &View<'_>) -> Table {
    let found = view.hooks.status.queries();
    let mut queries = found.map_or_else(Vec::new, |queries| queries.view(Window::Start).queries);
    queries.sort_by_key(|query| Reverse(query.figures.total()));
    Table::of(QUERIES, queries)
}

const SLOW: &[Column<Arc<SlowQuery>>] = &[
    Column("number", Int8, |q| number(q.number)),
    Column("ended", Text, |q| time(q.at)),
    Column("fingerprint", Text, |q| {
        text(q.description.fingerprint.to_string())
    }),
    Column("database", Text, |q| text(&q.origin.database)),
    Column("user", Text, |q| text(&q.origin.user)),
    Column("application_name", Text, |q| text(&q.origin.application)),
    Column("client_id", Int8, |q| number(q.circumstances.client)),
    Column("server_pid", Int4, |q| {
        q.circumstances.server_pid.and_then(int)
    }),
    Column("pinned", Int4, |q| int(i32::from(q.circumstances.pinned))),
    Column("total_time", Int8, |q| micros(q.phases.total())),
    Column("wait_time", Int8, |q| micros(q.phases.wait)),
    Column("connect_time", Int8, |q| micros(q.phases.connect)),
    Column("execute_time", Int8, |q| micros(q.phases.execute)),
    Column("transfer_time", Int8, |q| micros(q.phases.transfer)),
    Column("rows", Int8, |q| number(q.rows)),
    Column("sqlstate", Text, |q| {
        q.failure.as_ref().map(SqlState::as_str).and_then(text)
    }),
    Column("tags", Text, |q| {
        q.circumstances.tags.as_deref().and_then(text)
    }),
    Column("trace_id", Text, |q| {
        q.circumstances.trace_id.as_deref().and_then(text)
    }),
    Column("summary", Text, |q| text(&*q.description.summary)),
    Column("query", Text, |q| {
        let literal = q.circumstances.literal.as_deref();
        text(literal.unwrap_or(&q.description.text))
    }),
];

/// The slow queries that are kept, the newest in front.
pub(in crate::console) fn slow(view: &View<'_>) -> Table {
    let found = view.hooks.status.queries();
    let slow = found.map_or_else(Vec::new, |queries| queries.slow(usize::MAX, |_| true));
    Table::of(SLOW, slow)
}
