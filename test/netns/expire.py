#!/usr/bin/env python3
"""Limits of SAs and policies, told to `ip xfrm monitor` when they are reached and not later."""
import subprocess

from xfrmd import EXEC, add_sa, equal, holds, main, protect, wait_for, wire


class Monitor:
    def __init__(self, net):
        self.path = f"/tmp/{net.name}.monitor"
        with open(self.path, "w") as out:
            self.process = subprocess.Popen(net.argv(EXEC, "ip", "xfrm", "monitor", "expire"),
                                            stdout=out)
        wait_for(lambda: net.ask("status")["clients"]["now"] == 1)

    def text(self):
        with open(self.path) as f:
            return f.read()

    def end(self):
        self.process.terminate()
        self.process.wait()
        subprocess.run(["rm", "-f", self.path], check=True)


def watched(test):
    """Run test(near, monitor) with a daemon in near and an SA's way to far."""
    def run(netns):
        near, _ = wire(netns)
        near.start()
        protect(near)
        monitor = Monitor(near)
        try:
            test(near, monitor)
        finally:
            monitor.end()
    run.__name__ = test.__name__
    return run


def ping(net, count):
    net.run("ping", "-q", "-c", str(count), "-i", "0.05", "-W", "0.1", "198.51.100.1")


def limits(net, *args):
    net.xfrm("state", "update", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi",
             "0x1000", "reqid", "1", "mode", "tunnel", "aead", "rfc4106(gcm(aes))",
             "0x0102030405060708090a0b0c0d0e0f1011121314", "128", "limit", *args, check=True)


@watched
def packets_soft_then_hard(near, monitor):
    add_sa(near, check=True)
    limits(near, "packet-soft", "2", "limit", "packet-hard", "5")
    ping(near, 4)
    wait_for(lambda: "hard 0" in monitor.text())
    ping(near, 4)
    wait_for(lambda: "hard 1" in monitor.text())
    equal(monitor.text().count("hard 0"), 1)
    equal(near.xfrm("state").stdout, "")
    equal(near.ask("stats")["xfrm_stat"]["XfrmOutNoStates"] > 0, True)


@watched
def seconds_from_the_start(near, monitor):
    add_sa(near, check=True)
    limits(near, "time-soft", "1")
    wait_for(lambda: "hard 0" in monitor.text())
    holds(near.xfrm("state").stdout, "0x00001000")
    limits(near, "time-hard", "2")
    wait_for(lambda: "hard 1" in monitor.text())
    equal(near.xfrm("state").stdout, "")


@watched
def a_policy_in_seconds(near, monitor):
    words = ("src", "192.0.2.1", "dst", "203.0.113.0/24", "dir", "out", "action", "block")
    near.xfrm("policy", "add", *words, check=True)
    holds(near.run("nft", "list", "chain", "inet", "xfrmd", "outbound").stdout, "203.0.113.0")
    near.xfrm("policy", "update", *words, "limit", "time-hard", "1", check=True)
    wait_for(lambda: "203.0.113.0" in monitor.text())
    equal("203.0.113.0" in near.xfrm("policy").stdout, False)
    equal("203.0.113.0" in near.run("nft", "list", "chain", "inet", "xfrmd", "outbound").stdout,
          False)


main([packets_soft_then_hard, seconds_from_the_start, a_policy_in_seconds])
