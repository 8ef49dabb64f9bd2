#!/usr/bin/env python3
"""Somebody takes away, or changes, the TUN or tc filters: they come back, the log says so."""
import json
import signal
import socket
import subprocess

from healing import FAR, NEAR, TUN, Wire, heals, ip, parts, rename_tun, start_again, tunnel
from tcx import names
from xfrmd import (FILTERS, counter, equal, holds, in_netns, main, stays_away, stream, wait_for,
                   wire)


def the_tun_as_it_is(netns):
    near, far = tunnel(netns)
    seen = Wire(far)
    heals(near, "tun", ip("link", "set", TUN, "down"), "TUN xfrmd0 was brought down")
    heals(near, "tun", ip("link", "set", TUN, "mtu", "1400"), "TUN xfrmd0 was brought down or set")
    # Without room for a packet it loses all.
    heals(near, "tun", ip("link", "set", TUN, "txqueuelen", "0"), "TUN xfrmd0 was brought down or")
    # Of these nothing tells: the look every 10 s finds it.
    heals(near, "tun", ip("addr", "flush", "dev", TUN), "TUN xfrmd0 was brought down or set up")
    heals(near, "tun", lambda net: net.run("sysctl", "-qw", f"net.ipv4.conf.{TUN}.accept_local=0",
                                           check=True), "TUN xfrmd0 was brought down or set up")
    equal(near.run("sysctl", "-n", f"net.ipv4.conf.{TUN}.accept_local").stdout, "1\n")
    heals(near, "tun", rename_tun, "TUN xfrmd0 has another name: set up again")
    equal(seen.clear, 0)
    seen.close()


def root_qdisc(net):
    shown = json.loads(net.run("tc", "-j", "qdisc", "show", "dev", TUN, check=True).stdout)
    return [qdisc["kind"] for qdisc in shown if qdisc.get("root")]


def the_tun_has_no_queueing_discipline(netns):
    """But for one that somebody has chosen, which stays when the device is set up again."""
    near, far = tunnel(netns)
    equal(root_qdisc(near), ["noqueue"])
    stream(near, far, (NEAR, FAR), 4 << 20)
    near.run("tc", "qdisc", "replace", "dev", TUN, "root", "pfifo", check=True)
    heals(near, "tun", ip("link", "set", TUN, "down"), "TUN xfrmd0 was brought down")
    equal(root_qdisc(near), ["pfifo"])


def a_tun_that_keeps_another_name(netns):
    """Renamed too often it is named so for a while, as devices of others; then all flows again."""
    near, far = tunnel(netns)
    seen = Wire(far)
    for i in range(6):
        rename_tun(near)
        wait_for(lambda: parts(near)["tun"]["repairs"] > i and parts(near)["tun"]["in_force"], 20)
    log = len(near.text())
    heals(near, "tun", rename_tun, "TUN xfrmd0 has another name: set up again")
    holds(near.text()[:log], "repaired once in 10 s")
    equal("the tc filter" in near.text(), False)
    equal("xf_egress" in near.run("tc", "filter", "show", "dev", TUN, "egress").stdout, False)
    equal(names(near, TUN), [])
    equal(seen.clear, 0)
    seen.close()


def a_tun_that_is_gone(netns):
    near, far = tunnel(netns, "[daemon]\nworkers = 2\n")
    away = netns()
    seen = Wire(far)
    heals(near, "tun", ip("link", "del", TUN), "TUN xfrmd0 is gone: made anew")
    heals(near, "tun", ip("link", "set", TUN, "netns", away.name), "TUN xfrmd0 is gone: made anew")
    equal(away.run("ip", "link", "show", TUN).returncode != 0, True)
    heals(near, "tun", ip("link", "del", TUN), "TUN xfrmd0 is gone: made anew")
    # What many packets need works as at the start: queues, marks, super-packets.
    stream(near, far, (NEAR, FAR), 4 << 20)
    equal(near.ask("status")["capture"]["tun_marks"], True)
    equal(seen.clear, 0)
    seen.close()


def under_load(netns):
    """The TUN goes three times while packets flow: workers take over the new one, nothing leaks."""
    near, far = tunnel(netns, "[daemon]\nworkers = 2\n")
    seen = Wire(far)
    flood = subprocess.Popen(near.argv("ping", "-n", "-q", "-f", "-I", NEAR, FAR),
                             stdout=subprocess.DEVNULL)
    try:
        for i in range(3):
            near.run("ip", "link", "del", TUN, check=True)
            wait_for(lambda: parts(near)["tun"]["repairs"] > i and
                     parts(near)["route"]["in_force"], 20)
            before = seen.esp
            wait_for(lambda: seen.esp > before + 20, 20)
    finally:
        flood.send_signal(signal.SIGINT)
        flood.wait()
    equal(near.daemon.poll(), None)
    equal(seen.clear, 0)
    seen.close()


def filters(netns):
    near, far = tunnel(netns, FILTERS)
    seen = Wire(far)

    def stands(net, device="eth0"):
        return "xf_" in net.run("tc", "filter", "show", "dev", device, "egress").stdout
    equal(stands(near), True)
    for device, part in ("eth0", "backstop"), (TUN, "tun"):
        heals(near, part, lambda net, dev=device: net.run("tc", "qdisc", "del", "dev", dev,
                                                          "clsact", check=True),
              f"the tc filter of {device} was deleted")
        wait_for(lambda dev=device: stands(near, dev), 20)
    heals(near, "backstop", lambda net: net.run("tc", "filter", "del", "dev", "eth0", "egress",
                                                check=True),
          "the tc filter of eth0 was deleted")
    wait_for(lambda: stands(near), 20)
    equal(seen.clear, 0)
    seen.close()


def the_filter_of_the_tun(netns):
    """Without links the backstop has a program on the TUN, too."""
    near, _ = tunnel(netns, FILTERS + "twin = tc\n")

    def stands():
        return "xf_tun" in near.run("tc", "filter", "show", "dev", TUN, "egress").stdout
    equal(stands(), True)
    heals(near, "tun", lambda net: net.run("tc", "qdisc", "del", "dev", TUN, "clsact", check=True),
          f"the tc filter of {TUN} was deleted")
    wait_for(stands, 20)
    heals(near, "tun", ip("link", "del", TUN), "TUN xfrmd0 is gone: made anew")
    wait_for(stands, 20)


def a_tun_of_an_earlier_daemon(netns):
    """What was renamed while no daemon ran is no device of others, and no second one."""
    near, far = tunnel(netns)
    seen = Wire(far)

    def tuns():
        links = json.loads(near.run("ip", "-j", "link", "show", check=True).stdout)
        return {link["ifname"]: link["ifindex"] for link in links if link["ifname"] != "lo"
                and link["ifname"] != "eth0"}
    before = tuns()
    near.stop(signal.SIGKILL)
    rename_tun(near)
    equal(tuns(), {"other0": before[TUN]})
    start_again(near, far, "")
    equal(tuns(), before)
    equal("xf_egress" in near.run("tc", "filter", "show", "dev", TUN, "egress").stdout, False)
    # Another configuration.
    near.stop()
    start_again(near, far, "[capture]\ntun = tunnel7\n")
    equal(tuns(), {"tunnel7": before[TUN]})
    # Somebody has a device of that name. Nor is every TUN ours.
    near.stop(signal.SIGKILL)
    near.run("sh", "-c", "ip link set tunnel7 down; ip link set tunnel7 name other0; "
             f"ip tuntap add {TUN} mode tun multi_queue; ip tuntap add mine mode tun; "
             "tc qdisc add dev mine clsact", check=True)
    start_again(near, far, "")
    equal(set(tuns()), {TUN, "mine"})
    equal(seen.clear, 0)
    seen.close()


def what_has_no_mark(netns):
    """While the program for marks is gone nobody knows whether a policy with a mark wants it."""
    near, far = wire(netns)
    far.run("ip", "addr", "add", "198.51.100.1/32", "dev", "lo", check=True)
    near.run("ip", "route", "add", "198.51.100.1/32", "via", "192.0.2.2", check=True)
    near.start()
    near.xfrm("policy", "add", "src", "192.0.2.1", "dst", "198.51.100.1", "dir", "out", "mark",
              "5", "mask", "0xff", "tmpl", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp",
              "mode", "tunnel", check=True)
    listener = in_netns(far, socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("198.51.100.1", 4001))
    listener.setblocking(False)
    sender = in_netns(near, socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 5)

    def send():
        sender.sendto(b"x", ("198.51.100.1", 4001))
    stays_away(send, counter(near, "xfrm_stat", "XfrmOutNoStates"), listener)

    def is_held_back():
        near.run("tc", "filter", "del", "dev", TUN, "egress")
        return "repaired once in 10 s" in near.text()
    wait_for(is_held_back)
    near.run("tc", "filter", "del", "dev", TUN, "egress")
    stays_away(send, counter(near, "xfrm_stat", "XfrmdOutNoMark"), listener)
    # Where somebody has its place it cannot come back.
    place = "dev", TUN, "egress", "protocol", "all", "pref", str(0x7866)
    other = "u32", "match", "u32", "0", "0", "classid", "1:1"
    if near.run("tc", "filter", "add", "dev", "eth0", "egress", "pref", "77", *other).returncode:
        return print("# this kernel has no u32")

    def is_taken():
        near.run("tc", "filter", "del", "dev", TUN, "egress")
        return not near.run("tc", "filter", "add", *place, *other).returncode
    wait_for(is_taken)
    wait_for(lambda: "cannot be repaired" in near.text())
    stays_away(send, counter(near, "xfrm_stat", "XfrmdOutNoMark"), listener)
    equal(parts(near)["tun"]["in_force"], False)
    near.run("tc", "filter", "del", *place, check=True)
    stays_away(send, counter(near, "xfrm_stat", "XfrmOutNoStates"), listener)
    equal(parts(near)["tun"]["in_force"], True)
    # So large that it gets no header.
    stays_away(lambda: sender.sendto(bytes(20000), ("198.51.100.1", 4001)),
               counter(near, "xfrm_stat", "XfrmdOutNoMark"), listener)


main([the_tun_as_it_is, the_tun_has_no_queueing_discipline, a_tun_that_keeps_another_name,
      a_tun_that_is_gone, under_load, filters, the_filter_of_the_tun, a_tun_of_an_earlier_daemon,
      what_has_no_mark])
