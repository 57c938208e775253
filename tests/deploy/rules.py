#!/usr/bin/env python3
"""Checks dashboards/rules: with promtool, against docs/metrics.md and docs/runbooks.md, and that each alert is tested on all sides.

    tests/deploy/rules.py            needs promtool (Debian: prometheus) and PyYAML
"""

import re
import subprocess
import sys

import yaml

import pages
import promql

RULES = pages.ROOT / "dashboards" / "rules"
# What Prometheus itself adds, and what the targets' discovery adds.
OF_PROMETHEUS, TARGET = {"up"}, {"job", "instance", "namespace", "pod", "le"}


def groups(name):
    return yaml.safe_load((RULES / name).read_text())["groups"]


ALERTS = [rule for group in groups("alerts.yml") for rule in group["rules"]]
RECORDED = {rule["record"]: rule["expr"] for group in groups("recording.yml") for rule in group["rules"]}


def promtool():
    """promtool reads the rules, and each alert does in its tests what they say."""
    tests = sorted(str(path) for path in (RULES / "tests").glob("*.yml"))
    assert tests
    for command in (["check", "rules", *map(str, sorted(RULES.glob("*.yml")))], ["test", "rules", *tests]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True)
        assert done.returncode == 0, f"promtool {command[0]} {command[1]}:\n{done.stdout}{done.stderr}"


def queries(text):
    """The expressions in the templates of an annotation: printf's format with its labels as they may be."""
    return [re.sub(r"%s", "x", query) for query in re.findall(r"printf\s+`([a-z][^`%]*(?:%s[^`]*)*)`", text)]


def names_exist():
    """Each series, label and value of a label in the rules is one of docs/metrics.md, or recorded."""
    series, values, checked = pages.series(), pages.values(), 0
    expressions = [(rule["alert"], rule["expr"]) for rule in ALERTS] + list(RECORDED.items())
    for rule in ALERTS:
        found = queries(rule["annotations"]["description"])
        assert len(found) == rule["annotations"]["description"].count("| query }}"), f"{rule['alert']}: a query that is not seen here"
        expressions += [(f"{rule['alert']}'s description", query) for query in found]
    for where, expression in expressions:
        used, labels = promql.names(expression)
        assert used, f"{where} names no series: {expression}"
        allowed = set(TARGET) | {"server"}
        for name, matchers in used:
            if name in OF_PROMETHEUS or name in RECORDED:
                allowed |= {"db_client_connection_pool_name"}
                continue
            assert name in series, f"{where}: {name} is not in docs/metrics.md"
            allowed |= series[name]
            for label, (operator, value) in matchers.items():
                assert label in series[name] | TARGET, f"{where}: {name} has no label {label}"
                known = values.get((re.sub(r"_(bucket|sum|count)$", "", name), label)) or values.get((name, label))
                for word in value.split("|") if known and "~" in operator else [value] if known else []:
                    assert word in known, f"{where}: {name} never has {label}={word}"
            checked += 1
        assert labels <= allowed, f"{where}: no series has {labels - allowed}"
    assert checked > 50, f"only {checked} series were looked at"


def level(name, expression):
    """A recorded name says at which level it is, of what, and what was done."""
    parts = name.split(":")
    assert len(parts) == 3 and all(parts), f"{name} is not level:metric:operations"
    assert parts[0] in ("instance_pool", "host"), f"{name}: a level that recording.yml does not explain"
    if parts[0] == "host":
        assert "sum by (server)" in expression
    else:
        assert not re.search(r"\bby \(", expression), f"{name}: `by` would drop what the target is called"


def runbooks():
    """Each alert says how bad, what, with figures, and where to read on; there, the section has all three parts."""
    sections, anchors = pages.sections("runbooks.md"), set()
    for rule in ALERTS:
        name, notes = rule["alert"], rule["annotations"]
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert set(notes) == {"summary", "description", "runbook_url"} and all(notes.values()), name
        assert "{{ $value" in notes["summary"] + notes["description"] or name in ("PoolwatchDown", "PoolwatchAbsent", "PoolwatchPoolPaused", "PoolwatchPostgresDown"), f"{name}: no figure"
        page, anchor = notes["runbook_url"].split("#")
        assert page == "docs/runbooks.md" and anchor == name.lower() and anchor in sections, f"{name}: {notes['runbook_url']}"
        anchors.add(anchor)
        for part in ("**Means**", "**Look at**", "**Do**"):
            assert part in sections[anchor], f"docs/runbooks.md, {name}: no {part}"
    assert set(sections) == anchors, f"sections without an alert: {set(sections) - anchors}"


def runbooks_are_true():
    """Metrics, settings and console commands in docs/runbooks.md exist."""
    text, series, settings = (pages.ROOT / "docs" / "runbooks.md").read_text(), set(pages.series()), pages.settings()
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in series} | series | set(RECORDED)
    for name in re.findall(r"`((?:poolwatch|db_client|process|host:|instance_)[\w:]*)(?:[{*][^`]*)?`", text):
        assert name in families or any(family.startswith(name) for family in families if name.endswith("_")), f"no metric {name}"
    words = r"(?:pool|limits|listen|http|upstream|migrate|admin|shutdown|log)\.\w+"
    named = set(re.findall(rf"`({words})(?: = [^`]*)?`", text)) | set(re.findall(rf"SET ({words}) =", text))
    assert named and named <= settings, f"no settings: {named - settings}"
    console = (pages.ROOT / "docs" / "console.md").read_text()
    for command in re.findall(r"-c '([A-Z_]+(?: [A-Z]+)?)", text):
        words = command.split()
        found = all(re.search(rf"`(?:\w+ )*{word}\b", console) for word in words)
        assert found, f"docs/console.md does not know {command}"


def tested_on_all_sides():
    """Of each alert the tests hold that it fires, is silent before, recovers, and stays silent near by."""
    fires, before, after, near = set(), set(), set(), set()
    for path in (RULES / "tests").glob("*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            cases = test["alert_rule_test"]
            fired = [bool(case["exp_alerts"]) for case in cases]
            name = cases[0]["alertname"]
            if not any(fired):
                near.add(name)
                continue
            fires.add(name)
            first, last = fired.index(True), len(fired) - 1 - fired[::-1].index(True)
            before |= {name} if first > 0 else set()
            after |= {name} if last < len(fired) - 1 else set()
            for case in cases:
                for alert in case["exp_alerts"]:
                    assert alert["exp_annotations"]["description"], name
    wanted = {rule["alert"] for rule in ALERTS}
    for what, found in (("fires", fires), ("is silent before", before), ("recovers", after), ("is silent near by", near)):
        assert found == wanted, f"no test that it {what}: {wanted - found}; no such alert: {found - wanted}"


def planted():
    """The checks above find what they are for."""
    used, labels = promql.names('sum by (pod) (rate(no_such_total{a="b"}[5m])) / on (job) other_thing > 1e3 * 0.5')
    assert used == [("no_such_total", {"a": ("=", "b")}), ("other_thing", {})] and labels == {"pod", "job"}, (used, labels)
    assert queries("{{ with printf `max(foo{a=\"%s\"})` $x | query }}{{ $value | printf `%.0f` }}") == ['max(foo{a="x"})']


def main():
    checks = (planted, promtool, names_exist, lambda: [level(*rule) for rule in RECORDED.items()], runbooks, runbooks_are_true, tested_on_all_sides)
    failed = 0
    for check in checks:
        try:
            check()
        except AssertionError as error:
            failed += 1
            print(f"FAILED  {error}")
    print(f"{len(ALERTS)} alerts, {len(RECORDED)} recording rules")
    print(f"rules: {len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
