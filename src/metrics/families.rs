//! Every exported name. `docs/metrics.md` lists the same, and `tests/contract.rs` holds that it does.
//!
//! Names are OpenTelemetry's, in Prometheus spelling, where its semantic conventions (v1.44) have one.

use super::buckets;
use super::family::Family;

/// `user@host:port/database`, or `control` for what poolwatch itself asks of PostgreSQL.
const POOL: &str = "db_client_connection_pool_name";
const BY_POOL: &[&str] = &[POOL];
const BY_FINGERPRINT: &[&str] = &["fingerprint"];
const BY_TOOL: &[&str] = &["tool"];
const BY_COLLECTOR: &[&str] = &["collector"];

/// Connections of a pool by state.
pub const CONNECTION_COUNT: Family = Family::gauge(
    "db_client_connection_count",
    "Live server connections of the pool by state: idle in it, or used (handed out or being checked before that).",
    &[POOL, "db_client_connection_state"],
);
/// The most connections a pool may have.
pub const CONNECTION_MAX: Family = Family::gauge(
    "db_client_connection_max",
    "The most connections the pool may have (size + max_overflow), +Inf when overflow has no limit.",
    BY_POOL,
);
/// The most idle connections.
pub const CONNECTION_IDLE_MAX: Family = Family::gauge(
    "db_client_connection_idle_max",
    "The most connections the pool keeps idle (its size).",
    BY_POOL,
);
/// The fewest idle connections.
pub const CONNECTION_IDLE_MIN: Family = Family::gauge(
    "db_client_connection_idle_min",
    "The fewest connections the pool keeps idle: always 0, it opens connections on demand.",
    BY_POOL,
);
/// Waiting checkouts.
pub const CONNECTION_PENDING_REQUESTS: Family = Family::gauge(
    "db_client_connection_pending_requests",
    "Checkouts that wait for a connection now.",
    BY_POOL,
);
/// Checkouts that timed out.
pub const CONNECTION_TIMEOUTS: Family = Family::counter(
    "db_client_connection_timeouts_total",
    "Checkouts that got no connection within the pool's timeout; the checkouts with outcome timeout.",
    BY_POOL,
);
/// How long connects took.
pub const CONNECTION_CREATE_TIME: Family = Family::histogram(
    "db_client_connection_create_time_seconds",
    "Time to open a connection to PostgreSQL, login included; successful ones only.",
    BY_POOL,
    buckets::POOL,
);
/// How long checkouts took.
pub const CONNECTION_WAIT_TIME: Family = Family::histogram(
    "db_client_connection_wait_time_seconds",
    "Time from asking the pool for a connection to its answer: every checkout, however it ended, so the count is the sum of poolwatch_pool_checkouts_total.",
    BY_POOL,
    buckets::POOL,
);
/// How long connections were out.
pub const CONNECTION_USE_TIME: Family = Family::histogram(
    "db_client_connection_use_time_seconds",
    "Time from a connection's checkout to its return.",
    BY_POOL,
    buckets::POOL,
);
/// How long queries took.
pub const OPERATION_DURATION: Family = Family::histogram(
    "db_client_operation_duration_seconds",
    "Time of a query from its start in poolwatch, the wait for a connection included, to its end; error_type is empty for success.",
    &[
        POOL,
        "db_system_name",
        "db_namespace",
        "server_address",
        "server_port",
        "error_type",
    ],
    buckets::OPERATION,
);
/// `pool.size`.
pub const POOL_SIZE: Family = Family::gauge(
    "poolwatch_pool_size",
    "Connections the pool keeps (pool.size).",
    BY_POOL,
);
/// `pool.max_overflow`.
pub const POOL_MAX_OVERFLOW: Family = Family::gauge(
    "poolwatch_pool_max_overflow",
    "Connections the pool may open beyond its size (pool.max_overflow); -1 is no limit.",
    BY_POOL,
);
/// Connections beyond the size.
pub const POOL_OVERFLOW_CONNECTIONS: Family = Family::gauge(
    "poolwatch_pool_overflow_connections",
    "Live connections beyond the pool's size.",
    BY_POOL,
);
/// The longest wait now.
pub const POOL_OLDEST_WAIT: Family = Family::gauge(
    "poolwatch_pool_oldest_wait_seconds",
    "How long the oldest waiting checkout has waited; 0 when none waits.",
    BY_POOL,
);
/// The longest use now.
pub const POOL_OLDEST_USE: Family = Family::gauge(
    "poolwatch_pool_oldest_use_seconds",
    "How long the connection that is out longest has been out; 0 when none is.",
    BY_POOL,
);
/// Connects under way.
pub const POOL_CONNECTING: Family = Family::gauge(
    "poolwatch_pool_connecting",
    "Connections being opened now.",
    BY_POOL,
);
/// Pings under way.
pub const POOL_PINGING: Family = Family::gauge(
    "poolwatch_pool_pinging",
    "Idle connections being pinged now, before they are handed out.",
    BY_POOL,
);
/// Whether an operator paused the pool.
pub const POOL_PAUSED: Family = Family::gauge(
    "poolwatch_pool_paused",
    "1 while the pool is paused and hands nothing out, else 0.",
    BY_POOL,
);
/// Checkouts by outcome.
pub const POOL_CHECKOUTS: Family = Family::counter(
    "poolwatch_pool_checkouts_total",
    "Checkouts by how they ended; direct and waited got a connection.",
    &[POOL, "outcome"],
);
/// Opened connections.
pub const POOL_OPENED: Family = Family::counter(
    "poolwatch_pool_connections_opened_total",
    "Connections opened; less those closed, it is the number that live.",
    BY_POOL,
);
/// Closed connections by reason.
pub const POOL_CLOSED: Family = Family::counter(
    "poolwatch_pool_connections_closed_total",
    "Connections closed, by reason.",
    &[POOL, "reason"],
);
/// Looks before checkouts by outcome.
pub const POOL_PRE_PINGS: Family = Family::counter(
    "poolwatch_pool_pre_pings_total",
    "Idle connections looked at before they were handed out, by what was found.",
    &[POOL, "outcome"],
);
/// Generations.
pub const POOL_INVALIDATIONS: Family = Family::counter(
    "poolwatch_pool_invalidations_total",
    "Times all older connections of the pool were declared stale, after a disconnect or a RECONNECT.",
    BY_POOL,
);
/// Broken invariants.
pub const POOL_BUGS: Family = Family::counter(
    "poolwatch_pool_bugs_total",
    "Times an operation that cannot fail did; anything but 0 is a bug of poolwatch.",
    BY_POOL,
);
/// Finished transactions.
pub const TRANSACTIONS: Family = Family::counter(
    "poolwatch_transactions_total",
    "Transactions that ended, those of a single statement included.",
    BY_POOL,
);
/// Time within transactions.
pub const TRANSACTION_SECONDS: Family = Family::counter(
    "poolwatch_transaction_seconds_total",
    "Time that ended transactions took, from their first statement's start in poolwatch, the wait for a server included.",
    BY_POOL,
);
/// Bytes of one pool's clients.
pub const CLIENT_BYTES: Family = Family::counter(
    "poolwatch_pool_client_bytes_total",
    "Bytes of the PostgreSQL protocol that the pool's clients sent (received) or were sent after their logins.",
    &[POOL, "direction"],
);
/// Logins that came through.
pub const POOL_LOGINS: Family = Family::counter(
    "poolwatch_pool_logins_total",
    "Clients that logged in to the pool.",
    BY_POOL,
);
/// Uses of named statements.
pub const PREPARED_STATEMENTS: Family = Family::counter(
    "poolwatch_prepared_statements_total",
    "Messages about prepared statements with a name: clients' Parse, Parse answered by servers, clients' Bind.",
    &[POOL, "message"],
);
/// Where a query's time went.
pub const QUERY_PHASE: Family = Family::histogram(
    "poolwatch_query_phase_seconds",
    "Where queries' time went: waiting at the pool's gate, connecting, executing, transferring.",
    &[POOL, "phase"],
    buckets::POOL,
);
/// Rows of each query.
pub const RETURNED_ROWS: Family = Family::histogram(
    "db_client_response_returned_rows",
    "Rows that each query without an error returned or changed.",
    BY_POOL,
    buckets::ROWS,
);
/// Clients that think.
pub const IDLE_IN_TRANSACTION: Family = Family::histogram(
    "poolwatch_idle_in_transaction_seconds",
    "Time from the answer to one request to the arrival of the next within a transaction: the client kept its server and asked nothing of it.",
    BY_POOL,
    buckets::POOL,
);
/// Servers that are held and not used.
pub const SUSPECTED_LEAKS: Family = Family::gauge(
    "poolwatch_suspected_leaks",
    "Servers of the pool whose clients have run nothing on them for pool.leak_threshold or longer, in a transaction or pinned.",
    BY_POOL,
);
/// Queries of one fingerprint.
pub const QUERY_CALLS: Family = Family::counter(
    "poolwatch_query_calls_total",
    "Queries that ended, by fingerprint for those that took most time; other is all the others together.",
    BY_FINGERPRINT,
);
/// Their errors.
pub const QUERY_ERRORS: Family = Family::counter(
    "poolwatch_query_errors_total",
    "Queries that ended with an error, by fingerprint for those that took most time; other is all the others together.",
    BY_FINGERPRINT,
);
/// Their rows.
pub const QUERY_ROWS: Family = Family::counter(
    "poolwatch_query_rows_total",
    "Rows that queries returned or changed, by fingerprint for those that took most time; other is all the others together.",
    BY_FINGERPRINT,
);
/// Their time.
pub const QUERY_SECONDS: Family = Family::counter(
    "poolwatch_query_seconds_total",
    "Time of queries, the wait for a connection included, by fingerprint for those that took most time; other is all the others together.",
    BY_FINGERPRINT,
);
/// What a fingerprint stands for.
pub const QUERY_INFO: Family = Family::gauge(
    "poolwatch_query_info",
    "Always 1; the labels say what a fingerprint's queries do.",
    &["fingerprint", "summary"],
);
/// All queries.
pub const QUERIES: Family = Family::counter(
    "poolwatch_queries_total",
    "Queries that ended: the sum of poolwatch_query_calls_total, kept by itself.",
    &[],
);
/// Their errors.
pub const QUERIES_ERRORS: Family = Family::counter(
    "poolwatch_queries_errors_total",
    "Queries that ended with an error.",
    &[],
);
/// Their rows.
pub const QUERIES_ROWS: Family = Family::counter(
    "poolwatch_queries_rows_total",
    "Rows that queries returned or changed.",
    &[],
);
/// Their time.
pub const QUERIES_SECONDS: Family = Family::counter(
    "poolwatch_queries_seconds_total",
    "Time of queries, the wait for a connection included.",
    &[],
);
/// Slow queries.
pub const SLOW_QUERIES: Family = Family::counter(
    "poolwatch_slow_queries_total",
    "Queries that took as long as queries.slow_threshold, or their own rule's threshold, or longer.",
    &[],
);
/// Those that were not kept.
pub const SLOW_QUERIES_LEFT_OUT: Family = Family::counter(
    "poolwatch_slow_queries_left_out_total",
    "Slow queries that are neither in the slow-query log nor in the process's log, because there were more than queries.slow_log_rate in a second.",
    &[],
);
/// Fingerprints told apart.
pub const QUERY_FINGERPRINTS: Family = Family::gauge(
    "poolwatch_query_fingerprints",
    "Fingerprints that are told apart now.",
    &[],
);
/// How many can be.
pub const QUERY_FINGERPRINTS_LIMIT: Family = Family::gauge(
    "poolwatch_query_fingerprints_limit",
    "Fingerprints that can be told apart (queries.max_fingerprints); with as many as that, those that take least time are counted together.",
    &[],
);
/// Pinned sessions now.
pub const PINNED_SESSIONS: Family = Family::gauge(
    "poolwatch_pinned_sessions",
    "Sessions that keep their server between transactions now, by reason; one with two reasons counts under both.",
    &[POOL, "reason"],
);
/// Pins so far.
pub const PINS: Family = Family::counter(
    "poolwatch_pins_total",
    "Times a session was pinned to its server, by reason.",
    &[POOL, "reason"],
);
/// Clients by state.
pub const CLIENTS: Family = Family::gauge(
    "poolwatch_clients",
    "Clients connected now, by what their session is doing.",
    &["state"],
);
/// Logins by outcome.
pub const LOGINS: Family = Family::counter(
    "poolwatch_logins_total",
    "Logins of clients, by how they ended.",
    &["outcome"],
);
/// Failed authentication by reason.
pub const AUTHENTICATION_FAILURES: Family = Family::counter(
    "poolwatch_authentication_failures_total",
    "Logins of clients that failed because they did not prove who they are, by reason.",
    &["reason"],
);
/// Bytes by side and direction.
pub const BYTES: Family = Family::counter(
    "poolwatch_bytes_total",
    "Bytes of the PostgreSQL protocol, inside TLS where there is any: received from or sent to the side named.",
    &["side", "direction"],
);
/// Errors by class.
pub const ERRORS: Family = Family::counter(
    "poolwatch_errors_total",
    "Errors told to clients: those PostgreSQL sent (class query) and those of poolwatch itself, with the SQLSTATE's first two characters.",
    &["class", "sqlstate_class"],
);
/// What limits turned away.
pub const LIMIT_REJECTIONS: Family = Family::counter(
    "poolwatch_limit_rejections_total",
    "What was turned away because a limit of poolwatch was reached, by limit.",
    &["limit"],
);
/// The last probe's result.
pub const UPSTREAM_UP: Family = Family::gauge(
    "poolwatch_upstream_up",
    "1 when the last probe of the PostgreSQL host was answered, 0 when it was not or none has ended yet.",
    &["server_address", "server_port"],
);
/// When the last probe ended.
pub const UPSTREAM_PROBED: Family = Family::gauge(
    "poolwatch_upstream_last_probe_timestamp_seconds",
    "When the last probe of the PostgreSQL host ended, as Unix time; 0 before the first.",
    &["server_address", "server_port"],
);
/// Where a tool's migrations stand.
pub const MIGRATION_INFO: Family = Family::gauge(
    "poolwatch_migration_info",
    "Always 1; the labels say at which version each tool of migrations has the database, one series a head.",
    &["tool", "version"],
);
/// How many versions that are.
pub const MIGRATION_HEADS: Family = Family::gauge(
    "poolwatch_migration_heads",
    "Versions at which the database stands at once: 0 where the tool was never used, more than 1 for branches of Alembic's.",
    BY_TOOL,
);
/// What was not run.
pub const MIGRATIONS_PENDING: Family = Family::gauge(
    "poolwatch_migrations_pending",
    "Scripts of the tool's directory that the database has not seen; only where that directory is set.",
    BY_TOOL,
);
/// Whether a run is under way.
pub const MIGRATION_RUNNING: Family = Family::gauge(
    "poolwatch_migration_running",
    "1 while a run of the tool is under way.",
    BY_TOOL,
);
/// For how long it is.
pub const MIGRATION_RUN_TIME: Family = Family::gauge(
    "poolwatch_migration_run_seconds",
    "For how long the run that is under way has been, at most; 0 when there is none.",
    BY_TOOL,
);
/// Whom it waits for.
pub const MIGRATION_BLOCKERS: Family = Family::gauge(
    "poolwatch_migration_blockers",
    "Sessions whose locks the run that is under way waits for, by what they do; the log names them.",
    &["tool", "blocker"],
);
/// How long a collection took.
pub const COLLECTOR_DURATION: Family = Family::gauge(
    "poolwatch_collector_duration_seconds",
    "How long the collector's last look at PostgreSQL took.",
    BY_COLLECTOR,
);
/// Whether it succeeded.
pub const COLLECTOR_SUCCESS: Family = Family::gauge(
    "poolwatch_collector_success",
    "1 when the collector's last look succeeded, 0 when it failed or none has ended yet.",
    BY_COLLECTOR,
);
/// When one succeeded last.
pub const COLLECTOR_LAST_SUCCESS: Family = Family::gauge(
    "poolwatch_collector_last_success_timestamp_seconds",
    "When the collector last succeeded, as Unix time; 0 before the first. Its figures are as old.",
    BY_COLLECTOR,
);
/// The running version.
pub const BUILD_INFO: Family = Family::gauge(
    "poolwatch_build_info",
    "Always 1; the label carries the version.",
    &["version"],
);

/// All of them. `process_*` come from the library and are not declared here.
pub const ALL: [&Family; 66] = [
    &CONNECTION_COUNT,
    &CONNECTION_MAX,
    &CONNECTION_IDLE_MAX,
    &CONNECTION_IDLE_MIN,
    &CONNECTION_PENDING_REQUESTS,
    &CONNECTION_TIMEOUTS,
    &CONNECTION_CREATE_TIME,
    &CONNECTION_WAIT_TIME,
    &CONNECTION_USE_TIME,
    &OPERATION_DURATION,
    &POOL_SIZE,
    &POOL_MAX_OVERFLOW,
    &POOL_OVERFLOW_CONNECTIONS,
    &POOL_OLDEST_WAIT,
    &POOL_OLDEST_USE,
    &POOL_CONNECTING,
    &POOL_PINGING,
    &POOL_PAUSED,
    &POOL_CHECKOUTS,
    &POOL_OPENED,
    &POOL_CLOSED,
    &POOL_PRE_PINGS,
    &POOL_INVALIDATIONS,
    &POOL_BUGS,
    &TRANSACTIONS,
    &TRANSACTION_SECONDS,
    &CLIENT_BYTES,
    &POOL_LOGINS,
    &PREPARED_STATEMENTS,
    &QUERY_PHASE,
    &RETURNED_ROWS,
    &IDLE_IN_TRANSACTION,
    &SUSPECTED_LEAKS,
    &QUERY_CALLS,
    &QUERY_ERRORS,
    &QUERY_ROWS,
    &QUERY_SECONDS,
    &QUERY_INFO,
    &QUERIES,
    &QUERIES_ERRORS,
    &QUERIES_ROWS,
    &QUERIES_SECONDS,
    &SLOW_QUERIES,
    &SLOW_QUERIES_LEFT_OUT,
    &QUERY_FINGERPRINTS,
    &QUERY_FINGERPRINTS_LIMIT,
    &PINNED_SESSIONS,
    &PINS,
    &CLIENTS,
    &LOGINS,
    &AUTHENTICATION_FAILURES,
    &BYTES,
    &ERRORS,
    &LIMIT_REJECTIONS,
    &UPSTREAM_UP,
    &UPSTREAM_PROBED,
    &MIGRATION_INFO,
    &MIGRATION_HEADS,
    &MIGRATIONS_PENDING,
    &MIGRATION_RUNNING,
    &MIGRATION_RUN_TIME,
    &MIGRATION_BLOCKERS,
    &COLLECTOR_DURATION,
    &COLLECTOR_SUCCESS,
    &COLLECTOR_LAST_SUCCESS,
    &BUILD_INFO,
];
