//! One row a key. Longer than other files, because it is a list: who adds a key adds a row here, and a field in `settings`.

use super::super::settings::Settings;
use super::super::value::Value;
use super::{DropIn, Row, Rule};

const fn same(name: &'static str) -> DropIn {
    let rule = Rule::Same;
    DropIn { name, rule }
}

const fn seconds(name: &'static str) -> DropIn {
    let rule = Rule::Seconds;
    DropIn { name, rule }
}

const fn inverted(name: &'static str) -> DropIn {
    let rule = Rule::Inverted;
    DropIn { name, rule }
}

/// Whether a value has a type that TOML writes without quotes, found from the field that holds it.
const fn bare<T: Value>(_: fn(&Settings) -> &T) -> bool {
    T::BARE
}

/// `section.key, unit, reload|restart, [drop-in names], meaning`
macro_rules! row {
    ($section:ident.$key:ident, $unit:literal, $when:ident, [$($drop_in:expr),*], $meaning:literal) => {
        Row {
            name: concat!(stringify!($section), ".", stringify!($key)),
            meaning: $meaning,
            unit: $unit,
            reloadable: row!(@ $when),
            secret: row!(@secret $section $key),
            drop_in: &[$($drop_in),*],
            bare: bare(|settings| &settings.$section.$key),
            set: |settings, text| {
                settings.$section.$key = Value::read(text)?;
                Ok(())
            },
            show: |settings| settings.$section.$key.show(),
            same: |a, b| a.$section.$key == b.$section.$key,
            copy: |from, to| to.$section.$key = from.$section.$key.clone(),
        }
    };
    (@ reload) => { true };
    (@ restart) => { false };
    (@secret upstream url) => { true };
    (@secret init url) => { true };
    (@secret migrate url) => { true };
    (@secret $section:ident $key:ident) => { false };
}

/// Every key, in the order in which they are documented and shown; the keys of a section stand together.
pub static ROWS: &[Row] = &[
    row!(
        upstream.url,
        "URL",
        restart,
        [same("DATABASE_URL"), same("LETTA_PG_URI")],
        "The PostgreSQL server behind the pool, as a URL of any dialect or key=value pairs."
    ),
    row!(
        upstream.connect_timeout,
        "duration",
        restart,
        [],
        "How long opening a connection to PostgreSQL may take, from name resolution to its first ReadyForQuery. \
         A connect_timeout in the URL is used where it is shorter."
    ),
    row!(
        listen.address,
        "host:port, …",
        restart,
        [],
        "Where applications connect. Several addresses are separated by commas; port 0 lets the system choose; empty means Unix sockets only."
    ),
    row!(
        listen.unix_socket_dir,
        "path",
        restart,
        [],
        "The directory for a Unix socket named .s.PGSQL.PORT, where PORT is that of the first address. Empty means none."
    ),
    row!(
        listen.max_clients,
        "clients",
        restart,
        [],
        "How many applications' connections are taken at once; more are refused with SQLSTATE 53300."
    ),
    row!(
        listen.login_timeout,
        "duration",
        restart,
        [],
        "How long a client may take from its first byte to the end of its login."
    ),
    row!(
        listen.tls_cert,
        "path",
        reload,
        [],
        "The certificate shown to clients that ask for TLS, a PEM file. Empty means a self-signed one, made at start. The file is read again at a reload; one that cannot be used leaves the old one in place."
    ),
    row!(
        listen.tls_key,
        "path",
        reload,
        [],
        "The key of listen.tls_cert, a PEM file, read again with it."
    ),
    row!(
        listen.tls_client_ca,
        "path",
        reload,
        [],
        "Who signs clients' certificates, a PEM file. A client that shows a certificate of anybody else's is refused; whether it must show one is for auth.method to say."
    ),
    row!(
        listen.tls_min_version,
        "1.2 | 1.3",
        reload,
        [],
        "The oldest version of TLS that is spoken with clients."
    ),
    row!(
        auth.method,
        "auto | trust | scram-sha-256 | password | cert",
        restart,
        [],
        "How clients prove who they are. auto is SCRAM-SHA-256 (md5 for users of whom only an md5 hash is known), or trust where there is no auth.users_file, no auth.query and no password in upstream.url. trust works on loopback and Unix sockets only, password over TLS only; cert wants a certificate with the user's name (listen.tls_client_ca)."
    ),
    row!(
        auth.users_file,
        "path",
        restart,
        [],
        "The users that may come in, in the format of PgBouncer's userlist.txt: passwords, SCRAM verifiers or md5 hashes. Its content is read again at a reload. Empty means the user of upstream.url alone, unless auth.query is set."
    ),
    row!(
        auth.query,
        "SQL",
        restart,
        [],
        "Asks PostgreSQL for users that auth.users_file does not have: given the user's name as $1, one row of name and stored password. For example SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = $1, which only a superuser may. Empty means nobody is asked for."
    ),
    row!(
        auth.max_failure_delay,
        "duration",
        reload,
        [],
        "How long a login waits at most after failed ones as the same user from the same address; the wait begins with the fourth failure, at 250ms, and doubles. 0s means it does not."
    ),
    row!(
        http.address,
        "host:port",
        restart,
        [],
        "Where /metrics, /healthz, /readyz and the JSON API are answered. An address that is not loopback needs http.reader_token_file."
    ),
    row!(
        http.reader_token_file,
        "path",
        restart,
        [],
        "A file whose content is the token with which the JSON API may be read. On loopback reading needs none."
    ),
    row!(
        http.operator_token_file,
        "path",
        restart,
        [],
        "A file whose content is the token with which the JSON API may change something, and read. Without it nothing can be changed over HTTP."
    ),
    row!(
        http.protect_metrics,
        "true or false",
        restart,
        [],
        "Whether /metrics asks for a token, too, on loopback as well."
    ),
    row!(
        admin.users,
        "user, …",
        restart,
        [],
        "Who may look and change things on the console, the database pgbouncer (or poolwatch) of this listener. Where clients are trusted without a proof, \
         everybody may look, and only those whose process has poolwatch's own user, over its Unix socket, may change anything."
    ),
    row!(
        admin.stats_users,
        "user, …",
        restart,
        [],
        "Who may look on the console, and change nothing."
    ),
    row!(
        admin.wait_timeout,
        "duration",
        restart,
        [],
        "How long a command of the console waits at most for servers to be released or clients to leave: PAUSE, SUSPEND, KILL, WAIT_CLOSE, SHUTDOWN WAIT_FOR_CLIENTS."
    ),
    row!(
        pool.enabled,
        "switch",
        restart,
        [inverted("LETTA_DISABLE_SQLALCHEMY_POOLING")],
        "Whether connections are kept and reused. Without, each checkout opens a connection of its own and closes it at its return."
    ),
    row!(
        pool.mode,
        "transaction | session",
        restart,
        [],
        "For how long a client keeps a server: for a transaction, or until it leaves."
    ),
    row!(
        pool.size,
        "connections",
        reload,
        [same("LETTA_PG_POOL_SIZE")],
        "How many idle connections are kept at most. 0 means no limit to what is kept or opened, as in SQLAlchemy."
    ),
    row!(
        pool.max_overflow,
        "connections",
        reload,
        [same("LETTA_PG_MAX_OVERFLOW")],
        "How many connections may be open beyond pool.size; they are closed when they come back and pool.size are idle. -1 means no limit."
    ),
    row!(
        pool.timeout,
        "duration",
        reload,
        [seconds("LETTA_PG_POOL_TIMEOUT")],
        "How long a client waits for a connection before it is told that there is none (SQLSTATE 53300)."
    ),
    row!(
        pool.recycle,
        "duration | off",
        reload,
        [seconds("LETTA_PG_POOL_RECYCLE")],
        "The age from which a connection is replaced at its next checkout. off (or -1) means never."
    ),
    row!(
        pool.pre_ping,
        "switch",
        reload,
        [same("LETTA_POOL_PRE_PING")],
        "Whether an idle connection is tested before it is handed out."
    ),
    row!(
        pool.pre_ping_after,
        "duration",
        reload,
        [],
        "A connection that was idle for less is only looked at for a hang-up, which costs no round trip. 0s tests at every checkout."
    ),
    row!(
        pool.pre_ping_timeout,
        "duration",
        reload,
        [],
        "How long the test may take before the connection counts as dead."
    ),
    row!(
        pool.use_lifo,
        "switch",
        reload,
        [same("LETTA_POOL_USE_LIFO")],
        "Whether the connection returned last is handed out first, so that those not needed grow old."
    ),
    row!(
        pool.reset_on_return,
        "rollback | commit | none",
        restart,
        [],
        "What becomes of a transaction that a client leaves open. none closes the connection: it is never reused within a transaction."
    ),
    row!(
        pool.pinning,
        "switch",
        restart,
        [],
        "Whether a client keeps its server for as long as it has session state there. Without, such state ends with the transaction that made it."
    ),
    row!(
        pool.server_reset,
        "pinned | always",
        restart,
        [],
        "When a server is reset at a return: of what a session is known to have left in it, or always, with DISCARD ALL."
    ),
    row!(
        pool.reset_timeout,
        "duration",
        restart,
        [],
        "How long ROLLBACK and DISCARD ALL at a return may take before the connection is closed instead."
    ),
    row!(
        pool.leak_threshold,
        "duration | off",
        reload,
        [],
        "A client that has a server and has run nothing on it for so long is a suspected leak: counted in poolwatch_suspected_leaks, and named once in the log with the statement that came last."
    ),
    row!(
        pool.max_pools,
        "pools",
        restart,
        [],
        "How many pools there may be, one for each user and database; a login that needs one more is refused."
    ),
    row!(
        pool.max_prepared_statements,
        "statements",
        restart,
        [],
        "How many named prepared statements are kept on each server, for all clients to share, in transaction pooling; the one used least lately is closed and prepared again when it is needed. 0 shares none: a client with a named statement keeps its server."
    ),
    row!(
        pool.max_client_prepared_statements,
        "statements",
        restart,
        [],
        "How many named prepared statements of one client are shared. With more it keeps its server."
    ),
    row!(
        limits.clients_per_user,
        "clients",
        restart,
        [],
        "How many clients one user may have at once; more are refused with SQLSTATE 53300. 0 means no limit but listen.max_clients."
    ),
    row!(
        limits.servers,
        "connections",
        restart,
        [],
        "How many connections to PostgreSQL all clients' pools may have together, replication connections included. A pool that needs \
         one more has an idle one of another pool closed, or waits its turn, for pool.timeout in all. 0 means no limit but each pool's own."
    ),
    row!(
        limits.idle_client,
        "duration | off",
        restart,
        [],
        "How long a client may ask nothing outside a transaction before its session ends (SQLSTATE 57P05). This limit and the next \
         three are looked at every second, more often where one is shorter than four: a client has up to two looks more, and never less."
    ),
    row!(
        limits.idle_in_transaction,
        "duration | off",
        restart,
        [],
        "How long a client may ask nothing within a transaction before its session ends (SQLSTATE 25P03) and its transaction is rolled back."
    ),
    row!(
        limits.transaction_time,
        "duration | off",
        restart,
        [],
        "How long a transaction may last, a single statement included, before its session ends (SQLSTATE 25P04) and it is rolled back."
    ),
    row!(
        limits.query_time,
        "duration | off",
        restart,
        [],
        "How long a request may run, the wait for a connection not counted, before it is cancelled (SQLSTATE 57014)."
    ),
    row!(
        limits.message_size,
        "bytes",
        restart,
        [],
        "How long a message of a client may be, its header included; a longer one ends its session (SQLSTATE 54000). 0 means no limit."
    ),
    row!(
        limits.idle_pool,
        "duration | off",
        restart,
        [],
        "How long a pool may be without clients before its connections are closed and its metrics go. It is made anew when somebody asks."
    ),
    row!(
        threads.data,
        "threads",
        restart,
        [],
        "How many threads carry queries."
    ),
    row!(
        threads.control,
        "threads",
        restart,
        [],
        "How many threads answer HTTP and watch the rest, apart from those that carry queries."
    ),
    row!(
        shutdown.timeout,
        "duration",
        reload,
        [],
        "How long open transactions may go on after SIGTERM before they are cancelled."
    ),
    row!(
        metrics.compat,
        "pgbouncer, letta",
        restart,
        [],
        "Whose names figures are shown under besides: those of PgBouncer's exporter (without it), those of Letta's own pool monitor, or both."
    ),
    row!(
        queries.enabled,
        "on | off",
        restart,
        [],
        "Whether queries are told apart: figures by fingerprint and the log of slow ones. Off, those are missing; everything else stays."
    ),
    row!(
        queries.slow_threshold,
        "duration",
        reload,
        [],
        "From which duration on a query is slow, the wait for a server included. 0s takes every query."
    ),
    row!(
        queries.slow_rules,
        "rule, …",
        reload,
        [],
        "Other thresholds for some queries: user=…, database=…, operation=… (one of them or several) and a duration, as in user=etl operation=COPY 1m. The first rule that fits counts."
    ),
    row!(
        queries.slow_log_size,
        "queries",
        restart,
        [],
        "How many slow queries are kept in memory, the newest."
    ),
    row!(
        queries.slow_log_rate,
        "queries per second",
        restart,
        [],
        "How many slow queries are kept and logged in a second at most; the others are counted (poolwatch_slow_queries_left_out_total)."
    ),
    row!(
        queries.top_k,
        "fingerprints",
        restart,
        [],
        "How many fingerprints have series of their own in /metrics, those that took most time; the others are one series together."
    ),
    row!(
        queries.max_fingerprints,
        "fingerprints",
        restart,
        [],
        "How many fingerprints are told apart. With more than that, those that took least time are counted together."
    ),
    row!(
        queries.log_literals,
        "on | off",
        restart,
        [],
        "Whether a slow query's text is kept and logged as it was sent, literals included. They may be secrets, or personal data."
    ),
    row!(
        log.format,
        "text | json",
        restart,
        [],
        "How log lines are written."
    ),
    row!(
        log.level,
        "error | warn | info | debug | trace",
        reload,
        [],
        "From which level on events are logged."
    ),
    row!(
        init.url,
        "URL",
        restart,
        [],
        "As whom poolwatch init connects: a superuser, or a role with CREATEROLE and CREATEDB. Its database is where the others are made from, postgres if it names none. Empty means upstream.url's host and user."
    ),
    row!(
        init.vector,
        "required | optional | off",
        restart,
        [],
        "Whether poolwatch init adds pgvector: always, or it is an error; where the server has it; or not."
    ),
    row!(
        init.drop_public,
        "empty | cascade | keep",
        restart,
        [],
        "What poolwatch init does with the schema public: removes it if it holds nothing, else that is an error; removes it with all that it holds; leaves it."
    ),
    row!(
        init.sidecar,
        "switch",
        restart,
        [],
        "Whether poolwatch init also makes what poolwatch itself uses: the role poolwatch, a member of pg_monitor, and its schema of that name."
    ),
    row!(
        migrate.url,
        "URL",
        restart,
        [],
        "As whom poolwatch migrate connects, straight to PostgreSQL. Empty means as upstream.url says."
    ),
    row!(
        migrate.source,
        "path",
        restart,
        [],
        "The directory of scripts that poolwatch migrate runs where --source names none, and of which poolwatch serve counts those that are pending. Empty means migrations for the one, and that nothing is counted for the other."
    ),
    row!(
        migrate.alembic_source,
        "path",
        restart,
        [],
        "The directory of Alembic's revisions (its versions), of which poolwatch serve counts those that are pending. Nothing in it is run. Empty means that nothing is counted."
    ),
    row!(
        migrate.watch,
        "duration | off",
        restart,
        [],
        "How often poolwatch serve looks at where the migrations of the database stand, and whether a run is under way (poolwatch_migration_info and its kind)."
    ),
    row!(
        migrate.lock_timeout,
        "duration",
        restart,
        [],
        "How long a statement of a migration waits for each lock that others hold (PostgreSQL's lock_timeout). A migration that did not get one is rolled back and begun again, up to five times. 0s means for ever."
    ),
    row!(
        migrate.statement_timeout,
        "duration | off",
        restart,
        [],
        "How long a script of a migration may run (PostgreSQL's statement_timeout)."
    ),
];
