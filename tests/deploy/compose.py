"""compose.yaml and dev-compose.yaml: the schema, Docker's own reader, and each service's configuration in the program that reads it."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import yaml

import pages
from harness import Figures, Postgres, environment, free_port, postgres_bin, until

COMPOSE = pages.ROOT / "deploy" / "compose"
FILES = ("compose.yaml", "dev-compose.yaml")


def run(*command, check=True, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, **more)
    assert not check or done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


def tool(name):
    """A program of the environment that runs this."""
    return pathlib.Path(sys.executable).parent / name


def model(name):
    """A Compose file as Docker's own program resolves it: variables, anchors, extended and included files."""
    return json.loads(run(tool("docker-compose"), "-f", pages.ROOT / name, "config", "--format", "json").stdout)


def check_compose_files(world):
    """Both pass the specification's schema and Docker's reader; what is mounted exists, what is waited for can be waited for."""
    for name in (*FILES, "deploy/compose/dev.yaml"):
        run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", pages.ROOT / name)
    for name in FILES:
        services = model(name)["services"]
        wanted = {"secrets", "postgres", "poolwatch", "load", "prometheus", "alertmanager", "grafana"}
        assert set(services) == wanted, f"{name}: {set(services) ^ wanted}"
        for service, settings in services.items():
            assert "@" in settings["image"] or re.search(r":[\w.-]*\d", settings["image"]) or settings["image"] == "poolwatch:dev", f"{service}: an image without a version"
            for mount in settings.get("volumes", []):
                assert mount["type"] == "volume" or pathlib.Path(mount["source"]).exists(), f"{service}: {mount['source']} does not exist"
            for needed, how in settings.get("depends_on", {}).items():
                healthy = how["condition"] == "service_healthy"
                assert healthy == ("healthcheck" in services[needed]), f"{service} waits for {needed}, which tells nobody"
            for port in settings.get("ports", []):
                assert port["host_ip"] == "127.0.0.1", f"{service}: a port that is open to the network"
            for key, value in (settings.get("environment") or {}).items():
                assert not re.search("PASSWORD|SECRET|TOKEN", key) or value.startswith("/run/secrets/"), f"{service}: {key} is no file"
        assert services["poolwatch"]["read_only"] and services["poolwatch"]["cap_drop"] == ["ALL"]
        grace, timeout = services["poolwatch"]["stop_grace_period"], default("shutdown.timeout")
        assert seconds(grace) > seconds(timeout), f"{name}: ended after {grace}, while poolwatch may take {timeout}"
    changed = model("dev-compose.yaml")["services"]["poolwatch"]
    assert changed["environment"]["POOLWATCH_LOG__LEVEL"] == "debug" and changed["pull_policy"] == "build"


def seconds(text):
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


def default(setting):
    """What docs/settings.md gives."""
    row = re.search(rf"^\| `{re.escape(setting)}` .*$", (pages.ROOT / "docs/settings.md").read_text(), re.M)[0]
    return re.split(r"(?<!\\)\|", row)[4].strip(" `")


def check_compose_monitoring(world):
    """promtool reads prometheus.yml with the rules, amtool alertmanager.yml; their names are those of the services; Grafana's files agree."""
    services = model("compose.yaml")["services"]
    with tempfile.TemporaryDirectory() as folder:
        text = (COMPOSE / "prometheus.yml").read_text().replace("/etc/prometheus/rules", str(pages.ROOT / "dashboards" / "rules"))
        copy = pathlib.Path(folder, "prometheus.yml")
        copy.write_text(text)
        said = run("promtool", "check", "config", copy).stdout
        assert re.search(r"SUCCESS: 23 rules found|SUCCESS: \d+ rules found", said), said
    for target in re.findall(r'targets: \["([\w-]+):(\d+)"\]', text):
        assert target[0] == "localhost" or target[0] in services, f"prometheus.yml: no service {target[0]}"
    run("amtool", "check-config", COMPOSE / "alertmanager.yml")
    alerts = {rule["alert"] for group in yaml.safe_load((pages.ROOT / "dashboards/rules/alerts.yml").read_text())["groups"] for rule in group["rules"]}
    for words in re.findall(r'alertname=~?"([^"]+)"', (COMPOSE / "alertmanager.yml").read_text()):
        for word in words.split("|"):
            assert any(re.fullmatch(word, alert) for alert in alerts), f"alertmanager.yml: no alert {word}"
    for labels, receiver in (({"severity": "critical"}, "on-call"), ({"severity": "warning"}, "working-hours")):
        routed = run("amtool", "config", "routes", "test", f"--config.file={COMPOSE / 'alertmanager.yml'}", *(f"{k}={v}" for k, v in labels.items()))
        assert routed.stdout.strip() == receiver, routed.stdout
    source = yaml.safe_load((COMPOSE / "grafana/datasources/prometheus.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090" and source["isDefault"]
    interval = yaml.safe_load(text)["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval, "Grafana's interval is not Prometheus'"
    provider = yaml.safe_load((COMPOSE / "grafana/dashboards/poolwatch.yaml").read_text())["providers"][0]
    mounted = {mount["target"] for mount in services["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounted, "Grafana looks for dashboards where none are mounted"


class ComposePostgres(Postgres):
    """PostgreSQL with compose.yaml's postgresql.conf, and what config/init.sql makes of the files that secrets.sh made."""

    def __init__(self, secrets):
        self.secrets = secrets
        super().__init__(user="postgres")

    def start(self):
        copy = self.folder / "postgresql.conf"
        shutil.copy(COMPOSE / "postgresql.conf", copy)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [self.program("postgres"), "-D", self.data, "-c", f"config_file={copy}", "-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1",
                 "-c", f"unix_socket_directories={self.folder}"],
                stdout=log, stderr=log, cwd=self.folder, env=environment(), start_new_session=True, **self.account)
        until("PostgreSQL accepts connections", lambda: run(postgres_bin("pg_isready"), "-q", "-h", "127.0.0.1", "-p", self.port, check=False).returncode == 0)

    def initialise(self):
        # The files would lie in /run/secrets; the same values by the variables that init.sql takes, too. pgvector is not here.
        values = {f"POSTGRES_{key.upper()}": (self.secrets / "database" / f"poolwatch-{key}").read_text() for key in ("user", "password", "db")}
        script = (pages.ROOT / "config/init.sql").read_text().replace("\\set vector required", "\\set vector optional")
        run(postgres_bin("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-d", self.url("postgres"), input=script, env=environment(**values))


def made_secrets(folder):
    """secrets.sh, run twice: what is there stays."""
    folder.chmod(0o755)
    for name in ("database", "application", "poolwatch", "grafana"):
        (folder / name).mkdir()
    def read():
        run("sh", COMPOSE / "secrets.sh", folder)
        return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    first, second = read(), read()
    assert first == second and len(first) == 8, sorted(first)
    passwords = [value for name, value in first.items() if name.endswith("password")]
    assert all(re.fullmatch(r"[0-9a-f]{48}", password) for password in passwords) and len(set(passwords)) == 3, "passwords are to differ"
    return first


@contextlib.contextmanager
def poolwatch_of_compose(world, secrets, upstream_port):
    """poolwatch with compose.yaml's environment; the ports and PostgreSQL's address are this machine's. (process, port, http port)"""
    settings, ports = dict(model("compose.yaml")["services"]["poolwatch"]["environment"]), (free_port(), free_port())
    for key, port in zip(("POOLWATCH_LISTEN__ADDRESS", "POOLWATCH_HTTP__ADDRESS"), ports):
        settings[key] = settings[key].rsplit(":", 1)[0] + f":{port}"
    url = secrets / "url"
    url.write_text((secrets / "poolwatch/poolwatch_upstream__url").read_text().replace("@postgres:5432", f"@127.0.0.1:{upstream_port}"))
    settings["POOLWATCH_UPSTREAM__URL_FILE"] = str(url)
    token = settings["POOLWATCH_HTTP__READER_TOKEN_FILE"].replace("/run/secrets/", "")
    settings["POOLWATCH_HTTP__READER_TOKEN_FILE"] = str(secrets / "poolwatch" / token)
    with open(world.out / "compose-poolwatch.log", "wb") as log:
        process = subprocess.Popen([world.binary, "serve"], stdout=log, stderr=log, env=environment(**settings))
    try:
        health = model("compose.yaml")["services"]["poolwatch"]["healthcheck"]["test"]
        assert health[:2] == ["CMD", "/usr/local/bin/poolwatch"], health
        until("the health check of compose.yaml is content", lambda: run(world.binary, *health[2:], env=environment(**settings), check=False).returncode == 0)
        yield process, *ports
    finally:
        if process.poll() is None:
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        process.poll() is None and process.kill()


def check_compose_load(world):
    """Secrets are made, PostgreSQL starts and is initialised, poolwatch serves, the load's burst makes clients wait, all end well."""
    import urllib.request

    with tempfile.TemporaryDirectory() as name:
        secrets = pathlib.Path(name)
        made = made_secrets(secrets)
        postgres = ComposePostgres(secrets)
        try:
            postgres.initialise()
            with poolwatch_of_compose(world, secrets, postgres.port) as (process, port, http):
                def scrape():
                    return Figures(urllib.request.urlopen(f"http://127.0.0.1:{http}/metrics", timeout=5).read().decode())
                settings = dict(model("compose.yaml")["services"]["load"]["environment"], PGHOST="127.0.0.1", PGPORT=str(port),
                                PGPASSWORD=made["application/poolwatch-password"], LOAD_BURST_EVERY="1")
                bins = pathlib.Path(postgres_bin("pgbench")).parent
                with open(world.out / "compose-load.log", "wb") as log:
                    load = subprocess.Popen(["bash", COMPOSE / "load.sh"], stdout=log, stderr=log, start_new_session=True,
                                            env=environment(**settings) | {"PATH": f"{bins}:{os.environ['PATH']}"})
                try:
                    until("the load's burst makes clients wait", lambda: scrape().sum("poolwatch_pool_checkouts_total", outcome="waited") > 20, 30)
                    figures = scrape()
                    assert figures.sum("poolwatch_transactions_total") > 100
                    assert figures.sum("poolwatch_errors_total") == 0, "the load meets errors"
                finally:
                    load.send_signal(signal.SIGTERM)
                    ended = load.wait(10)
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(load.pid, signal.SIGKILL)
                assert ended == 0, f"the load ended with {ended}"
                until("no client of the load is left", lambda: scrape().sum("poolwatch_clients") == 0)
                process.terminate()
                assert process.wait(40) == 0
        finally:
            postgres.close()


CHECKS = (check_compose_files, check_compose_monitoring, check_compose_load)
