#!/usr/bin/env python3
"""Plaintext that policies refuse stays out while nftables has no rules: far - near - inner."""
import os
import signal
import socket
import subprocess

from xfrmd import EXEC, SHARED, equal, holds, in_netns, main, wait_for

BYPASS = 0x20000000
PORT = 4001
V4, V6 = socket.AF_INET, socket.AF_INET6
# Of each family: the forger, the inner host, near's own inner address, one that no policy names.
ADDRS = {V4: ("10.2.0.9", "10.1.0.2", "10.1.0.1", "192.0.2.2"),
         V6: ("fd02::9", "fd01::2", "fd01::1", "2001:db8::2")}


def link(one, a, two, b):
    subprocess.run(["ip", "link", "add", a, "netns", one.name, "type", "veth", "peer", "name", b,
                    "netns", two.name], check=True)
    for net, dev in (one, a), (two, b):
        net.run("ip", "link", "set", dev, "up", check=True)


def address(net, dev, *addrs):
    for addr in addrs:
        net.run("ip", "addr", "add", addr, "dev", dev, *(["nodad"] if ":" in addr else []),
                check=True)


def network(netns):
    far, near, inner = netns(), netns(), netns()
    for net in far, near, inner:
        net.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.conf.default.rp_filter=0", check=True)
    near.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
             check=True)
    link(far, "wan", near, "wan")
    link(near, "lan", inner, "lan")
    address(far, "wan", "192.0.2.2/24", "2001:db8::2/64")
    address(far, "lo", "10.2.0.9/32", "fd02::9/128")
    address(near, "wan", "192.0.2.1/24", "2001:db8::1/64")
    address(near, "lan", "10.1.0.1/24", "fd01::1/64")
    address(inner, "lan", "10.1.0.2/24", "fd01::2/64")
    for net, four, six in (far, "192.0.2.1", "2001:db8::1"), (inner, "10.1.0.1", "fd01::1"):
        net.run("ip", "route", "add", "default", "via", four, check=True)
        net.run("ip", "route", "add", "default", "via", six, check=True)
    for src, dst in ("10.2.0.0/24", "192.0.2.1"), ("fd02::/64", "2001:db8::1"):
        near.run("ip", "route", "add", src, "via", dst[:-1] + "2", check=True)
    return far, near, inner


def policy(net, src, dst, *more, tmpl=True):
    ends = ("192.0.2.2", "192.0.2.1") if "." in src else ("2001:db8::2", "2001:db8::1")
    tail = ["tmpl", "src", ends[0], "dst", ends[1], "proto", "esp", "reqid", "1", "mode",
            "tunnel"] if tmpl else []
    done = net.xfrm("policy", "add", "src", src, "dst", dst, *more, *tail)
    equal((done.returncode, done.stderr), (0, ""))


def refuse(near, *upper):
    for direction in "in", "fwd":
        policy(near, "10.2.0.0/24", "10.1.0.0/24", *upper, "dir", direction)
        policy(near, "fd02::/64", "fd01::/64", *upper, "dir", direction)


class stopped:
    """The daemon of @net stands still, and nftables is empty."""

    def __init__(self, net):
        self.net = net

    def __enter__(self):
        self.pid = self.net.ask("status")["pid"]
        os.kill(self.pid, signal.SIGSTOP)
        flush(self.net)

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGCONT)


class Wire:
    """Datagrams from far, and who has received them."""

    def __init__(self, far, near, inner):
        self.far = far
        self.receivers = {}
        for family, (_, there, here, _) in ADDRS.items():
            for net, addr in (inner, there), (near, here):
                sock = in_netns(net, family, socket.SOCK_DGRAM)
                sock.bind((addr, PORT))
                sock.setblocking(False)
                self.receivers[addr] = sock
        self.senders = {}
        self.questions = 0

    def send(self, src, dst, text, sport=4000, dport=PORT):
        family = V6 if ":" in src else V4
        if (src, sport) not in self.senders:
            sock = in_netns(self.far, family, socket.SOCK_DGRAM)
            sock.bind((src, sport))
            self.senders[src, sport] = sock
        self.senders[src, sport].sendto(text, (dst, dport))

    def received(self, dst):
        got = []
        while True:
            try:
                got.append(self.receivers[dst].recv(100))
            except BlockingIOError:
                return got

    def passes(self, src, dst, sport=4000):
        """Does what @src sends arrive? What nobody refuses, sent behind it, tells when to look."""
        fence = ADDRS[V6 if ":" in src else V4][3]
        seen = []
        # What is left over from an earlier question answers none.
        self.questions += 1
        asked, behind = (b"%s%08d" % (word, self.questions) for word in (b"asked", b"fence"))

        def fence_arrived():
            self.send(src, dst, asked, sport)
            self.send(fence, dst, behind)
            seen.extend(self.received(dst))
            return behind in seen

        wait_for(fence_arrived, 20)
        return asked in seen

    def all_pass(self):
        return [self.passes(forger, dst) for forger, there, here, _ in ADDRS.values()
                for dst in (there, here)]


def flush(net):
    net.run("nft", "flush", "ruleset", check=True)


def forms(netns, form):
    """As it is, then with nftables flushed while the daemon stands still."""
    far, near, inner = network(netns)
    near.start_with(SHARED + f"twin = {form}\n")
    wire = Wire(far, near, inner)
    refuse(near)
    before = wire.all_pass()
    with stopped(near):
        after = wire.all_pass()
    return near, before, after


def a_flush_opens_where_there_is_no_twin(netns):
    near, before, after = forms(netns, "none")
    equal((before, after), ([False] * 4, [True] * 4))
    equal(near.ask("status")["capture"]["twin"], "none")


def a_flush_opens_nothing(netns, form, want):
    near, before, after = forms(netns, form)
    equal((before, after), ([False] * 4, [False] * 4))
    equal(near.ask("status")["capture"]["twin"], want)
    holds(near.ctl("status").stdout, f"\ntwin      {want}")
    equal(near.ask("stats")["capture"]["twin_dropped"] >= 4, True)


def a_flush_opens_nothing_with_netfilter(netns):
    a_flush_opens_nothing(netns, "netfilter", "netfilter")


def a_flush_opens_nothing_with_tc(netns):
    a_flush_opens_nothing(netns, "tc", "tc")


def filters(net):
    return [line for dev in ("wan", "lan") for way in ("ingress", "egress")
            for line in net.run("tc", "filter", "show", "dev", dev, way).stdout.splitlines()]


def kill_and_flush_open_nothing_until_release(netns):
    far, near, inner = network(netns)
    near.start()
    equal(near.ask("status")["capture"]["twin"], "netfilter")
    wire = Wire(far, near, inner)
    refuse(near)
    near.stop(signal.SIGKILL)
    equal(wire.all_pass(), [False] * 4)
    flush(near)
    equal(wire.all_pass(), [False] * 4)
    # The next one takes over what it finds.
    near.start()
    equal(wire.all_pass(), [False] * 4)
    near.stop(signal.SIGKILL)
    equal(near.ctl("release").returncode, 0)
    equal(wire.all_pass(), [True] * 4)
    equal(filters(near), [])


def a_host_that_does_not_forward(netns):
    """At devices policies in alone decide then."""
    far, near, inner = network(netns)
    near.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0", check=True)
    near.start()
    wire = Wire(far, near, inner)
    policy(near, "10.2.0.0/24", "10.1.0.0/24", "dir", "in")
    policy(near, "fd02::/64", "fd01::/64", "dir", "in")
    near.stop(signal.SIGKILL)
    flush(near)
    equal([wire.passes("10.2.0.9", "10.1.0.1"), wire.passes("fd02::9", "fd01::1")], [False, False])


def the_order_of_many_is_kept(netns):
    """600 that refuse, one that lets pass before half of them, and ports."""
    far, near, inner = network(netns)
    near.start_with(SHARED + "twin = netfilter\n")
    wire = Wire(far, near, inner)
    tail = "tmpl proto esp mode transport"
    batch = [f"xfrm policy add src 10.2.{i % 250}.0/24 dst 10.{1 + i // 250}.0.0/{16 + i % 9} dir "
             f"{direction} priority 50 {tail}" for i in range(300) for direction in ("in", "fwd")]
    # From port 4000 10.2.0.9 may send.
    batch += [f"xfrm policy add src 10.2.0.9/32 dst 10.1.0.0/16 proto udp sport {port} dir "
              f"{direction} priority {priority}" + (f" {tail}" if refuse else "")
              for direction in ("in", "fwd")
              for port, priority, refuse in ((4000, 49, False), (4001, 51, False),
                                             (4002, 48, True))]
    done = near.run(EXEC, "ip", "-batch", "-", input="\n".join(batch) + "\n")
    equal((done.returncode, done.stderr), (0, ""))
    want = [True, False, False, False]

    def verdicts():
        return [[wire.passes("10.2.0.9", dst, sport) for sport in (4000, 4001, 4002, 4003)]
                for dst in ("10.1.0.2", "10.1.0.1")]

    equal(verdicts(), [want, want])
    with stopped(near):
        equal(verdicts(), [want, want])
    equal(near.ask("stats")["capture"]["twin_dropped"] >= 6, True)


def bypass_sockets_hear_everything(netns):
    """IKE's do: it finds them without nftables, connected or not, and no others."""
    far, near, inner = network(netns)
    near.start_with(SHARED + "twin = netfilter\n")
    wire = Wire(far, near, inner)
    refuse(near)
    ours = [(forger, here) for forger, _, here, _ in ADDRS.values()]
    for stop in False, True:
        for forger, here in ours:
            sock = wire.receivers[here]
            for mark, want in (0, False), (BYPASS, True), (0, False):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
                if stop:
                    with stopped(near):
                        equal((here, mark, wire.passes(forger, here)), (here, mark, want))
                else:
                    equal((here, mark, wire.passes(forger, here)), (here, mark, want))


def it_goes_by_the_addresses_of_the_wire(netns):
    """Destination NAT leads to what is refused, but came by an address that is not, as in Linux."""
    far, near, inner = network(netns)
    near.start_with(SHARED + "twin = netfilter\n")
    wire = Wire(far, near, inner)
    policy(near, "10.2.0.0/24", "10.1.0.0/24", "dir", "fwd")
    sender = in_netns(far, V4, socket.SOCK_DGRAM)
    sender.bind(("10.2.0.9", 4444))

    def arrives():
        sender.sendto(b"asked", ("192.0.2.1", 5555))
        return b"asked" in wire.received("10.1.0.2")

    # Its chain stays: only what the daemon has in nftables goes.
    near.run("nft", "add table inet user; add chain inet user nat { type nat hook prerouting "
             "priority dstnat; }; add rule inet user nat ip daddr 192.0.2.1 udp dport 5555 "
             "dnat ip to 10.1.0.2:4001", check=True)
    os.kill(near.ask("status")["pid"], signal.SIGSTOP)
    near.run("nft", "delete", "table", "inet", "xfrmd", check=True)
    try:
        wait_for(arrives, 20)
        equal(wire.passes("10.2.0.9", "10.1.0.2"), False)
    finally:
        near.daemon.send_signal(signal.SIGCONT)


main([
    a_flush_opens_where_there_is_no_twin,
    a_flush_opens_nothing_with_netfilter,
    a_flush_opens_nothing_with_tc,
    kill_and_flush_open_nothing_until_release,
    a_host_that_does_not_forward,
    the_order_of_many_is_kept,
    bypass_sockets_hear_everything,
    it_goes_by_the_addresses_of_the_wire,
])
