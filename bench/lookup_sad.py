"""The group "lookup_sad": ns per lookup in a SAD of up to a million SAs, beside a load."""
import json
import os
import subprocess

SAS = ("1000", "10000", "100000", "1000000")


def run(build, say):
    """Rows, and what did not run: (name, why)."""
    rows, skipped = [], []
    for sas in SAS:
        say(f"lookup sad: {sas} SAs")
        done = subprocess.run([os.path.join(build, "bench", "bench_sad"), "--sas", sas], text=True,
                              capture_output=True, check=False)
        rows += [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode:
            skipped.append((f"lookup sad {sas}",
                            f"FAILED ({done.returncode}): {done.stderr.strip()}"))
    return rows, skipped
