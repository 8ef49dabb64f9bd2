#!/usr/bin/env python3
"""Fragments and what is behind them: ports, MTUs, the order of one SA's packets."""
import signal
import socket
import subprocess
import time

from xfrmd import KEY, equal, in_netns, main, wait_for, wire

OUTER = "192.0.2.1", "192.0.2.2"
PORT = 5060
NETS = ("10.0.1.0/24", "10.0.2.0/24"), ("fd01::/64", "fd02::/64")
HERE, THERE = ("10.0.1.1", "10.0.2.2"), ("fd01::1", "fd02::2")


def host_behind(netns, net):
    """A host that only the gateway @net reaches."""
    host = netns()
    subprocess.run(["ip", "link", "add", "lan", "netns", net.name, "type", "veth", "peer", "name",
                    "eth0", "netns", host.name], check=True)
    for where, dev, addrs in (net, "lan", ("10.0.2.1/24", "fd02::1/64")), \
                             (host, "eth0", ("10.0.2.2/24", "fd02::2/64")):
        where.run("ip", "link", "set", dev, "up", check=True)
        for addr in addrs:
            where.run("ip", "addr", "add", addr, "dev", dev, *["nodad"] * (":" in addr), check=True)
    host.run("ip", "route", "add", "default", "via", "10.0.2.1", check=True)
    host.run("ip", "route", "add", "default", "via", "fd02::1", check=True)
    return host


def sas(net):
    for src, dst, spi in (*OUTER, "0x1000"), (*OUTER[::-1], "0x2000"):
        net.xfrm("state", "add", "src", src, "dst", dst, "proto", "esp", "spi", spi, "reqid", "1",
                 "mode", "tunnel", "flag", "af-unspec", "replay-window", "32", "aead",
                 "rfc4106(gcm(aes))", KEY, "128", check=True)


def policy(net, way, src, dst, ends, *selector):
    net.xfrm("policy", "add", "src", src, "dst", dst, *selector, "dir", way, "tmpl", "src", ends[0],
             "dst", ends[1], "proto", "esp", "reqid", "1", "mode", "tunnel", check=True)


def tunnel(netns, there=(), back=(), workers=1, mtu=1500):
    """10.0.1.1 and fd01::1 on one gateway, a host behind the other; the policies' selectors."""
    near, far = wire(netns)
    host = host_behind(netns, far)
    for net in near, far:
        net.run("ip", "link", "set", "eth0", "mtu", str(mtu), check=True)
    for addr in "10.0.1.1/32", "fd01::1/128":
        near.run("ip", "addr", "add", addr, "dev", "lo", check=True)
    near.run("ip", "route", "add", "10.0.2.0/24", "via", OUTER[1], "src", HERE[0], check=True)
    near.run("ip", "route", "add", "fd02::/64", "dev", "eth0", "src", THERE[0], check=True)
    far.run("ip", "route", "add", "10.0.1.0/24", "via", OUTER[0], check=True)
    far.run("ip", "route", "add", "fd01::/64", "dev", "eth0", check=True)
    far.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", check=True)
    for net in near, far:
        net.start_with(f"[daemon]\nworkers = {workers}\n")
        sas(net)
    for a, b in NETS:
        policy(near, "out", a, b, OUTER, *there)
        policy(near, "in", b, a, OUTER[::-1], *back)
        policy(far, "out", b, a, OUTER[::-1], *back)
        policy(far, "fwd", a, b, OUTER, *there)
    return near, far, host


def ask(near, host, family, addrs, size):
    """A datagram of @size bytes to the host and back, until it comes: neighbours have to be found
    first."""
    server = in_netns(host, family, socket.SOCK_DGRAM)
    client = in_netns(near, family, socket.SOCK_DGRAM)
    server.bind((addrs[1], PORT))
    client.bind((addrs[0], 0))
    for sock in server, client:
        sock.settimeout(1)

    def comes_back():
        client.sendto(bytes(size), (addrs[1], PORT))
        try:
            data, peer = server.recvfrom(70000)
            server.sendto(data, peer)
            return len(client.recv(70000)) == size
        except TimeoutError:
            return False
    wait_for(comes_back, 15)


def large_datagrams_and_ports(netns):
    """They are put together to see the ports, and go on as they came: nobody cuts IPv6."""
    near, far, host = tunnel(netns, ("proto", "udp", "dport", str(PORT)),
                             ("proto", "udp", "sport", str(PORT)))
    for family, addrs in (socket.AF_INET, (HERE[0], HERE[1])), \
                         (socket.AF_INET6, (THERE[0], THERE[1])):
        for size in 100, 1400, 3000, 9000, 30000:
            ask(near, host, family, addrs, size)
    drops = {k: v for k, v in far.ask("stats")["xfrm_stat"].items() if v}
    drops.pop("XfrmdOutTooBig", None)  # the host was told of the tunnel's MTU
    equal(drops, {})


def drain(sock):
    """How many datagrams there are."""
    n = 0
    try:
        while sock.recv(70000):
            n += 1
    except BlockingIOError:
        return n


def counts(net):
    stats = net.ask("stats")
    return {**stats["xfrm_stat"], **stats["io"], **stats["engine"]}


def by_ring(far, client, server):
    """Until the far gateway receives by its ring, where there can be one: from those that it sends
    to."""
    if far.ask("status")["native"]["why_not_ring"] == "this kernel has no tcx":
        return False

    def comes():
        before = counts(far)["ring_rx"]
        for _ in range(4):
            client.sendto(b"x", (HERE[1], 9))
            time.sleep(0.01)
            try:
                server.sendto(*server.recvfrom(100))
            except BlockingIOError:
                pass
        return counts(far)["ring_rx"] >= before + 3
    wait_for(comes, 20)
    return True


def whole_and_cut(netns, workers=1, mtu=1500):
    """Outer fragments and whole packets of one SA: none overtakes so many that a window of 32 has
    gone on, however late the daemon reads."""
    near, far, host = tunnel(netns, workers=workers, mtu=mtu)
    client = in_netns(near, socket.AF_INET, socket.SOCK_DGRAM)
    client.bind((HERE[0], 0))
    client.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: without DF
    server = in_netns(host, socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((HERE[1], 9))
    server.setblocking(False)

    def have_come():
        return not any(net.run("ip", "-6", "addr", "show", "tentative").stdout
                       for net in (near, far))
    wait_for(have_come, 20)  # addresses that come by themselves: reception changes over with each
    ringed = by_ring(far, client, server)
    arrived = -1
    while arrived:
        time.sleep(0.2)
        arrived = drain(server)
    large = {0: 3000, 7: mtu * 3 // 5}
    before = counts(far)
    for turn in range(20):
        # The worst is what the daemon finds when it is late.
        if turn % 2:
            far.daemon.send_signal(signal.SIGSTOP)
        for i in range(60):
            client.sendto(bytes(large.get((i + turn) % 20, 100 + i)), (HERE[1], 9))
        time.sleep(0.2)
        far.daemon.send_signal(signal.SIGCONT)
        left = 60

        def all_came():
            nonlocal left
            left -= drain(server)
            return left == 0 or counts(far)["XfrmInStateSeqError"]
        wait_for(all_came, 20)
    after = counts(far)
    equal(after["XfrmInStateSeqError"], 0)
    # Nothing has gone by the other way.
    equal(after["raw_rx"] - before["raw_rx"] < 60, ringed)


def one_order(netns):
    whole_and_cut(netns)


def one_order_of_two_workers(netns):
    whole_and_cut(netns, 2)


def one_order_of_large_frames(netns):
    """Whole packets of all sizes that the ring has records for."""
    whole_and_cut(netns, mtu=20000)


main([large_datagrams_and_ports, one_order, one_order_of_two_workers,
      one_order_of_large_frames])
