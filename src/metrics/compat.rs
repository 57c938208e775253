//! Names that others gave, for dashboards and alerts that exist: those of PgBouncer's exporter and of Letta.
//!
//! They show the same figures once more, and only where `metrics.compat` asks for them. `docs/compat.md` lists them.

use super::family::Family;

/// One sample under a name of others.
#[derive(Debug, Clone, PartialEq)]
pub struct CompatSample {
    /// Its name and labels.
    pub family: &'static Family,
    /// The labels' values, in the family's order.
    pub labels: Vec<String>,
    /// Its value.
    pub value: f64,
}

const NONE: &[&str] = &[];
const POOL: &[&str] = &["database", "user"];
const DATABASE: &[&str] = &[
    "name",
    "host",
    "port",
    "database",
    "force_user",
    "pool_mode",
];
const STATS: &[&str] = &["database"];

macro_rules! families {
    ($(#[$doc:meta])* $list:ident: $($name:literal $kind:ident $labels:ident $help:literal,)*) => {
        $(#[$doc])*
        pub static $list: &[Family] = &[$(Family::$kind($name, $help, $labels)),*];
    };
}

families! {
    /// What prometheus-community's pgbouncer_exporter names, up to 0.12: `stats_…` up to 0.10, `stats_totals_…` since.
    PGBOUNCER:
    "pgbouncer_up" gauge NONE "Always 1: what is scraped answers.",
    "pgbouncer_version_info" gauge VERSION "Always 1; the label carries what SHOW VERSION says.",
    "pgbouncer_databases" gauge NONE "SHOW LISTS: databases.",
    "pgbouncer_users" gauge NONE "SHOW LISTS: users.",
    "pgbouncer_pools" gauge NONE "SHOW LISTS: pools.",
    "pgbouncer_free_clients" gauge NONE "SHOW LISTS: free_clients.",
    "pgbouncer_used_clients" gauge NONE "SHOW LISTS: used_clients.",
    "pgbouncer_login_clients" gauge NONE "SHOW LISTS: login_clients.",
    "pgbouncer_free_servers" gauge NONE "SHOW LISTS: free_servers.",
    "pgbouncer_used_servers" gauge NONE "SHOW LISTS: used_servers.",
    "pgbouncer_cached_dns_names" gauge NONE "SHOW LISTS: dns_names.",
    "pgbouncer_cached_dns_zones" gauge NONE "SHOW LISTS: dns_zones.",
    "pgbouncer_in_flight_dns_queries" gauge NONE "SHOW LISTS: dns_queries.",
    "pgbouncer_config_max_client_connections" gauge NONE "SHOW CONFIG: max_client_conn.",
    "pgbouncer_config_max_user_connections" gauge NONE "SHOW CONFIG: max_user_connections.",
    "pgbouncer_client_connections" gauge CLIENT "SHOW CLIENTS, counted.",
    "pgbouncer_pools_client_active_connections" gauge POOL "SHOW POOLS: cl_active.",
    "pgbouncer_pools_client_active_cancel_connections" gauge POOL "SHOW POOLS: cl_active_cancel_req.",
    "pgbouncer_pools_client_waiting_connections" gauge POOL "SHOW POOLS: cl_waiting.",
    "pgbouncer_pools_client_waiting_cancel_connections" gauge POOL "SHOW POOLS: cl_waiting_cancel_req.",
    "pgbouncer_pools_server_active_connections" gauge POOL "SHOW POOLS: sv_active.",
    "pgbouncer_pools_server_active_cancel_connections" gauge POOL "SHOW POOLS: sv_active_cancel.",
    "pgbouncer_pools_server_being_canceled_connections" gauge POOL "SHOW POOLS: sv_being_canceled.",
    "pgbouncer_pools_server_idle_connections" gauge POOL "SHOW POOLS: sv_idle.",
    "pgbouncer_pools_server_used_connections" gauge POOL "SHOW POOLS: sv_used.",
    "pgbouncer_pools_server_testing_connections" gauge POOL "SHOW POOLS: sv_tested.",
    "pgbouncer_pools_server_login_connections" gauge POOL "SHOW POOLS: sv_login.",
    "pgbouncer_pools_client_maxwait_seconds" gauge POOL "SHOW POOLS: maxwait and maxwait_us.",
    "pgbouncer_databases_pool_size" gauge DATABASE "SHOW DATABASES: pool_size.",
    "pgbouncer_databases_reserve_pool" gauge DATABASE "SHOW DATABASES: reserve_pool_size.",
    "pgbouncer_databases_max_connections" gauge DATABASE "SHOW DATABASES: max_connections.",
    "pgbouncer_databases_current_connections" gauge DATABASE "SHOW DATABASES: current_connections.",
    "pgbouncer_databases_paused" gauge DATABASE "SHOW DATABASES: paused.",
    "pgbouncer_databases_disabled" gauge DATABASE "SHOW DATABASES: disabled.",
    "pgbouncer_stats_totals_server_assignments_total" counter STATS "SHOW STATS_TOTALS: server_assignment_count.",
    "pgbouncer_stats_totals_sql_transactions_pooled_total" counter STATS "SHOW STATS_TOTALS: xact_count.",
    "pgbouncer_stats_totals_queries_pooled_total" counter STATS "SHOW STATS_TOTALS: query_count.",
    "pgbouncer_stats_totals_received_bytes_total" counter STATS "SHOW STATS_TOTALS: bytes_received.",
    "pgbouncer_stats_totals_sent_bytes_total" counter STATS "SHOW STATS_TOTALS: bytes_sent.",
    "pgbouncer_stats_totals_server_in_transaction_seconds_total" counter STATS "SHOW STATS_TOTALS: xact_time.",
    "pgbouncer_stats_totals_queries_duration_seconds_total" counter STATS "SHOW STATS_TOTALS: query_time.",
    "pgbouncer_stats_totals_client_wait_seconds_total" counter STATS "SHOW STATS_TOTALS: wait_time.",
    "pgbouncer_stats_totals_client_parses_total" counter STATS "SHOW STATS_TOTALS: client_parse_count.",
    "pgbouncer_stats_totals_server_parses_total" counter STATS "SHOW STATS_TOTALS: server_parse_count.",
    "pgbouncer_stats_totals_binds_total" counter STATS "SHOW STATS_TOTALS: bind_count.",
    "pgbouncer_stats_sql_transactions_pooled_total" counter STATS "SHOW STATS_TOTALS: xact_count.",
    "pgbouncer_stats_queries_pooled_total" counter STATS "SHOW STATS_TOTALS: query_count.",
    "pgbouncer_stats_received_bytes_total" counter STATS "SHOW STATS_TOTALS: bytes_received.",
    "pgbouncer_stats_sent_bytes_total" counter STATS "SHOW STATS_TOTALS: bytes_sent.",
    "pgbouncer_stats_server_in_transaction_seconds_total" counter STATS "SHOW STATS_TOTALS: xact_time.",
    "pgbouncer_stats_queries_duration_seconds_total" counter STATS "SHOW STATS_TOTALS: query_time.",
    "pgbouncer_stats_client_wait_seconds_total" counter STATS "SHOW STATS_TOTALS: wait_time.",
}

const VERSION: &[&str] = &["version"];
const CLIENT: &[&str] = &["database", "user", "application_name", "state"];
const ENGINE: &[&str] = &["engine_name"];

/// In milliseconds: the bounds of `poolwatch`'s own histograms of pools.
pub(super) const MILLISECONDS: &[f64] = &[
    0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0,
    30_000.0, 60_000.0,
];

/// What Letta's DatabasePoolMonitor names, in the order in which pools give the values.
pub static LETTA: &[Family] = &[
    Family::gauge(
        "gauge_db_pool_connections_total",
        "Connections that the pool has.",
        ENGINE,
    ),
    Family::gauge(
        "gauge_db_pool_connections_checked_out",
        "Connections in use.",
        ENGINE,
    ),
    Family::gauge(
        "gauge_db_pool_connections_available",
        "Connections that are idle.",
        ENGINE,
    ),
    Family::gauge(
        "gauge_db_pool_connections_overflow",
        "Connections beyond the pool's size.",
        ENGINE,
    ),
    Family::histogram(
        "hist_db_pool_connection_duration_ms",
        "From checkout to return, in milliseconds.",
        ENGINE,
        MILLISECONDS,
    ),
    Family::counter(
        "count_db_pool_connection_events",
        "Connections opened (connect), taken (checkout), given back (checkin), found unusable (invalidate), and closed (close).",
        &["engine_name", "event"],
    ),
    Family::counter(
        "count_db_pool_connection_errors",
        "Checkouts without a connection, by what SQLAlchemy would have raised.",
        &["engine_name", "exception_type"],
    ),
];

/// The family of a name of PgBouncer's exporter.
pub fn pgbouncer(name: &str) -> Option<&'static Family> {
    PGBOUNCER.iter().find(|family| family.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_every_name_once() {
        let page = include_str!("../../docs/compat.md");
        for family in PGBOUNCER.iter().chain(LETTA) {
            let name = format!("`{}`", family.name);
            assert_eq!(page.matches(&name).count(), 1, "{name}");
        }
    }
}
