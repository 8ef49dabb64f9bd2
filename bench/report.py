"""report.md of the rows in report.json: tables, and plots as SVG files beside it."""
import os

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 360, 60, 40
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")
# A row whose middle half is spread over more than this part of its median says little.
NOISY = 0.25


def spread(row):
    return (row["q3"] - row["q1"]) / row["value"] if row.get("q1") and row["value"] else 0


def is_noisy(row):
    return spread(row) > NOISY


def number(value):
    if value is None:
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def cells(row):
    quartiles = f"{number(row['q1'])}–{number(row['q3'])}" if "q1" in row else "–"
    ratio = f"{row['ratio']:.2f}" if row.get("ratio") else "–"
    note = " (noisy)" if is_noisy(row) else ""
    known = [str(row.get(key, "–")) for key in
             ("case", "dir", "suite", "plaintext", "sas", "temp", "traffic", "cpu")]
    return known + [f"{number(row['value'])} {row['metric']}{note}", quartiles,
                    f"{row.get('base') or '–'} {number(row.get('base_value'))}", ratio]


HEAD = ("case", "dir", "suite", "plaintext", "SAs", "temp", "traffic", "cpu", "value", "quartiles",
        "base", "ratio")


def table(rows):
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return lines + ["| " + " | ".join(cells(row)) + " |" for row in rows]


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


def svg(path, title, unit, series):
    """Lines over packet size, sizes in equal steps."""
    steps = sorted({x for points in series.values() for x, _ in points})
    top = max(y for points in series.values() for _, y in points) * 1.1

    def place(x, y):
        across = (WIDTH - LEFT - 150) / max(len(steps) - 1, 1)
        return LEFT + steps.index(x) * across, HEIGHT - BOTTOM - y / top * (HEIGHT - 2 * BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="20" font-size="14">{title}</text>']
    for part in range(5):
        y = top * part / 4
        _, at = place(steps[0], y)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 150}" y1="{at:.1f}" y2="{at:.1f}" '
                   'stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number(y)}</text>')
    for x in steps:
        at, _ = place(x, 0)
        out.append(f'<text x="{at:.1f}" y="{HEIGHT - 22}" text-anchor="middle">{x}</text>')
    out.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">plaintext, bytes; {unit}</text>')
    for index, (name, points) in enumerate(sorted(series.items())):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join("%.1f,%.1f" % place(*point) for point in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{WIDTH - 140}" y="{50 + 16 * index}" fill="{colour}">{name}</text>')
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out + ["</svg>"]) + "\n")


def plots(folder, rows):
    """Names of the files that were made."""
    times = sizes(rows)
    if not times:
        return []
    speeds = {name: [(x, x * 8 / y) for x, y in points] for name, points in times.items()}
    svg(os.path.join(folder, "ns.svg"), "AES-128-GCM, one core, hot", "ns per packet", times)
    svg(os.path.join(folder, "gbps.svg"), "AES-128-GCM, one core, hot", "Gb/s of plaintext", speeds)
    return ["ns.svg", "gbps.svg"]


def left(rows):
    """Per way and size: what the path costs above ESP + crypto, in the same slices."""
    found = {}
    for row in rows:
        if row["bench"] == "engine" and row["case"] in ("esp+crypto", "path"):
            key = tuple(row[k] for k in ("dir", "suite", "plaintext", "sas", "temp", "cpu"))
            found.setdefault(key, {})[row["case"]] = row["value"]
    lines = ["| dir | suite | plaintext | SAs | temp | cpu | ESP + crypto | path | path above it |",
             "|---|---|---|---|---|---|---|---|---|"]
    for key, value in found.items():
        if len(value) == 2:
            esp, path = value["esp+crypto"], value["path"]
            lines.append("| " + " | ".join(map(str, key)) +
                         f" | {number(esp)} | {number(path)} | {number(path - esp)} |")
    return lines


def write(folder, machine, rows, skipped):
    lines = ["# xfrmd bench", "", machine, "",
             "Value and base were taken in alternating slices of the same run; value, quartiles "
             "and base are medians and quartiles of the slices; ratio is the median of the slices' own. Rows "
             f"marked noisy have quartiles more than {NOISY:.0%} of the median apart: do not believe "
             "them.", ""]
    for name in plots(folder, rows):
        lines += [f"![{name}]({name})", ""]
    for group in dict.fromkeys(row["bench"] for row in rows):
        lines += [f"## {group}", ""] + table([r for r in rows if r["bench"] == group]) + [""]
        if group == "engine":
            lines += ["What the path costs beside ESP and crypto, ns per packet:", ""]
            lines += left(rows) + [""]
    lines += ["## Not run", ""] if skipped else []
    lines += [f"- {name}: {why}" for name, why in skipped]
    with open(os.path.join(folder, "report.md"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
