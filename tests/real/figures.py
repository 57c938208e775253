"""The figures against independent counts of the same work: pgbench's, PostgreSQL's, Prometheus'."""

import json
import pathlib
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request

from harness import SCRIPTS, POOL, environment, free_port, pgbench, processed, until


def counts(sidecar):
    figures = sidecar.figures()
    return figures.sum("poolwatch_transactions_total"), figures.sum("db_client_operation_duration_seconds_count")


def check_pgbench_counts(world):
    """Transactions and queries counted equal what pgbench says it did, exactly, in every protocol."""
    sidecar = world.sidecar()
    world.postgres.query("CREATE TABLE IF NOT EXISTS bench (k integer)")
    for protocol in ("simple", "extended", "prepared"):
        for name, (queries, _) in SCRIPTS.items():
            before = counts(sidecar)
            run = pgbench(sidecar, world.scratch / name, "-M", protocol, "-c", "8", "-j", "2", "-t", "150")
            out, err = run.communicate(timeout=120)
            assert run.returncode == 0, f"pgbench -M {protocol} {name}: {err[-1500:]}"
            done = processed(out)
            assert done == 8 * 150, f"pgbench -M {protocol} {name} did {done} transactions"
            expected = (before[0] + done, before[1] + done * queries)
            # pgbench may leave before the last answer it got has been counted; never may more be counted.
            until(lambda: f"{protocol} {name}: {expected} counted, have {counts(sidecar)}", lambda: counts(sidecar) >= expected, 5)
            assert counts(sidecar) == expected, f"{protocol} {name}: counted {counts(sidecar)}, pgbench did {expected}"


def check_connections_add_up(world):
    """Checkouts = returns + held; opened - closed = live, and PostgreSQL sees as many."""
    sidecar = world.sidecar()
    run = pgbench(sidecar, world.scratch / "select.sql", "-c", "20", "-j", "2", "-t", "100")
    assert run.wait(120) == 0, run.stderr.read()

    def agree():
        figures = sidecar.figures()
        total = figures.sum
        taken = sum(total("poolwatch_pool_checkouts_total", outcome=outcome) for outcome in ("direct", "waited"))
        returned, held = total("db_client_connection_use_time_seconds_count"), total("db_client_connection_count", db_client_connection_state="used")
        live = total("db_client_connection_count")
        opened, closed = total("poolwatch_pool_connections_opened_total"), total("poolwatch_pool_connections_closed_total")
        seen = world.postgres.connections()
        last.append(dict(taken=taken, returned=returned, held=held, live=live, opened=opened, closed=closed, seen=seen))
        return taken == returned + held and opened - closed == live == seen and taken > 0

    last = []
    until(lambda: f"checkouts, returns and connections add up: {last[-1]}", agree, 10, 0.2)


def check_bounds_under_siege(world):
    """While 200 clients fight for it, no pool ever shows or has more than size + overflow."""
    sidecar = world.sidecar()
    run = pgbench(sidecar, world.scratch / "slow.sql", "-c", "200", "-j", "2", "-T", "5")
    most, waited = 0, 0
    while run.poll() is None:
        # Seen first: the pool may be made between the two looks.
        seen = world.postgres.connections()
        figures = sidecar.figures()
        limits = figures.each("db_client_connection_max")
        for pool, limit in limits.items():
            states = {state: figures.sum("db_client_connection_count", **{POOL: pool, "db_client_connection_state": state}) for state in ("idle", "used")}
            assert all(0 <= value <= limit for value in states.values()) and sum(states.values()) <= limit, (pool, limit, states)
            most = max(most, states["used"])
        waited = max(waited, figures.sum("db_client_connection_pending_requests"))
        assert seen <= sum(limits.values()), f"PostgreSQL sees {seen} connections, the pools may have {limits}"
    out, err = run.communicate()
    assert run.returncode == 0, err[-1500:]
    assert most == 35 and waited > 0, f"no siege: at most {most} connections used, {waited} waited"
    assert processed(out) > 1000


def check_promtool(world):
    """promtool has one finding: OpenTelemetry's name ends in `_count` and is a gauge."""
    _, text = world.sidecar().get("/metrics")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    findings = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert len(findings) == 1 and findings[0].startswith("db_client_connection_count ") and "_count" in findings[0], findings


def check_prometheus(world):
    """A real Prometheus scrapes poolwatch, and every series it stored equals what /metrics says."""
    sidecar = world.sidecar()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="real-prometheus-"))
    port = free_port()
    (folder / "prometheus.yml").write_text(json.dumps({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "poolwatch", "static_configs": [{"targets": [sidecar.http.removeprefix("http://")]}]}]}))
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log, env=environment())

    def ask(query):
        address = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(address, timeout=5) as answer:
            return json.load(answer)["data"]["result"]

    def stored():
        series = {}
        for result in ask('{job="poolwatch"}'):
            labels = {key: value for key, value in result["metric"].items() if key not in ("__name__", "job", "instance")}
            series[(result["metric"]["__name__"], tuple(sorted(labels.items())))] = float(result["value"][1])
        return series

    def differences():
        """Between what was stored and what stands still: figures of the process move with every scrape."""
        first, there, second = sidecar.figures().series, stored(), sidecar.figures().series
        # Prometheus writes a bound as Go does (`1`), where a library may write `1.0`: compare as numbers; an empty label is none.
        def plain(series):
            def label(key, value):
                return (key, str(float(value))) if key == "le" else (key, value)
            return {(name, tuple(label(*pair) for pair in labels if pair[1] != "")): value for (name, labels), value in series.items()}
        first, there, second = plain(first), plain(there), plain(second)
        still = {key: value for key, value in first.items() if second.get(key) == value and not key[0].startswith("process_")}
        assert len(still) > 100, f"only {len(still)} series stand still"
        return [(key, value, there.get(key)) for key, value in still.items() if there.get(key) != value]

    try:
        until("Prometheus scraped poolwatch", lambda: [r for r in ask('up{job="poolwatch"}') if r["value"][1] == "1"], 30)
        run = pgbench(sidecar, world.scratch / "select.sql", "-c", "8", "-j", "2", "-T", "3")
        out, err = run.communicate(timeout=60)
        assert run.returncode == 0, err[-1500:]
        until(lambda: f"Prometheus has every figure of /metrics; it lacks {differences()[:5]}", lambda: not differences(), 15, 0.5)
        rate = ask("rate(poolwatch_transactions_total[1m])")
        assert any(float(result["value"][1]) > 0 for result in rate), rate
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


CHECKS = [check_pgbench_counts, check_connections_add_up, check_bounds_under_siege, check_promtool, check_prometheus]
