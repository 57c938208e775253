"""What the pages of docs/ promise, as sets: metrics with their series and labels, settings, headings."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


def _rows(page):
    """The cells of each table row that begins with a name in backticks; `\\|` is no border."""
    for line in (ROOT / "docs" / page).read_text().splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def series():
    """{name of a series: the labels that it may have}, of docs/metrics.md."""
    found = {}
    for row in _rows("metrics.md"):
        if len(row) != 6:
            continue
        name, kind, labels = row[0].strip("`"), row[1], set(re.findall(r"`(\w+)`", row[2]))
        for suffix in SUFFIXES.get(kind, ("",)):
            found[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def values():
    """{(metric, label): the values that it may have}, of the page's table of label values."""
    return {(row[0].strip("`"), row[1].strip("`")): set(re.findall(r"`(\w*)`", row[2])) for row in _rows("metrics.md") if len(row) == 3}


def settings():
    return {row[0].strip("`") for row in _rows("settings.md")}


def sections(page):
    """{anchor: the text under its heading of the second level}."""
    text = (ROOT / "docs" / page).read_text()
    parts = re.split(r"^## (.+)$", text, flags=re.M)[1:]
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-"): body for title, body in zip(parts[::2], parts[1::2])}
