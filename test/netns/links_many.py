#!/usr/bin/env python3
"""A thousand devices come and go: each has the backstop at once, and no pin is left behind."""
import os
import signal

import xfrmd
from tcx import names
from xfrmd import equal, main, wait_for


def pins():
    """All there are."""
    top = f"{xfrmd.SEES_PINS[-1]}/xfrmd"
    return sum(len(files) for _, _, files in os.walk(top))


def many(net, verb, count):
    tail = "type veth peer name b{}" if verb == "add" else ""
    lines = "".join(f"link {verb} a{i} {tail.format(i)}\n" for i in range(count))
    done = net.run("ip", "-batch", "-", input=lines)
    equal((done.returncode, done.stderr), (0, ""))


def come_and_go(netns):
    near = netns()
    near.start()
    many(near, "add", 500)
    wait_for(lambda: near.ask("status")["capture"]["backstop_devices"] == 1000)
    wait_for(lambda: pins() == 2000, 2 * xfrmd.LIMIT_S)
    # Those that had a filter until it was their turn have none any more.
    for device in "a0", "b499":
        equal(names(near, device), ["xf_egress"])
        equal(near.run("tc", "filter", "show", "dev", device, "egress").stdout, "")
    many(near, "del", 500)
    wait_for(lambda: pins() == 0)
    equal(near.ask("status")["capture"]["parts"][3]["losses"], 0)


def some_go_without_a_daemon(netns):
    near = netns()
    near.start()
    many(near, "add", 50)
    wait_for(lambda: pins() == 200)
    near.stop(signal.SIGKILL)
    many(near, "del", 50)
    equal(pins(), 200)
    near.start()
    wait_for(lambda: pins() == 0)


main([come_and_go, some_go_without_a_daemon])
