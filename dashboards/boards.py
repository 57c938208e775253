"""What the dashboards show: each panel with the question it answers, its queries, and from which value on it is no longer well.

They need no recording rules, so they work with a Prometheus that only scrapes. `$__rate_interval` is Grafana's: at least four scrapes.
"""

from generate import annotation, dashboard, graph, heatmap, query, source, stat, steps, table, text_variable, timeline, variable, words

# Which sidecars, and which of their pools.
SIDECAR = 'job=~"$job",namespace=~"$namespace",pod=~"$pod",instance=~"$instance"'
POOL = SIDECAR + ',db_client_connection_pool_name=~"$pool"'
NAME = "db_client_connection_pool_name"
FAILED = 'outcome!~"direct|waited|cancelled"'
BY_POOL = f"instance, namespace, pod, {NAME}"
RATE = "[$__rate_interval]"


def quantiles(metric, selector, *others):
    return [query(f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{{{selector}}}{RATE})))", name) for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))] + list(others)


def rates(metric, selector, label):
    return query(f"sum by ({label}) (rate({metric}{{{selector}}}{RATE}))", f"{{{{{label}}}}}")


def parts(label, expression):
    """The parts that are not 0, of many that may be, and their sum, so that nothing is told from no data."""
    return query(f"sum by ({label}) ({expression}) > 0", f"{{{{{label}}}}}"), query(f"sum({expression})", "total")


def sidecars(extra=()):
    """The variables that both dashboards have, in the order in which they narrow down."""
    return [
        source(),
        variable("job", "job", "label_values(poolwatch_build_info, job)"),
        variable("namespace", "namespace", 'label_values(poolwatch_build_info{job=~"$job"}, namespace)'),
        variable("pod", "pod", 'label_values(poolwatch_build_info{job=~"$job",namespace=~"$namespace"}, pod)'),
        variable("instance", "instance", 'label_values(poolwatch_build_info{job=~"$job",namespace=~"$namespace",pod=~"$pod"}, instance)'),
        variable("database", "database", f'label_values(db_client_operation_duration_seconds_count{{{SIDECAR}}}, db_namespace)'),
        # Those of the database, by the end of the name, user@host:port/database; not poolwatch's own.
        variable("pool", "pool", f'label_values(db_client_connection_max{{{SIDECAR},{NAME}=~".*/(${{database:regex}})"}}, {NAME})', all_value=None),
        *extra,
    ]


ANNOTATIONS = [
    annotation("Alerts", "red", 'ALERTS{alertname=~"Poolwatch.*",alertstate="firing",instance=~"$instance|"}', "{{alertname}}", "{{severity}} {{instance}} {{db_client_connection_pool_name}}"),
    annotation("poolwatch started", "blue", f"changes(process_start_time_seconds{{{SIDECAR}}}[1m]) > 0 and on (job, instance) poolwatch_build_info", "poolwatch started", "{{instance}}"),
    annotation("Servers lost", "orange", f"increase(poolwatch_pool_invalidations_total{{{SIDECAR}}}[1m]) > 0", "all older connections declared stale", "{{instance}} {{db_client_connection_pool_name}}"),
]

LINKS = [
    {"type": "dashboards", "title": "poolwatch", "tags": ["poolwatch"], "asDropdown": False, "includeVars": True, "keepTime": True, "icon": "external link", "targetBlank": False, "tooltip": "", "url": ""},
]
# The address by which Prometheus scrapes is the one where the status page is.
STATUS_PAGE = {"title": "status page of ${__field.labels.instance}", "url": "http://${__field.labels.instance}/", "targetBlank": True}

# ------------------------------------------------------------------------------------------------ Pool

GLANCE = ("Is it well?", 4, [
    (3, stat("PostgreSQL", "Does PostgreSQL answer the probes of all chosen sidecars?", "short", f"min(poolwatch_upstream_up{{{SIDECAR}}})", steps(1, colours=("red", "green")),
             words(**{"answers": ("1", "green"), "DOWN": ("0", "red")}))),
    (3, stat("Fullest pool", "How much of what it may have does the fullest of the chosen pools use now?", "percentunit",
             f'max(db_client_connection_count{{{POOL},db_client_connection_state="used"}} / ignoring (db_client_connection_state) db_client_connection_max{{{POOL}}})', steps(0.75, 0.95), decimals=0)),
    (3, stat("Waiting now", "How many requests wait for a connection at this moment?", "short", f"sum(db_client_connection_pending_requests{{{POOL}}})", steps(1, 10))),
    (3, stat("Late checkouts, 5 min", "Which share of the checkouts took longer than 0.25 s? The objective is 1% (docs/runbooks.md).", "percentunit",
             f'1 - sum(rate(db_client_connection_wait_time_seconds_bucket{{{POOL},le="0.25"}}[5m])) / sum(rate(db_client_connection_wait_time_seconds_count{{{POOL}}}[5m]))', steps(0.01, 0.144), decimals=2)),
    (3, stat("Failed checkouts, 5 min", "How many requests got no connection in the last 5 minutes: timeouts, failed connects, pauses?", "short",
             f"sum(increase(poolwatch_pool_checkouts_total{{{POOL},{FAILED}}}[5m]))", steps(1, 10), decimals=0)),
    (3, stat("Pinned", "Which share of what the pools may have do pinned sessions keep between transactions, at least?", "percentunit",
             f"max(max without (reason) (poolwatch_pinned_sessions{{{POOL}}}) / db_client_connection_max{{{POOL}}})", steps(0.25, 0.5), decimals=0)),
    (3, stat("Alerts firing", "How many of poolwatch's alerts fire now, for any sidecar? Needs the rules in Prometheus.", "short",
             'sum(ALERTS{alertname=~"Poolwatch.*",alertstate="firing"}) or vector(0)', steps(1, 3))),
    (3, stat("Oldest start", "Since when does the longest running of the chosen sidecars run? A young one was restarted.", "dateTimeFromNow",
             f"min(process_start_time_seconds{{{SIDECAR}}} and on (job, instance) poolwatch_build_info) * 1000", steps(colours=("text",)), colour="value")),
])

FULL = ("How full is it, and who waits?", 8, [
    (8, graph("Connections", "How many connections are in use and idle, and how far is it to the most there may be (dashed)?", "short",
              *(query(f'sum by (db_client_connection_state) (db_client_connection_count{{{POOL},db_client_connection_state="{state}"}})', "{{db_client_connection_state}}") for state in ("used", "idle")),
              query(f"sum(db_client_connection_max{{{POOL}}})", "max"), query(f"sum(poolwatch_pool_size{{{POOL}}})", "size"), stack=True, limits=("max", "size"))),
    (8, graph("Waiting", "How many requests wait for a connection, and for how long has the oldest waited (right)?", "short",
              query(f"sum(db_client_connection_pending_requests{{{POOL}}})", "waiting"), query(f"max(poolwatch_pool_oldest_wait_seconds{{{POOL}}})", "oldest wait"), right=("oldest wait", "s"))),
    (8, graph("Checkouts by outcome", "How do requests for a connection end: at once, after a wait, or not at all?", "ops", rates("poolwatch_pool_checkouts_total", POOL, "outcome"), stack=True)),
    (8, graph("Time to get a connection", "How long does a request wait for its connection, failed ones included?", "s", *quantiles("db_client_connection_wait_time_seconds", POOL))),
    (8, heatmap("Waits, as they are distributed", "Do all wait a little, or a few very long?", f"sum by (le) (increase(db_client_connection_wait_time_seconds_bucket{{{POOL}}}{RATE}))")),
    (8, graph("Time that a connection is held", "How long do clients keep a connection, and for how long is the oldest out (right; a forgotten transaction climbs steadily)?", "s",
              *quantiles("db_client_connection_use_time_seconds", POOL, query(f"max(poolwatch_pool_oldest_use_seconds{{{POOL}}})", "oldest now")), right=("oldest now", "s"))),
])

CHURN = ("Why do connections open and close?", 8, [
    (8, graph("Opened, and closed by reason", "How many connections are opened (up), and why are they closed (down)?", "ops",
              query(f"sum(rate(poolwatch_pool_connections_opened_total{{{POOL}}}{RATE}))", "opened"),
              query(f"-sum by (reason) (rate(poolwatch_pool_connections_closed_total{{{POOL}}}{RATE}))", "{{reason}}"), minimum=None)),
    (8, graph("Pre-pings", "Are idle connections alive when they are wanted? hangup: closed by the other side; failed: no answer.", "ops", rates("poolwatch_pool_pre_pings_total", POOL, "outcome"), stack=True)),
    (8, graph("Time to open a connection", "How long does PostgreSQL take to take us in, and how many are being opened now (right)?", "s",
              *quantiles("db_client_connection_create_time_seconds", POOL, query(f"sum(poolwatch_pool_connecting{{{POOL}}})", "connecting")), right=("connecting", "short"))),
])

HOLD = ("Who keeps connections?", 8, [
    (8, graph("Pinned sessions by reason", "How many sessions keep their server between transactions, and why? One with two reasons counts under both.", "short",
              *parts("reason", f"poolwatch_pinned_sessions{{{POOL}}}"))),
    (8, graph("Pins by reason", "How often are sessions pinned anew, and by what?", "ops", *parts("reason", f"rate(poolwatch_pins_total{{{POOL}}}{RATE})"))),
    (8, graph("Clients by state", "What do the applications' connections do? idle_in_transaction ones hold a server and use it for nothing.", "short",
              query(f"sum by (state) (poolwatch_clients{{{SIDECAR}}})", "{{state}}"), stack=True)),
])

WORK = ("What work is done, and how well?", 8, [
    (6, graph("Transactions and queries", "How much work passes?", "ops", query(f"sum(rate(poolwatch_transactions_total{{{POOL}}}{RATE}))", "transactions"),
              query(f"sum(rate(db_client_operation_duration_seconds_count{{{POOL}}}{RATE}))", "queries"))),
    (6, graph("Query time", "How long does a query take, the wait for a connection included?", "s", *quantiles("db_client_operation_duration_seconds", POOL))),
    (6, graph("Where the time goes", "How many seconds of each second are spent in waiting, connecting, executing and transferring?", "s",
              query(f"sum by (phase) (rate(poolwatch_query_phase_seconds_sum{{{POOL}}}{RATE}))", "{{phase}}"), stack=True)),
    (6, graph("Errors told to clients", "Which errors do clients get? query: PostgreSQL's own; all others: poolwatch's.", "ops",
              *parts("class", f"rate(poolwatch_errors_total{{{SIDECAR}}}{RATE})"))),
    (6, graph("Bytes", "How much do clients send and get?", "Bps", rates("poolwatch_pool_client_bytes_total", POOL, "direction"))),
    (6, graph("Logins", "Do applications get in?", "ops", rates("poolwatch_logins_total", SIDECAR, "outcome"), stack=True)),
    (6, graph("Prepared statements", "How often are statements prepared by clients, and on servers?", "ops", rates("poolwatch_prepared_statements_total", POOL, "message"))),
    (6, graph("Turned away by a limit", "Which limit of poolwatch's settings is reached?", "ops",
              *parts("limit", f"rate(poolwatch_limit_rejections_total{{{SIDECAR}}}{RATE})"))),
])

PROCESS = ("PostgreSQL's host, and poolwatch itself", 7, [
    (6, timeline("PostgreSQL answers", "When did PostgreSQL not answer, as each sidecar sees it?", f"poolwatch_upstream_up{{{SIDECAR}}}", "{{instance}} → {{server_address}}",
                 words(**{"answers": ("1", "green"), "down": ("0", "red")}))),
    (6, graph("Age of what is known", "How old are the last probe of PostgreSQL and the collectors' last figures?", "s",
              query(f"max(time() - (poolwatch_upstream_last_probe_timestamp_seconds{{{SIDECAR}}} > 0))", "probe"),
              query(f"max by (collector) (time() - (poolwatch_collector_last_success_timestamp_seconds{{{SIDECAR}}} > 0))", "{{collector}}"))),
    (6, graph("Migrations", "Are scripts pending, and does a run wait for somebody's locks?", "short",
              query(f"max by (tool) (poolwatch_migrations_pending{{{SIDECAR}}})", "{{tool}} pending"), query(f"sum by (tool) (poolwatch_migration_blockers{{{SIDECAR}}})", "{{tool}} waits for"))),
    (6, graph("CPU and memory", "What does poolwatch itself cost?", "percentunit", query(f"rate(process_cpu_seconds_total{{{SIDECAR}}}{RATE}) and on (job, instance) poolwatch_build_info", "CPU {{instance}}"),
              query(f"sum(process_resident_memory_bytes{{{SIDECAR}}} and on (job, instance) poolwatch_build_info)", "memory"), right=("memory", "bytes"), links=[STATUS_PAGE])),
])

pool = dashboard("poolwatch-pool", "poolwatch / Pool", "Is the pool well, how full is it, who waits, why do connections open and close, who keeps them?",
                 sidecars(), ANNOTATIONS, LINKS, [GLANCE, FULL, CHURN, HOLD, WORK, PROCESS])

# ------------------------------------------------------------------------------------------------ Fleet

TO_POOL = [{"title": "this pool", "url": "/d/poolwatch-pool?${datasource:queryparam}&var-instance=${__data.fields.instance}&var-pool=${__data.fields.pool}&${__url_time_range}"},
           {"title": "status page", "url": "http://${__data.fields.instance}/", "targetBlank": True}]
SERVER = f'"server", "$1", "{NAME}", ".*@(.+)/.*"'

TOTALS = ("All sidecars", 4, [
    (3, stat("Sidecars", "How many sidecars answer Prometheus?", "short", f"sum(up{{{SIDECAR}}} and on (job, instance) last_over_time(poolwatch_build_info[1h]))", steps(1, colours=("red", "blue")), colour="value")),
    (3, stat("Not answering", "How many sidecars that were there in the last hour do not answer?", "short",
             f"count((up{{{SIDECAR}}} == 0) and on (job, instance) last_over_time(poolwatch_build_info[1h])) or vector(0)", steps(1, 2))),
    (3, stat("Without PostgreSQL", "For how many sidecars does PostgreSQL not answer?", "short", f"count(poolwatch_upstream_up{{{SIDECAR}}} == 0) or vector(0)", steps(1, 2))),
    (3, stat("Pools that wait", "In how many pools does somebody wait now?", "short", f"count(db_client_connection_pending_requests{{{POOL}}} > 0) or vector(0)", steps(1, 5))),
    (3, stat("Waiting", "How many requests wait for a connection, in all pools?", "short", f"sum(db_client_connection_pending_requests{{{POOL}}})", steps(1, 50))),
    (3, stat("Failed checkouts, 5 min", "How many requests got no connection in the last 5 minutes, in all pools?", "short", f"sum(increase(poolwatch_pool_checkouts_total{{{POOL},{FAILED}}}[5m]))", steps(1, 50), decimals=0)),
    (3, stat("Transactions", "How much work passes, through all pools?", "ops", f"sum(rate(poolwatch_transactions_total{{{POOL}}}{RATE}))", steps(colours=("blue",)), colour="value", decimals=0)),
    (3, stat("Clients", "How many connections of applications are there?", "short", f"sum(poolwatch_clients{{{SIDECAR}}})", steps(colours=("blue",)), colour="value")),
])

WORST = ("Worst pools first", 10, [
    (24, table("Pools", "Which pools are in trouble? Sorted by the share of late checkouts (longer than 0.25 s, in 5 minutes), those in which somebody waits stand out. A click on a name leads to the pool.", [
        ("late", f'(1 - sum by ({BY_POOL}) (rate(db_client_connection_wait_time_seconds_bucket{{{POOL},le="0.25"}}[5m])) / (sum by ({BY_POOL}) (rate(db_client_connection_wait_time_seconds_count{{{POOL}}}[5m])) > 0))', "percentunit", steps(0.01, 0.144)),
        ("waiting", f"sum by ({BY_POOL}) (db_client_connection_pending_requests{{{POOL}}})", "short", steps(1, 10)),
        ("oldest wait", f"max by ({BY_POOL}) (poolwatch_pool_oldest_wait_seconds{{{POOL}}})", "s", steps(0.25, 5)),
        ("failed, 5 min", f"sum by ({BY_POOL}) (increase(poolwatch_pool_checkouts_total{{{POOL},{FAILED}}}[5m]))", "short", steps(1, 10)),
        ("in use", f'sum by ({BY_POOL}) (db_client_connection_count{{{POOL},db_client_connection_state="used"}}) / sum by ({BY_POOL}) (db_client_connection_max{{{POOL}}})', "percentunit", steps(0.75, 0.95)),
        ("connections", f"sum by ({BY_POOL}) (db_client_connection_count{{{POOL}}})", "short", None),
        ("max", f"sum by ({BY_POOL}) (db_client_connection_max{{{POOL}}})", "short", None),
        ("oldest use", f"max by ({BY_POOL}) (poolwatch_pool_oldest_use_seconds{{{POOL}}})", "s", steps(60, 600)),
        ("opened/s", f"sum by ({BY_POOL}) (rate(poolwatch_pool_connections_opened_total{{{POOL}}}[5m]))", "ops", None),
        ("transactions/s", f"sum by ({BY_POOL}) (rate(poolwatch_transactions_total{{{POOL}}}[5m]))", "ops", None),
    ], hidden=(), sort="late", links={"pool": TO_POOL, "instance": TO_POOL[1:]})),
])

SERVERS = ("Connections of all sidecars against max_connections", 8, [
    (8, graph("Connections by PostgreSQL server", "How many connections do all sidecars together have to each server, and does it have room for them (dashed: max_connections, as given above)? Without two at most that each sidecar takes for itself.", "short",
              query(f'sum by (server) (label_replace(db_client_connection_count{{{POOL}}}, {SERVER}))', "{{server}}"), query("vector($max_connections)", "max_connections"), limits=("max_connections",))),
    (8, graph("What they may grow to", "If every pool were full, would the server have room for all (dashed: max_connections, as given above)?", "short",
              query(f'sum by (server) (label_replace(db_client_connection_max{{{POOL}}}, {SERVER}))', "{{server}}"), query("vector($max_connections)", "max_connections"), limits=("max_connections",))),
    (8, graph("In use by PostgreSQL server", "How many of these connections do work?", "short",
              query(f'sum by (server) (label_replace(db_client_connection_count{{{POOL},db_client_connection_state="used"}}, {SERVER}))', "{{server}}"))),
])

PER = ("Which sidecars differ from the others?", 8, [
    (8, graph("Fullest pools", "Which ten pools are fullest?", "percentunit",
              query(f'topk(10, sum by (instance, {NAME}) (db_client_connection_count{{{POOL},db_client_connection_state="used"}}) / sum by (instance, {NAME}) (db_client_connection_max{{{POOL}}}))', "{{instance}} {{" + NAME + "}}"), links=[STATUS_PAGE])),
    (8, graph("Longest waits (p99)", "In which ten pools do requests wait longest for a connection?", "s",
              query(f"topk(10, histogram_quantile(0.99, sum by (instance, {NAME}, le) (rate(db_client_connection_wait_time_seconds_bucket{{{POOL}}}{RATE}))))", "{{instance}} {{" + NAME + "}}"), links=[STATUS_PAGE])),
    (8, graph("Failed checkouts", "In which ten pools do requests get no connection?", "ops",
              query(f"topk(10, sum by (instance, {NAME}) (rate(poolwatch_pool_checkouts_total{{{POOL},{FAILED}}}{RATE})))", "{{instance}} {{" + NAME + "}}"), links=[STATUS_PAGE])),
    (8, timeline("PostgreSQL answers", "Does PostgreSQL answer everybody, or is it somebody's network?", f"poolwatch_upstream_up{{{SIDECAR}}}", "{{instance}} → {{server_address}}",
                 words(**{"answers": ("1", "green"), "down": ("0", "red")}))),
    (8, graph("Versions", "Which versions run, and how far is the rollout?", "short", query(f"count by (version) (poolwatch_build_info{{{SIDECAR}}})", "{{version}}"), stack=True)),
    (8, graph("Memory of the largest", "Does one of them grow?", "bytes", query(f"topk(10, process_resident_memory_bytes{{{SIDECAR}}} and on (job, instance) poolwatch_build_info)", "{{instance}}"), links=[STATUS_PAGE])),
])

fleet = dashboard("poolwatch-fleet", "poolwatch / Fleet", "All sidecars: the worst pools first, and the sum of their connections against what PostgreSQL takes.",
                  sidecars([text_variable("max_connections", "max_connections", "100", "PostgreSQL's setting of that name, less what is reserved")]), ANNOTATIONS, LINKS, [TOTALS, WORST, SERVERS, PER])

ALL = {"pool": pool, "fleet": fleet}
