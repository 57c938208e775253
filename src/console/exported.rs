//! What PgBouncer's exporter makes of the console's tables, without the exporter.
//!
//! The same rules as prometheus-community/pgbouncer_exporter (collector.go) on the same tables, so what a dashboard shows does
//! not depend on which of the two Prometheus scrapes.

use std::collections::BTreeMap;

use super::show::{self, View};
use super::table::Table;
use super::{Console, Shared};
use crate::metrics::CompatSample;
use crate::metrics::compat::pgbouncer;

/// SHOW LISTS, by the names of its rows.
const LISTS: &[(&str, &str)] = &[
    ("databases", "databases"),
    ("users", "users"),
    ("pools", "pools"),
    ("free_clients", "free_clients"),
    ("used_clients", "used_clients"),
    ("login_clients", "login_clients"),
    ("free_servers", "free_servers"),
    ("used_servers", "used_servers"),
    ("dns_names", "cached_dns_names"),
    ("dns_zones", "cached_dns_zones"),
    ("dns_queries", "in_flight_dns_queries"),
];

/// SHOW CONFIG, likewise.
const CONFIG: &[(&str, &str)] = &[
    ("max_client_conn", "config_max_client_connections"),
    ("max_user_connections", "config_max_user_connections"),
];

/// Columns, what they are called, and how many of their units are one of the metric's.
const POOLS: &[(&str, &str, f64)] = &[
    ("cl_active", "pools_client_active_connections", 1.0),
    (
        "cl_active_cancel_req",
        "pools_client_active_cancel_connections",
        1.0,
    ),
    ("cl_waiting", "pools_client_waiting_connections", 1.0),
    (
        "cl_waiting_cancel_req",
        "pools_client_waiting_cancel_connections",
        1.0,
    ),
    ("sv_active", "pools_server_active_connections", 1.0),
    (
        "sv_active_cancel",
        "pools_server_active_cancel_connections",
        1.0,
    ),
    (
        "sv_being_canceled",
        "pools_server_being_canceled_connections",
        1.0,
    ),
    ("sv_idle", "pools_server_idle_connections", 1.0),
    ("sv_used", "pools_server_used_connections", 1.0),
    ("sv_tested", "pools_server_testing_connections", 1.0),
    ("sv_login", "pools_server_login_connections", 1.0),
];

const DATABASES: &[(&str, &str, f64)] = &[
    ("pool_size", "databases_pool_size", 1.0),
    ("reserve_pool_size", "databases_reserve_pool", 1.0),
    ("max_connections", "databases_max_connections", 1.0),
    ("current_connections", "databases_current_connections", 1.0),
    ("paused", "databases_paused", 1.0),
    ("disabled", "databases_disabled", 1.0),
];

const MICROSECONDS: f64 = 1e6;

/// Behind `stats_totals_` since the exporter's 0.11, behind `stats_` before; the last of them are new in 0.11.
const STATS: &[(&str, &str, f64, bool)] = &[
    ("xact_count", "sql_transactions_pooled_total", 1.0, true),
    ("query_count", "queries_pooled_total", 1.0, true),
    ("bytes_received", "received_bytes_total", 1.0, true),
    ("bytes_sent", "sent_bytes_total", 1.0, true),
    (
        "xact_time",
        "server_in_transaction_seconds_total",
        MICROSECONDS,
        true,
    ),
    (
        "query_time",
        "queries_duration_seconds_total",
        MICROSECONDS,
        true,
    ),
    ("wait_time", "client_wait_seconds_total", MICROSECONDS, true),
    (
        "server_assignment_count",
        "server_assignments_total",
        1.0,
        false,
    ),
    ("client_parse_count", "client_parses_total", 1.0, false),
    ("server_parse_count", "server_parses_total", 1.0, false),
    ("bind_count", "binds_total", 1.0, false),
];

impl Console {
    /// What the exporter would make of the tables now; nothing before [`attach`](Self::attach).
    pub fn exported(&self) -> Vec<CompatSample> {
        let shared: &Shared = &self.0;
        let Some(hooks) = shared.hooks.get() else {
            return Vec::new();
        };
        let view = View { shared, hooks };
        let mut out = Samples::default();
        out.add("up", &[], Some(1.0));
        let version = show::version(&view);
        if let Some(Some(version)) = version.rows.first().and_then(|row| row.first()) {
            out.add("version_info", &[version], Some(1.0));
        }
        out.named(&show::lists(&view), LISTS);
        out.named(&show::config(&view), CONFIG);
        out.clients(&show::clients(&view));
        out.pools(&show::pools(&view));
        let names = [
            "name",
            "host",
            "port",
            "database",
            "force_user",
            "pool_mode",
        ];
        out.columns(&show::databases(&view), &names, DATABASES);
        out.stats(&show::stats_totals(&view));
        out.0
    }
}

#[derive(Default)]
struct Samples(Vec<CompatSample>);

impl Samples {
    fn add(&mut self, name: &str, labels: &[&str], value: Option<f64>) {
        let family = pgbouncer(&format!("pgbouncer_{name}"));
        if let (Some(family), Some(value)) = (family, value) {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            self.0.push(CompatSample {
                family,
                labels,
                value,
            });
        }
    }

    /// A table of names and values.
    fn named(&mut self, table: &Table, names: &[(&str, &str)]) {
        for row in &table.rows {
            let [Some(key), Some(value), ..] = row.as_slice() else {
                continue;
            };
            if let Some((_, name)) = names.iter().find(|(known, _)| known == key) {
                self.add(name, &[], value.parse().ok());
            }
        }
    }

    fn columns(&mut self, table: &Table, labels: &[&str], columns: &[(&str, &str, f64)]) {
        for row in rows(table) {
            let labels: Vec<_> = labels.iter().map(|label| row.text(label)).collect();
            for (column, name, unit) in columns {
                self.add(name, &labels, row.number(column).map(|value| value / unit));
            }
        }
    }

    fn pools(&mut self, table: &Table) {
        self.columns(table, &["database", "user"], POOLS);
        for row in rows(table) {
            let waited = row.number("maxwait").zip(row.number("maxwait_us"));
            let waited = waited.map(|(seconds, rest)| seconds + rest / MICROSECONDS);
            let labels = [row.text("database"), row.text("user")];
            self.add("pools_client_maxwait_seconds", &labels, waited);
        }
    }

    fn stats(&mut self, table: &Table) {
        for row in rows(table) {
            let database = row.text("database");
            for (column, name, unit, before) in STATS {
                let value = row.number(column).map(|value| value / unit);
                self.add(&format!("stats_totals_{name}"), &[database], value);
                if *before {
                    self.add(&format!("stats_{name}"), &[database], value);
                }
            }
        }
    }

    fn clients(&mut self, table: &Table) {
        let mut counts: BTreeMap<[&str; 4], u32> = BTreeMap::new();
        let every: Vec<_> = rows(table).collect();
        for row in &every {
            let labels = ["database", "user", "application_name", "state"];
            *counts
                .entry(labels.map(|label| row.text(label)))
                .or_default() += 1;
        }
        for (labels, count) in counts {
            self.add("client_connections", &labels, Some(count.into()));
        }
    }
}

struct Row<'a> {
    table: &'a Table,
    at: usize,
}

fn rows(table: &Table) -> impl Iterator<Item = Row<'_>> {
    (0..table.rows.len()).map(move |at| Row { table, at })
}

impl<'a> Row<'a> {
    /// A cell as text; NULL is empty, as the exporter has it.
    fn text(&self, column: &str) -> &'a str {
        let columns = self.table.columns.iter();
        let place = columns.into_iter().position(|(name, _)| name == column);
        let cell = place.and_then(|place| self.table.rows[self.at].get(place)?.as_deref());
        cell.unwrap_or_default()
    }

    fn number(&self, column: &str) -> Option<f64> {
        self.text(column).parse().ok()
    }
}
