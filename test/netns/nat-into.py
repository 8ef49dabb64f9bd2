#!/usr/bin/env python3
"""A source NAT that brings traffic into a policy: what Linux protects is protected.

inner - near = far. Behind near is a network that no policy names; near gives it an address of one
that is protected.
"""
import hashlib
import os
import re
import signal
import signal
import socket
import subprocess
import threading

from xfrmd import SHARED, equal, holds, in_netns, main, wait_for

V4, V6 = socket.AF_INET, socket.AF_INET6
KEY = "0x0102030405060708090a0b0c0d0e0f1011121314"
# Of each family: inner's address, what NAT makes of it, far's protected address.
ADDRS = {V4: ("172.16.0.2", "10.1.0.1", "10.2.0.1"), V6: ("fd16::2", "fd01::1", "fd02::1")}
ENDS = {V4: ("192.0.2.1", "192.0.2.2"), V6: ("2001:db8::1", "2001:db8::2")}
NETS = {V4: ("10.1.0.0/24", "10.2.0.0/24"), V6: ("fd01::/64", "fd02::/64")}


def link(one, two, dev):
    subprocess.run(["ip", "link", "add", dev, "netns", one.name, "type", "veth", "peer", "name",
                    dev, "netns", two.name], check=True)
    for net in one, two:
        net.run("ip", "link", "set", dev, "up", check=True)


def address(net, dev, *addrs):
    for addr in addrs:
        net.run("ip", "addr", "add", addr, "dev", dev, *(["nodad"] if ":" in addr else []),
                check=True)


def protect(net, mine, ports):
    for family in V4, V6:
        ends, nets = ENDS[family], NETS[family]
        for i, spi in enumerate(("0x1000", "0x2000")):
            net.xfrm("state", "add", "src", ends[i], "dst", ends[1 - i], "proto", "esp", "spi",
                     spi, "reqid", "1", "mode", "tunnel", "replay-window", "64", "aead",
                     "rfc4106(gcm(aes))", KEY, "128", check=True)
        for direction, a in ("out", mine), ("in", 1 - mine), ("fwd", 1 - mine):
            side = "dport" if a == 0 else "sport"
            upper = ("proto", "udp", side, "7000") if ports else ()
            done = net.xfrm("policy", "add", "src", nets[a], "dst", nets[1 - a], *upper, "dir",
                            direction, "tmpl", "src", ends[a], "dst", ends[1 - a], "proto", "esp",
                            "reqid", "1", "mode", "tunnel")
            equal(done.stderr, "")


class Network:
    def __init__(self, netns, config="", ports=False):
        self.inner, self.near, self.far = inner, near, far = netns(), netns(), netns()
        for net in inner, near, far:
            net.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0",
                    "net.ipv4.conf.default.rp_filter=0", check=True)
        near.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
                 check=True)
        link(inner, near, "lan")
        link(near, far, "wan")
        address(inner, "lan", "172.16.0.2/24", "fd16::2/64")
        address(near, "lan", "172.16.0.1/24", "fd16::1/64")
        address(near, "lo", "10.1.0.1/32", "fd01::1/128")
        address(near, "wan", "192.0.2.1/24", "2001:db8::1/64")
        address(far, "wan", "192.0.2.2/24", "2001:db8::2/64")
        address(far, "lo", "10.2.0.1/32", "fd02::1/128")
        for net, four, six in (inner, "172.16.0.1", "fd16::1"), \
                (near, "192.0.2.2", "2001:db8::2"), (far, "192.0.2.1", "2001:db8::1"):
            net.run("ip", "route", "add", "default", "via", four, check=True)
            net.run("ip", "route", "add", "default", "via", six, check=True)
        near.start_with(config)
        far.start()
        protect(near, 0, ports)
        protect(far, 1, ports)
        near.run("nft", "add table inet user; add chain inet user nat { type nat hook postrouting "
                 "priority srcnat; }; add rule inet user nat oifname wan ip saddr 172.16.0.0/24 "
                 "snat ip to 10.1.0.1; add rule inet user nat oifname wan ip6 saddr fd16::/64 "
                 "snat ip6 to fd01::1", check=True)
        self.seen = None

    def watch(self):
        """What is on the wire between protected addresses."""
        self.seen = f"/tmp/{self.near.name}.pcap"
        self.tcpdump = subprocess.Popen(
            self.far.argv("tcpdump", "-n", "-U", "--immediate-mode", "-i", "wan", "-w", self.seen,
                          "(ip and (net 10.1.0.0/16 or net 172.16.0.0/16)) or "
                          "(ip6 and net fd00::/8)"), stderr=subprocess.PIPE, text=True)
        for line in self.tcpdump.stderr:
            if "listening on" in line:
                return

    def clear(self):
        self.tcpdump.send_signal(signal.SIGINT)
        self.tcpdump.wait(20)
        done = subprocess.run(["tcpdump", "-n", "-r", self.seen], capture_output=True, text=True,
                              check=False)
        os.unlink(self.seen)
        return done.stdout


def stats(net):
    return net.ask("stats")["capture"]


def udp(network, family, sizes, back_too=True, port=7000):
    """Datagrams there and back; which of them came back (or, if not @back_too, arrived)."""
    inner, _, there = ADDRS[family]
    server = in_netns(network.far, family, socket.SOCK_DGRAM)
    server.bind((there, port))
    server.settimeout(2)
    client = in_netns(network.inner, family, socket.SOCK_DGRAM)
    client.bind((inner, 0))
    client.settimeout(2)
    back = []
    for size in sizes:
        # The first ones may be lost to learning the MTU.
        for _ in range(6):
            try:
                client.sendto(bytes(size), (there, port))
                data, peer = server.recvfrom(70000)
                equal(peer[0], ADDRS[family][1])
                if back_too:
                    server.sendto(data, peer)
                    data = client.recv(70000)
                back.append(len(data))
                break
            except OSError:
                continue
    return back


def tcp(network, family, size):
    inner, _, there = ADDRS[family]
    listener = in_netns(network.far, family, socket.SOCK_STREAM)
    listener.bind((there, 7001))
    listener.listen(1)
    noise = os.urandom(size)
    got = []

    def serve():
        peer, addr = listener.accept()
        got.append(addr[0])
        digest = hashlib.sha256()
        left = size
        while left and (part := peer.recv(1 << 18)):
            digest.update(part)
            left -= len(part)
        peer.sendall(digest.digest())
        peer.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = in_netns(network.inner, family, socket.SOCK_STREAM)
    client.settimeout(30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    client.bind((inner, 0))
    client.connect((there, 7001))
    client.sendall(noise)
    answer = client.recv(100)
    client.close()
    thread.join(30)
    equal((got, answer), ([ADDRS[family][1]], hashlib.sha256(noise).digest()))


def nat_into_a_policy(netns, family):
    network = Network(netns)
    network.watch()
    sizes = [10, 1300, 1472, 4000, 20000]
    equal(udp(network, family, sizes), sizes)
    tcp(network, family, 4 << 20)
    counted = stats(network.near)
    equal(counted["backstop_captured"] > 100, True)
    equal(network.clear(), "")
    # The sender itself has been told what fits.
    route = network.inner.run("ip", "route", "get", ADDRS[family][2]).stdout
    equal(1300 < int(re.search(r" mtu (\d+)", route)[1]) < 1500, True)


def nat_into_a_policy_ipv4(netns):
    nat_into_a_policy(netns, V4)


def nat_into_a_policy_ipv6(netns):
    nat_into_a_policy(netns, V6)


def nat_into_a_policy_with_ports(netns):
    """Fragments behind the first tell none."""
    network = Network(netns, ports=True)
    network.watch()
    for family in V4, V6:
        # With IPv6 what is put together for a policy with ports cannot be forwarded yet.
        sizes = [10, 4000, 20000]
        equal(udp(network, family, sizes, back_too=family == V4), sizes)
    equal(network.clear(), "")
    # What no policy wants arrives as well: all of its pieces go the same way.
    equal(udp(network, V4, [4000], back_too=False, port=7002), [4000])


def without_rules_the_backstop_captures(netns):
    network = Network(netns, SHARED)
    network.near.run("nft", "flush", "ruleset", check=True)
    network.watch()
    done = network.near.run("ping", "-c", "3", "-i", "0.2", "-W", "5", "-I", "10.1.0.1", "10.2.0.1")
    holds(done.stdout, " 0% packet loss")
    equal(network.clear(), "")


def without_its_tun_nothing_leaves(netns):
    """A daemon that is stopped does not put back what is taken away."""
    network = Network(netns, SHARED)
    network.watch()
    network.near.daemon.send_signal(signal.SIGSTOP)
    network.near.run("nft", "delete", "table", "inet", "xfrmd", check=True)
    network.near.run("ip", "link", "set", "xfrmd0", "down", check=True)
    inner, _, there = ADDRS[V4]
    client = in_netns(network.inner, V4, socket.SOCK_DGRAM)
    client.bind((inner, 0))
    for _ in range(10):
        client.sendto(b"x", (there, 7000))
    equal(network.clear(), "")
    network.near.daemon.send_signal(signal.SIGCONT)


def the_capture_bit_is_not_believed(netns):
    """At the egress of a device it may be anybody's: it says nothing."""
    network = Network(netns, SHARED)
    network.near.daemon.send_signal(signal.SIGSTOP)
    network.near.run("nft", "flush", "ruleset", check=True)
    network.near.run("ip", "rule", "del", "pref", "50", check=True)
    network.watch()
    network.near.run("ping", "-c", "3", "-i", "0.1", "-W", "1", "-m", str(0x40000000), "-I",
                     "10.1.0.1", "10.2.0.1")
    network.near.daemon.send_signal(signal.SIGCONT)
    after = stats(network.near)
    equal((after["backstop_captured"], after["backstop_dropped"]), (3, 0))
    equal(network.clear(), "")


def the_daemon_is_known_by_its_sockets(netns):
    """Rules that overwrite marks do not make the backstop take what the daemon sends."""
    network = Network(netns, "[io]\nnative = raw\n")
    done = network.near.xfrm("policy", "add", "src", "192.0.2.1", "dst", "192.0.2.2", "proto",
                             "esp", "dir", "out", "action", "block")
    equal(done.stderr, "")
    network.near.run("nft", "add table inet qos; add chain inet qos post { type filter hook "
                     "postrouting priority 200; }; add rule inet qos post oifname wan meta mark "
                     "set 1", check=True)
    done = network.near.run("ping", "-c", "3", "-i", "0.2", "-W", "5", "-I", "10.1.0.1", "10.2.0.1")
    holds(done.stdout, " 0% packet loss")


main([
    nat_into_a_policy_ipv4,
    nat_into_a_policy_ipv6,
    nat_into_a_policy_with_ports,
    without_rules_the_backstop_captures,
    without_its_tun_nothing_leaves,
    the_capture_bit_is_not_believed,
    the_daemon_is_known_by_its_sockets,
])
