#!/usr/bin/env python3
"""Checks what people deploy poolwatch with, each file by the program that will read it.

    tests/deploy/run.py --binary target/release/poolwatch              all checks
    tests/deploy/run.py --binary target/release/poolwatch --only compose_load

Needs root, PostgreSQL with pgbench, Prometheus, Alertmanager (amtool), systemd (systemd-analyze) and the packages of requirements.txt beside this
file; `.ci/run tools deploy` makes all that. The alerts have a check of their own, rules.py.
"""

import argparse
import pathlib
import sys
import time
import traceback

import pages

sys.path.insert(0, str(pages.ROOT / "tests" / "real"))

import compose  # noqa: E402 (these import the harness of tests/real)
import dashboards  # noqa: E402
import image  # noqa: E402
import kubernetes  # noqa: E402
import units  # noqa: E402

PARTS = (compose, kubernetes, units, image, dashboards)


class World:
    """What a check may use: the program, and a folder for logs and scratch files."""

    def __init__(self, binary, out):
        self.binary, self.out = str(pathlib.Path(binary).resolve()), pathlib.Path(out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the program to check")
    parser.add_argument("--only", help="names of checks, separated by commas")
    parser.add_argument("--skip", default="", help="names of checks, separated by commas")
    parser.add_argument("--out", default=".ci/out/deploy", help="folder for logs")
    arguments = parser.parse_args()
    checks = {check.__name__.removeprefix("check_"): check for part in PARTS for check in part.CHECKS}
    wanted = arguments.only.split(",") if arguments.only else list(checks)
    wanted = [name for name in wanted if name not in arguments.skip.split(",")]
    unknown = [name for name in wanted if name not in checks]
    if unknown:
        parser.error(f"no such check: {', '.join(unknown)}; there are: {', '.join(checks)}")
    world, failed = World(arguments.binary, arguments.out), []
    for name in wanted:
        begin, verdict = time.monotonic(), "ok"
        try:
            checks[name](world)
        except Exception:  # a check that breaks in any way has failed; the others still run
            verdict = "FAILED"
            failed.append(name)
            traceback.print_exc(file=sys.stdout)
        print(f"{name:28} {verdict:7} {time.monotonic() - begin:6.1f}s", flush=True)
    print(f"deploy: {len(wanted) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
