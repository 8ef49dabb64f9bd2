#!/usr/bin/env python3
"""ESP in UDP: received over both families, or the SA is refused where it could not be."""
import socket

from xfrmd import KEY, equal, holds, in_netns, main, stream, wait_for, wire

NEAR, FAR = "fd01::1", "fd02::1"
OUTER = "2001:db8::1", "2001:db8::2"


def add(net, src, dst, spi, port="4500"):
    """An SA with ESP in UDP; the finished command."""
    none = "::" if ":" in src else "0.0.0.0"
    return net.xfrm("state", "add", "src", src, "dst", dst, "proto", "esp", "spi", spi, "reqid",
                    "1", "mode", "tunnel", "flag", "af-unspec", "replay-window", "32", "aead",
                    "rfc4106(gcm(aes))", KEY, "128", "encap", "espinudp", "4500", port, none)


def tunnel6(netns):
    """A tunnel over IPv6 between NEAR and FAR, and in policies that want it."""
    near, far = wire(netns)
    for net, here, there, ends in (near, NEAR, FAR, OUTER), (far, FAR, NEAR, OUTER[::-1]):
        net.run("ip", "addr", "add", f"{ends[0]}/64", "dev", "eth0", "nodad", check=True)
        net.run("ip", "addr", "add", f"{here}/128", "dev", "lo", check=True)
        net.run("ip", "route", "add", there, "via", ends[1], "src", here, "mtu", "1400", check=True)
        net.start()
    for net, here, there, ends in (near, NEAR, FAR, OUTER), (far, FAR, NEAR, OUTER[::-1]):
        equal(add(net, *OUTER, "0x1000").stderr, "")
        equal(add(net, *OUTER[::-1], "0x2000").stderr, "")
        for way, src, dst, a, b in ("out", here, there, *ends), ("in", there, here, *ends[::-1]):
            net.xfrm("policy", "add", "src", src, "dst", dst, "dir", way, "tmpl", "src", a, "dst",
                     b, "proto", "esp", "reqid", "1", "mode", "tunnel", check=True)
    return near, far


def over_ipv6(netns):
    """Everything arrives, datagram by datagram and joined ones; the wire has right checksums, or
    the kernel would not have let it in."""
    near, far = tunnel6(netns)
    stream(near, far, (NEAR, FAR), 4 << 20)
    for net in near, far:
        stats = net.ask("stats")
        equal((stats["io"]["udp_rx"] > 10, stats["io"]["raw_rx"]), (True, 0))
        equal({k: v for k, v in stats["xfrm_stat"].items() if v}, {})


def keepalives_and_ike_are_told_apart(netns):
    near, far = tunnel6(netns)
    sender = in_netns(near, socket.AF_INET6, socket.SOCK_DGRAM)

    def counted():
        sender.sendto(b"\xff", (OUTER[1], 4500))
        sender.sendto(bytes(32), (OUTER[1], 4500))
        drops = far.ask("stats")["xfrm_stat"]
        return drops.get("XfrmdInKeepalive") and drops.get("XfrmdInIkeUnclaimed")
    wait_for(counted, 20)


def families_are_apart(netns):
    """An IPv4 SA opens no IPv6 port, and neither is in the other's way."""
    near, _ = wire(netns)
    near.run("ip", "addr", "add", f"{OUTER[0]}/64", "dev", "eth0", "nodad", check=True)
    near.start()
    equal(add(near, "192.0.2.2", "192.0.2.1", "0x2000").stderr, "")
    holds(near.run("ss", "-lunH4").stdout, ":4500")
    equal(":4500" in near.run("ss", "-lunH6").stdout, False)
    equal(add(near, *OUTER[::-1], "0x2000").stderr, "")
    holds(near.run("ss", "-lunH6").stdout, ":4500")


def a_port_of_somebody_else_refuses(netns):
    """Inbound SAs alone: what only sends needs no port. When it is free again the SA comes."""
    near, _ = wire(netns)
    near.run("ip", "addr", "add", f"{OUTER[0]}/64", "dev", "eth0", "nodad", check=True)
    near.start()
    for family, src, dst in (socket.AF_INET, "192.0.2.2", "192.0.2.1"), \
                            (socket.AF_INET6, *OUTER[::-1]):
        holder = in_netns(near, family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        holder.bind(("", 4500))
        done = add(near, src, dst, "0x2000")
        equal(done.returncode, 2)
        holds(done.stderr, "is held by another program")
        equal(add(near, dst, src, "0x1000").stderr, "")
        equal(add(near, src, dst, "0x2001", "4501").stderr, "")
        holder.close()
        equal(add(near, src, dst, "0x2000").stderr, "")
    equal(len(near.ask("sa")), 6)


def one_port_more_than_there_are(netns):
    near, _ = wire(netns)
    near.start()
    for port in range(5000, 5016):
        equal(add(near, "192.0.2.2", "192.0.2.1", hex(port), str(port)).stderr, "")
    done = add(near, "192.0.2.2", "192.0.2.1", "0x9000", "5016")
    holds(done.stderr, "ESP in UDP is received on 16 ports already")
    equal(add(near, "192.0.2.2", "192.0.2.1", "0x9000", "5015").stderr, "")


main([over_ipv6, keepalives_and_ike_are_told_apart, families_are_apart,
      a_port_of_somebody_else_refuses, one_port_more_than_there_are])
