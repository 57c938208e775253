"""What the checks with real tools share: a throw-away PostgreSQL, poolwatch in front of it, and readings of its figures.

Every process is started here, known by its pid and ended here; ports are chosen by the system.
"""

import collections
import contextlib
import os
import pathlib
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

USER, DATABASE = "app", "app"
POOL = "db_client_connection_pool_name"
# Never taken from whoever runs the checks: these would point poolwatch or a client elsewhere.
FOREIGN = ("POOLWATCH_", "LETTA_", "PG", "DATABASE_URL")


def environment(**more):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    return kept | more


def until(what, probe, limit=15.0, pause=0.02):
    """The first true answer of `probe`; an error naming `what` (a text, or a call that gives it) when none came in `limit` seconds."""
    end, last = time.monotonic() + limit, None
    while time.monotonic() < end:
        try:
            last = probe()
            if last:
                return last
        except (OSError, subprocess.SubprocessError) as error:
            last = error
        time.sleep(pause)
    raise AssertionError(f"not within {limit} s: {what() if callable(what) else what} (last answer: {last!r})")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def postgres_bin(name):
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[4]))
    path = str(found[-1]) if found else shutil.which(name)
    assert path, f"{name} is not installed"
    return path


def children(pid):
    """All processes below `pid`, from /proc."""
    below, parents = [], {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
                parents.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    todo = [pid]
    while todo:
        found = parents.get(todo.pop(), [])
        below += found
        todo += found
    return below


class Postgres:
    """A PostgreSQL server of its own: SCRAM over TCP, 100 connections, nothing flushed to disk."""

    def __init__(self, max_connections=100, user=USER, program=postgres_bin, authentication="scram-sha-256"):
        self.user, self.password, self.program = user, secrets.token_hex(8), program
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="real-pg-"))
        self.data, self.port, self.process = self.folder / "data", free_port(), None
        self.max_connections = max_connections
        # PostgreSQL refuses to run as root.
        self.account = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self.account = dict(user=entry.pw_uid, group=entry.pw_gid, extra_groups=[])
        secret = self.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        subprocess.run(
            [self.program("initdb"), "-D", self.data, "-U", user, "-A", authentication, "--pwfile", secret, "-N", "-E", "UTF8"],
            check=True, stdout=subprocess.DEVNULL, cwd=self.folder, env=environment(), **self.account)
        self.start()
        self.query(f"CREATE DATABASE {DATABASE}", database="postgres")

    def start(self):
        settings = dict(listen_addresses="127.0.0.1", port=self.port, unix_socket_directories=self.folder, fsync="off",
                        max_connections=self.max_connections, shared_buffers="64MB", log_min_messages="error",
                        log_min_error_statement="panic", log_error_verbosity="terse", log_line_prefix="%e ", lc_messages="C")
        arguments = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen([self.program("postgres"), "-D", self.data, *arguments], stdout=log, stderr=log,
                                        cwd=self.folder, env=environment(), start_new_session=True, **self.account)
        log.close()
        until("PostgreSQL accepts connections", lambda: subprocess.run(
            [postgres_bin("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode == 0)

    def stop(self):
        """The fast shutdown: sessions are cut off."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)

    def all_pids(self):
        return [self.process.pid, *children(self.process.pid)]

    @contextlib.contextmanager
    def frozen(self):
        """Every process stopped: connections stay open and nothing answers, as behind a dead link."""
        pids = self.all_pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def url(self, database=DATABASE):
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def query(self, sql, database=DATABASE):
        """Asked directly, not through poolwatch: the independent count."""
        done = subprocess.run([postgres_bin("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", sql],
                              check=True, capture_output=True, text=True, env=environment(), timeout=30)
        return done.stdout.strip()

    def errors(self, since=0):
        """How often each SQLSTATE was reported, by the server's own log from the byte `since` on."""
        with open(self.folder / "log", "rb") as log:
            log.seek(since)
            lines = log.read().decode(errors="replace").splitlines()
        return collections.Counter(found[1] for line in lines if (found := re.match(r"([0-9A-Z]{5}) (?:ERROR|FATAL):", line)))

    def log_end(self):
        return (self.folder / "log").stat().st_size

    def connections(self):
        """Client connections to the database, without the one that asks."""
        return int(self.query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                              "AND pid <> pg_backend_pid()"))

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Figures:
    """One scrape, read by Prometheus' own Python parser."""

    def __init__(self, text):
        self.series = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.series[(sample.name, tuple(sorted(sample.labels.items())))] = sample.value

    def sum(self, name, **labels):
        """The sum over all series of `name` that carry `labels`."""
        wanted = labels.items()
        return sum(value for (found, having), value in self.series.items() if found == name and wanted <= dict(having).items())

    def each(self, name, **labels):
        wanted = labels.items()
        return {dict(having).get(POOL): value for (found, having), value in self.series.items()
                if found == name and wanted <= dict(having).items()}


class Sidecar:
    """`poolwatch serve` on ports of the system's choice, which it tells in its log."""

    def __init__(self, binary, upstream, out, name, **settings):
        self.log = pathlib.Path(out) / f"{name}.log"
        # Clients log in with the upstream URL's own user and password.
        self.password = urllib.parse.urlsplit(upstream).password
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "serve", "--upstream-url", upstream, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"],
                stderr=log, stdout=log, env=environment(**settings))
        try:
            self.port = int(until("the address of the proxy in the log", lambda: self.address("proxy")).rsplit(":", 1)[1])
            self.http = "http://" + until("the address of http in the log", lambda: self.address("http"))
            until("/readyz answers 200", lambda: self.get("/readyz")[0] == 200)
        except AssertionError as error:
            self.close()
            raise AssertionError(f"{error}\n{self.log.read_text()[-2000:]}") from None

    def address(self, part):
        assert self.process.poll() is None, f"poolwatch ended with {self.process.returncode}: {self.log.read_text()[-2000:]}"
        for line in re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text()).splitlines():
            found = re.search(r"\baddress=\"?([0-9.]+:\d+)", line)
            if found and "listening" in line and re.search(rf"\bpart=\"?{part}\b", line):
                return found[1]
        return None

    def get(self, path, limit=5):
        """Status and body; an HTTP error is an answer too."""
        try:
            with urllib.request.urlopen(self.http + path, timeout=limit) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def figures(self):
        status, text = self.get("/metrics")
        assert status == 200, f"/metrics answered {status}: {text[:300]}"
        return Figures(text)

    def dsn(self, database=DATABASE):
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def psql(self, *arguments, check=True):
        return subprocess.run([postgres_bin("psql"), "-XAtq", "-d", self.dsn(), *arguments], check=check, capture_output=True,
                              text=True, env=environment(), timeout=60)

    def stop(self, limit=40):
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(limit)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def pgbench(sidecar, script, *arguments, limit=120):
    """Starts pgbench with a script of ours, one of SCRIPTS or a file: the built-in ones run statements for setting up that it does not count."""
    if script.name in SCRIPTS:
        script.write_text(script_text(script.name))
    return subprocess.Popen(
        [postgres_bin("pgbench"), "-n", "-h", "127.0.0.1", "-p", str(sidecar.port), "-U", USER, "-f", str(script), *arguments, DATABASE],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(PGPASSWORD=sidecar.password))


SCRIPTS = {
    # Queries a transaction is made of, and its text.
    "select.sql": (1, "\\set k random(1, 1000)\nSELECT :k;\n"),
    "write.sql": (4, "\\set k random(1, 1000)\nBEGIN;\nINSERT INTO bench (k) VALUES (:k);\nSELECT k FROM bench WHERE k = :k LIMIT 1;\nEND;\n"),
    "slow.sql": (1, "SELECT pg_sleep(0.002);\n"),
}


def script_text(name):
    return SCRIPTS[name][1]


def processed(output):
    """What pgbench says it did."""
    found = re.search(r"number of transactions actually processed: (\d+)", output)
    assert found, f"pgbench said nothing of its transactions:\n{output[-1500:]}"
    return int(found[1])
