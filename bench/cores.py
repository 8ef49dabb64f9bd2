"""The group "cores": an engine on two cores, beside two threads of the raw cipher."""
import json
import os
import subprocess

# Slices are short here: a few milliseconds.
PAIRS = str(11 * int(os.environ.get("BENCH_PAIRS", "9")))
ABSENT = 77


def run(build, say):
    """Rows, and what did not run: (name, why)."""
    rows, skipped = [], []
    todo = [(way, size) for way in ("out", "in") for size in ("68", "516", "1404")]
    for index, args in enumerate(todo):
        name = "cores " + " ".join(args)
        say(f"cores {index + 1}/{len(todo)}: {' '.join(args)}")
        done = subprocess.run([os.path.join(build, "bench", "bench_cores"), PAIRS, *args],
                              text=True, capture_output=True, check=False)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        rows += found
        if done.returncode == ABSENT:
            skipped.append((name, done.stderr.strip()))
        elif done.returncode:
            skipped.append((name, f"FAILED ({done.returncode}): {done.stderr.strip()}"))
        skipped += [(name, f"FAILED: {row['case']} = {row['value']}, not 0") for row in found
                    if row["better"] == "zero" and row["value"]]
    return rows, skipped
