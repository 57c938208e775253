"""The Grafana dashboards: what they name exists, Grafana's own types accept them, and every query answers in a real Prometheus that watches a load."""

import contextlib
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import pages
import promql
from compose import COMPOSE, run
from harness import Figures, Postgres, Sidecar, environment, free_port, postgres_bin, until

FOLDER = pages.ROOT / "dashboards"
BOARDS = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in ("pool", "fleet")}
# What Prometheus makes, and what the discovery of targets adds.
OF_PROMETHEUS, TARGET = {"up", "ALERTS"}, {"job", "instance", "namespace", "pod", "le", "server"}
OPTIONS = {"timeseries": "timeseries", "stat": "stat", "table": "table", "heatmap": "heatmap", "state-timeline": "statetimeline"}


def panels(board):
    return [panel for panel in BOARDS[board]["panels"] if panel["type"] != "row"]


def expressions(board):
    """(where, expression) of all panels, variables and annotations."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield f"{board}, {panel['title']}, {target['refId']}", target["expr"]
    for variable in BOARDS[board]["templating"]["list"]:
        if variable["type"] == "query":
            yield f"{board}, variable {variable['name']}", variable["query"]["query"]
    for annotation in BOARDS[board]["annotations"]["list"]:
        yield f"{board}, annotation {annotation['name']}", annotation["expr"]


def check_dashboards_committed(world):
    """The JSON that people import is what the generator writes."""
    run(sys.executable, FOLDER / "generate.py", "--check")


def check_dashboards_readable(world):
    """Each panel asks a question, has a unit, and a place of its own; what is used is defined."""
    for board, model in BOARDS.items():
        names, ids, taken = {variable["name"] for variable in model["templating"]["list"]}, set(), {}
        for panel in model["panels"]:
            assert panel["id"] not in ids
            ids.add(panel["id"])
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            for cell in itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])):
                assert cell not in taken, f"{board}: {panel['title']} lies on {taken[cell]}"
                taken[cell] = panel["title"]
        for panel in panels(board):
            assert "?" in panel["description"], f"{board}, {panel['title']}: no question"
            assert panel["fieldConfig"]["defaults"]["unit"] and panel["targets"], panel["title"]
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(model))) - {"__rate_interval", "__field", "__data", "__url_time_range", "__all", "1"}
        assert used <= names, f"{board}: not defined: {used - names}"
        assert names == {name for name in names if f"${name}" in json.dumps(model) or f"${{{name}" in json.dumps(model)}, f"{board}: a variable that nothing uses"


def check_dashboards_names(world):
    """Each metric, label and value of a label is one of docs/metrics.md."""
    series, values, checked = pages.series(), pages.values(), 0
    for board in BOARDS:
        for where, expression in expressions(board):
            text = re.sub(r"label_values\((.*), (\w+)\)$", r"\1 + on (\2) up", expression)
            text = re.sub(r"\$\{?\w+(:\w+)?\}?", "1", re.sub(r"\[\$__rate_interval\]", "[1m]", text))
            used, labels = promql.names(text)
            allowed = set(TARGET)
            for name, matchers in used:
                if name in OF_PROMETHEUS:
                    continue
                assert name in series, f"{where}: {name} is not in docs/metrics.md"
                allowed |= series[name]
                checked += 1
                for label, (operator, value) in matchers.items():
                    assert label in series[name] | TARGET, f"{where}: {name} has no label {label}"
                    for word in value.split("|") if (name, label) in values else []:
                        assert word in values[(name, label)], f"{where}: {name} never has {label}={word}"
            assert labels <= allowed, f"{where}: no series has {labels - allowed}"
    assert checked > 100, f"only {checked} names were looked at"


def check_dashboards_types(world):
    """The TypeScript compiler holds the dashboards against @grafana/schema: the whole, and each kind of panel's options and fields."""
    modules = pages.ROOT / ".ci/cache/node-deploy/node_modules"
    assert modules.is_dir(), f"{modules} is missing: .ci/run tools makes it"
    schema = "@grafana/schema/dist/esm/raw"
    names = {"timeseries": "TimeSeriesPanelCfg", "stat": "StatPanelCfg", "table": "TablePanelCfg", "heatmap": "HeatmapPanelCfg", "state-timeline": "StateTimelinePanelCfg"}
    lines = [f'import type {{ Dashboard, Panel }} from "{schema}/dashboard/x/Dashboard_types.gen";']
    lines += [f'import type * as {names[kind]} from "{schema}/composable/{folder}/panelcfg/x/{names[kind]}_types.gen";' for kind, folder in OPTIONS.items()]
    # JSON has an enum's value where the types want its name.
    lines += ["type Plain<T> = T extends string ? `${T}` : T extends number ? (`${T}` extends `${infer N extends number}` ? N : never) : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;"]
    for board, model in BOARDS.items():
        # Of an annotation, these belong to the data source and not to Grafana's schema.
        lists = [{key: value for key, value in one.items() if key not in ("expr", "step", "target", "titleFormat", "textFormat")} for one in model["annotations"]["list"]]
        lines.append(f"export const {board}: Plain<Dashboard> = {json.dumps(model | {'annotations': {'list': lists}})};")
        for panel in panels(board):
            kind, at = names[panel["type"]], f"{board}{panel['id']}"
            lines.append(f"export const panel_{at}: Plain<Panel> = {json.dumps(panel)};")
            lines.append(f"export const options_{at}: Plain<{kind}.Options> = {json.dumps(panel['options'])};")
            if panel["type"] not in ("stat",):
                lines.append(f"export const custom_{at}: Plain<{kind}.FieldConfig> = {json.dumps(panel['fieldConfig']['defaults']['custom'])};")
    # Proves that the types are read: what is wrong has to be found.
    lines += ["// @ts-expect-error", "export const wrong: Plain<TimeSeriesPanelCfg.Options>['tooltip']['mode'] = 'everything';",
              "// @ts-expect-error", "export const unknown: Plain<Panel> = { type: 'stat', no_such_field: 1 };"]
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "node_modules").symlink_to(modules)
        (pathlib.Path(folder) / "boards.ts").write_text("\n".join(lines))
        run("node", modules / "typescript/bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022",
            "boards.ts", cwd=folder)


class Prometheus:
    """A real one, which scrapes `targets` = [(address, labels)] every second, with the rules."""

    def __init__(self, world, targets):
        self.folder, self.port = pathlib.Path(tempfile.mkdtemp(prefix="prometheus-")), free_port()
        config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(FOLDER / "rules" / "*.yml")],
                  "scrape_configs": [{"job_name": "poolwatch", "static_configs": [{"targets": [address], "labels": labels} for address, labels in targets]}]}
        (self.folder / "prometheus.yml").write_text(json.dumps(config))
        with open(world.out / "dashboards-prometheus.log", "wb") as log:
            self.process = subprocess.Popen(["prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
                                             f"--web.listen-address=127.0.0.1:{self.port}"], stdout=log, stderr=log)
        until("Prometheus is ready", lambda: urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2).status == 200, 30)

    def get(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            answer = json.load(urllib.request.urlopen(url, timeout=10))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert answer["status"] == "success", answer
        return answer["data"]

    def close(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.poll() is None and self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Grafana:
    """What Grafana does with a dashboard: fills in its variables, one after the other, and asks Prometheus."""

    def __init__(self, prometheus, board, begin, end):
        self.prometheus, self.begin, self.end = prometheus, begin, end
        self.values, self.choices = {"__rate_interval": "4s"}, {}
        for variable in BOARDS[board]["templating"]["list"]:
            if variable["type"] == "query":
                offered = self.choices[variable["name"]] = self.offered(variable)
                # All: the value that is given for it, else each choice, quoted for a regular expression within a string.
                quoted = "(" + "|".join(re.sub(r"([\\^$.|?*+()\[\]{}])", r"\\\\\1", choice) for choice in offered) + ")"
                self.values[variable["name"]] = variable.get("allValue") or quoted
            elif variable["type"] == "textbox":
                self.values[variable["name"]] = variable["query"]

    def offered(self, variable):
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        found = self.prometheus.get(f"label/{match[2]}/values", **{"match[]": self.filled(match[1]), "start": self.begin, "end": self.end})
        assert found, f"variable {variable['name']} has no choices"
        return found

    def filled(self, expression):
        text = re.sub(r"\$\{?([A-Za-z_]\w*)(?::\w+)?\}?", lambda found: self.values[found[1]], expression)
        assert "$" not in text.replace('"$1"', ""), text
        return text

    def range(self, expression, step=1):
        return self.prometheus.get("query_range", query=self.filled(expression), start=self.begin, end=self.end, step=step)["result"]

    def instant(self, expression):
        return self.prometheus.get("query", query=self.filled(expression), time=self.end)["result"]

    def data(self, target):
        return self.instant(target["expr"]) if target["instant"] else self.range(target["expr"])


@contextlib.contextmanager
def watched_load(world, loaded=14):
    """Prometheus over two sidecars: one with a load that overfills its pool, forgets to commit and pins, and whose PostgreSQL is restarted; one at rest.

    Yields (prometheus, busy sidecar, begin, end)."""
    postgres, started, processes, prometheus = Postgres(), [], [], None
    scripts = pathlib.Path(tempfile.mkdtemp(prefix="scripts-"))
    (scripts / "20260101000000_later.up.sql").write_text("SELECT 1;\n")
    settings = dict(POOLWATCH_POOL__SIZE="6", POOLWATCH_POOL__MAX_OVERFLOW="2", POOLWATCH_POOL__TIMEOUT="2s", POOLWATCH_LIMITS__TRANSACTION_TIME="10s", POOLWATCH_POOL__PRE_PING_AFTER="0s",
                    POOLWATCH_MIGRATE__SOURCE=str(scripts), POOLWATCH_MIGRATE__WATCH="1s")
    try:
        for name in ("busy", "idle"):
            started.append(Sidecar(world.binary, postgres.url(), world.out, f"dashboards-{name}", **settings))
        busy = started[0]
        prometheus = Prometheus(world, [(sidecar.http.removeprefix("http://"), {"namespace": "shop", "pod": f"api-{index}"}) for index, sidecar in enumerate(started)])
        for sidecar in started:
            sidecar.psql("-c", "SELECT 1")
        # A rate needs the value from which it counts: the load begins when both pools have been scraped.
        until("Prometheus has both pools", lambda: len(prometheus.get("query", query='db_client_connection_max{db_client_connection_pool_name!="control"}')["result"]) == 2, 30)
        begin = time.time()
        bins = pathlib.Path(postgres_bin("pgbench")).parent
        with open(world.out / "dashboards-load.log", "wb") as log:
            load = subprocess.Popen(["bash", COMPOSE / "load.sh"], stdout=log, stderr=log, start_new_session=True,
                                    env=environment(PGHOST="127.0.0.1", PGPORT=str(busy.port), PGUSER="app", PGDATABASE="app", PGPASSWORD=busy.password, LOAD_BURST_EVERY="3")
                                    | {"PATH": f"{bins}:{os.environ['PATH']}"})
        processes.append(load)
        psql = [postgres_bin("psql"), "-XAtq", "-d", busy.dsn()]
        quiet = dict(start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), text=True)
        # One listens; one forgets to commit, until limits.transaction_time.
        for words in ("LISTEN news;\n", "BEGIN; SELECT 1;\n"):
            processes.append(subprocess.Popen(psql, stdin=subprocess.PIPE, **quiet))
            processes[-1].stdin.write(words)
            processes[-1].stdin.flush()
        time.sleep(loaded)
        postgres.stop()
        until("poolwatch sees that PostgreSQL is gone", lambda: busy.figures().sum("poolwatch_upstream_up") == 0, 30)
        time.sleep(1.5)
        postgres.start()
        until("poolwatch sees that PostgreSQL is back", lambda: busy.figures().sum("poolwatch_upstream_up") == 1, 30)
        for _ in range(3):
            busy.psql("-c", "SELECT 1", check=False)
            time.sleep(1)
        end_all(processes)
        # What a rate over 4 s has still to show of the end.
        time.sleep(5)
        yield prometheus, busy, begin, time.time()
    finally:
        end_all(processes)
        for sidecar in started:
            sidecar.close()
        if prometheus:
            prometheus.close()
        postgres.close()
        shutil.rmtree(scripts, ignore_errors=True)


def end_all(processes):
    """With all that they started, so that nothing of the load goes on."""
    while processes:
        process = processes.pop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def check_dashboards_data(world):
    """Every query of every panel and variable returns data, and the panels show what the load did."""
    with watched_load(world) as (prometheus, busy, begin, end):
        shown = {}
        for board in BOARDS:
            grafana = Grafana(prometheus, board, begin, end)
            for panel in panels(board):
                for target in panel["targets"]:
                    result = grafana.data(target)
                    numbers = [float(value) for series in result for _, value in series.get("values", [series.get("value")])]
                    assert any(map(math.isfinite, numbers)), f"{board}, {panel['title']}, {target['refId']}: no data: {grafana.filled(target['expr'])}"
                    shown[(board, panel["title"], target["refId"])] = result
            for annotation in BOARDS[board]["annotations"]["list"]:
                grafana.range(annotation["expr"])
            assert len(grafana.choices["instance"]) == 2 and grafana.choices["pool"] == [f"app@127.0.0.1:{busy_port(busy)}/app"], grafana.choices
            assert "app" in grafana.choices["database"] and grafana.choices["pod"] == ["api-0", "api-1"], grafana.choices
        (world.out / "dashboards.json").write_text(json.dumps({"begin": begin, "end": end, "shown": [[*key, value] for key, value in shown.items()]}))
        truthful(shown, busy.figures())


def busy_port(busy):
    """PostgreSQL's port, as the name of the pool has it."""
    pool = next(name for name in busy.figures().each("db_client_connection_max") if name != "control")
    return re.search(r":(\d+)/", pool)[1]


def points(result, **labels):
    return [float(value) for series in result if labels.items() <= series["metric"].items() for _, value in series["values"] if math.isfinite(float(value))]


def truthful(shown, figures):
    """The panels against poolwatch's own counters at the end: rates add up to them, peaks are those of the pool's bounds."""
    transactions = sum(points(shown["pool", "Transactions and queries", "A"]))
    assert abs(transactions / figures.sum("poolwatch_transactions_total") - 1) < 0.1, f"{transactions} transactions by the panel, {figures.sum('poolwatch_transactions_total')} by the counter"
    opened = sum(points(shown["pool", "Opened, and closed by reason", "A"]))
    assert opened > 6, f"{opened} connections opened by the panel"
    assert max(points(shown["pool", "Connections", "A"], db_client_connection_state="used")) == 8, "the busy pool was not full"
    assert max(points(shown["pool", "Waiting", "A"])) > 10 and max(points(shown["pool", "Checkouts by outcome", "A"], outcome="timeout")) > 1, "the exhaustion does not show"
    assert max(points(shown["pool", "Turned away by a limit", "A"], limit="transaction_time")) > 0, "the limit does not show"
    assert 0 in points(shown["pool", "PostgreSQL answers", "A"]), "the restart does not show"
    assert max(points(shown["pool", "Time that a connection is held", "D"])) > 5, "the forgotten transaction does not show"
    assert max(points(shown["pool", "Pinned sessions by reason", "A"], reason="listen")) == 1, "the pinned session does not show"
    assert max(points(shown["pool", "Time to get a connection", "C"])) > 0.2, "waits do not show"
    assert max(points(shown["pool", "Migrations", "A"], tool="sqlx")) == 1, "the pending migration does not show"
    worst = {series["metric"]["pod"]: float(series["value"][1]) for series in shown["fleet", "Pools", "A"]}
    assert worst["api-0"] > 0.1, f"the busy pool does not stand out: {worst}"
    assert statistics.median(points(shown["fleet", "Connections by PostgreSQL server", "B"])) == 100


CHECKS = (check_dashboards_committed, check_dashboards_readable, check_dashboards_names, check_dashboards_types, check_dashboards_data)
