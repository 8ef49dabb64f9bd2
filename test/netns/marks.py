#!/usr/bin/env python3
"""Marks are everybody's: rules of others overwrite, save and restore them. h1 - g1 = g2 - h2."""
import fcntl
import os
import socket
import struct
import subprocess

from tcx import names
from xfrmd import (ESP_IN_UDP, EXEC, KEY, checksum, equal, holds, in_netns, main,
                   run_in_netns, wait_for)

CAPTURE, BYPASS = 0x40000000, 0x20000000
OUTER = {"4": ("192.0.2.1", "192.0.2.2"), "6": ("2001:db8::1", "2001:db8::2")}
NETS = {"4": ("10.0.1.0/24", "10.0.2.0/24"), "6": ("fd01::/64", "fd02::/64")}
# Who calls whom: forwarded by g1, sent by g1, for g1.
CALLS = [("h1", "10.0.1.2", "10.0.2.2"), ("h1", "fd01::2", "fd02::2"),
         ("g1", "10.0.1.1", "10.0.2.2"), ("g1", "fd01::1", "fd02::2"),
         ("h2", "10.0.2.2", "10.0.1.1"), ("h2", "fd02::2", "fd01::1")]
# What no policy selects, and rules by destination alone capture nevertheless.
CLEAR = [("h1", "10.0.9.2", "10.0.2.2"), ("h1", "fd09::2", "fd02::2")]
SIGNS = f"{CAPTURE | BYPASS:#x}"
PLACES = {
    "prerouting": (("filter", -302), ("filter", -300), ("filter", -150), ("filter", 0),
                   ("filter", 1000), ("filter", 2147483647)),
    "input": (("filter", -150), ("filter", 0)),
    "forward": (("filter", -2147483647), ("filter", -150), ("filter", 0), ("filter", 2147483647)),
    "output": (("route", -150), ("filter", -150), ("route", 0), ("filter", 0), ("route", 1000),
               ("filter", 2147483646), ("route", 2147483646)),
    "postrouting": (("filter", -2147483647), ("filter", -401), ("filter", -150), ("filter", 150),
                    ("filter", 2147483647)),
}
CHANGES = ("meta mark set 5", "meta mark set 0", "meta mark set ct mark")
SAVES = ("ct mark set meta mark", f"ct mark set {SIGNS}", f"ct mark set {CAPTURE:#x}",
         f"ct mark set {BYPASS:#x}")


class World:
    def __init__(self, netns, config="", encap=(), families="46"):
        self.ident = 0  # of ICMP: one connection each
        self.nets = {name: netns() for name in ("h1", "g1", "g2", "h2")}
        for a, dev, b, peer in (("h1", "eth0", "g1", "lan"), ("g1", "wan", "g2", "wan"),
                                ("g2", "lan", "h2", "eth0")):
            subprocess.run(["ip", "link", "add", dev, "netns", self.nets[a].name, "type", "veth",
                            "peer", "name", peer, "netns", self.nets[b].name], check=True)
        for name, dev, addrs in (
                ("h1", "eth0", "10.0.1.2/24 fd01::2/64 10.0.9.2/24 fd09::2/64"),
                ("g1", "lan", "10.0.1.1/24 fd01::1/64 10.0.9.1/24 fd09::1/64"),
                ("g1", "wan", "192.0.2.1/24 2001:db8::1/64"),
                ("g2", "wan", "192.0.2.2/24 2001:db8::2/64"),
                ("g2", "lan", "10.0.2.1/24 fd02::1/64"),
                ("h2", "eth0", "10.0.2.2/24 fd02::2/64")):
            lines = [f"addr add {addr} dev {dev}" + " nodad" * (":" in addr)
                     for addr in addrs.split()]
            self.batch(name, "ip", [*lines, f"link set {dev} up"])
        for name, *hops in (("h1", "10.0.1.1", "fd01::1"), ("g1", "192.0.2.2", "2001:db8::2"),
                            ("g2", "192.0.2.1", "2001:db8::1"), ("h2", "10.0.2.1", "fd02::1")):
            self.batch(name, "ip", [f"route add default via {hop}" for hop in hops])
        for name in "g1", "g2":
            self.nets[name].run("sysctl", "-qw", "net.ipv4.ip_forward=1",
                                "net.ipv6.conf.all.forwarding=1", check=True)
            self.nets[name].start_with(config)
        for name in "g1", "g2":
            self.batch(name, "xfrm", self.tunnel(name == "g1", encap, families))

    def batch(self, name, tool, lines):
        shim = [EXEC] if tool == "xfrm" else []
        done = self.nets[name].run(*shim, "ip", "-batch", "-", input="\n".join(lines) + "\n")
        equal((done.returncode, done.stderr), (0, ""))

    @staticmethod
    def tunnel(near, encap, families):
        lines = []
        for family, (here, there) in NETS.items():
            ends = OUTER[family if family in families else "4"]
            for (src, dst), spi in ((ends, "0x1000"), (ends[::-1], "0x2000")):
                if family in families:
                    lines.append(f"xfrm state add src {src} dst {dst} proto esp spi {spi} reqid 1 "
                                 "mode tunnel flag af-unspec replay-window 32 aead "
                                 f"rfc4106(gcm(aes)) {KEY} 128 {' '.join(encap)}")
            mine, theirs = (here, there) if near else (there, here)
            a, b = ends if near else ends[::-1]
            tail = "proto esp reqid 1 mode tunnel"
            lines.append(f"xfrm policy add src {mine} dst {theirs} dir out tmpl src {a} dst {b} "
                         + tail)
            for direction in "in", "fwd":
                lines.append(f"xfrm policy add src {theirs} dst {mine} dir {direction} tmpl "
                             f"src {b} dst {a} {tail}")
        return lines

    def rules(self, *chains):
        """In g1, instead of those before: (hook, type, priority, rule) each."""
        text = "add table inet host\ndelete table inet host\nadd table inet host\n"
        for i, (hook, kind, priority, rule) in enumerate(chains):
            text += (f"add chain inet host c{i} {{ type {kind} hook {hook} priority {priority}; }}"
                     f"\nadd rule inet host c{i} {rule}\n")
        done = self.nets["g1"].run("nft", "-f", "-", input=text)
        equal((done.returncode, done.stderr), (0, ""))

    def fails(self, calls):
        """Those of @calls that get not both answers: what is restored the second packet has."""
        started = []
        for name, src, dst in calls:
            self.ident += 1
            ping = f"ping -q -c 1 -W 4 -e {self.ident} -I {src} {dst}"
            started.append(subprocess.Popen(self.nets[name].argv("sh", "-c", f"{ping} && {ping}"),
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return [call for call, ping in zip(calls, started) if ping.wait()]

    def io(self, what):
        return self.nets["g1"].ask("stats")["io"][what]


class Wire:
    """What of the inner networks is seen on the wire between the gateways."""

    def __init__(self, world):
        self.sock = in_netns(world.nets["g2"], socket.AF_PACKET, socket.SOCK_DGRAM,
                             socket.htons(3))
        self.sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self.sock.bind(("wan", 3))
        self.sock.setblocking(False)

    def clear(self):
        inner = [socket.inet_aton(f"10.0.{n}.0")[:3] for n in (1, 2)], \
            [socket.inet_pton(socket.AF_INET6, f"fd0{n}::")[:8] for n in (1, 2)]
        found = seen = 0
        while True:
            try:
                packet = self.sock.recv(65535)
            except BlockingIOError:
                return found, seen > 0
            seen += 1
            if packet[0] >> 4 == 4:
                found += packet[12:15] in inner[0] or packet[16:19] in inner[0]
            else:
                found += packet[8:16] in inner[1] or packet[24:32] in inner[1]


def foreign_rules():
    for hook, places in PLACES.items():
        for kind, priority in places:
            for change in CHANGES:
                if "ct" not in change:
                    yield [(hook, kind, priority, change)]
                    continue
                for save in SAVES:
                    yield [(hook, kind, priority, change), ("postrouting", "filter", 2147483645,
                                                            save)]


def try_all(world, calls):
    """The first rules with which a call gets no answer: each alone, then in all places at once."""
    every = [(hook, kind, priority) for hook, places in PLACES.items() for kind, priority in places]
    together = [[*((*place, change) for place in every),
                 ("postrouting", "filter", 2147483645, SAVES[0])] for change in CHANGES]
    for rules in [*foreign_rules(), *together]:
        world.rules(*rules)
        failed = world.fails(calls)
        if failed:
            return rules, failed
    return None


def native(netns):
    world = World(netns, "[io]\nnative = raw\n")
    wire = Wire(world)
    equal(try_all(world, CALLS), None)
    # A packet that goes round is sent for ever.
    before = world.io("clear_tx")
    equal(world.fails(CALLS), [])
    equal(world.io("clear_tx") - before, 0)
    equal(wire.clear(), (0, True))


def in_udp(netns):
    world = World(netns, encap=ESP_IN_UDP, families="4")
    wire = Wire(world)
    equal(try_all(world, CALLS[:2]), None)
    equal(wire.clear(), (0, True))


def sent_on(netns):
    """What rules capture because they cannot have a policy that lets it pass goes its way."""
    world = World(netns)
    here, there = OUTER["4"]
    for name, src, dst in CLEAR:
        ends = "src {} dst {} dir out".format(
            *(addr + ("/32" if "." in addr else "/128") for addr in (src, dst)))
        world.batch("g1", "xfrm", [
            f"xfrm policy add {ends} priority 10 tmpl src {here} dst {there} proto esp reqid 9 "
            "mode tunnel", f"xfrm policy add {ends.replace(' dir', ' dev wan dir')} priority 5"])
    before = world.io("clear_tx")
    equal(world.fails(CLEAR), [])
    equal(world.io("clear_tx") - before, 4)
    equal(try_all(world, CLEAR), None)
    before = world.io("clear_tx")
    equal(world.fails(CLEAR), [])
    equal(world.io("clear_tx") - before, 4)


def back_again(netns):
    """A route of the user's brings what was sent on into the TUN once more."""
    world = World(netns)
    world.batch("g1", "ip", ["route add 203.0.113.0/24 dev xfrmd0",
                             "route add 2001:db8:9::/64 dev xfrmd0"])
    before = world.io("clear_tx")
    calls = [("h1", "10.0.1.2", "203.0.113.1"), ("h1", "fd01::2", "2001:db8:9::1")]
    equal(world.fails(calls), calls)
    equal(world.nets["g1"].ask("stats")["xfrm_stat"]["XfrmdOutLoop"], 2)
    equal(world.io("clear_tx") - before, 2)


def fast_path(netns):
    """A flow table brings packets to the TUN past all hooks; so does this, in every kernel."""
    world = World(netns)
    done = world.nets["g1"].run(
        "nft", "-f", "-", input="table netdev fast {\nchain in {\n"
        "type filter hook ingress device lan priority 0\n"
        "ip daddr 10.0.2.0/24 fwd ip to 10.0.2.2 device xfrmd0\n"
        "ip6 daddr fd02::/64 fwd ip6 to fd02::2 device xfrmd0\n}\n}\n")
    equal((done.returncode, done.stderr), (0, ""))
    wire = Wire(world)
    equal(world.fails([call for call in CALLS if call[0] == "h1"]), [])
    equal(wire.clear(), (0, True))
    equal(world.nets["g1"].ask("stats")["capture"]["captured"], 0)


def way_back(netns):
    """Rules that ask for the route back find the TUN: firewalld's IPv6_rpfilter, and the like."""
    world = World(netns)
    rule = "meta nfproto {} fib saddr . mark . iif oif missing drop"
    for priority in -290, 10:
        for number in "ipv4", "ipv6":
            world.rules(("prerouting", "filter", priority, rule.format(number)))
            equal(world.fails(CALLS), [])
    world.rules(("prerouting", "filter", -150, "meta mark set 5"),
                ("prerouting", "filter", 10, rule.format("ipv6")))
    equal(world.fails(CALLS), [])


def forged(netns):
    """The bypass bit of what is forwarded is nobody's sign, with our table gone neither."""
    world = World(netns, "[capture]\nmode = tc\n")
    wire = Wire(world)
    world.rules(("prerouting", "filter", 0, f"meta mark set {BYPASS:#x}"))
    equal(world.fails([call for call in CALLS if call[0] == "h1"]), [])
    equal(wire.clear(), (0, True))


def bridged(netns):
    """Frames between ports of a bridge are nobody's to protect, seen by netfilter or not."""
    world = World(netns)
    one, two, near = netns(), netns(), world.nets["g1"]
    world.batch("g1", "ip", ["link add br0 type bridge", "link set br0 up"])
    for net, dev, addrs in ((one, "p1", ("10.0.1.66/8", "fd01::66/8")),
                            (two, "p2", ("10.0.2.66/8", "fd02::66/8"))):
        subprocess.run(["ip", "link", "add", dev, "netns", near.name, "type", "veth", "peer",
                        "name", "eth0", "netns", net.name], check=True)
        near.run("ip", "link", "set", dev, "master", "br0", "up", check=True)
        net.run("ip", "link", "set", "eth0", "up", check=True)
        for addr in addrs:
            net.run("ip", "addr", "add", addr, "dev", "eth0", *["nodad"] * (":" in addr),
                    check=True)
    world.nets.update(one=one, two=two)
    calls = [("one", "10.0.1.66", "10.0.2.66"), ("one", "fd01::66", "fd02::66"),
             ("two", "10.0.2.66", "10.0.1.66"), ("two", "fd02::66", "fd01::66")]

    def ports_are_known():
        return not any(names(near, dev) for dev in ("p1", "p2"))

    wait_for(ports_are_known, 20)
    for on in "0", "1":
        near.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={on}",
                 f"net.bridge.bridge-nf-call-ip6tables={on}")
        equal(world.fails(calls), [])
    equal(world.fails(CALLS), [])
    # What leaves by a port has none of our bits.
    near.run("nft", "-f", "-", check=True, input="add table bridge see\n"
             "add chain bridge see post { type filter hook postrouting priority 1; }\n"
             f"add rule bridge see post meta mark & {SIGNS} != 0 drop\n")
    near.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0",
             "net.bridge.bridge-nf-call-ip6tables=0")
    equal(world.fails(calls), [])
    near.ctl("release")
    equal("xfrmd" in near.run("nft", "list", "tables", check=True).stdout, False)


class OtherTun:
    """Somebody's TUN of the name tun9 in g1, by which 10.7.0.0/24 is reached."""

    def __init__(self, world):
        def attach():
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH14x", b"tun9", 0x1001))
            return fd

        self.fd = run_in_netns(world.nets["g1"], attach)
        world.batch("g1", "ip", ["addr add 10.7.0.1/24 dev tun9", "link set tun9 up"])
        world.nets["g1"].run("sysctl", "-qw", "net.ipv4.conf.tun9.rp_filter=0",
                             "net.ipv4.conf.all.rp_filter=0", check=True)

    def read(self):
        """Destinations of IPv4 packets that left by it."""
        seen = set()
        while True:
            try:
                packet = os.read(self.fd, 65535)
            except BlockingIOError:
                return seen
            if packet[0] >> 4 == 4:
                seen.add(socket.inet_ntoa(packet[16:20]))

    def write(self, src, dst):
        """A datagram as if it came in there."""
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, socket.inet_aton(src),
                           socket.inet_aton(dst))
        os.write(self.fd, head[:10] + struct.pack("!H", checksum(head)) + head[12:]
                 + struct.pack("!HHHH", 9, 9, 8, 0))


def other_tun(netns):
    """A device of the TUN's type is not the TUN: its name tells, on all ways."""
    world = World(netns)
    near = world.nets["g1"]
    tun = OtherTun(world)

    def count(name):
        return near.ask("stats")["capture"][name]

    # What nobody wants protected leaves by it, and what comes by it is plaintext as any other.
    with in_netns(near, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"plain", ("10.7.0.2", 9))
        sock.sendto(b"plain", ("224.7.7.7", 9))
    holds(tun.read(), "10.7.0.2")
    equal(count("misrouted_dropped"), 0)
    for number, dst in enumerate(("10.0.1.1", "10.0.1.2"), 1):
        tun.write("10.0.2.2", dst)
        equal(count("plaintext_dropped"), number)
    # A socket that is bound to it sends what is captured there: it does not leave.
    with in_netns(near, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"tun9")
        sock.bind(("10.0.1.1", 0))
        try:
            sock.sendto(b"captured", ("10.0.2.2", 9))
        except PermissionError:
            pass  # as it shall be
    equal(count("misrouted_dropped"), 1)
    equal(tun.read() & {"10.0.2.2"}, set())


main([native, in_udp, sent_on, back_again, fast_path, way_back, forged, bridged, other_tun])
