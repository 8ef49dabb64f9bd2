"""The group "lookup": ns per lookup of SAs and policies, up to a million of them, beside a load;
and how long a client of the daemon's netlink socket takes to bring them there."""
import json
import os
import subprocess

from paths import OUTER, close_all, make_netns

COUNTS = ("1000", "10000", "100000", "1000000")
SETS = ("host-pairs", "subnets", "mixed", "acl1", "coarse")
# Of these there cannot be more.
PORT_SETS = ("one-prefix-ports", "one-prefix-source-ports")
# Beside the host's kernel, as far as loading it takes seconds only.
KERNEL_SETS = {"host-pairs": ("10", "100", "1000", "10000", "100000"),
               "subnets": ("10", "100", "1000", "10000", "30000"),
               "one-prefix-ports": ("10", "100", "1000", "10000")}
ABSENT = 77


def cases():
    """Arguments of the programs, one run each."""
    for count in COUNTS:
        yield ["bench_sad", "--sas", count]
    for name in SETS:
        for family in "4", "6":
            for count in ("10", "100", *COUNTS):
                yield ["bench_spd", "--set", name, "--family", family, "--policies", count]
    for name in PORT_SETS:
        for count in "100", "1000", "10000":
            yield ["bench_spd", "--set", name, "--policies", count]
    for name, counts in KERNEL_SETS.items():
        for count in counts:
            yield ["bench_spd", "--set", name, "--policies", count, "--what", "kernel"]


def load(build, kind, count):
    """The finished bench_load, in a namespace with a daemon."""
    net = make_netns()
    try:
        for args in (("link", "add", "eth0", "type", "veth", "peer", "name", "eth1"),
                     ("addr", "add", f"{OUTER[0]}/24", "dev", "eth0"),
                     ("link", "set", "eth0", "up"), ("link", "set", "eth1", "up"),
                     ("route", "add", "default", "via", OUTER[1])):
            net.run("ip", *args, check=True)
        net.start()
        return net.run(os.path.join(build, "bench", "bench_load"), "--set", kind, "--sas", count,
                       "--policies", count, "--pid", str(net.daemon.pid), timeout=600)
    finally:
        close_all()


def through_netlink(build, say):
    """SAs and policies through the socket of a daemon: rows, and what failed."""
    rows, failed = [], []
    for kind in "host-pairs", "subnets":
        for count in COUNTS[1:]:
            name = f"lookup bench_load {kind} {count}"
            say(name)
            done = load(build, kind, count)
            rows += [json.loads(line) for line in done.stdout.splitlines()]
            if done.returncode:
                failed.append((name, f"FAILED ({done.returncode}): {done.stderr.strip()}"))
    return rows, failed


def run(build, say):
    """Rows, and what did not run: (name, why)."""
    rows, skipped = [], []
    todo = list(cases())
    for index, (program, *args) in enumerate(todo):
        name = f"lookup {program} {' '.join(args)}"
        say(f"{index + 1}/{len(todo)}: {name}")
        done = subprocess.run([os.path.join(build, "bench", program), *args], text=True,
                              capture_output=True, check=False)
        rows += [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode == ABSENT:
            skipped.append((name, done.stderr.strip()))
        elif done.returncode:
            skipped.append((name, f"FAILED ({done.returncode}): {done.stderr.strip()}"))
    if os.geteuid() == 0:
        more, failed = through_netlink(build, say)
        return rows + more, skipped + failed
    return rows, skipped + [("lookup bench_load", "skipped: needs root")]
