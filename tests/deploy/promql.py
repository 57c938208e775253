"""Which series and labels a PromQL expression names: enough of its words to compare them with docs/metrics.md.

No parser: whether the expression is right, promtool or Prometheus itself says. Here every word that is no operator, function or label
must be a series, so one that is not known is found and not passed over."""

import re

WORDS = set(
    "and or unless on ignoring by without group_left group_right bool offset inf nan sum avg min max count topk bottomk quantile stddev group "
    "rate irate increase delta deriv changes resets histogram_quantile label_replace label_join absent absent_over_time last_over_time min_over_time "
    "max_over_time avg_over_time sum_over_time count_over_time time vector scalar clamp_min clamp_max round sort sort_desc abs ceil floor "
    "label_values query_result".split()
)


def names(expression):
    """[(series, {label: (operator, value)})] and the labels that stand elsewhere (in by, without, on)."""
    text = re.sub(r"#.*", "", expression)
    labels = set()
    for match in re.finditer(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", text):
        labels |= set(re.findall(r"\w+", match[1]))
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    used = []
    for match in re.finditer(r"([A-Za-z_:][\w:]*)\s*\{((?:[^}\"]|\"[^\"]*\")*)\}", text):
        matchers = re.findall(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"", match[2])
        used.append((match[1], {label: (operator, value) for label, operator, value in matchers}))
    text = re.sub(r"\{(?:[^}\"]|\"[^\"]*\")*\}", " ", text)
    text = re.sub(r"\"[^\"]*\"", " ", text)
    text = re.sub(r"\[[^\]]*\]", " ", text)
    text = re.sub(r"(?<![\w:])[\d.]+(?:e[+-]?\d+)?[smhdw]?\b", " ", text)
    known = {name for name, _ in used}
    for word in re.findall(r"[A-Za-z_:][\w:]*", text):
        if word.lower() not in WORDS and word not in known:
            used.append((word, {}))
    return used, labels
