#!/usr/bin/env python3
"""Writes the Grafana dashboards beside it. Edit boards.py and run this; people import the JSON, and a test holds the two equal.

    dashboards/generate.py            writes pool.json, fleet.json, and the rules as Kubernetes wants them
    dashboards/generate.py --check    says whether they are what it would write

Here stand the shapes of Grafana's JSON; what is shown, and why, stands in boards.py.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# The colours of one meaning are the same on all panels.
COLOURS = {
    "db_client_connection_state": {"used": "blue", "idle": "green"},
    "outcome": {"direct": "green", "waited": "yellow", "timeout": "red", "connect_error": "dark-red", "ping_error": "dark-orange", "cancelled": "purple",
                "paused": "super-light-blue", "closed": "text", "ok": "green", "hangup": "orange", "failed": "red", "skipped": "text"},
    "phase": {"wait": "red", "connect": "orange", "execute": "blue", "transfer": "green"},
}
NAMED = {"max": "red", "max_connections": "red", "total": "text", "size": "orange", "p50": "green", "p95": "yellow", "p99": "red", "waiting": "yellow", "oldest wait": "red", "opened": "green"}


def colours(legends):
    """The colours of the series that these legends may give, by what they mean."""
    found = {name: colour for name, colour in NAMED.items() if name in legends}
    for label, meanings in COLOURS.items():
        found |= meanings if f"{{{{{label}}}}}" in legends else {}
    return [{"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]} for name, colour in found.items()]


def steps(*values, colours=("green", "orange", "red")):
    """Thresholds: green below the first value, and so on."""
    return {"mode": "absolute", "steps": [{"color": colour, "value": value} for colour, value in zip(colours, (None, *values))]}


def query(expr, legend="__auto", instant=False, form="time_series", ref="A"):
    return {"refId": ref, "datasource": SOURCE, "editorMode": "code", "expr": expr, "legendFormat": legend, "range": not instant, "instant": instant, "format": form}


def panel(kind, title, question, queries, unit, options, custom=None, **defaults):
    """A panel without its place. The question it answers is its description."""
    for ref, one in zip("ABCDEFGHIJKLMN", queries):
        one["refId"] = ref
    field = {"unit": unit, "custom": custom or {}, "mappings": [], "thresholds": steps(colours=("green",)), "color": {"mode": "palette-classic"}, **defaults}
    overrides = colours([one["legendFormat"] for one in queries]) if kind == "timeseries" else []
    return {"type": kind, "title": title, "description": question, "datasource": SOURCE, "targets": queries,
            "fieldConfig": {"defaults": field, "overrides": overrides}, "options": options}


def graph(title, question, unit, *queries, stack=False, limits=None, minimum=0, right=None, links=()):
    """Lines over time. `limits` names series that are drawn as dashed lines and not stacked; `right` = (series, unit) has an axis of its own."""
    custom = {"drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 25 if stack else 8, "showPoints": "never", "spanNulls": False,
              "stacking": {"mode": "normal" if stack else "none", "group": "A"}, "axisSoftMin": 0}
    made = panel("timeseries", title, question, list(queries), unit,
                 {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}, "tooltip": {"mode": "multi", "sort": "desc"}},
                 custom, links=list(links), **({"min": minimum} if minimum is not None else {}))
    for name in limits or ():
        made["fieldConfig"]["overrides"].append({"matcher": {"id": "byName", "options": name}, "properties": [
            {"id": "custom.stacking", "value": {"mode": "none", "group": "A"}}, {"id": "custom.fillOpacity", "value": 0}, {"id": "custom.lineWidth", "value": 2},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}]})
    if right:
        made["fieldConfig"]["overrides"].append({"matcher": {"id": "byName", "options": right[0]}, "properties": [
            {"id": "unit", "value": right[1]}, {"id": "custom.axisPlacement", "value": "right"}, {"id": "custom.stacking", "value": {"mode": "none", "group": "A"}}]})
    return made


def stat(title, question, unit, expr, thresholds, mappings=(), decimals=None, colour="background", reduce="lastNotNull"):
    """One number, coloured as a whole, for a look from afar."""
    return panel("stat", title, question, [query(expr, "")], unit,
                 {"colorMode": colour, "graphMode": "area" if colour == "background" else "none", "justifyMode": "auto", "orientation": "auto", "textMode": "auto", "wideLayout": True, "showPercentChange": False, "percentChangeColorMode": "standard",
                  "reduceOptions": {"calcs": [reduce], "fields": "", "values": False}},
                 color={"mode": "thresholds"}, thresholds=thresholds, mappings=list(mappings), **({"decimals": decimals} if decimals is not None else {}))


def words(**texts):
    """What values mean: words(up=("1", "green"), DOWN=("0", "red"))."""
    return [{"type": "value", "options": {value: {"text": text, "color": colour, "index": index}}} for index, (text, (value, colour)) in enumerate(texts.items())]


def heatmap(title, question, expr):
    return panel("heatmap", title, question, [query(expr, "{{le}}", form="heatmap")], "short",
                 {"calculate": False, "yAxis": {"unit": "s", "axisPlacement": "left"}, "rowsFrame": {"layout": "auto"}, "cellGap": 1, "showValue": "never",
                  "color": {"mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5, "steps": 64, "reverse": False, "fill": "dark-orange"},
                  "legend": {"show": True}, "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False}, "exemplars": {"color": "rgba(255,0,255,0.7)"},
                  "filterValues": {"le": 1e-9}},
                 {"scaleDistribution": {"type": "linear"}, "hideFrom": {"legend": False, "tooltip": False, "viz": False}})


def table(title, question, columns, hidden, sort, links):
    """A row for each set of labels, a column for each query. columns: [(heading, expr, unit, thresholds or None)]."""
    made = panel("table", title, question, [query(expr, heading, instant=True, form="table") for heading, expr, _, _ in columns], "short",
                 {"frameIndex": 0, "showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": sort, "desc": True}]},
                 {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": True})
    refs = [one["refId"] for one in made["targets"]]
    made["transformations"] = [{"id": "merge", "options": {}},
                               {"id": "organize", "options": {"excludeByName": {name: True for name in ("Time", *hidden)}, "indexByName": {},
                                                              "renameByName": {f"Value #{ref}": column[0] for ref, column in zip(refs, columns)} | {"db_client_connection_pool_name": "pool"}}}]
    for heading, _, unit, thresholds in columns:
        properties = [{"id": "unit", "value": unit}]
        if thresholds:
            properties += [{"id": "thresholds", "value": thresholds}, {"id": "color", "value": {"mode": "thresholds"}},
                           {"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}}]
        made["fieldConfig"]["overrides"].append({"matcher": {"id": "byName", "options": heading}, "properties": properties})
    for column, entry in links.items():
        made["fieldConfig"]["overrides"].append({"matcher": {"id": "byName", "options": column}, "properties": [{"id": "links", "value": entry}]})
    return made


def timeline(title, question, expr, legend, mappings):
    return panel("state-timeline", title, question, [query(expr, legend)], "short",
                 {"showValue": "never", "rowHeight": 0.8, "mergeValues": True, "alignValue": "left", "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                  "tooltip": {"mode": "single", "sort": "none"}},
                 {"lineWidth": 0, "fillOpacity": 80}, mappings=mappings, color={"mode": "thresholds"}, thresholds=steps(1, colours=("red", "green")))


def variable(name, label, expr, all_value=".*", multi=True):
    """A choice that Prometheus offers; `All` matches series that lack the label, too, unless `all_value` is None."""
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": {"qryType": 1, "query": expr, "refId": f"variable-{name}"},
            "refresh": 2, "sort": 1, "multi": multi, "includeAll": True, **({"allValue": all_value} if all_value else {}), "hide": 0, "regex": "",
            "skipUrlSync": False, "options": [], "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}


def source():
    return {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus", "refresh": 1, "regex": "", "hide": 0, "multi": False,
            "includeAll": False, "skipUrlSync": False, "options": []}


def text_variable(name, label, value, description):
    return {"name": name, "label": label, "type": "textbox", "query": value, "description": description, "hide": 0, "skipUrlSync": False,
            "options": [{"selected": True, "text": value, "value": value}], "current": {"selected": True, "text": value, "value": value}}


def annotation(name, colour, expr, title, text):
    # Grafana 12 reads the target, older ones the query beside it.
    return {"name": name, "enable": True, "hide": False, "iconColor": colour, "datasource": SOURCE, "titleFormat": title, "textFormat": text,
            "expr": expr, "step": "30s", "target": {"refId": "Anno", "expr": expr, "interval": "30s"}}


def layout(rows):
    """Panels in rows of 24 columns: [(heading, height, [(width, panel), ...]), ...]. A row of panels that is too long is wrapped."""
    placed, y, number = [], 0, 0
    for heading, height, panels in rows:
        number += 1
        placed.append({"type": "row", "id": number, "title": heading, "collapsed": False, "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}, "panels": []})
        x, y = 0, y + 1
        for width, one in panels:
            if x + width > 24:
                x, y = 0, y + height
            number += 1
            placed.append({"id": number, "gridPos": {"h": height, "w": width, "x": x, "y": y}, **one})
            x += width
        y += height
    return placed


def dashboard(uid, title, description, variables, annotations, links, rows):
    return {"uid": uid, "title": title, "description": description, "tags": ["poolwatch", "postgresql"], "schemaVersion": 41, "version": 1, "editable": True,
            "graphTooltip": 1, "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser", "fiscalYearStartMonth": 0, "liveNow": False, "weekStart": "",
            "links": links, "templating": {"list": variables}, "annotations": {"list": annotations}, "panels": layout(rows), "timepicker": {}}


def prometheus_rule():
    """rules/*.yml as the Prometheus operator's resource. They are taken as text: indented by two more, all groups in one list."""
    groups = []
    for name in ("recording.yml", "alerts.yml"):
        groups += (HERE / "rules" / name).read_text().split("\ngroups:\n", 1)[1].splitlines()
    head = """# Written by dashboards/generate.py from dashboards/rules: change those.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: poolwatch
  labels:
    app.kubernetes.io/name: poolwatch
spec:
  groups:
"""
    return head + "".join(f"  {line}\n" if line else "\n" for line in groups)


def main():
    import boards

    files = {HERE / f"{name}.json": json.dumps(board, indent=1, ensure_ascii=False) + "\n" for name, board in boards.ALL.items()}
    files[HERE.parent / "deploy/kubernetes/base/prometheusrule.yaml"] = prometheus_rule()
    wrong = []
    for path, text in files.items():
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            wrong.append(path.name)
    if wrong:
        sys.exit(f"not what boards.py and the rules say: {', '.join(wrong)}; run dashboards/generate.py")


if __name__ == "__main__":
    main()
