#!/usr/bin/env python3
"""Policies of equal priority, one of them updated: in the kernel the same one wins as in the SPD.

A wide policy that allows is older than one between two hosts that protects, until an update makes
it the younger one of the two: from then on nothing between the hosts may pass in clear.
"""
import socket

from xfrmd import counter, in_netns, main, passes, stays_away, wire

WIDE = "src", "192.0.0.0/16", "dst", "198.51.0.0/16"
HOSTS = "src", "192.0.2.7", "dst", "198.51.100.1"
ESP = ("tmpl", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "mode", "tunnel")


def policies(net, direction):
    """The two as they come."""
    net.xfrm("policy", "add", *WIDE, "dir", direction, "priority", "100", check=True)
    net.xfrm("policy", "add", *HOSTS, "dir", direction, "priority", "100", *ESP, check=True)


def update(net, direction):
    net.xfrm("policy", "update", *WIDE, "dir", direction, "priority", "100", check=True)


def prepare(near, far):
    """192.0.2.7 on one side, 198.51.100.1 on the other, and a socket that hears what arrives."""
    near.run("ip", "addr", "add", "192.0.2.7/32", "dev", "eth0", check=True)
    near.run("ip", "route", "add", "198.51.100.1/32", "via", "192.0.2.2", check=True)
    far.run("ip", "addr", "add", "198.51.100.1/32", "dev", "lo", check=True)
    listener = in_netns(far, socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("198.51.100.1", 4001))
    listener.setblocking(False)
    sender = in_netns(near, socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("192.0.2.7", 0))
    return lambda: sender.sendto(b"x", ("198.51.100.1", 4001)), listener


def out(netns, config, *name):
    near, far = wire(netns)
    send, listener = prepare(near, far)
    near.start_with(config)
    policies(near, "out")
    passes(send, listener)
    update(near, "out")
    stays_away(send, counter(near, *name), listener)


def out_by_rules(netns):
    """Rules send it to the daemon, which has no SA for it."""
    out(netns, "", "xfrm_stat", "XfrmOutNoStates")


def out_by_backstop(netns):
    """The backstop alone sends it there."""
    out(netns, "[capture]\nmode = tc\n", "capture", "backstop_captured")


def inbound(netns):
    near, far = wire(netns)
    send, listener = prepare(near, far)
    far.start()
    policies(far, "in")
    passes(send, listener)
    update(far, "in")
    stays_away(send, counter(far, "capture", "plaintext_dropped"), listener)


def forwarded(netns):
    """One more host behind the far end."""
    near, far = wire(netns)
    host = netns()
    send, _ = prepare(near, far)
    far.run("ip", "addr", "del", "198.51.100.1/32", "dev", "lo", check=True)
    far.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", host.name,
            check=True)
    far.run("ip", "addr", "add", "198.51.100.2/24", "dev", "lan", check=True)
    far.run("ip", "link", "set", "lan", "up", check=True)
    far.run("ip", "route", "add", "192.0.2.7/32", "dev", "eth0", check=True)
    far.run("sysctl", "-qw", "net.ipv4.ip_forward=1", check=True)
    host.run("ip", "addr", "add", "198.51.100.1/24", "dev", "eth0", check=True)
    host.run("ip", "link", "set", "eth0", "up", check=True)
    listener = in_netns(host, socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("198.51.100.1", 4001))
    listener.setblocking(False)
    far.start()
    policies(far, "fwd")
    passes(send, listener)
    update(far, "fwd")
    stays_away(send, counter(far, "capture", "plaintext_dropped"), listener)


main([out_by_rules, out_by_backstop, inbound, forwarded])
