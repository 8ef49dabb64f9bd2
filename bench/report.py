"""report.md of the rows in report.json: tables, and plots as SVG files beside it."""
import math
import os

WIDTH, HEIGHT, LEFT, BOTTOM, LEGEND = 720, 360, 60, 40, 230
BAR_LEFT, BAR_STEP = 150, 22
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#17becf")
# A row whose middle half is spread over more than this part of its median says little.
NOISY = 0.25


def spread(row):
    return (row["q3"] - row["q1"]) / row["value"] if row.get("q1") and row["value"] else 0


def is_noisy(row):
    return spread(row) > NOISY


def number(value):
    if value is None:
        return "–"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g} M"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def value_of(row):
    unit = UNITS.get(row["metric"], row["metric"].replace("_", " "))
    return f"{number(row['value'])} {unit}" + (" (noisy)" if is_noisy(row) else "")


def quartiles_of(row):
    return f"{number(row['q1'])}–{number(row['q3'])}" if row.get("pairs", 0) > 1 else "–"


def base_of(row):
    return f"{row['base']} {number(row.get('base_value'))}" if row.get("base") else "–"


def text(key):
    return lambda row: str(row.get(key, "–"))


UNITS = {"ns_per_packet": "ns per packet", "gbps": "Gb/s", "slowest_gbps": "Gb/s, slowest stream",
         "cpu_s_per_gb": "CPU s per Gb", "ns_per_lookup": "ns",
         "ns_per_lookup_alone": "ns, one by one",
         "ping_us": "µs", "ping_p99_us": "µs, p99", "mb": "MB",
         "percent": "% of a core", "count": "", "us_per_rekey": "µs CPU per rekey",
         "rekeys_per_s": "rekeys/s"}
COLUMNS = (("case", text("case")), ("dir", text("dir")), ("suite", text("suite")),
           ("plaintext", text("plaintext")), ("SAs", text("sas")),
           ("policies", text("policies")), ("flows", text("flows")), ("temp", text("temp")),
           ("traffic", text("traffic")), ("cpu", text("cpu")), ("family", text("family")),
           ("value", value_of), ("quartiles", quartiles_of), ("base", base_of),
           ("ratio", lambda row: f"{row['ratio']:.3g}" if row.get("ratio") else "–"))
ALWAYS = ("case", "value", "ratio")


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cells) + " |" for cells in rows]


def table(rows):
    """What all rows have in common stands above them; those with a base come first."""
    rows = sorted(rows, key=lambda row: not row.get("ratio"))
    cells = {name: [of(row) for row in rows] for name, of in COLUMNS}
    same = {name: values[0] for name, values in cells.items()
            if name not in ALWAYS and len(set(values)) == 1}
    known = ", ".join(f"{name} {value}" for name, value in same.items() if value != "–")
    head = [name for name, _ in COLUMNS if name not in same]
    lines = [f"All rows: {known}.", ""] if known else []
    return lines + markdown(head, zip(*(cells[name] for name in head)))


def counts(rows):
    """One line for each thing that was counted, one column for each place."""
    if not rows:
        return []
    places, found = {}, {}
    for row in rows:
        place = " ".join(str(row[key]) for key in ("suite", "dir", "plaintext") if row.get(key))
        places[place] = True
        found.setdefault(row["case"], {})[place] = number(row["value"])
    return ["", "Counted:", ""] + markdown(("", *places), [
        (case, *(values.get(place, "–") for place in places)) for case, values in found.items()])


def sizes(rows):
    """Rows of a plot: hot ones of one size each, one SA, by case and direction."""
    found = {}
    for row in rows:
        if row["bench"] != "engine" or row["temp"] != "hot" or row["sas"] != 1:
            continue
        if row["traffic"] != "one size" or row["cpu"] != "best" or row["suite"] != "gcm128":
            continue
        if row["case"] not in ("esp+crypto", "path"):
            continue
        name = f"{row['case']}, {row['dir']}"
        found.setdefault(name, []).append((row["plaintext"], row["value"]))
        if row["case"] == "path":
            found.setdefault(f"raw, {row['dir']}", []).append((row["plaintext"], row["base_value"]))
    return {name: sorted(points) for name, points in found.items()}


def svg_head(title, height):
    return [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            'font-family="sans-serif" font-size="11">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="{LEFT}" y="20" font-size="14">{title}</text>']


def svg_write(path, lines):
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines + ["</svg>"]) + "\n")


def ticks(top, powers):
    """Where lines across are, and how far up (0 to 1) a value is."""
    if not powers:
        top *= 1.1
        return [top * part / 4 for part in range(5)], lambda y: y / top
    most = math.ceil(math.log10(top))
    return [10 ** n for n in range(most + 1)], lambda y: math.log10(max(y, 1)) / most


def lines_svg(path, title, unit, series, powers=False):
    """Lines over x in equal steps; upwards in equal steps or by powers of ten."""
    steps = sorted({x for points in series.values() for x, _ in points})
    across = (WIDTH - LEFT - LEGEND) / max(len(steps) - 1, 1)
    levels, up = ticks(max(y for points in series.values() for _, y in points), powers)

    def place(x, y):
        return LEFT + steps.index(x) * across, HEIGHT - BOTTOM - up(y) * (HEIGHT - 2 * BOTTOM)

    out = svg_head(title, HEIGHT)
    for y in levels:
        _, at = place(steps[0], y)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - LEGEND}" y1="{at:.1f}" y2="{at:.1f}" '
                   'stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number(y)}</text>')
    for x in steps:
        at, _ = place(x, 0)
        out.append(f'<text x="{at:.1f}" y="{HEIGHT - 22}" text-anchor="middle">'
                   f'{number(x)}</text>')
    out.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">{unit}</text>')
    for index, (name, points) in enumerate(sorted(series.items())):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join("%.1f,%.1f" % place(*point) for point in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{WIDTH - LEGEND + 10}" y="{50 + 16 * index}" '
                   f'fill="{colour}">{name}</text>')
    svg_write(path, out)


def bars_svg(path, title, bars):
    """@bars (label, value, its quartiles, colour's number): one below the other."""
    top = max(max(value, q3) for _, value, _, q3, _ in bars) * 1.1
    scale = (WIDTH - BAR_LEFT - 60) / top
    out = svg_head(title, 40 + BAR_STEP * len(bars))
    for index, (label, value, q1, q3, colour) in enumerate(bars):
        y = 34 + BAR_STEP * index
        middle = y + BAR_STEP * 0.35
        out.append(f'<text x="{BAR_LEFT - 6}" y="{middle + 4:.1f}" text-anchor="end">'
                   f'{label}</text>')
        out.append(f'<rect x="{BAR_LEFT}" y="{y}" width="{value * scale:.1f}" '
                   f'height="{BAR_STEP * 0.7:.1f}" fill="{COLOURS[colour]}"/>')
        out.append(f'<line x1="{BAR_LEFT + q1 * scale:.1f}" x2="{BAR_LEFT + q3 * scale:.1f}" '
                   f'y1="{middle:.1f}" y2="{middle:.1f}" stroke="black"/>')
        out.append(f'<text x="{BAR_LEFT + max(value, q3) * scale + 6:.1f}" y="{middle + 4:.1f}">'
                   f'{number(value)}</text>')
    svg_write(path, out)


def cores_bars(rows):
    """The engine's and the cipher's gain from a second core, in pairs."""
    bars = []
    for row in rows:
        if row["bench"] != "cores" or row["case"] != "two workers over one":
            continue
        size = f"{row['dir']} {row['plaintext']}"
        bars.append((f"{size}, engine", row["value"], row["q1"], row["q3"], 0))
        bars.append((f"{size}, raw", row["base_value"], row["base_q1"], row["base_q3"], 1))
    return bars


def path_bars(rows, bench, case, metric):
    """Each path once, be it as value or as base."""
    bars = {}
    for row in rows:
        if (row["bench"], row["case"], row["metric"]) != (bench, case, metric):
            continue
        bars[row["suite"]] = (row["value"], row["q1"], row["q3"], 0)
        if row["base_value"] is not None:
            bars.setdefault(row["base"], (row["base_value"], row["base_q1"], row["base_q3"], 1))
    return [(name, *values) for name, values in bars.items()]


def bar_plots(folder, rows):
    todo = (("cores.svg", "Two cores over one, times: black is the middle half", cores_bars(rows)),
            ("tcp.svg", "TCP, one stream, Gb/s",
             path_bars(rows, "e2e", "TCP, one stream", "gbps")),
            ("ping.svg", "ping, idle, µs", path_bars(rows, "e2e", "ping, idle", "ping_us")),
            ("peers.svg", "TCP, one stream, beside others, Gb/s",
             path_bars(rows, "peers", "TCP, one stream", "gbps")))
    made = []
    for name, title, bars in todo:
        if bars:
            bars_svg(os.path.join(folder, name), title, bars)
            made.append(name)
    return made


def size_plots(folder, rows):
    times = sizes(rows)
    if not times:
        return []
    speeds = {name: [(x, x * 8 / y) for x, y in points] for name, points in times.items()}
    lines_svg(os.path.join(folder, "ns.svg"), "AES-128-GCM, one core, hot",
              "plaintext, bytes; ns per packet",
              times)
    lines_svg(os.path.join(folder, "gbps.svg"), "AES-128-GCM, one core, hot",
              "plaintext, bytes; Gb/s of plaintext", speeds)
    return ["ns.svg", "gbps.svg"]


def lookup_plots(folder, rows):
    """Each set of policies, ours and the kernel's, where both were measured."""
    found = {}
    for row in rows:
        if row["bench"] != "lookup" or row.get("base") != "kernel":
            continue
        name = row["traffic"] + ("" if row["temp"] == "random" else ", " + row["temp"])
        for whose, key in ("ours", "value"), ("kernel", "base_value"):
            found.setdefault(f"{name}, {whose}", []).append((row["policies"], max(row[key], 1)))
    if not found:
        return []
    lines_svg(os.path.join(folder, "lookup.svg"), "A policy lookup, random flows, IPv4",
              "policies; ns per lookup", {name: sorted(found[name]) for name in found}, powers=True)
    return ["lookup.svg"]


PLOTS = {"engine": ("ns.svg", "gbps.svg"), "lookup": ("lookup.svg",), "cores": ("cores.svg",),
         "e2e": ("tcp.svg", "ping.svg"),
         "peers": ("peers.svg",)}


def left(rows):
    """Per way and size: what the path costs above ESP + crypto, in the same slices."""
    found = {}
    for row in rows:
        if row["bench"] == "engine" and row["case"] in ("esp+crypto", "path"):
            key = tuple(row[k] for k in ("dir", "suite", "plaintext", "sas", "policies", "temp",
                                         "cpu"))
            found.setdefault(key, {})[row["case"]] = row["value"]
    head = ("dir", "suite", "plaintext", "SAs", "policies", "temp", "cpu", "ESP + crypto", "path",
            "path above it")
    lines = []
    for key, value in found.items():
        if len(value) == 2:
            esp, path = value["esp+crypto"], value["path"]
            lines.append([*map(str, key), number(esp), number(path), number(path - esp)])
    return markdown(head, lines)


def write(folder, machine, rows, skipped):
    lines = ["# xfrmd bench", "", machine, "",
             "Value and base were taken in alternating slices of the same run; value, quartiles "
             "and base are medians and quartiles of the slices; ratio is the median of the "
             f"slices' own. Rows marked noisy have quartiles more than {NOISY:.0%} of the median "
             "apart: do not believe them.", ""]
    plots = size_plots(folder, rows) + lookup_plots(folder, rows) + bar_plots(folder, rows)
    for group in dict.fromkeys(row["bench"] for row in rows):
        lines += [f"## {group}", ""]
        for name in PLOTS[group]:
            lines += [f"![{name}]({name})", ""] if name in plots else []
        mine = [row for row in rows if row["bench"] == group]
        lines += table([row for row in mine if row["metric"] != "count"])
        lines += counts([row for row in mine if row["metric"] == "count"]) + [""]
        if group == "engine":
            lines += ["What the path costs beside ESP and crypto, ns per packet:", ""]
            lines += left(rows) + [""]
    lines += ["## Not run", ""] if skipped else []
    lines += [f"- {name}: {why}" for name, why in skipped]
    with open(os.path.join(folder, "report.md"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
