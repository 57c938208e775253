#!/usr/bin/env python3
"""Draws the dashboards with the data of the last `dashboards_data` check, in their own layout, for people to look at: there is no Grafana in the checks.

    pip install matplotlib && tests/deploy/picture.py pool pool.png        needs .ci/out/deploy/dashboards.json
"""

import json
import math
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (after the choice of a backend)

import dashboards  # noqa: E402

COLOURS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "yellow": "#fade2a", "blue": "#5794f2", "purple": "#b877d9", "text": "#9fa7b3", "dark-red": "#c4162a",
           "dark-orange": "#fa6400", "super-light-blue": "#c0d8ff", None: "#9fa7b3"}
CYCLE = ["#73bf69", "#fade2a", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#56a64b", "#e0b400"]


def said(value, unit):
    """A number as Grafana would show it, nearly."""
    if value is None or not math.isfinite(value):
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{value * 1000:.3g} ms"
    if unit in ("bytes", "Bps"):
        return f"{value / 1048576:.3g} MiB"
    if unit == "dateTimeFromNow":
        return f"{(DATA['end'] * 1000 - value) / 1000:.0f} s ago"
    return f"{value:.4g}" + ("/s" if unit == "ops" else "")


def threshold(value, steps):
    return [step["color"] for step in steps if step["value"] is None or (value is not None and value >= step["value"])][-1]


def legend(target, metric):
    text = target["legendFormat"]
    for label, value in metric.items():
        text = text.replace("{{" + label + "}}", value)
    return text if "{{" not in text else text.split("{{")[0] or "all"


def colour_of(name, panel):
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == name:
            for one in override["properties"]:
                if one["id"] == "color":
                    return COLOURS.get(one["value"].get("fixedColor"), "#888888")
    return None


def properties(name, panel):
    return {one["id"]: one["value"] for override in panel["fieldConfig"]["overrides"] if override["matcher"]["options"] == name for one in override["properties"]}


def graph(axes, panel, results):
    unit, bottom, twin, number = panel["fieldConfig"]["defaults"]["unit"], {}, None, 0
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    for target, result in results:
        for series in result:
            name = legend(target, series["metric"])
            xs = [t - DATA["begin"] for t, _ in series["values"]]
            ys = [float(v) for _, v in series["values"]]
            own, colour = properties(name, panel), colour_of(name, panel) or CYCLE[number % len(CYCLE)]
            number += 1
            where = axes
            if "custom.axisPlacement" in own:
                where = twin = twin or axes.twinx()
                where.tick_params(labelsize=6)
                where.yaxis.set_major_formatter(lambda v, _, u=own["unit"]: said(v, u))
            dashed = "custom.lineStyle" in own
            if stacked and not dashed and where is axes:
                ys = [0 if math.isnan(y) else y for y in ys]
                base = [bottom.get(x, 0) for x in xs]
                tops = [b + y for b, y in zip(base, ys)]
                where.fill_between(xs, base, tops, color=colour, alpha=0.4, linewidth=0)
                where.plot(xs, tops, color=colour, linewidth=0.8, label=name)
                bottom.update(zip(xs, tops))
            else:
                where.plot(xs, ys, color=colour, linewidth=1.6 if dashed else 0.9, linestyle="--" if dashed else "-", label=name)
    handles = axes.get_legend_handles_labels()
    if twin:
        handles = [a + b for a, b in zip(handles, twin.get_legend_handles_labels())]
    axes.legend(*handles, fontsize=5, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncol=5, frameon=False, labelcolor="#ccccdc")
    if twin:
        twin.set_ylim(bottom=0)
    if panel["fieldConfig"]["defaults"].get("min") == 0:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda v, _: said(v, unit))
    axes.grid(color="#2c3235", linewidth=0.4)


def stat(axes, panel, results):
    series = results[0][1][0]["values"]
    value = next((float(v) for _, v in reversed(series) if math.isfinite(float(v))), None)
    defaults = panel["fieldConfig"]["defaults"]
    colour, text = COLOURS[threshold(value, defaults["thresholds"]["steps"])], said(value, defaults["unit"])
    for mapping in defaults["mappings"]:
        text = mapping["options"].get(f"{value:g}", {}).get("text", text)
    filled = panel["options"]["colorMode"] == "background"
    axes.set_facecolor(colour if filled else "#181b1f")
    axes.text(0.5, 0.45, text, ha="center", va="center", fontsize=14, color="white" if filled else colour, transform=axes.transAxes, weight="bold")
    axes.set_xticks([])
    axes.set_yticks([])


def heat(axes, panel, results):
    rows = sorted(results[0][1], key=lambda one: float(one["metric"]["le"].replace("+Inf", "inf")))
    times = sorted({t for one in rows for t, _ in one["values"]})
    grid, below = [], {t: 0.0 for t in times}
    for one in rows:
        values = {t: float(v) for t, v in one["values"]}
        grid.append([max(0.0, values.get(t, 0) - below[t]) ** 0.5 for t in times])
        below = {t: values.get(t, below[t]) for t in times}
    axes.imshow(grid, aspect="auto", origin="lower", cmap="Oranges")
    axes.set_yticks(range(len(rows)), [said(float(one["metric"]["le"].replace("+Inf", "inf")), "s") for one in rows], fontsize=5)


def timeline(axes, panel, results):
    for row, series in enumerate(results[0][1]):
        for t, v in series["values"]:
            axes.barh(row, 1, left=t - DATA["begin"], color=COLOURS["green" if float(v) else "red"], height=0.8)
    axes.set_yticks(range(len(results[0][1])), [legend(results[0][0], one["metric"])[-28:] for one in results[0][1]], fontsize=5)


def table(axes, panel, results):
    axes.axis("off")
    keys = sorted({tuple(sorted((k, v) for k, v in one["metric"].items() if not k.startswith("__"))) for _, result in results for one in result})
    heads = [target["legendFormat"] for target, _ in results]
    labels = sorted({name for key in keys for name, _ in key})
    rows = []
    for key in keys:
        found = [next((float(one["value"][1]) for one in result if tuple(sorted(one["metric"].items())) == key), None) for _, result in results]
        rows.append((found, key))
    rows.sort(key=lambda row: -(row[0][0] if row[0][0] is not None and math.isfinite(row[0][0]) else -1))
    cells, colours = [], []
    for found, key in rows:
        cells.append([dict(key).get(label, "") for label in labels])
        colours.append(["#181b1f"] * len(labels))
        for head, value in zip(heads, found):
            own = properties(head, panel)
            cells[-1].append(said(value, own["unit"]))
            colours[-1].append(COLOURS[threshold(value, own["thresholds"]["steps"])] if "thresholds" in own and value is not None else "#181b1f")
    made = axes.table(cellText=cells, cellColours=colours, colLabels=[*labels, *heads], colColours=["#22252b"] * (len(labels) + len(heads)), loc="upper center", cellLoc="left")
    made.auto_set_font_size(False)
    made.set_fontsize(6)
    for cell in made.get_celld().values():
        cell.set_text_props(color="white")
        cell.set_edgecolor("#2c3235")


def main(board, path):
    model = dashboards.BOARDS[board]
    shown = {(one[1], one[2]): one[3] for one in DATA["shown"] if one[0] == board}
    tall = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in model["panels"])
    figure = plt.figure(figsize=(18, tall * 0.38), facecolor="#111217")
    draw = {"timeseries": graph, "stat": stat, "heatmap": heat, "state-timeline": timeline, "table": table}
    for panel in model["panels"]:
        place = panel["gridPos"]
        top = 1 - place["y"] / tall
        if panel["type"] == "row":
            figure.text(0.01, top - 0.6 / tall, "⌄ " + panel["title"], color="#ccccdc", fontsize=10, weight="bold")
            continue
        high, margin = place["h"] / tall, 0.9 / tall
        foot = 1.4 / tall if panel["type"] == "timeseries" else 0.5 / tall
        side = 0.025 if panel["type"] != "stat" else 0.004
        axes = figure.add_axes((place["x"] / 24 + side, top - high + foot, place["w"] / 24 - side - (0.018 if panel["type"] != "stat" else 0.004), high - foot - margin), facecolor="#181b1f")
        axes.set_title(panel["title"], color="#ccccdc", fontsize=8, loc="left")
        axes.tick_params(colors="#9fa7b3", labelsize=6)
        draw[panel["type"]](axes, panel, [(target, shown[(panel["title"], target["refId"])]) for target in panel["targets"]])
    for axes in figure.axes:
        axes.tick_params(colors="#9fa7b3")
    figure.savefig(path, dpi=70, facecolor=figure.get_facecolor())


if __name__ == "__main__":
    DATA = json.loads((dashboards.pages.ROOT / ".ci/out/deploy/dashboards.json").read_text())
    main(*sys.argv[1:])
