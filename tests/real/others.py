"""Drivers of other languages: node-postgres, sqlx and tokio-postgres, JDBC, on every road (routes.py).

Each is a program beside this file that connects where libpq's variables say and prints what it saw, a JSON pair (label, value)
a line. `.ci/run tools` puts what they need into .ci/cache.
"""

import json
import os
import pathlib
import subprocess

from harness import environment
from routes import CLIENTS, Transcript, on_every_road, shared_by

HERE = pathlib.Path(__file__).parent
CACHE = HERE.parent.parent / ".ci" / "cache"
JDBC = "/usr/share/java/postgresql.jar"


def program(route, *command, **more):
    """Runs a program on a road; the transcript it prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=HERE,
                          env=environment(**route.libpq(), CLIENTS=str(CLIENTS), TZ="UTC", **more))
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {(done.stdout[-500:] + done.stderr)[-3000:]}"
    seen = Transcript()
    for line in done.stdout.splitlines():
        seen.note(*json.loads(line))
    return seen


def check_node_postgres(world):
    """node-postgres: names, cursors, streams left early, its pool, LISTEN; cancelled and terminated in the middle."""
    modules = str(CACHE / "node" / "node_modules")
    on_every_road(world, lambda route: program(route, "node", "node/workload.js", NODE_PATH=modules), clients=CLIENTS + 3, servers=shared_by(CLIENTS + 3))


def jdbc(world, *settings):
    classes = world.scratch / "java"
    if not classes.exists():
        subprocess.run(["javac", "-d", classes, "-cp", JDBC, HERE / "java" / "Workload.java"], check=True, timeout=60)
    on_every_road(world, lambda route: program(route, "java", "-XX:TieredStopAtLevel=1", "-cp", f"{JDBC}:{classes}", "Workload", *settings), servers=shared_by(CLIENTS))


def check_jdbc(world):
    """JDBC as it comes: a statement gets a name when it is run the fifth time, and binary transfer then."""
    jdbc(world, "prepareThreshold=5")


def check_jdbc_names_at_once(world):
    """JDBC with a name for every statement, savepoints of its own around each (autosave), and all in binary where it can."""
    jdbc(world, "prepareThreshold=1", "autosave=conservative", "binaryTransfer=true")


def check_jdbc_forces_binary(world):
    """JDBC with prepareThreshold=-1: it describes each statement, so that even the first answer is binary."""
    jdbc(world, "prepareThreshold=-1", "reWriteBatchedInserts=true", "assumeMinServerVersion=15")


def rust(world, client):
    binary = CACHE / "real-rust" / "debug" / "poolwatch-real-rust"
    on_every_road(world, lambda route: program(route, str(binary), client), servers=shared_by(CLIENTS))


def check_sqlx(world):
    """sqlx: its pool, its statement cache, transactions dropped half-way, COPY, LISTEN."""
    rust(world, "sqlx")


def check_tokio_postgres(world):
    """tokio-postgres: pipelined named statements, portals, COPY, cancel requests; futures dropped half-way."""
    rust(world, "tokio-postgres")


CHECKS = [check_node_postgres, check_jdbc, check_jdbc_names_at_once, check_jdbc_forces_binary, check_sqlx, check_tokio_postgres]
