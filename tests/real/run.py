#!/usr/bin/env python3
"""Checks poolwatch with the tools and drivers that people use it with.

    tests/real/run.py --binary target/release/poolwatch            all checks
    tests/real/run.py --binary target/release/poolwatch --only prometheus,promtool

Needs PostgreSQL, Prometheus (with promtool) and the packages of requirements.txt beside this file; `.ci/run tools real` makes all
that. Prints each check with its time; the logs of the servers stay in the folder that --out names.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile
import time
import traceback

import asynchronous
import commands
import consoles
import drivers
import fetching
import figures
import initialise
import migrations
import onward
import others
import outages
import postgres18
import psycopgs
import suites
import terminals
import uris
from harness import Postgres, Sidecar

PARTS = (commands, consoles, uris, fetching, initialise, drivers, figures, outages, postgres18, terminals, asynchronous, psycopgs, migrations, onward, others, suites)


class World:
    """What a check may use: one PostgreSQL for all, and a poolwatch of its own that ends with the check."""

    def __init__(self, binary, out):
        self.binary, self.out = str(pathlib.Path(binary).resolve()), pathlib.Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="real-"))
        self.postgres, self.started, self.check, self.databases = Postgres(), [], "", 0

    def sidecar(self, **settings):
        name = f"{self.check}-{len(self.started)}"
        self.started.append(Sidecar(self.binary, self.postgres.url(), self.out, name, **settings))
        return self.started[-1]

    def end_check(self):
        for sidecar in self.started:
            sidecar.close()
        self.started = []

    def close(self):
        self.end_check()
        self.postgres.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the program to check")
    parser.add_argument("--only", help="names of checks, separated by commas")
    parser.add_argument("--out", default=".ci/out/real", help="folder for logs")
    arguments = parser.parse_args()

    checks = {check.__name__.removeprefix("check_"): check for part in PARTS for check in part.CHECKS}
    wanted = arguments.only.split(",") if arguments.only else list(checks)
    unknown = [name for name in wanted if name not in checks]
    if unknown:
        parser.error(f"no such check: {', '.join(unknown)}; there are: {', '.join(checks)}")

    world, failed = World(arguments.binary, arguments.out), []
    try:
        for name in wanted:
            world.check, begin = name, time.monotonic()
            try:
                checks[name](world)
                verdict = "ok"
            except Exception:  # a check that breaks in any way has failed; the others still run
                verdict = "FAILED"
                failed.append(name)
                traceback.print_exc(file=sys.stdout)
            finally:
                world.end_check()
            print(f"{name:28} {verdict:7} {time.monotonic() - begin:6.1f}s", flush=True)
    finally:
        world.close()
    print(f"real: {len(wanted) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
