"""Slices of several things in turn, and the rows that come of them."""
import statistics

from paths import PAIRS

BETTER = {"gbps": "higher", "rekeys_per_s": "higher"}


def quartiles(values):
    return statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3


def collect(measures, say, title):
    """@measures {name: function that returns {metric: value}, or None: it failed}. Returns {name:
    {metric: values}}, slices taken in turn, with None where one failed."""
    found = {name: {} for name in measures}
    for index in range(PAIRS):
        say(f"{title}: {index + 1}/{PAIRS}")
        for name, measure in measures.items():
            for metric, value in (measure() or {}).items():
                values = found[name].setdefault(metric, [None] * PAIRS)
                values[index] = value
    return found


def known(values):
    return [value for value in values if value is not None]


def ratio_of(values, bases):
    """The median of the slices' own: what slows the machine slows both. None: no slice had both."""
    ratios = [value / base for value, base in zip(values, bases) if value is not None and base]
    return statistics.median(ratios) if ratios else None


def failures(found, title):
    """(name, why) of what never worked."""
    return [(title, f"FAILED: {name}: no slice worked")
            for name, values in found.items() if not values]


def row(bench, case, name, metric, values, base=None, bases=None, **more):
    q1, median, q3 = quartiles(known(values))
    made_row = {"bench": bench, "case": case, "suite": name, "plaintext": 1404, "sas": 1,
                "flows": 1, "policies": 1, "family": 4, "metric": metric,
                "better": BETTER.get(metric, "lower"), "value": median, "q1": q1, "q3": q3,
                "base": base, "base_value": None, "ratio": None, "pairs": len(known(values)),
                **more}
    if bases:
        q1, median, q3 = quartiles(known(bases))
        made_row.update(base_q1=q1, base_value=median, base_q3=q3, ratio=ratio_of(values, bases))
    return made_row


def rows_of(bench, case, found, pairs, **more):
    """A row for each metric of each (name, base) of @pairs."""
    rows = []
    for name, base in pairs:
        for metric, values in found[name].items():
            bases = found[base].get(metric) if base else None
            rows.append(row(bench, case, name, metric, values, base, bases, **more))
    return rows
