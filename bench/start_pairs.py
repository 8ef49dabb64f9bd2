#!/usr/bin/env python3
"""Does a daemon of one build use more CPU to start than that of another?

    bench/start_pairs.py OLD NEW [ROUNDS [POLICIES]]     two build folders; as root

Three namespaces are there at the same time: the old build's, the old one's once more, and the new
one's. In each the policies (host to host, out) are in the journal, as a daemon before has left
them; then daemons are started and stopped in turn, in changing order. What is told is the CPU time,
of the program and of the kernel on its account, until it says that it is ready: each one's median,
and the medians, over all rounds, of new : old and of old : old. Where old : old is as far from 1
as new : old is, nothing has been shown.
"""
import os
import random
import statistics
import sys

from paths import OUTER, close_all, cpu_s, make_netns

ROUNDS = 7
COUNTS = (0, 100000)
NAMES = ("old", "old again", "new")


def policies(count):
    """Lines for ip -batch."""
    tail = f"dir out tmpl src {OUTER[0]} dst {OUTER[1]} proto esp mode tunnel"
    return "".join(f"xfrm policy add src 10.0.0.{1 + i % 200}/32 "
                   f"dst 10.{1 + (i >> 16)}.{i >> 8 & 255}.{i & 255}/32 {tail}\n"
                   for i in range(count))


class Daemon:
    """That of @build in a namespace of its own, ready to be started with @count policies."""

    def __init__(self, build, count):
        import xfrmd  # the tests' module
        self.program = os.path.join(build, "src", "daemon", "xfrmd")
        self.net = make_netns()
        self.net.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1",
                     check=True)
        for args in (("addr", "add", f"{OUTER[0]}/24", "dev", "eth0"),
                     ("link", "set", "eth0", "up"), ("link", "set", "eth1", "up"),
                     ("route", "add", "default", "via", OUTER[1])):
            self.net.run("ip", *args, check=True)
        self.start(xfrmd)
        self.net.run(os.path.join(build, "src", "shim", "xfrm-exec"), "ip", "-batch", "-",
                     input=policies(count), check=True, timeout=600)
        if (got := self.net.ask("status")["policies"]["out"]) != count:
            raise SystemExit(f"{self.program} has {got} policies, not {count}")
        self.net.stop()

    def start(self, xfrmd):
        xfrmd.DAEMON = self.program
        xfrmd.CTL = os.path.join(os.path.dirname(self.program), "..", "ctl", "xfrmctl")
        self.net.start()

    def cost_s(self):
        import xfrmd
        self.start(xfrmd)
        used = cpu_s(self.net.daemon.pid)
        self.net.stop()
        return used


def compare(builds, count, rounds):
    """A line about @count policies."""
    daemons = dict(zip(NAMES, (Daemon(build, count) for build in builds)))
    found = {name: [] for name in NAMES}
    for _ in range(rounds):
        for name in random.sample(NAMES, len(NAMES)):
            found[name].append(daemons[name].cost_s())
    medians = ", ".join(f"{name} {statistics.median(costs):.3f} s" for name, costs in found.items())
    ratios = {name: statistics.median(a / b for a, b in zip(found[name], found["old"]))
              for name in NAMES[1:]}
    print(f"{count} policies: {medians}; new : old {ratios['new']:.2f}, "
          f"old : old {ratios['old again']:.2f}", flush=True)


def main():
    if len(sys.argv) < 3 or os.geteuid() != 0:
        print(__doc__, file=sys.stderr)
        return 2
    old, new = (os.path.abspath(build) for build in sys.argv[1:3])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else ROUNDS
    try:
        for count in (int(sys.argv[4]),) if len(sys.argv) > 4 else COUNTS:
            compare((old, old, new), count, rounds)
    finally:
        close_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
