"""The drivers' own test suites, as their authors ship them: what passes directly must pass through poolwatch.

What fails directly (it needs a server of its own, say) is not counted. `suites/<driver>.txt` tells of each exception why:
- `differs`: fails in transaction mode. One that passes has to leave the list.
- `sometimes`: fails in transaction mode when chance wants it.
- `unstable`: fails directly too now and then, so it is compared nowhere.
In session mode there are no others.
"""

import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree

from harness import Postgres, Sidecar, environment
from others import CACHE, HERE
from routes import quiet, settled

# Connections of pools in these suites: 20 and a few.
SERVERS = 40

ASYNCPG = """
test_cache_invalidation test_cancellation test_codecs test_copy test_cursor test_exceptions test_execute test_introspection test_listeners
test_pool test_prepare test_timeout test_transaction
""".split()
KINDS = ("differs", "sometimes", "unstable")
# Takes by far the longest of all, for 65,535 parameters that others of its kind send too.
PG8000_LONG = ["test/native/test_query.py::test_max_parameters"]


class Suite:
    """One driver's suite, unpacked from what its authors released, and a PostgreSQL with the user that it wants."""

    def __init__(self, world, driver, user, extensions=(), plugins=()):
        self.world, self.driver, self.user = world, driver, user
        self.plugins = [part for plugin in plugins for part in ("-p", plugin)]
        archives = list((CACHE / "suites").glob(f"{driver}-*.tar.gz"))
        assert len(archives) == 1, f"not one release of {driver} in .ci/cache/suites: {archives} (see .ci/run tools)"
        self.folder = world.scratch / f"suite-{driver}"
        with tarfile.open(archives[0]) as archive:
            # The driver itself is the installed one.
            tests = [member for member in archive.getmembers() if re.match(r"[^/]+/tests?/", member.name)]
            archive.extractall(self.folder, members=tests, filter="data")
        self.root = next(self.folder.iterdir())
        self.postgres = Postgres(user=user)
        for extension in extensions:
            self.postgres.query(f"CREATE EXTENSION {extension}", database=user)

    def run(self, road, port, arguments):
        """The outcome of each test: passed, failed, error or skipped."""
        report = self.folder / f"{road}.xml"
        log = self.world.out / f"suite-{self.driver}-{road}.log"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *self.plugins, "-o", "addopts=", f"--junit-xml={report}", *arguments]
        with open(log, "wb") as out:
            subprocess.run(command, cwd=self.root, stdout=out, stderr=out, timeout=300, check=False,
                           env=environment(PGHOST="127.0.0.1", PGPORT=str(port), PGUSER=self.user, PGPASSWORD=self.postgres.password, PGDATABASE=self.user,
                                           PYTHONPATH=str(HERE / "suites")))
        outcomes = {}
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            names = {part.tag for part in case} & {"failure", "error", "skipped"}
            outcomes[f"{case.get('classname')}.{case.get('name')}"] = names.pop() if names else "passed"
        return outcomes

    def through(self, mode, arguments):
        settings = dict(POOLWATCH_POOL__MODE=mode, POOLWATCH_POOL__SIZE=str(SERVERS), POOLWATCH_POOL__MAX_OVERFLOW="0", POOLWATCH_POOL__TIMEOUT="20s")
        # The suites make users of their own.
        settings["POOLWATCH_AUTH__QUERY"] = "SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = $1"
        sidecar = Sidecar(self.world.binary, self.postgres.url(self.user), self.world.out, f"suite-{self.driver}-{mode}-poolwatch", **settings)
        self.world.started.append(sidecar)
        outcomes = self.run(mode, sidecar.port, arguments)
        settled(sidecar, None)
        assert sidecar.stop() == 0
        quiet(sidecar)
        return outcomes

    def known(self):
        """The tests of the list, by their kind."""
        lines = (HERE / "suites" / f"{self.driver}.txt").read_text().splitlines()
        entries = [line.split(": ", 2) for line in lines if line and not line.startswith("#")]
        assert all(len(entry) == 3 and entry[0] in KINDS for entry in entries), f"a line is `kind: test: reason`, the kind one of {KINDS}"
        return {kind: {test for found, test, _ in entries if found == kind} for kind in KINDS}

    def compare(self, *arguments):
        try:
            directly = self.run("directly", self.postgres.port, arguments)
            passing = {test for test, outcome in directly.items() if outcome == "passed"}
            assert len(passing) > 100, f"only {len(passing)} tests of {self.driver} pass directly"
            session, transaction = self.through("session", arguments), self.through("transaction", arguments)
        finally:
            self.postgres.close()
        known = self.known()
        passing -= known["unstable"]
        lost = {mode: {test for test in passing if seen.get(test) != "passed"} for mode, seen in (("session", session), ("transaction", transaction))}
        problems = [f"session: {test}" for test in sorted(lost["session"])]
        problems += [f"transaction: {test}" for test in sorted(lost["transaction"] - known["differs"] - known["sometimes"])]
        problems += [f"transaction: passes and is listed as differing: {test}" for test in sorted(known["differs"] - lost["transaction"])]
        assert not problems, "\n".join(problems)


def check_suite_asyncpg(world):
    """asyncpg's own tests, but for those of logging in, of its sources and of things without a server."""
    Suite(world, "asyncpg", "postgres", plugins=["collecting"]).compare(*[f"tests/{name}.py" for name in ASYNCPG])


def check_suite_pg8000(world):
    """pg8000's own tests, but for its benchmarks and those that want other ways to log in."""
    skipped = [part for test in PG8000_LONG for part in ("--deselect", test)]
    Suite(world, "pg8000", "postgres", extensions=["hstore"]).compare("test", "--ignore=test/test_readme.py", "--ignore-glob=*/auth/*", "--ignore-glob=*/test_benchmarks.py", *skipped)


CHECKS = [check_suite_asyncpg, check_suite_pg8000]
