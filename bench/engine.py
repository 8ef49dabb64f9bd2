"""The group "engine": ns per packet of each stage, beside the raw cipher."""
import json
import os
import subprocess

SUITES = ("gcm128", "gcm256", "chacha", "cbc128-sha256")
ABSENT = 77


def cases():
    """Arguments of bench_engine, one run each."""
    for suite in SUITES:
        yield ["--suite", suite]
        yield ["--suite", suite, "--cold"]
        for sas in "1000", "10000":
            yield ["--suite", suite, "--sas", sas]
    for sas in "1", "10000":
        yield ["--suite", "gcm128", "--transport", "--sas", sas]
    yield ["--suite", "gcm128", "--esn"]
    yield ["--suite", "gcm128", "--cold", "--sas", "10000"]
    for suite in SUITES:
        yield ["--suite", suite, "--avx2"]
    for policies in "1000", "100000":
        yield ["--policies", policies, "--subnets", "--text", "68"]


def run(build, say):
    """Rows, and what did not run: (name, why)."""
    rows, skipped = [], []
    todo = list(cases())
    for index, args in enumerate(todo):
        say(f"engine {index + 1}/{len(todo)}: {' '.join(args)}")
        done = subprocess.run([os.path.join(build, "bench", "bench_engine"), *args], text=True,
                              capture_output=True, check=False)
        rows += [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode == ABSENT:
            skipped.append(("engine " + " ".join(args), done.stderr.strip()))
        elif done.returncode:
            skipped.append(("engine " + " ".join(args),
                            f"FAILED ({done.returncode}): {done.stderr.strip()}"))
    return rows, skipped
