"""Slices of several things in turn, and the rows that come of them."""
import statistics

from paths import PAIRS

BETTER = {"gbps": "higher", "rekeys_per_s": "higher"}


def quartiles(values):
    return statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3


def collect(measures, say, title):
    """@measures {name: function that returns {metric: value}, or None: it failed}. Returns {name:
    {metric: values}}, slices taken in turn."""
    found = {name: {} for name in measures}
    for index in range(PAIRS):
        say(f"{title}: {index + 1}/{PAIRS}")
        for name, measure in measures.items():
            for metric, value in (measure() or {}).items():
                found[name].setdefault(metric, []).append(value)
    return found


def failures(found, title):
    """(name, why) of what never worked."""
    return [(title, f"FAILED: {name}: no slice worked")
            for name, values in found.items() if not values]


def row(bench, case, name, metric, values, base=None, bases=None, **more):
    q1, median, q3 = quartiles(values)
    made_row = {"bench": bench, "case": case, "suite": name, "plaintext": 1404, "sas": 1,
                "flows": 1, "policies": 1, "family": 4, "metric": metric,
                "better": BETTER.get(metric, "lower"), "value": median, "q1": q1, "q3": q3,
                "base": base, "base_value": None, "ratio": None, "pairs": len(values), **more}
    if bases:
        made_row["base_q1"], base_value, made_row["base_q3"] = quartiles(bases)
        made_row.update(base_value=base_value, ratio=median / base_value if base_value else None)
    return made_row


def rows_of(bench, case, found, pairs, **more):
    """A row for each metric of each (name, base) of @pairs."""
    rows = []
    for name, base in pairs:
        for metric, values in found[name].items():
            bases = found[base].get(metric) if base else None
            rows.append(row(bench, case, name, metric, values, base, bases, **more))
    return rows
