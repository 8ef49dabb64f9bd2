#!/usr/bin/env python3
"""Is one build slower from end to end than another?

    bench/e2e_pairs.py OLD NEW [ROUNDS]     two build folders; as root

Three paths with real daemons are there at the same time: the old build's, the old one's once more,
and the new one's. In each round every measure is taken on each of them, in changing order. What is
told is the median, over all rounds, of new : old and of old : old; all figures are costs, so below
1 is faster. Where old : old is as far from 1 as new : old is, nothing has been shown.

CPU time is that of all programs at one end, daemon and iperf3, so it has the work of the kernel on
their account in it: of a core that others use, too, it tells more than throughput does.
"""
import os
import random
import resource
import statistics
import sys

import paths
from measure import idle
from paths import CORES, Path, close_all, cpu_s

ROUNDS = 10
UDP = ("-u", "-b", "32M", "-l", "100", "-w", "4M")
TCP = ("-C", "cubic", "-b", "1500M")


def of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def used_s(path):
    """CPU seconds of the near end, without the daemon iperf3's client, and of the far end."""
    near, far = path.programs
    return near_s(near), cpu_s(far.pid) + cpu_s(path.server.pid)


def near_s(daemon):
    return cpu_s(daemon.pid) + of_children()


def cpu_per(path, args, amount):
    """{end: CPU seconds for each of what @amount finds in iperf3's answer}, or None."""
    before = used_s(path)
    answer = path.client(*args, seconds=paths.SECONDS)
    after = used_s(path)
    if not answer:
        return None
    n = amount(answer["end"])
    return {end: (b - a) / n for end, a, b in zip(("near", "far"), before, after)}


def seconds_per_bit(path, *args):
    answer = path.client("-C", "cubic", *args)
    return {"": 1 / answer["end"]["sum_received"]["bits_per_second"]} if answer else None


def ping(path):
    found = idle(path)
    return {"": found["ping_us"]} if found else None


MEASURES = {
    "TCP out, time per byte": seconds_per_bit,
    "TCP back, time per byte": lambda path: seconds_per_bit(path, "-R"),
    "UDP, CPU per packet": lambda path: cpu_per(path, UDP, lambda end: end["sum"]["packets"]),
    "TCP, CPU per byte": lambda path: cpu_per(path, TCP, lambda end: end["sum_received"]["bytes"]),
    "ping": ping,
}


def make_path(name, build):
    import xfrmd  # the tests' module: whose programs it takes is told when the path is made
    xfrmd.EXEC = os.path.join(build, "src", "shim", "xfrm-exec")
    return Path(name, os.path.join(build, "src", "daemon", "xfrmd"))


def take_turns(all_paths, measure):
    """{path's name: what was measured}, in changing order; None: one of them failed."""
    found = {}
    for path in random.sample(all_paths, len(all_paths)):
        found[path.name] = measure(path)
    return found if all(found.values()) else None


def tell(ratios):
    print(f"{'':34} {'new : old':>10} {'old : old':>10}   rounds")
    for case, pairs in ratios.items():
        new, again = (statistics.median(values) for values in zip(*pairs))
        print(f"{case:34} {new:10.3f} {again:10.3f}   {len(pairs)}", flush=True)


def measure_all(all_paths, rounds):
    """{case: [(new : old, old : old), ...]}; what failed is left out."""
    ratios = {}
    for number in range(rounds):
        for title, measure in MEASURES.items():
            found = take_turns(all_paths, measure)
            for end in found["old"] if found else ():
                case = f"{title} {end}".strip()
                old = found["old"][end]
                ratios.setdefault(case, []).append((found["new"][end] / old,
                                                    found["again"][end] / old))
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return ratios


def main():
    if len(sys.argv) < 3 or os.geteuid() != 0 or len(CORES) < 2:
        print(f"{__doc__}\nIt needs root and two cores.", file=sys.stderr)
        return 2
    old, new = map(os.path.abspath, sys.argv[1:3])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else ROUNDS
    try:
        all_paths = [make_path(name, build)
                     for name, build in (("old", old), ("again", old), ("new", new))]
        tell(measure_all(all_paths, rounds))
    finally:
        close_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
