"""The console, with the tools that people have for PgBouncer's, and PgBouncer itself beside it under the same load."""

import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from harness import DATABASE, USER, environment, free_port, pgbench, postgres_bin, processed, until

CACHE = pathlib.Path(__file__).resolve().parents[2] / ".ci" / "cache"
EXPORTER = CACHE / "pgbouncer-exporter" / "usr/bin/prometheus-pgbouncer-exporter"


class PgBouncer:
    """As close to poolwatch's defaults as its settings come. It takes root for a mistake, so it runs as another user."""

    def __init__(self, postgres, program, size=25):
        self.port, self.password = free_port(), postgres.password
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="real-pgbouncer-"))
        binary = shutil.copy(program, self.folder / "pgbouncer")
        (self.folder / "users.txt").write_text(f'"{USER}" "{postgres.password}"\n')
        settings = dict(listen_addr="127.0.0.1", listen_port=self.port, unix_socket_dir="", auth_type="scram-sha-256",
                        auth_file=self.folder / "users.txt", admin_users=USER, pool_mode="transaction", default_pool_size=size,
                        max_prepared_statements=256, ignore_startup_parameters="extra_float_digits")
        lines = [f"{DATABASE} = host=127.0.0.1 port={postgres.port}", "[pgbouncer]", *(f"{key} = {value}" for key, value in settings.items())]
        (self.folder / "pgbouncer.ini").write_text("\n".join(["[databases]", *lines, ""]))
        account = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            account = dict(user=entry.pw_uid, group=entry.pw_gid, extra_groups=[])
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        self.process = subprocess.Popen([binary, "-q", self.folder / "pgbouncer.ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        cwd=self.folder, env=environment(), **account)

    def close(self):
        self.process.kill()
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def show(pooler, what):
    """Column names and rows of a SHOW command, by psql."""
    run = subprocess.run([postgres_bin("psql"), "-XAq", "-F", "\t", "-P", "footer=off", "-h", "127.0.0.1", "-p", str(pooler.port), "-U", USER,
                          "-d", "pgbouncer", "-c", f"SHOW {what}"], check=True, capture_output=True, text=True, timeout=30,
                         env=environment(PGPASSWORD=pooler.password, PGSSLMODE="disable"))
    names, *rows = [line.split("\t") for line in run.stdout.splitlines()]
    return names, [dict(zip(names, row, strict=True)) for row in rows]


def of_database(pooler, what, column="database"):
    (row,) = [row for row in show(pooler, what)[1] if row[column] == DATABASE]
    return row


def program():
    """PgBouncer, built once."""
    run = subprocess.run([CACHE.parents[1] / "benches/compare/build-pgbouncer"], check=True, capture_output=True, text=True)
    return run.stdout.strip()


@contextlib.contextmanager
def exported(world, pooler, name):
    """Debian's exporter, as it is, on a pooler's console: a call that scrapes it. At its end it must have logged nothing of note."""
    assert EXPORTER.exists(), f"{EXPORTER} is missing; .ci/run tools fetches it"
    port, path = free_port(), world.out / f"exporter-{name}.log"
    url = f"postgres://{USER}:{pooler.password}@127.0.0.1:{pooler.port}/pgbouncer?sslmode=disable"
    with open(path, "wb") as log:
        exporter = subprocess.Popen([EXPORTER, f"--pgBouncer.connectionString={url}", f"--web.listen-address=127.0.0.1:{port}"],
                                    stdout=log, stderr=log, env=environment())

    def scrape():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            samples = [sample for family in families for sample in family.samples if sample.name.startswith("pgbouncer_")]
        (up,) = [sample.value for sample in samples if sample.name == "pgbouncer_up"]
        assert up == 1, path.read_text()[-2000:]
        return samples

    try:
        until("the exporter answers", scrape)
        yield scrape
    finally:
        exporter.kill()
        exporter.wait(30)
    said = path.read_text().lower()
    assert "level=error" not in said and "level=warn" not in said, said[-2000:]


def check_pgbouncer_exporter(world):
    """The exporter reads everything it wants, scrape after scrape, under load too; what it makes of it is what it makes of PgBouncer."""
    sidecar = world.sidecar(POOLWATCH_ADMIN__STATS_USERS=USER, POOLWATCH_METRICS__COMPAT="pgbouncer")
    bouncer = PgBouncer(world.postgres, program())
    try:
        until("PgBouncer answers", lambda: show(bouncer, "VERSION"))
        with exported(world, sidecar, "poolwatch") as ours, exported(world, bouncer, "pgbouncer") as theirs:
            for pooler in (sidecar, bouncer):
                run = pgbench(pooler, world.scratch / "select.sql", "-c", "4", "-t", "50")
                assert processed(run.communicate(timeout=120)[0]) == 200
            shapes = [{(sample.name, *sorted(sample.labels)) for sample in scrape()} for scrape in (ours, theirs)]
            assert shapes[0] == shapes[1], f"exported of one of the two only: {sorted(shapes[0] ^ shapes[1])}"

            def of_database(scrape, name):
                (value,) = [sample.value for sample in scrape() if sample.name == name and sample.labels.get("database") == DATABASE]
                return value

            counted = of_database(ours, "pgbouncer_stats_sql_transactions_pooled_total")
            assert counted == 200 == sidecar.figures().sum("poolwatch_transactions_total"), f"{counted} exported, pgbench did 200"
            labels = [value for sample in ours() for value in sample.labels.values()]
            assert "<invalid>" not in labels, labels
            load = pgbench(sidecar, world.scratch / "slow.sql", "-c", "4", "-t", "400")
            until("clients are shown", lambda: of_database(ours, "pgbouncer_pools_client_active_connections") == 4)
            scrapes = 0
            while load.poll() is None:
                ours()
                scrapes += 1
            assert scrapes > 3 and processed(load.communicate()[0]) == 1600, f"{scrapes} scrapes"
            until("all is counted", lambda: of_database(ours, "pgbouncer_stats_sql_transactions_pooled_total") == 1800)
            compare_with_compat(sidecar, ours)
    finally:
        bouncer.close()


def compare_with_compat(sidecar, exporter):
    """What poolwatch shows under the exporter's names is what the exporter shows: names, labels and, but for the console that the
    exporter itself uses, values."""
    theirs = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
              for sample in exporter() if not sample.name.startswith("pgbouncer_exporter_")}
    ours = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(sidecar.get("/metrics")[1]) for sample in family.samples
            if sample.name.startswith("pgbouncer_")}
    missing = set(theirs) - set(ours)
    assert not missing, f"of the exporter only: {sorted(missing)}"
    # Newer exporters have names that this one has not; series of its own it has none.
    names = {name for name, _ in theirs}
    more = {series for series in ours if series[0] in names} - set(theirs)
    assert not more, f"of poolwatch only: {sorted(more)}"
    for series, value in theirs.items():
        own = ("database", "pgbouncer") in series[1] or series[0] in ("pgbouncer_used_clients", "pgbouncer_users")
        if not own:
            assert abs(ours[series] - value) < 1e-9, f"{series}: {ours[series]} in /metrics, {value} by the exporter"
    for name in ("sql_transactions_pooled_total", "queries_pooled_total", "client_wait_seconds_total"):
        (old,), (new,) = ([value for (of, labels), value in ours.items() if of == f"pgbouncer_{prefix}_{name}" and ("database", DATABASE) in labels]
                          for prefix in ("stats", "stats_totals"))
        assert old == new, name


def check_pgbouncer_beside(world):
    """Under the same load PgBouncer's console shows the same columns, and the same values where they mean the same."""
    sidecar = world.sidecar(POOLWATCH_ADMIN__USERS=USER)
    bouncer = PgBouncer(world.postgres, program())
    try:
        until("PgBouncer answers", lambda: show(bouncer, "VERSION"))
        world.postgres.query("CREATE TABLE IF NOT EXISTS bench (k integer)")
        for what in ("POOLS", "STATS", "STATS_TOTALS", "STATS_AVERAGES", "TOTALS", "CLIENTS", "SERVERS", "SOCKETS", "ACTIVE_SOCKETS", "DATABASES",
                     "USERS", "LISTS", "CONFIG", "VERSION", "STATE", "MEM", "PEERS", "PEER_POOLS", "DNS_HOSTS", "DNS_ZONES"):
            theirs, ours = show(bouncer, what)[0], show(sidecar, what)[0]
            # 1.25 counts logins, 1.24 does not.
            ours = [name for name in ours if "client_login_count" not in name]
            assert ours == [name for name in theirs if "client_login_count" not in name], f"SHOW {what}: {ours} is not {theirs}"
        for protocol in ("simple", "extended", "prepared"):
            for name in ("select.sql", "write.sql"):
                for pooler in (sidecar, bouncer):
                    run = pgbench(pooler, world.scratch / name, "-M", protocol, "-c", "4", "-t", "50")
                    assert processed(run.communicate(timeout=120)[0]) == 200, f"pgbench -M {protocol} {name}"
        until("both have no client any more", lambda: all(of_database(pooler, "POOLS")["cl_active"] == "0" for pooler in (sidecar, bouncer)))
        ours, theirs = (of_database(pooler, "STATS_TOTALS") for pooler in (sidecar, bouncer))
        same = ("client_parse_count", "bind_count")
        assert [ours[name] for name in same] == [theirs[name] for name in same], f"{ours} is not {theirs}"
        # With -M prepared each client sends a Parse and a Sync for each of its 5 statements, which PgBouncer takes for a query, and where
        # no transaction is open, as at the start of each script, for a transaction.
        parses = 4 * 5
        assert int(ours["client_parse_count"]) == parses
        counts = [(int(of["query_count"]), int(of["xact_count"])) for of in (ours, theirs)]
        assert counts == [(3 * 200 * 5, 6 * 200), (3 * 200 * 5 + parses, 6 * 200 + 4 * 2)], f"{ours} is not {theirs}"
        # PgBouncer counts neither the goodbye of a client, which is 5 bytes, nor what a login is told.
        for name in ("bytes_received", "bytes_sent"):
            ratio = int(ours[name]) / int(theirs[name])
            assert 0.97 < ratio < 1.03, f"{name}: {ours[name]}, {theirs[name]}"
        pools = [of_database(pooler, "POOLS") for pooler in (sidecar, bouncer)]
        idle = ("cl_active", "cl_waiting", "sv_active", "sv_tested", "sv_login", "maxwait", "pool_mode")
        assert [pools[0][name] for name in idle] == [pools[1][name] for name in idle], pools
        compare_while_running(world, sidecar, bouncer)
        # Errors are told in the same words.
        for wrong in ("nonsense", "SELECT 1", "SHOW", "SHOW pools; SHOW pools", "RESUME", f"RESUME {DATABASE}", "ENABLE", "DISABLE", "KILL_CLIENT 99999999",
                      *(f"{command} nowhere" for command in ("PAUSE", "RESUME", "KILL", "RECONNECT", "WAIT_CLOSE", "DISABLE", "ENABLE"))):
            assert refused(sidecar, wrong) == refused(bouncer, wrong), wrong
        # So is what psql prepares; and what is right is answered with the same tags.
        script = f"PAUSE {DATABASE};\nPAUSE {DATABASE};\nRESUME {DATABASE};\nPAUSE;\nRESUME;\nRECONNECT;\nWAIT_CLOSE;\nRELOAD;\nSHOW VERSION \\gdesc\n"
        # Whether psql reads the FATAL behind the error depends on how PgBouncer's bytes arrive: it sends the two by themselves.
        said = [typed(pooler, script).replace("FATAL:  bad packet\n", "") for pooler in (sidecar, bouncer)]
        assert said[0] == said[1] and "WAIT_CLOSE" in said[0] and "not supported" in said[0], said
    finally:
        bouncer.close()


def check_pgbouncer_times(world):
    """Four clients for one server, thinking between two statements: the same microseconds in both."""
    sidecar = world.sidecar(POOLWATCH_ADMIN__STATS_USERS=USER, POOLWATCH_POOL__SIZE="1", POOLWATCH_POOL__MAX_OVERFLOW="0")
    bouncer = PgBouncer(world.postgres, program(), size=1)
    thinking = world.scratch / "thinking.sql"
    thinking.write_text("BEGIN;\n\\sleep 20 ms\nSELECT pg_sleep(0.01);\nEND;\n")
    try:
        until("PgBouncer answers", lambda: show(bouncer, "VERSION"))
        figures = []
        for pooler in (sidecar, bouncer):
            # The first connection is waited for too, by who comes first; that is left out.
            warm = pgbench(pooler, world.scratch / "select.sql", "-c", "1", "-t", "1")
            assert processed(warm.communicate(timeout=120)[0]) == 1
            before = of_database(pooler, "STATS_TOTALS")
            run = pgbench(pooler, thinking, "-c", "4", "-t", "10")
            assert processed(run.communicate(timeout=120)[0]) == 40
            after = until("all is counted", lambda: (now := of_database(pooler, "STATS_TOTALS")) and now["xact_count"] == "41" and now)
            figures.append({name: int(after[name]) - int(before[name]) for name in ("xact_time", "query_time", "wait_time", "query_count")})
        ours, theirs = figures
        assert ours["query_count"] == theirs["query_count"] == 120, figures
        # A transaction lasts 30 ms at least, three others are waited for. The ends of the queue depend on chance.
        assert ours["wait_time"] > 3 * 40 * 20_000, figures
        for name in ("xact_time", "query_time", "wait_time"):
            assert 0.8 < ours[name] / theirs[name] < 1.25, f"{name}: {figures}"
    finally:
        bouncer.close()


def compare_while_running(world, sidecar, bouncer):
    """Four clients within a query and one idle: both show so."""
    script = world.scratch / "sleep.sql"
    held = []
    try:
        for pooler in (sidecar, bouncer):
            script.write_text("SELECT pg_sleep(20);\n")
            held.append(subprocess.Popen(
                [postgres_bin("pgbench"), "-n", "-h", "127.0.0.1", "-p", str(pooler.port), "-U", USER, "-f", str(script), "-c", "4", "-t", "1", DATABASE],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(PGPASSWORD=pooler.password, PGSSLMODE="disable")))
        names = ("cl_active", "cl_waiting", "sv_active", "sv_login")
        states = {}

        def agree():
            states.update({pooler.port: [of_database(pooler, "POOLS")[name] for name in names] for pooler in (sidecar, bouncer)})
            return list(states.values()) == [["4", "0", "4", "0"]] * 2

        until(lambda: f"four servers at work in both: {states}", agree)
        kinds = [sorted((row["type"], row["state"]) for row in show(pooler, "CLIENTS")[1] if row["database"] == DATABASE) for pooler in (sidecar, bouncer)]
        assert kinds[0] == kinds[1] == [("C", "active")] * 4, kinds
        for pooler in (sidecar, bouncer):
            of_servers = {row["ptr"]: row["link"] for row in show(pooler, "SERVERS")[1] if row["state"] == "active"}
            of_clients = {row["link"]: row["ptr"] for row in show(pooler, "CLIENTS")[1] if row["database"] == DATABASE}
            assert of_servers == of_clients and len(of_servers) == 4, (of_servers, of_clients)
    finally:
        for process in held:
            process.kill()
            process.wait(30)
        # Nobody is told that PgBouncer's client has gone: the query would go on, and be counted by whoever counts connections next.
        world.postgres.query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20)%' AND pid <> pg_backend_pid()")


def typed(pooler, script):
    """What psql says to a script."""
    run = subprocess.run([postgres_bin("psql"), "-XAt", "-h", "127.0.0.1", "-p", str(pooler.port), "-U", USER, "-d", "pgbouncer"], input=script,
                         capture_output=True, text=True, timeout=30, env=environment(PGPASSWORD=pooler.password, PGSSLMODE="disable"))
    return run.stdout + run.stderr


def refused(pooler, command):
    run = subprocess.run([postgres_bin("psql"), "-XAtq", "-h", "127.0.0.1", "-p", str(pooler.port), "-U", USER, "-d", "pgbouncer", "-c", command],
                         capture_output=True, text=True, timeout=30, env=environment(PGPASSWORD=pooler.password, PGSSLMODE="disable"))
    assert run.returncode == 1, f"{command} was not refused: {run.stdout}"
    return run.stderr


CHECKS = (check_pgbouncer_exporter, check_pgbouncer_beside, check_pgbouncer_times)
