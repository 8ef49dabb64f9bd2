#!/usr/bin/env python3
"""The host's sysctls disable_xfrm and disable_policy, as Linux has them (decision 0029).

IPv4 that leaves by a device with disable_xfrm is not protected. IPv4 that arrives at one with
disable_policy is not checked; IPv6 is not when it is for an address of such a device. What was
decrypted has arrived where its ESP did.
"""
import signal
import socket

from tcx import names
from xfrmd import (FILTERS, KEY, arrived, counter, equal, holds, in_netns, main, passes, stays_away,
                   wait_for, wire)

HOSTS = {4: ("192.0.2.7", "198.51.100.1"), 6: ("fd01::7", "fd02::1")}
LINK = {4: ("192.0.2.1", "192.0.2.2"), 6: ("fd00::1", "fd00::2")}
CAPTURED = "xfrm_stat", "XfrmOutNoStates"
REFUSED = "capture", "plaintext_dropped"
MISMATCH = "xfrm_stat", "XfrmInTmplMismatch"


def set_to(net, value, *names):
    """By itself the daemon looks every 10 s; when links change, at once."""
    for name in names:
        net.run("sysctl", "-qw", f"net.{name}={value}", check=True)
    net.run("ip", "link", "set", "eth0", "alias", str(value), check=True)


def policy(net, direction, version=4):
    src, dst = HOSTS[version]
    ends = LINK[version]
    net.xfrm("policy", "add", "src", src, "dst", dst, "dir", direction, "tmpl", "src", ends[0],
             "dst", ends[1], "proto", "esp", "mode", "tunnel", check=True)


def both_families(near, far):
    for net, addr in (near, LINK[6][0]), (far, LINK[6][1]):
        net.run("ip", "addr", "add", f"{addr}/64", "dev", "eth0", "nodad", check=True)
        net.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", check=True)


def endpoints(near, far, version=4, where="lo"):
    """What sends from one of HOSTS, and what hears at the other."""
    src, dst = HOSTS[version]
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    bits = 32 if version == 4 else 128
    near.run("ip", "addr", "add", f"{src}/{bits}", "dev", "eth0", *["nodad"][:version // 6],
             check=True)
    near.run("ip", "route", "add", f"{dst}/{bits}", "via", LINK[version][1], "src", src, check=True)
    far.run("ip", "addr", "add", f"{dst}/{bits}", "dev", where, *["nodad"][:version // 6],
            check=True)
    far.run("ip", "route", "replace", f"{src}/{bits}", "dev", "eth0", check=True)
    listener = in_netns(far, family, socket.SOCK_DGRAM)
    listener.bind((dst, 4001))
    listener.setblocking(False)
    sender = in_netns(near, family, socket.SOCK_DGRAM)
    sender.bind((src, 0))

    def send():
        try:
            sender.sendto(b"x", (dst, 4001))
        except OSError:
            pass  # the route may say so
    return send, listener


def filters(net, side):
    """Of eth0: the protocols that our programs see; those of links see all."""
    lines = net.run("tc", "filter", "show", "dev", "eth0", side, check=True).stdout.splitlines()
    linked = {"all" for name in names(net, "eth0", side) if name == f"xf_{side}"}
    return {line.split()[2] for line in lines if "handle 0x7866" in line} | linked


def lost(net):
    return sum(part["losses"] for part in net.ask("status")["capture"]["parts"])


def sent(netns):
    near, far = wire(netns)
    both_families(near, far)
    send, listener = endpoints(near, far)
    send6, listener6 = endpoints(near, far, 6)
    set_to(near, 1, "ipv4.conf.eth0.disable_xfrm")
    near.start()
    policy(near, "out")
    policy(near, "out", 6)
    holds(near.text(), "exempt from policies: net.ipv4.conf.eth0.disable_xfrm")
    equal(filters(near, "egress"), {"ipv6"})
    equal(filters(near, "ingress"), {"all"})
    passes(send, listener)
    stays_away(send6, counter(near, *CAPTURED), listener6)
    set_to(near, 0, "ipv4.conf.eth0.disable_xfrm")
    wait_for(lambda: "exempt from policies: nothing" in near.text())
    stays_away(send, counter(near, *CAPTURED), listener)
    equal(filters(near, "egress"), {"all"})
    set_to(near, 1, "ipv4.conf.all.disable_xfrm")
    passes(send, listener)
    stays_away(send6, counter(near, *CAPTURED), listener6)
    equal(filters(near, "egress"), {"ipv6"})
    wait_for(lambda: "net.ipv4.conf.all.disable_xfrm" in near.text())
    equal(lost(near), 0)


def filters_take_turns(netns):
    """Where programs are at devices by filters, one for IPv6 takes the place of that for all."""
    near, _ = wire(netns)
    near.start_with(FILTERS + "twin = tc\n")
    policy(near, "out")
    for value, seen in (1, {"ipv6"}), (0, {"all"}), (1, {"ipv6"}):
        set_to(near, value, "ipv4.conf.eth0.disable_xfrm", "ipv4.conf.eth0.disable_policy")
        wait_for(lambda want=seen: filters(near, "egress") == want)
        wait_for(lambda want=seen: filters(near, "ingress") == want)


def seen_by_itself(netns):
    """Nothing tells of it."""
    near, far = wire(netns)
    send, listener = endpoints(near, far)
    near.start()
    policy(near, "out")
    stays_away(send, counter(near, *CAPTURED), listener)
    near.run("sysctl", "-qw", "net.ipv4.conf.eth0.disable_xfrm=1", check=True)
    passes(send, listener)


def by_the_backstop(netns):
    """Without nftables."""
    near, far = wire(netns)
    both_families(near, far)
    send, listener = endpoints(near, far)
    send6, listener6 = endpoints(near, far, 6)
    near.start_with("[capture]\nmode = tc\n")
    policy(near, "out")
    policy(near, "out", 6)
    stays_away(send, counter(near, "capture", "backstop_captured"), listener)
    set_to(near, 1, "ipv4.conf.eth0.disable_xfrm")
    passes(send, listener)
    stays_away(send6, counter(near, "capture", "backstop_captured"), listener6)


def received(netns):
    near, far = wire(netns)
    both_families(near, far)
    send, listener = endpoints(near, far)
    far.start()
    policy(far, "in")
    stays_away(send, counter(far, *REFUSED), listener)
    set_to(far, 1, "ipv4.conf.eth0.disable_policy")
    passes(send, listener)
    wait_for(lambda: filters(far, "ingress") == {"ipv6"})
    equal(filters(far, "egress"), {"all"})
    set_to(far, 0, "ipv4.conf.eth0.disable_policy")
    wait_for(lambda: "exempt from policies: nothing" in far.text())
    stays_away(send, counter(far, *REFUSED), listener)
    set_to(far, 1, "ipv4.conf.all.disable_policy")
    passes(send, listener)
    wait_for(lambda: "net.ipv4.conf.all.disable_policy" in far.text())
    equal(lost(far), 0)


def received_six(netns):
    """The device that has the address decides, not the one where it arrives."""
    near, far = wire(netns)
    both_families(near, far)
    far.run("ip", "link", "add", "other", "type", "veth", "peer", "name", "another", check=True)
    far.run("ip", "link", "set", "other", "up", check=True)
    send, listener = endpoints(near, far, 6, "other")
    far.start()
    policy(far, "in", 6)
    stays_away(send, counter(far, *REFUSED), listener)
    set_to(far, 1, "ipv6.conf.eth0.disable_policy")
    wait_for(lambda: "exempt from policies: net.ipv6.conf.eth0.disable_policy" in far.text())
    stays_away(send, counter(far, *REFUSED), listener)
    set_to(far, 1, "ipv6.conf.other.disable_policy")
    passes(send, listener)
    far.run("ip", "addr", "del", "fd02::1/128", "dev", "other", check=True)
    far.run("ip", "addr", "add", "fd02::1/128", "dev", "lo", "nodad", check=True)
    wait_for(lambda: "fd02::1" not in far.run("nft", "list", "chain", "inet", "xfrmd",
                                              "input").stdout)
    stays_away(send, counter(far, *REFUSED), listener)


def router(netns):
    """A host behind each end: near has the wire to far, far a device to the host behind it."""
    near, far = wire(netns)
    host = netns()
    far.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", host.name,
            check=True)
    far.run("ip", "addr", "add", "198.51.100.2/24", "dev", "lan", check=True)
    far.run("ip", "link", "set", "lan", "up", check=True)
    far.run("sysctl", "-qw", "net.ipv4.ip_forward=1", check=True)
    host.run("ip", "link", "set", "eth0", "up", check=True)
    far.run("ip", "route", "add", "192.0.2.7/32", "dev", "eth0", check=True)
    near.run("ip", "addr", "add", "192.0.2.7/32", "dev", "eth0", check=True)
    near.run("ip", "route", "add", "198.51.100.1/32", "via", "192.0.2.2", "src", "192.0.2.7",
             check=True)
    host.run("ip", "addr", "add", "198.51.100.1/24", "dev", "eth0", check=True)
    listener = in_netns(host, socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("198.51.100.1", 4001))
    listener.setblocking(False)
    sender = in_netns(near, socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("192.0.2.7", 0))
    return near, far, lambda: sender.sendto(b"x", ("198.51.100.1", 4001)), listener


def tunnelled(near, far, direction):
    """Between HOSTS, from near to far, whose policies want another tunnel."""
    ends = "src", LINK[4][0], "dst", LINK[4][1], "proto", "esp"
    for net in near, far:
        net.xfrm("state", "add", *ends, "spi", "0x1000", "reqid", "1", "mode", "tunnel", "flag",
                 "af-unspec", "aead", "rfc4106(gcm(aes))", KEY, "128", check=True)
    for src, dst in HOSTS.values():
        for net, way, reqid in (near, "out", "1"), (far, direction, "2"):
            net.xfrm("policy", "add", "src", src, "dst", dst, "dir", way, "tmpl", *ends, "reqid",
                     reqid, "mode", "tunnel", check=True)


def decrypted(netns):
    """As Linux 6.1 was seen to do it: IPv4 by the device that the ESP came by, forwarded or not;
    IPv6 by its own address."""
    near, far = wire(netns)
    both_families(near, far)
    far.run("ip", "link", "add", "other", "type", "veth", "peer", "name", "another", check=True)
    far.run("ip", "link", "set", "other", "up", check=True)
    send, listener = endpoints(near, far)
    send6, listener6 = endpoints(near, far, 6, "other")
    for net in near, far:
        net.start()
    tunnelled(near, far, "in")
    stays_away(send, counter(far, *MISMATCH), listener)
    stays_away(send6, counter(far, *MISMATCH), listener6)
    set_to(far, 1, "ipv4.conf.eth0.disable_policy", "ipv6.conf.eth0.disable_policy")
    passes(send, listener)
    stays_away(send6, counter(far, *MISMATCH), listener6)
    set_to(far, 0, "ipv4.conf.eth0.disable_policy")
    set_to(far, 1, "ipv6.conf.other.disable_policy")
    passes(send6, listener6)
    wait_for(lambda: "ipv4" not in far.text().split("exempt from policies: ")[-1])
    stays_away(send, counter(far, *MISMATCH), listener)
    set_to(far, 1, "ipv4.conf.all.disable_policy")
    passes(send, listener)


def decrypted_and_forwarded(netns):
    near, far, send, listener = router(netns)
    for net in near, far:
        net.start()
    tunnelled(near, far, "fwd")
    stays_away(send, counter(far, *MISMATCH), listener)
    set_to(far, 1, "ipv4.conf.lan.disable_policy")
    wait_for(lambda: "exempt from policies" in far.text())
    stays_away(send, counter(far, *MISMATCH), listener)
    set_to(far, 1, "ipv4.conf.eth0.disable_policy")
    passes(send, listener)


def forwarded_out(netns):
    """By the device that the route leads to."""
    _, far, send, listener = router(netns)
    far.start()
    policy(far, "out")
    stays_away(send, counter(far, *CAPTURED), listener)
    set_to(far, 1, "ipv4.conf.eth0.disable_xfrm")
    wait_for(lambda: "exempt from policies" in far.text())
    stays_away(send, counter(far, *CAPTURED), listener)
    set_to(far, 1, "ipv4.conf.lan.disable_xfrm")
    passes(send, listener)


def forwarded_in(netns, twin="tc"):
    _, far, send, listener = router(netns)
    far.start_with(f"[capture]\nowner = no\ntwin = {twin}\n")
    if twin == "netfilter" and far.ask("status")["capture"]["twin"] != twin:
        return print("# this kernel has no links at netfilter's hooks")
    policy(far, "fwd")
    for setting in "ipv4.conf.eth0.disable_policy", "ipv4.conf.all.disable_policy":
        stays_away(send, counter(far, *REFUSED), listener)
        set_to(far, 1, setting)
        passes(send, listener)
        set_to(far, 0, setting)
        wait_for(lambda: far.text().rstrip().endswith("exempt from policies: nothing"))
    # It is the device where it arrives, not the one by which it goes on.
    set_to(far, 1, "ipv4.conf.lan.disable_policy")
    stays_away(send, counter(far, *REFUSED), listener)


def forwarded_past_links(netns):
    """The twin in netfilter reads the sysctls itself."""
    forwarded_in(netns, "netfilter")


def received_past_links(netns):
    """While nftables has no rules, which leave it a sign of what is exempt."""
    near, far = wire(netns)
    both_families(near, far)
    send, listener = endpoints(near, far)
    send6, listener6 = endpoints(near, far, 6)
    far.start_with("[capture]\nowner = no\n")
    if far.ask("status")["capture"]["twin"] != "netfilter":
        return print("# this kernel has no links at netfilter's hooks")
    policy(far, "in")
    policy(far, "in", 6)
    stays_away(send, counter(far, *REFUSED), listener)
    stays_away(send6, counter(far, *REFUSED), listener6)
    far.run("sysctl", "-qw", "net.ipv4.conf.eth0.disable_policy=1", check=True)
    far.daemon.send_signal(signal.SIGSTOP)
    try:
        far.run("nft", "flush", "ruleset", check=True)
        send6()
        passes(send, listener)
        equal(arrived(listener6), 0)
    finally:
        far.daemon.send_signal(signal.SIGCONT)


main([sent, filters_take_turns, seen_by_itself, by_the_backstop, received, received_past_links,
      received_six, decrypted, decrypted_and_forwarded, forwarded_out, forwarded_in,
      forwarded_past_links])
