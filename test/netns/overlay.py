#!/usr/bin/env python3
"""Tunnels of the host's: the outer packet is the host's own, whoever has sent what is in it."""
import socket
import time

import xfrmd
from nat_table import FORMS, KEY, World, ask_both
from xfrmd import equal, in_netns, wait_for

ENDS = ("192.0.2.1", "192.0.2.2")
INSIDE = ("172.16.0.1", "172.16.0.2")
NETS = ("10.0.1.0/24", "10.0.2.0/24")
VXLAN = 4789


def overlay(world):
    """h1's and h2's networks reach each other by a VXLAN between the gateways."""
    for net, (here, there), (mine, theirs), behind in (
            (world.g1, ENDS, INSIDE, NETS[1]), (world.g2, ENDS[::-1], INSIDE[::-1], NETS[0])):
        for line in (f"link add vx type vxlan id 5 local {here} remote {there} dstport {VXLAN}",
                     f"addr add {mine}/24 dev vx", "link set vx up",
                     f"route add {behind} via {theirs}"):
            net.run("ip", *line.split(), check=True)


def sas(world, ends, spi, reqid, mode):
    for net in world.g1, world.g2:
        world.batch(net, [f"xfrm state add src {a} dst {b} proto esp spi {spi + i} reqid {reqid} "
                          f"mode {mode} replay-window 32 aead rfc4106(gcm(aes)) {KEY} 128"
                          for i, (a, b) in enumerate((ends, ends[::-1]))])


def protect_overlay(world):
    sas(world, ENDS, 0x100, 7, "transport")
    for net, (here, there) in (world.g1, ENDS), (world.g2, ENDS[::-1]):
        world.batch(net, [f"xfrm policy add src {a} dst {b} proto udp dport {VXLAN} dir {way} "
                          "tmpl proto esp reqid 7 mode transport"
                          for way, a, b in (("out", here, there), ("in", there, here))])


def protect_inside(world):
    """Between the networks, by ESP between the ends inside the overlay."""
    sas(world, INSIDE, 0x200, 1, "tunnel")
    for net, (mine, theirs), (a, b) in ((world.g1, NETS, INSIDE),
                                        (world.g2, NETS[::-1], INSIDE[::-1])):
        lines = [f"xfrm policy add src {mine} dst {theirs} dir out tmpl src {a} dst {b}"]
        lines += [f"xfrm policy add src {theirs} dst {mine} dir {way} tmpl src {b} dst {a}"
                  for way in ("in", "fwd")]
        world.batch(net, [line + " proto esp reqid 1 mode tunnel" for line in lines])


def capture_too_much(world, dst, dev):
    """One that lets pass by a device is none that rules can have: what it leaves of the other
    policy, nothing, is captured and sent on."""
    world.batch(world.g1, [f"xfrm policy add src 0.0.0.0/0 dst {dst} dir out priority 10 tmpl src "
                           "192.0.2.1 dst 192.0.2.2 proto esp reqid 9 mode tunnel",
                           f"xfrm policy add src 0.0.0.0/0 dst {dst} dev {dev} dir out "
                           "priority 5"])


class Wire:
    """Of UDP and ESP between the gateways."""

    def __init__(self, world):
        self.sock = in_netns(world.g2, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self.sock.bind(("wan", 3))
        self.sock.setblocking(False)

    def seen(self):
        protos = set()
        try:
            while True:
                packet = self.sock.recv(65535)
                if packet[0] >> 4 == 4:
                    protos.add(packet[9])
        except BlockingIOError:
            return sorted(protos & {17, 50})


def sent_on_into_it(netns):
    """What is captured for others and sent on leaves in the overlay, and that protected."""
    world = World(netns)
    overlay(world)
    protect_overlay(world)
    wire = Wire(world)
    equal((ask_both(world.h1, "10.0.2.2"), wire.seen()), (("10.0.1.2", "10.0.1.2"), [50]))
    capture_too_much(world, NETS[1], "vx")
    before = world.g1.ask("stats")["io"]["clear_tx"]
    equal((ask_both(world.h1, "10.0.2.2"), wire.seen()), (("10.0.1.2", "10.0.1.2"), [50]))
    equal(world.g1.ask("stats")["io"]["clear_tx"] > before, True)


def esp_in_it(netns):
    """A tunnel's ESP by packet sockets and raw ones, in an overlay that is protected once more."""
    for config in "", "[io]\nnative = raw\n":
        world = World(netns)
        if config:
            world.g1.stop()
            world.g1.start_with(config)
        overlay(world)
        protect_overlay(world)
        protect_inside(world)
        wire = Wire(world)

        def flows():
            return ask_both(world.h1, "10.0.2.2") == ("10.0.1.2", "10.0.1.2")
        wait_for(flows)
        # Long enough for packet sockets to take over.
        for _ in range(4):
            time.sleep(0.2)
            equal(flows(), True)
        equal(wire.seen(), [50])
        equal(world.g1.ask("stats")["xfrm_stat"]["XfrmdOutLoop"], 0)


def beside_nat(netns):
    """On a host with NAT, which is asked for what it does to flows, but not to the overlay's."""
    world = World(netns)
    overlay(world)
    protect_overlay(world)
    protect_inside(world)
    world.nat(FORMS["masquerade -o wan"])
    wire = Wire(world)
    wait_for(lambda: ask_both(world.h1, "10.0.2.2") == ("10.0.1.2", "10.0.1.2"))
    equal(wire.seen(), [50])
    equal(world.g1.ask("stats")["xfrm_stat"]["XfrmdOutLoop"], 0)


def nobody_protects_it(netns):
    """Captured for others as well, the overlay that no policy wants flows as it would."""
    world = World(netns)
    overlay(world)
    protect_inside(world)
    capture_too_much(world, "192.0.2.0/24", "wan")
    wire = Wire(world)
    before = world.g1.ask("stats")["io"]["clear_tx"]
    for _ in range(3):
        equal(ask_both(world.h1, "10.0.2.2"), ("10.0.1.2", "10.0.1.2"))
    equal(wire.seen(), [17])
    equal(world.g1.ask("stats")["io"]["clear_tx"] > before, True)


def has_vxlan():
    probe = xfrmd.Netns()
    done = probe.run("ip", "link", "add", "vx", "type", "vxlan", "id", "5", "dstport", str(VXLAN))
    probe.close()
    return done.returncode == 0


if not has_vxlan():
    xfrmd.skip_all("this kernel has no VXLAN")
xfrmd.main([sent_on_into_it, esp_in_it, beside_nat, nobody_protects_it])
