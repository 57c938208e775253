"""One workload on three roads: straight to PostgreSQL, through poolwatch in session mode, through it in transaction mode.

A workload is a function of a `Route`. It returns what it saw, as a list of (label, value) pairs without process ids, OIDs or
times of day. What it saw on the straight road is what it must see on the others; and when all of it has left, poolwatch's
figures must say so, with no error more or less than PostgreSQL wrote into its log.
"""

import dataclasses
import difflib
import json
import re

from harness import POOL, USER, until

# How many clients work at once, and on how few servers in transaction mode.
CLIENTS, SERVERS = 12, 4


def shared_by(clients):
    """The servers for a workload of that many clients."""
    return min(clients, SERVERS)


@dataclasses.dataclass(frozen=True)
class Route:
    """Where a workload connects."""

    name: str
    port: int
    database: str
    password: str
    host: str = "127.0.0.1"
    user: str = USER

    def url(self, scheme="postgresql"):
        return f"{scheme}://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    def libpq(self):
        """The environment for programs that read libpq's variables."""
        return dict(PGHOST=self.host, PGPORT=str(self.port), PGUSER=self.user, PGPASSWORD=self.password, PGDATABASE=self.database)


class Transcript(list):
    """What a workload saw, in an order of its own choice."""

    def note(self, label, value):
        self.append((label, json.loads(json.dumps(value, default=str, sort_keys=True))))

    def lines(self):
        """A line for each thing seen; of a list one for each element, so that a difference is found in it."""
        return [f"{label} [{place}]: {json.dumps(part, sort_keys=True)}" for label, value in self
                for place, part in enumerate(value if isinstance(value, list) else [value])]


def on_every_road(world, workload, clients=CLIENTS, servers=SERVERS, **settings):
    """Runs `workload` on each road and compares; `clients` is the most connections it has open at once."""
    expected, errors = run(world, workload, direct(world))
    assert len(expected) > 3, f"the workload saw next to nothing: {expected}"
    problems = []
    for mode, size in (("session", clients), ("transaction", servers)):
        sidecar = world.sidecar(POOLWATCH_POOL__MODE=mode, POOLWATCH_POOL__SIZE=str(size), POOLWATCH_POOL__MAX_OVERFLOW="0",
                                POOLWATCH_POOL__TIMEOUT="20s", **settings)
        try:
            seen, caused = run(world, workload, through(world, sidecar, mode))
            compare(expected, seen)
            assert as_told(caused) == as_told(errors), f"PostgreSQL reported {dict(caused)}, on the straight road {dict(errors)}"
            settled(sidecar, errors)
            assert sidecar.stop() == 0, f"poolwatch ended with {sidecar.process.returncode}"
            quiet(sidecar)
        except Exception as error:  # the other mode still tells something
            problems.append(f"{mode} mode: {type(error).__name__}: {error}")
            sidecar.close()
    assert not problems, "\n".join(problems)


def as_told(errors):
    """Errors as clients see them. Where the cached plan is another server's, poolwatch has PostgreSQL refuse a statement that is not
    there (26000) and tells the client what PostgreSQL says of such a plan (0A000); the log has the former."""
    told = {state: count for state, count in errors.items() if state not in ("26000", "0A000")}
    told["0A000 or 26000"] = errors["26000"] + errors["0A000"]
    return told


def direct(world):
    return Route("directly", world.postgres.port, fresh_database(world, "directly"), world.postgres.password)


def through(world, sidecar, mode):
    return Route(mode, sidecar.port, fresh_database(world, mode), world.postgres.password)


def fresh_database(world, road):
    """A database that nobody used before: what one road leaves behind, the next must not find."""
    world.databases += 1
    name = f"road_{world.databases}_{road}"
    world.postgres.query(f"CREATE DATABASE {name}")
    return name


def run(world, workload, route):
    """What the workload saw, and the errors that PostgreSQL reported meanwhile."""
    begin = world.postgres.log_end()
    seen = workload(route)
    return list(seen), world.postgres.errors(begin)


def compare(expected, seen):
    before, after = Transcript(expected).lines(), Transcript(seen).lines()
    if before != after:
        changes = [line for line in difflib.unified_diff(before, after, "directly", "through poolwatch", n=0, lineterm="")]
        raise AssertionError("not what is seen directly:\n" + "\n".join(line[:400] for line in changes[:24]))


def settled(sidecar, errors):
    """Nothing is held or waited for, what was opened and not closed is alive, and the errors are those of `errors`, by SQLSTATE, if given."""
    def at_rest():
        figures = sidecar.figures()
        users = {pool for pool in figures.each("db_client_connection_max") if pool != "control"}
        def total(name, **labels):
            return sum(figures.sum(name, **{POOL: pool}, **labels) for pool in users)
        state.update(
            clients=figures.sum("poolwatch_clients"), used=total("db_client_connection_count", db_client_connection_state="used"),
            waiting=total("db_client_connection_pending_requests"), pinned=total("poolwatch_pinned_sessions"),
            connecting=total("poolwatch_pool_connecting"), bugs=total("poolwatch_pool_bugs_total"),
            timeouts=total("db_client_connection_timeouts_total"))
        state["opened - closed - live"] = (total("poolwatch_pool_connections_opened_total") - total("poolwatch_pool_connections_closed_total")
                                           - total("db_client_connection_count"))
        return not any(state.values())

    state = {}
    until(lambda: f"poolwatch is at rest: {state}", at_rest, 10)
    if errors is None:
        return
    counted = {}
    for (name, labels), value in sidecar.figures().series.items():
        labels = dict(labels)
        if name == "poolwatch_errors_total" and value:
            counted[labels["class"], labels["sqlstate_class"]] = int(value)
    told = {}
    for state, count in errors.items():
        # An unknown database or user is found out when a server is opened.
        key = "connect" if state[:2] in ("3D", "28") else "query", state[:2]
        told[key] = told.get(key, 0) + count
    assert counted == told, f"poolwatch counted the errors {counted}, PostgreSQL reported {told}"


def quiet(sidecar):
    """No panic in the log, and nothing that is an error of poolwatch's own."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", sidecar.log.read_text())
    bad = [line for line in text.splitlines() if "panicked" in line or re.search(r"^\S+\s+ERROR\b", line)]
    assert not bad, "\n".join(bad[:10])
